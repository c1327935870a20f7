"""The patches of gxu.inductor.compat: what they answer, and that torch is still what they were written for."""

from __future__ import annotations

import hashlib
import inspect
import re
import resource
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch._prims.rng_prims
import torch.utils._triton
from process_helpers import RunPython
from torch._dynamo.backends import cudagraphs
from torch._higher_order_ops import associative_scan
from torch._inductor import (
    compile_fx,
    cpp_builder,
    cudagraph_utils,
    decomposition,
    ir,
    lowering,
    output_code,
    select_algorithm,
    utils,
)
from torch._inductor.choices import InductorChoices
from torch._inductor.codegen import cpp_wrapper_gpu, wrapper_fxir
from torch._inductor.debug import DebugFormatter
from torch._inductor.fx_passes import freezing_patterns, joint_graph
from torch._inductor.graph import GraphLowering
from torch._inductor.kernel import bmm, mm, mm_grouped
from torch._inductor.kernel.flex import flex_decoding
from torch._subclasses import fake_impls
from torch.nn.attention import flex_attention
from torch.testing._internal.optests import autograd_registration
from torch.utils import _content_store

import gxu.compat
from gxu import _C as gxu_c
from gxu.inductor import compat
from gxu.inductor.frame_stack import call_with_frame_room

aten = torch.ops.aten


def source_digest(function: Any) -> str:
    """Digest of a function's source without comments and layout."""
    lines = [re.sub(r"\s*#.*", "", line).strip() for line in inspect.getsource(inspect.unwrap(function)).splitlines()]
    return hashlib.sha256("\n".join(line for line in lines if line).encode()).hexdigest()[:16]


@pytest.mark.skipif(torch.__version__ < "2.13", reason="the digests are torch 2.13's")
@pytest.mark.parametrize(
    ("function", "digest"),
    [
        (torch.utils._triton.has_triton, "7d808bfb76dbd8c7"),
        (fake_impls.conv, "f50c466dfb6608b4"),
        (GraphLowering.decide_layout_opt, "6ffa827a91885a61"),
        (utils.get_gpu_type, "be3fb0593b50e28d"),
        (utils.is_gpu, "c17f91cd10b2151b"),
        (freezing_patterns.addmm_patterns_init, "cb132d8a52bd917f"),
        (utils.is_big_gpu, "0d1a055e23ec1a90"),
        (torch._prims.rng_prims.register_run_and_save_rng_state_op, "d4e1807e7ce4b75c"),
        (torch._prims.rng_prims.register_run_with_rng_state_op, "632ab15dcc0d6554"),
        (InductorChoices.reduction_split_factor, "be356cc6ab5a5f62"),
        (ir.is_cpu, "aedb87c9969459cd"),
        (select_algorithm.TritonTemplateKernel.def_kernel, "1af4b40a147f74eb"),
        (ir.StorageBox.should_realize_on_reuse, "4d9f56e34e0f7f9c"),
        (InductorChoices.get_config_heuristics, "9845f28b2ac25128"),
        (flex_attention._validate_device, "640a608a661e2787"),
        (flex_decoding.get_split_k, "160e582ffc082a39"),
        (mm_grouped.can_use_triton_kernel, "795f0bc8604552b8"),
        (mm_grouped.early_config_prune, "752eb5028160b0bd"),
        (mm_grouped._tuned_grouped_mm_common, "89cce34fc3b67f70"),
        (cpp_builder.get_cpp_torch_device_options, "c1ff04b7a04d5892"),
        (cpp_wrapper_gpu.CppWrapperGpu.__init__, "fb761404d35e779f"),
        (getattr(cpp_wrapper_gpu.DeferredTritonCallWrapper, "_generate_lazy_scratch", None), "1d8a34a431e110d2"),
        (cudagraph_utils.check_multiple_devices_or_any_cpu_nodes, "51c1c97bfedc685a"),
        (output_code.cudagraph_post_compile, "5affcebc3ce8afcb"),
        (output_code.cudagraph_partition_post_compile, "b41515c9b5a41d65"),
        (output_code.maybe_handle_backward_generation, "f31490b8a8c5cea3"),
        (compile_fx.cudagraphify, "565b5accff9e17e7"),
        (compile_fx.fx_codegen_and_compile, "126cd4e55551db10"),
        (associative_scan, "1db09d45e7a731ee"),
        (torch._dynamo.utils.preserve_rng_state, "8cb52acf0fe046a8"),
        (DebugFormatter.log_autotuning_results, "73092af118b60dc0"),
        (cudagraphs.cudagraphs, "9f912dcb3181f0ce"),
        (torch.distributed.distributed_c10d._new_process_group_helper, "2cc84c8d82793100"),
        (torch.set_default_tensor_type, "dcfd48d5c422c471"),
        (wrapper_fxir.FxConverter._generate_sym_node, "c5c895b6c8f63f67"),
        (mm.tuned_mm, "d7599ab186cce531"),
        (bmm.tuned_bmm, "a7d2940bea33da6d"),
        (decomposition.mm, "8d4859259d3414bf"),
        (decomposition.bmm, "13bce0612f30db2e"),
        (decomposition.addmm, "f8c3fdb3894963ad"),
        (torch._decomp.decompositions.baddbmm, "a8e747a27be52e43"),
        (torch._dynamo.utils.is_compile_supported, "1d0d92927af477f9"),
        (_content_store.hash_storage, "ff86cc090bb5640e"),
        (autograd_registration.autograd_registration_check, "87468c39456241ae"),
        (torch._export.aot_load, "ed597216722c9420"),
        (output_code.CompiledAOTI.__post_init__, "f659b5cea726909e"),
    ],
)
def test_torch_is_what_the_patch_was_written_for(function: Any, digest: str) -> None:
    """When this fails, read torch's new version, adapt or drop the patch, and record the new digest."""
    assert source_digest(function) == digest


def patched_symbols() -> list[Any]:
    from torch._C import DispatchKey
    from torch._prims.rng_prims import run_and_save_rng_state, run_with_rng_state

    return [
        torch.utils._triton.has_triton,
        InductorChoices.reduction_split_factor,
        ir.is_cpu,
        InductorChoices.get_config_heuristics,
        flex_attention._validate_device,
        flex_decoding.get_split_k,
        mm_grouped.can_use_triton_kernel,
        mm_grouped.early_config_prune,
        mm_grouped.get_num_sms,
        utils.is_big_gpu,
        cpp_builder.get_cpp_torch_device_options,
        cpp_wrapper_gpu.get_gpu_type,
        joint_graph.get_gpu_type,
        cudagraph_utils.check_multiple_devices_or_any_cpu_nodes,
        output_code.cudagraph_post_compile,
        output_code.cudagraph_partition_post_compile,
        output_code.maybe_handle_backward_generation,
        compile_fx.cudagraphify,
        compile_fx.fx_codegen_and_compile,
        associative_scan.__code__,
        torch._dynamo.utils.preserve_rng_state,
        select_algorithm.preserve_rng_state,
        select_algorithm.TritonTemplateKernel.gen_common_triton_imports,
        DebugFormatter.log_autotuning_results,
        cudagraphs.cudagraphs,
        cudagraphs.check_multiple_devices_or_any_cpu_nodes,
        list(utils.GPU_TYPES),
        torch._inductor.graph.SUPPORTED_MKLDNN_DEVICES,
        torch._C._conv_determine_backend_memory_format,
        torch.set_default_tensor_type,
        wrapper_fxir.FxConverter._generate_sym_node,
        lowering.lowerings[aten.mm.default],
        lowering.lowerings[aten.bmm.default],
        decomposition.decompositions[aten.mm.default],
        decomposition.decompositions[aten.bmm.default],
        lowering.lowerings[aten.mm.dtype],
        lowering.lowerings[aten.bmm.dtype],
        decomposition.decompositions[aten.addmm.dtype],
        torch._decomp.decomposition_table[aten.baddbmm.dtype],
        torch._dynamo.utils.is_compile_supported,
        _content_store.hash_storage,
        autograd_registration.autograd_registration_check,
        torch._export.aot_load,
        output_code.CompiledAOTI.__post_init__,
        run_and_save_rng_state.py_kernels[DispatchKey.BackendSelect],
        run_with_rng_state.py_kernels[DispatchKey.BackendSelect],
    ]


def test_patches_are_idempotent() -> None:
    before = patched_symbols()
    compat.apply()
    gxu.compat.apply()
    compat.apply()
    assert patched_symbols() == before


def test_random_state_operators_of_other_devices_are_torchs() -> None:
    from torch._prims.rng_prims import run_and_save_rng_state, run_with_rng_state

    x = torch.ones(100)
    state, first = run_and_save_rng_state(torch.ops.aten.bernoulli.p, x, 0.5)
    assert torch.equal(run_with_rng_state(state, torch.ops.aten.bernoulli.p, x, 0.5), first)
    with pytest.raises(AssertionError, match=r"Backend not supported for (meta|None)"):
        run_and_save_rng_state(torch.ops.aten.bernoulli.p, x.to("meta"), 0.5)


def test_is_big_gpu() -> None:
    """Templates are considered on gxu; torch's own answer elsewhere."""
    assert utils.is_big_gpu(torch.device("gxu", 0)) is True
    assert utils.is_big_gpu() is True
    original = inspect.unwrap(utils.is_big_gpu)
    assert utils.is_big_gpu is not original


def test_tiles_of_other_devices_are_torchs() -> None:
    from torch._inductor.template_heuristics.triton import CPUConfigHeuristic

    from gxu.inductor.templates import GXUConfigHeuristic

    assert isinstance(InductorChoices().get_config_heuristics("gxu"), GXUConfigHeuristic)
    assert type(InductorChoices().get_config_heuristics("cpu")) is CPUConfigHeuristic


def test_products_with_a_dtype_of_the_cpu_are_torchs() -> None:
    half = torch.ones(2, 2, dtype=torch.float16)
    torch._dynamo.reset()
    with pytest.raises(torch._inductor.exc.InductorError, match="out_dtype is only supported for CUDA"):
        torch.compile(lambda x: torch.mm(x, x, out_dtype=torch.float32))(half)
    assert decomposition.decompositions[aten.baddbmm.dtype](half, half, half, torch.float32) is NotImplemented


def test_is_compile_supported() -> None:
    supported = torch._dynamo.utils.is_compile_supported
    assert supported("gxu") and supported("gxu:0") and supported(torch.device("gxu"))
    for device in ("cpu", "cuda", "meta"):
        assert supported(device) == inspect.unwrap(supported)(device)
    # Repros are found again by the bytes of their tensors.
    x = torch.arange(10.0)
    hashes = {_content_store.hash_storage(y.untyped_storage(), stable_hash=True) for y in (x, x.to("gxu"))}
    assert hashes == {_content_store.hash_storage(x.to("gxu").untyped_storage())}


def test_opcheck() -> None:
    """PyTorch's checks of a custom operator, with tensors on gxu; what they look for is found."""

    @torch.library.custom_op("gxu_opcheck::twice", mutates_args=())
    def twice(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    x = torch.randn(3, device="gxu", requires_grad=True)
    twice.register_fake(torch.empty_like)
    twice.register_autograd(lambda context, grad: grad * 2)
    assert set(torch.library.opcheck(twice, (x,)).values()) == {"SUCCESS"}
    torch.library.opcheck(twice, (x.detach(),))

    class Hidden(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, x: torch.Tensor) -> torch.Tensor:
            return x * 2

        @staticmethod
        def backward(context: Any, grad: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return grad * 2

    # Autograd in the kernel of a backend.
    library = torch.library.Library("gxu_opcheck", "FRAGMENT")
    library.define("hidden(Tensor x) -> Tensor")
    library.impl("hidden", Hidden.apply, "PrivateUse1")
    with pytest.raises(torch.testing._internal.optests.OpCheckError, match="does not have an autograd kernel"):
        torch.library.opcheck(torch.ops.gxu_opcheck.hidden.default, (x,), test_utils=("test_autograd_registration",))


def test_flex_attention_takes_gxu() -> None:
    """And refuses what it refused before."""
    query = torch.randn(1, 1, 16, 16)
    flex_attention._validate_device(*[query.to("gxu").requires_grad_()] * 3)
    with pytest.raises(NotImplementedError, match="does not support backward on CPU"):
        flex_attention._validate_device(*[query.requires_grad_()] * 3)
    with pytest.raises(ValueError, match="Found input tensors on meta device"):
        flex_attention._validate_device(*[query.to("meta")] * 3)


def test_splits_of_decoding() -> None:
    """gxu's own for graphs on gxu; other graphs still ask torch.cuda."""
    from types import SimpleNamespace

    from torch._inductor.virtualized import V

    with V.set_graph_handler(SimpleNamespace(device_types={"gxu"})):
        assert flex_decoding.get_split_k(1, 1, 100) == torch.get_num_threads()
        assert flex_decoding.get_split_k(64, 64, 100) == 1
    with V.set_graph_handler(SimpleNamespace(device_types={"cpu"})), pytest.raises((AssertionError, RuntimeError)):
        flex_decoding.get_split_k(1, 1, 100)


def test_grouped_products() -> None:
    """gxu's programs and tiles for graphs on gxu; the template stays closed to other devices without CUDA."""
    from types import SimpleNamespace

    from torch._inductor.virtualized import V

    def operand(device: str, dims: int) -> Any:
        return SimpleNamespace(get_device=lambda: torch.device(device), get_size=lambda: [8] * dims)

    offsets = object()
    assert mm_grouped.can_use_triton_kernel(operand("gxu", 2), operand("gxu", 3), offsets, None, None)
    assert not mm_grouped.can_use_triton_kernel(operand("gxu", 2), operand("gxu", 3), None, None, None)
    assert not mm_grouped.can_use_triton_kernel(operand("gxu", 2), operand("gxu", 3), offsets, object(), None)
    original = inspect.unwrap(mm_grouped.can_use_triton_kernel)
    for device in ("cpu", "cuda"):
        arguments = (operand(device, 2), operand(device, 3), offsets, None, None)
        assert mm_grouped.can_use_triton_kernel(*arguments) == original(*arguments)
    with V.set_graph_handler(SimpleNamespace(device_types={"gxu"})):
        assert mm_grouped.get_num_sms() == torch.get_num_threads()
        assert {config.num_warps for config in mm_grouped.early_config_prune(4, 8, 2, [], {})} == {1}


def test_every_module_sees_the_patched_has_triton() -> None:
    import torch._dynamo.utils
    import torch._inductor.fx_passes.pad_mm
    import torch._inductor.scheduler

    patched = torch.utils._triton.has_triton
    for module in (
        torch._inductor.compile_fx,
        torch._inductor.scheduler,
        torch._inductor.fx_passes.pad_mm,
        torch._inductor.runtime.autotune_cache,
        torch._dynamo.utils,
    ):
        assert module.has_triton is patched  # type: ignore[attr-defined]


def test_gpu_types() -> None:
    assert utils.is_gpu("gxu")
    assert not utils.is_gpu("cpu")
    # Whoever wants "the" GPU of this machine gets the answer that he got without gxu.
    assert utils.get_gpu_type() != "gxu"
    assert "gxu" not in freezing_patterns.GPU_TYPES


def test_pytorchs_inductor_tests_run_on_gxu(run_python: RunPython) -> None:
    """What the helpers of PyTorch's test suite answer with no more than `import gxu`; its kernels are defined."""
    code = """
import unittest, torch, gxu
from torch.testing._internal.inductor_utils import *
from torch.testing._internal.inductor_utils import (
    GPU_TYPE, HAS_CUDA_AND_TRITON, HAS_GPU, HAS_GPU_AND_TRITON, HAS_TRITON, IS_BIG_GPU, RUN_GPU, requires_gpu,
    requires_triton,
)
from torch.testing._internal.triton_utils import add_kernel, requires_cuda_and_triton, requires_gpu_and_triton
print(GPU_TYPE, HAS_GPU, HAS_GPU_AND_TRITON, HAS_TRITON, RUN_GPU, bool(IS_BIG_GPU), HAS_CUDA_AND_TRITON)

ran = []

class Tests(unittest.TestCase):
    @requires_gpu()
    @requires_triton()
    @requires_gpu_and_triton
    def test_gpu(self):
        x = torch.randn(9, device=GPU_TYPE)
        out = torch.empty_like(x)
        add_kernel[(1,)](x, x, out, 9, BLOCK_SIZE=16)
        assert torch.equal(out, x + x)
        ran.append("test_gpu")

    @requires_cuda_and_triton
    def test_cuda(self):
        raise AssertionError

result = unittest.main(exit=False).result
print(*ran, len(result.skipped), result.wasSuccessful())
"""
    done = run_python("-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["gxu True True True True True False", "test_gpu 1 True"]


def test_products_of_one_batch_are_plain_products() -> None:
    code = utils.run_and_get_code(torch.compile(torch.bmm), *torch.randn(2, 1, 8, 8, device="gxu"))[1][0]
    assert "extern_kernels.mm(" in code and "extern_kernels.bmm(" not in code


def test_split_factor_of_other_devices_is_torchs() -> None:
    original = inspect.unwrap(InductorChoices.reduction_split_factor)
    cpu = torch.device("cpu")
    for arguments in [(1 << 20, 1, True), (1 << 20, 512, False), (100, 7, True)]:
        if torch._inductor.runtime.hints.DeviceProperties.create(cpu).multi_processor_count:
            assert InductorChoices.reduction_split_factor(cpu, *arguments) == original(cpu, *arguments)
    gxu = torch.device("gxu", 0)
    assert InductorChoices.reduction_split_factor(gxu, 48 * 32768, 1, True) == 48


def test_results_of_exp_are_kept_as_on_the_cpu() -> None:
    """One kernel computes what the next two read, in place of two that compute it again for each of 16 columns."""

    def fn(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        kept = x.exp().log1p()
        return kept[:, None] * y, (kept[:, None] + y).t().contiguous()

    x, y = torch.randn(37), torch.randn(37, 16)
    torch._dynamo.reset()
    results, code = torch._inductor.utils.run_and_get_code(torch.compile(fn), x.to("gxu"), y.to("gxu"))
    for result, wanted in zip(results, fn(x, y), strict=True):
        torch.testing.assert_close(result.cpu(), wanted)
    assert "".join(code).count("libdevice.log1p(") == 1
    assert ir.is_cpu(torch.device("cpu")) and not ir.is_cpu(torch.device("cuda")) and not ir.is_cpu(None)


@torch._inductor.config.patch(max_autotune_gemm=True, max_autotune_gemm_backends="TRITON")
def test_kernels_of_templates_are_decorated_as_the_others() -> None:
    a, b = torch.randn(20, 30), torch.randn(30, 40)
    torch._dynamo.reset()
    result, code = torch._inductor.utils.run_and_get_code(torch.compile(torch.mm), a.to("gxu"), b.to("gxu"))
    torch.testing.assert_close(result.cpu(), a @ b)
    before, _ = "".join(code).split("@triton_heuristics.template")
    assert "from gxu.inductor import heuristics as triton_heuristics" in before


def test_has_triton_is_torchs_until_gxu_is_used(run_python: RunPython) -> None:
    code = """
import torch, gxu
from torch.utils._triton import has_triton
before = has_triton()
import torch._prims.rng_prims
import torch.utils._triton as t
print(before, t.has_triton(), t.has_triton.__wrapped__())
torch.ones(1, device="gxu")
print(t.has_triton())
"""
    done = run_python("-c", code)
    assert done.returncode == 0, done.stderr
    first, used = done.stdout.splitlines()[-2:]
    assert len(set(first.split())) == 1
    assert used == "True"


def test_cpp_wrapper_writes_for_the_graphs_device() -> None:
    from torch._inductor.virtualized import V

    with V.set_graph_handler(SimpleNamespace(device_types={"gxu", "cpu"})):  # type: ignore[arg-type]
        assert cpp_wrapper_gpu.get_gpu_type() == "gxu"
    with V.set_graph_handler(SimpleNamespace(device_types={"cuda"})):  # type: ignore[arg-type]
        assert cpp_wrapper_gpu.get_gpu_type() == utils.get_gpu_type()


def test_build_options_of_other_devices_are_torchs() -> None:
    for device in ("cpu", "mps"):
        patched = cpp_builder.get_cpp_torch_device_options(device, aot_mode=True)
        assert patched == inspect.unwrap(cpp_builder.get_cpp_torch_device_options)(device, aot_mode=True)
    _, includes, _, _, folders, libraries, _ = cpp_builder.get_cpp_torch_device_options("gxu")
    assert (Path(includes[0]) / "c10" / "gxu" / "GXUGuard.h").is_file()
    assert (Path(folders[0]) / f"lib{libraries[0]}.so").is_file()


@pytest.mark.parametrize("partition", [False, True])
def test_what_may_be_captured(partition: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs on one gxu device; for others the answer is torch's own."""
    check = cudagraph_utils.check_multiple_devices_or_any_cpu_nodes
    node: Any = SimpleNamespace(name="a_node", users=())
    monkeypatch.setattr(cudagraph_utils, "is_using_cudagraph_partition", lambda: partition)
    gxu, meta, cpu = torch.device("gxu", 0), torch.device("meta"), torch.device("cpu")
    assert check({gxu: node}) is None
    assert check({gxu: node, meta: node}) is None
    with_cpu = check({gxu: node, cpu: node})
    assert with_cpu is None if partition else "cpu device (a_node)" in str(with_cpu)
    for devices in ((gxu, torch.device("gxu", 1)), (torch.device("xpu", 0),), (gxu, torch.device("cuda", 0))):
        assert "multiple devices" in str(check(dict.fromkeys(devices, node)))
    assert check({torch.device("cuda", 0): node}) is None


@pytest.mark.parametrize("device", ["gxu", "cpu"])
def test_graphs_of_gxu_are_compiled_with_room_on_the_stack(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def record(function: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(function)
        return function(*args, **kwargs)

    monkeypatch.setattr(compat.compilation, "call_with_frame_room", record)
    x = torch.randn(5, device=device, requires_grad=True)
    with utils.fresh_cache():
        torch.compile(lambda x: x.sin() * 3)(x).sum().backward()
    assert len(calls) == (2 if device == "gxu" else 0)


def test_loops_below_any_depth_leave_the_stack_mapped() -> None:
    def leaf() -> None:
        pass

    # Larger than a frame of the caller, so that it crosses the end of a chunk that 300 of those fill.
    leaf.__code__ = leaf.__code__.replace(co_stacksize=200)

    def page_faults_below(depth: int) -> list[int]:
        """Page faults of 300 calls at each depth: where they cross a chunk's end, Python 3.12 maps one for each."""
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(300):
            leaf()
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
        return [faults, *(page_faults_below(depth - 1) if depth else [])]

    assert max(call_with_frame_room(page_faults_below, 300)) < 100


def test_graph_class_for_a_torch_without_one() -> None:
    """gxu._C.Graph, which torch.gxu.Graph is made of under torch 2.11."""
    graph = gxu_c.Graph(keep_graph=True)
    with pytest.raises(ValueError, match=r'capture_error_mode is "default".*, not "odd"'):
        graph.capture_begin(capture_error_mode="odd")
    with pytest.raises(RuntimeError, match="There is no captured graph to replay"):
        graph.replay()
    x = torch.arange(7.0, device="gxu")
    stream = torch.gxu.Stream()
    torch.gxu.synchronize()
    with torch.gxu.stream(stream):
        graph.capture_begin(pool=torch.gxu.graph_pool_handle(), capture_error_mode="thread_local")
        assert torch.gxu.is_current_stream_capturing()
        y = x * 2
        graph.capture_end()
        assert not torch.gxu.is_current_stream_capturing()
        graph.instantiate()
        for value in (1.0, 5.0):
            x.fill_(value)
            graph.replay()
            assert y.tolist() == [2 * value] * 7
    assert isinstance(graph.pool(), tuple)
    graph.reset()
    with pytest.raises(RuntimeError, match="There is no captured graph"):
        graph.replay()
