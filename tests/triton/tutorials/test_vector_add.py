"""Vector addition: one-dimensional programs, a masked tail, a grid that depends on the block size."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl


@triton.jit
def add_kernel(x, y, out, count, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    tl.store(out + at, tl.load(x + at, inside) + tl.load(y + at, inside), inside)


def add(x: torch.Tensor, y: torch.Tensor, block: int = 1024) -> torch.Tensor:
    out = torch.empty_like(x)
    add_kernel[lambda meta: (triton.cdiv(out.numel(), meta["BLOCK"]),)](x, y, out, out.numel(), BLOCK=block)
    return out


@pytest.mark.parametrize("block", [16, 1024])
@pytest.mark.parametrize("count", [1, 1023, 98_432, 1_000_003])
def test_vector_add(count, block):
    x, y = torch.rand(count), torch.rand(count)
    assert torch.equal(add(x.to("gxu"), y.to("gxu"), block).cpu(), x + y)
