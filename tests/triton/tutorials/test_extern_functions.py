"""Functions of an external library inside a kernel."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl
from triton.language.extra import libdevice


@triton.jit
def asin_kernel(x, out, count, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + at, libdevice.asin(tl.load(x + at, at < count)), at < count)


@triton.jit
def several_kernel(x, y, out, count, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    a, b = tl.load(x + at, at < count), tl.load(y + at, at < count)
    tl.store(out + at, libdevice.hypot(libdevice.log1p(a), libdevice.cosh(b)) + libdevice.pow(a, b), at < count)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("options", [{}, {"extern_libs": {}}])
def test_asin(dtype, options):
    x = torch.rand(98_432, dtype=dtype) * 2.2 - 1.1  # NaN outside [-1, 1]
    out = torch.empty_like(x, device="gxu")
    asin_kernel[(triton.cdiv(x.numel(), 1024),)](x.to("gxu"), out, x.numel(), BLOCK=1024, **options)
    torch.testing.assert_close(out.cpu(), torch.asin(x.double()).to(dtype), rtol=5e-7, atol=1e-7, equal_nan=True)


def test_several_functions():
    x, y = torch.rand(5000), torch.randn(5000)
    out = torch.empty(5000, device="gxu")
    several_kernel[(triton.cdiv(5000, 256),)](x.to("gxu"), y.to("gxu"), out, 5000, BLOCK=256)
    a, b = x.double(), y.double()
    expected = torch.hypot(torch.log1p(a), torch.cosh(b)) + a**b
    torch.testing.assert_close(out.cpu(), expected.float(), rtol=2e-6, atol=0)
