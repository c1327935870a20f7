"""Triton kernels that users write, inside compiled functions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor
from torch._inductor import config
from torch._inductor.codecache import PyCodeCache
from torch._inductor.runtime.triton_heuristics import CachingAutotuner
from torch._inductor.utils import run_and_get_code

from gxu import _C
from gxu.inductor.autotuner import DeviceCachingAutotuner


@triton.jit
def scaled_add(x_ptr, y_ptr, out_ptr, n, scale, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    x = tl.load(x_ptr + offsets, mask)
    y = tl.load(y_ptr + offsets, mask)
    tl.store(out_ptr + offsets, x + scale * y, mask)


@triton.autotune([triton.Config({"BLOCK": b}, num_warps=w) for b, w in ((64, 4), (1024, 8))], key=["n"])
@triton.jit
def tuned_double(x_ptr, out_ptr, n, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    tl.store(out_ptr + offsets, tl.load(x_ptr + offsets, mask) * 2, mask)


@triton.jit
def inline_ptx(x_ptr, out_ptr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    offsets = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offsets)
    y = tl.inline_asm_elementwise("mov.b32 $0, %laneid;", "=r,r", [x], dtype=tl.float32, is_pure=True, pack=1)
    tl.store(out_ptr + offsets, y)


@pytest.mark.parametrize("options", [{}, {"cpp_wrapper": True}, {"fx_wrapper": True, "compile_threads": 1}], ids=str)
def test_float_argument_in_each_wrapper(options: dict[str, Any]) -> None:
    torch._dynamo.reset()

    def fn(x: Tensor) -> Tensor:
        out = torch.empty_like(x)
        scaled_add[(4,)](x, x, out, x.numel(), 2.5, BLOCK=256)
        return out

    x = torch.randn(1000)
    with config.patch(options):
        result = torch.compile(fn, fullgraph=True)(x.to("gxu"))
    torch.testing.assert_close(result.cpu(), 3.5 * x)


@pytest.mark.parametrize("warps", [1, 4, 8, 32])
@pytest.mark.parametrize("numel", [1, 1000, 4096])
def test_kernel_in_a_compiled_function(numel: int, warps: int) -> None:
    torch._dynamo.reset()

    @torch.compile(fullgraph=True)
    def fn(x: Tensor, y: Tensor) -> Tensor:
        out = torch.empty_like(x)
        scaled_add[lambda meta: (triton.cdiv(x.numel(), meta["BLOCK"]),)](
            torch.sin(x), y, out, x.numel(), 2.5, BLOCK=256, num_warps=warps
        )
        return out + 1

    x, y = torch.randn(numel), torch.randn(numel)
    torch.testing.assert_close(fn(x.to("gxu"), y.to("gxu")).cpu(), torch.sin(x) + 2.5 * y + 1)


def test_kernels_in_a_compiled_function_are_launched_as_generated_ones_are() -> None:
    torch._dynamo.reset()

    @torch.compile(fullgraph=True)
    def fn(x: Tensor) -> Tensor:
        out, doubled = torch.empty_like(x), torch.empty_like(x)
        scaled_add[(4,)](x, x, out, x.numel(), 2.5, BLOCK=256)
        tuned_double[lambda meta: (triton.cdiv(x.numel(), meta["BLOCK"]),)](out, doubled, x.numel())
        return doubled

    _, (code,) = run_and_get_code(fn, torch.randn(1000, device="gxu"))
    kernels = [value for value in vars(PyCodeCache.load(code)).values() if isinstance(value, CachingAutotuner)]
    assert [type(kernel) for kernel in kernels] == [DeviceCachingAutotuner] * 2


def test_autotuned_kernel() -> None:
    torch._dynamo.reset()

    @torch.compile(fullgraph=True)
    def fn(x: Tensor) -> Tensor:
        out = torch.empty_like(x)
        tuned_double[lambda meta: (triton.cdiv(x.numel(), meta["BLOCK"]),)](x, out, x.numel())
        return out

    x = torch.randn(5000)
    before = _C.launch_count()
    torch.testing.assert_close(fn(x.to("gxu")).cpu(), x * 2)
    # Both configurations were timed.
    assert _C.launch_count() - before >= 2 * 5


def test_a_kernel_that_cannot_be_compiled() -> None:
    """The error names the operation; the process and the device go on."""
    torch._dynamo.reset()

    @torch.compile(fullgraph=True)
    def fn(x: Tensor) -> Any:
        out = torch.empty_like(x)
        inline_ptx[(1,)](x, out, BLOCK=64)
        return out

    x = torch.randn(64, device="gxu")
    with pytest.raises(Exception, match="inline_asm"):
        fn(x)
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(lambda x: x + 1)(x).cpu(), x.cpu() + 1)
