"""One graph a kind of wrapper line, for tests/test_wrapper_lines.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch._higher_order_ops import while_loop
from torch._inductor.codegen import wrapper as upstream

from gxu import _C  # noqa: F401  (the device)


@dataclass(frozen=True)
class Row:
    """A graph, what its wrapper is made of, and what the generated code of each wrapper shows of it.

    ``lines``: names of torch._inductor.codegen.wrapper's classes that must occur. ``python``, ``cpp``, ``fx``: regular
    expressions that the code must match; None where that wrapper has no such line (``without`` says why), or fails
    with the error in ``errors``.
    """

    name: str
    fn: Callable[..., Any]
    args: Callable[[], tuple[Any, ...]]
    lines: tuple[str, ...]
    python: str | None
    cpp: str | None
    fx: str | None
    config: Mapping[str, Any] = field(default_factory=dict)
    dynamic: bool | None = None
    without: str = ""
    errors: Mapping[str, str] = field(default_factory=dict)


def square(size: int = 12, count: int = 2) -> Callable[[], tuple[Tensor, ...]]:
    return lambda: tuple(torch.randn(size, size) for _ in range(count))


@triton.jit
def _twice(x):  # type: ignore[no-untyped-def]
    return x + x


@triton.jit
def _shifted(x, shift):  # type: ignore[no-untyped-def]
    return _twice(x) + shift


@triton.autotune([triton.Config({"BLOCK": 32}), triton.Config({"BLOCK": 128})], key=["n"])
@triton.jit
def _user_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + offsets, _shifted(tl.load(x_ptr + offsets, offsets < n), 3), offsets < n)


def user_kernel(x: Tensor, y: Tensor) -> Tensor:
    if x.device.type == "cpu":
        return 2 * x.sin() + 3
    out = torch.empty_like(x)
    _user_kernel[lambda meta: (triton.cdiv(x.numel(), meta["BLOCK"]),)](x.sin(), out, x.numel())
    return out


def reuse(x: Tensor, w: Tensor) -> Tensor:
    for _ in range(3):
        x = torch.sin(x @ w)
    return x @ w


def scatter(x: Tensor, y: Tensor) -> Tensor:
    index = torch.zeros(x.shape, dtype=torch.int64, device=x.device) + 1
    return torch.scatter_reduce(x, 0, index, y, "mean", include_self=True)


def index_put(x: Tensor, y: Tensor) -> Tensor:
    index = torch.arange(6, device=x.device) // 2  # each row twice: integers are added up by the operator
    return (x * 8).long().index_put((index,), (y[:6] * 8).long(), accumulate=True)


def nonzero(x: Tensor, y: Tensor) -> Tensor:
    return torch.nonzero(x > 0).sum(0) * 2


def item(x: Tensor, y: Tensor) -> Tensor:
    return x * y.flatten()[0].to(torch.int64).item()


def condition(x: Tensor, y: Tensor) -> Tensor:
    return torch.cond(x.sum() > 0, lambda a, b: a.sin() + b, lambda a, b: a.cos() - b, (x, y))


def views(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return torch.cat([x @ y, y @ x], 0), x.t()[2:]


def constant(x: Tensor, y: Tensor) -> Tensor:
    return x[0] * torch.tensor([1.5, -2.0, 4.0, 0.5, 1.0, 3.0] * 2, device=x.device, dtype=x.dtype)


def device_copy(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return (x + 1).cpu(), y * 3


def complex_copy(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    z = torch.complex(x, y)
    return torch.view_as_real(z), torch.view_as_real(torch.diagonal_scatter(z, z[0]))


LIBRARY = torch.library.Library("gxu_wrapper_lines", "DEF")
LIBRARY.define("both(Tensor x) -> (Tensor, Tensor)")
LIBRARY.define(
    "both.out(Tensor x, *, Tensor(a!) sine, Tensor(b!) cosine) -> (Tensor(a!), Tensor(b!))",
    tags=(torch.Tag.out,) if hasattr(torch.Tag, "out") else (),  # torch 2.11 has none
)
LIBRARY.define("sum_of_group(Tensor x, str group_name) -> Tensor")


def _both_out(x: Tensor, *, sine: Tensor, cosine: Tensor) -> tuple[Tensor, Tensor]:
    return torch.sin(x, out=sine), torch.cos(x, out=cosine)


LIBRARY.impl("both", lambda x: (x.sin(), x.cos()), "CompositeExplicitAutograd")
LIBRARY.impl("both.out", _both_out, "CompositeExplicitAutograd")
LIBRARY.impl("sum_of_group", lambda x, group_name: x * 1, "CompositeExplicitAutograd")
#: Whether operators can say that an argument lies in symmetric memory: not with torch 2.11.
HAS_COMMUNICATION = hasattr(LIBRARY, "register_symm_mem_args")
if HAS_COMMUNICATION:
    LIBRARY.register_symm_mem_args("sum_of_group", ["x"])


def multi_out(x: Tensor, y: Tensor) -> Tensor:
    sine, cosine = torch.ops.gxu_wrapper_lines.both(x * 2)
    return sine + cosine * y


def communication(x: Tensor, y: Tensor) -> Tensor:
    return torch.ops.gxu_wrapper_lines.sum_of_group(x.sin(), "group") + y


def streams(x: Tensor, y: Tensor) -> Tensor:
    z = x + 1
    if x.device.type == "cpu":
        return z @ z + y
    side, started = torch.Stream(device=x.device), torch.Event(device=x.device)
    started.record()
    with side:
        side.wait_event(started)
        product = z @ z
        finished = side.record_event()
    finished.wait()
    return product + y


def loop(x: Tensor, y: Tensor) -> Tensor:
    start = torch.zeros((), dtype=torch.int64, device=x.device)
    result: Tensor = while_loop(lambda i, a: i < 3, lambda i, a: (i + 1, a.sin() + y), (start, x))[1]
    return result


@torch.compiler.nested_compile_region
def region(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y).sin()


#: What torch's FX wrapper says of lines that are plain Python.
NO_IR = "FX conversion only supports Wrapper IR lines"

ALL_ROWS = (
    Row("allocate_free", lambda x, y: (x @ y).sin().sum(-1), square(), ("AllocateLine", "FreeIfNotReusedLine"),
        r"= empty_strided_gxu\(\(12, \)", r"aoti_torch_empty_strided\(1,", r"empty_strided\(\[12\]"),
    Row("kernel", lambda x, y: x * y, square(), ("KernelDefinitionLine", "KernelCallLine"),
        r"triton_poi_\w+\.run\(", r"call_triton_poi_\w+\(", r"triton_kernel_wrapper_mutation\("),
    Row("reuse", reuse, square(), ("ReuseLine",), r"# reuse", r"auto buf\d+ = std::move\(buf\d+\);  // reuse",
        r"as_strided|triton_kernel_wrapper"),
    Row("reinterpret", views, square(), ("ReinterpretLine",), r"reinterpret_tensor\(",
        r"reinterpret_tensor_wrapper\(|aoti_torch__reinterpret_tensor\(", r"as_strided\("),
    Row("extern_out", lambda x, y: x @ y, square(), ("ExternKernelOutLine",), r"extern_kernels\.mm\(.*out=",
        r"aoti_torch_gxu_mm_out\(", r"aten\.mm\.out\(.*out ="),
    Row("extern_alloc_multi_output", lambda x, y: torch.topk(x, 2), square(),
        ("ExternKernelAllocLine", "MultiOutputLine"), r"torch\.ops\.aten\.topk\.default\(",
        r"aoti_torch_gxu_topk\(", r"topk"),
    Row("index_put_fallback", index_put, square(), ("IndexPutFallbackLine",), r"aten\.index_put_\(",
        r"aoti_torch_gxu_index_put|aoti_torch_index_put_out", r"index_put_"),
    Row("scatter_fallback", scatter, square(), ("ScatterFallbackLine",), r"aten\.scatter_reduce_",
        r"aoti_torch_gxu_scatter_reduce", r"scatter_reduce"),
    Row("symbolic_call_arg", lambda x, y: (x.reshape(-1) + 1).sum(), square(), ("SymbolicCallArgLine",),
        r"\w+numel = ", r"int64_t \w+numel = ", r"mul|\*", dynamic=True),
    Row("dynamic_scalar", item, square(), ("DynamicScalarLine",), r"= u0|u0 =|\.item\(\)", r"aoti_torch_item_int64\(",
        r"item"),
    Row("unbacked_symbols", nonzero, square(), ("UnbackedSymbolDefsLine",), r"u0 = buf\d+\.size\(0\)",
        r"auto u0 = buf\d+\.size\(0\)", r"sym_size"),
    Row("conditional", condition, square(), ("EnterSubgraphLine", "ExitSubgraphLine"), r"if buf\d+\.item\(\)",
        r"if \(\w+\) \{", r"cond"),
    Row("device_context", lambda x, y: x + 1, square(),
        ("EnterDeviceContextManagerLine", "ExitDeviceContextManagerLine"),
        r"device_before0 = exchange_device\(0\)", r"AOTIGXUGuard device_guard\(0\)", None,
        without="FX leaves it to the function that calls the graph"),
    Row("comment", lambda x, y: torch.sin(x) + y, square(), ("CommentLine",), r"# Topologically Sorted Source Nodes",
        r"// Topologically Sorted Source Nodes", None, without="FX graphs have no comments"),
    Row("user_kernel", user_kernel, square(), ("KernelCallLine",),
        r"(?s)(?=.*def _shifted\()(?=.*def _twice\()(?=.*128)", r"call__user_kernel",
        r"triton_kernel_wrapper_mutation\("),
    Row("size_stride_assert", lambda x, y: torch.topk(x, 2)[0] + 1, square(), ("AssertSizeStrideLine",),
        r"assert_size_stride\(buf", r"assert_size_stride\(buf", None, without="FX's converter leaves it out"),
    Row("alignment_assert", lambda x, y: torch.topk(x, 2)[0] + 1, square(), (), r"assert_alignment\(buf",
        None, r"assert_alignment\(", without="C++ code checks the alignment of inputs, in models of AOTInductor"),
    Row("nan_assert", lambda x, y: x + y, square(), (), r"assert not \w+\.isnan\(\)\.any\(\)",
        r"aoti_torch_check_inf_and_nan\(", r"assert_no_nan\(", {"nan_asserts": True}),
    Row("constants", constant, square(), (), r"_tensor_constant0", r"_tensor_constant0", r"_tensor_constant0"),
    Row("device_copy", device_copy, square(), (), r"\.copy_\(buf\d+, ", r"aoti_torch_copy_\(", r"copy_"),
    Row("complex_copy", complex_copy, square(), (), r"\.copy_\(reinterpret_tensor\(",
        r"aoti_torch_copy_\(wrap_with", r"copy_elements"),
    Row("extern_multi_out", multi_out, square(), ("ExternKernelMultiOutLine",), r"\.both\.out\(buf\d+, sine=buf\d+",
        None, None, without="C++ code calls the operator without out",
        errors={"fx": "FX codegen not yet supported for type .*ExternKernelMultiOutLine"}),
    Row("communication_buffer", communication, square(), ("AllocateLine", "FreeIfNotReusedLine"),
        r'empty_strided_p2p\(.*torch\.device\("gxu:0"\), group_name="group"', None, None, errors={
            "cpp": "cannot allocate memory that other processes' devices reach",
            "fx": "Comm buffer allocation is not yet supported"}),
    Row("streams", streams, square(), ("EnterDeviceContextManagerWithStreamInfoLine", "EnterCudaStreamContextLine",
        "ExitDeviceContextManagerWithStreamInfoLine", "ExitCudaStreamContextLine"),
        r"with stream1:", None, None, errors={
            "cpp": "cannot change streams inside of a graph",
            "fx": "FX codegen not yet supported for type .*EnterCudaStreamContextLine"}),
    Row("free_input", lambda x, y: x * y, square(), ("FreeLine",), r"del arg0_1", r"arg0_1\.reset\(\)", None,
        without="FX graphs free what is not read any more"),
    Row("fused_away", lambda x, y: x.softmax(-1) @ y, square(), ("NullLine",), r"triton_\w+\.run\(", r"call_triton_",
        r"triton_kernel_wrapper_mutation\("),
    Row("while_loop", loop, square(), (), r"while True|while_loop_cond", r"while \(", None, errors={"fx": NO_IR}),
    Row("nested_region", lambda x, y: region(region(x, y), y), square(), (),
        r"def repeated_subgraph0\(args\)", None, None,
        errors={"fx": NO_IR, "cpp": "codegen invoke_subgraph is not implemented for cpp wrapper"}),
    Row("memory_planning", reuse, square(), (), r"alloc_from_pool\(", r"alloc_from_pool\(", None,
        {"memory_planning": True}, errors={"fx": "FX codegen not yet supported for type .*AllocFromPoolLine"}),
    Row("workspace", lambda x: x.flatten().cumsum(0), square(1000, 1), ("AllocateLine",), r"workspace_0 = ",
        r"workspace_0", r"workspace_0|empty"),
)  # fmt: skip

#: Without what this version of torch does not have: torch 2.11 knows no streams, for example.
ROWS = tuple(
    row
    for row in ALL_ROWS
    if all(hasattr(upstream, line) for line in row.lines) and (HAS_COMMUNICATION or row.fn is not communication)
)
