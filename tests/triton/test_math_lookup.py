"""Functions that are looked up give the same bits whatever the width of the tile, and their limits are exact."""

import pytest
import torch
import triton
import triton.language as tl
from triton_helpers import assert_same, launch


@triton.jit
def erf_tiles(x, y, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y + i, tl.erf(tl.load(x + i, i < n)), i < n)


@triton.jit
def erf_scalars(x, y):
    i = tl.program_id(0)
    tl.store(y + i, tl.erf(tl.load(x + i)))


def arguments() -> torch.Tensor:
    eighths = torch.arange(-40, 41) / 16
    ends = torch.tensor([0.0, -0.0, 1e-40, -1e-40, 3e38, float("inf"), -float("inf"), float("nan"), 3.875, -3.9])
    near = torch.cat([torch.nextafter(eighths, torch.tensor(sign * 9.0)) for sign in (-1, 1)])
    return torch.cat([ends, eighths, near, torch.randn(137) * 3])


@pytest.mark.parametrize("block", [1, 2, 4, 8, 16, 32, 64, 256])
def test_width_does_not_matter(block: int) -> None:
    x = arguments()
    _, scalars = launch(erf_scalars, (len(x),), x, torch.zeros_like(x))
    _, tiles = launch(erf_tiles, (triton.cdiv(len(x), block),), x, torch.zeros_like(x), len(x), BLOCK=block)
    assert_same(tiles, scalars)


def test_erf_near_its_intervals_ends() -> None:
    x = arguments()
    _, y = launch(erf_tiles, (triton.cdiv(len(x), 64),), x, torch.zeros_like(x), len(x), BLOCK=64)
    exact = torch.erf(x.double())
    step = torch.finfo(torch.float32).eps * 2.0 ** exact.abs().clamp_min(1e-37).log2().floor()
    finite = ~x.isnan()
    assert ((y.double() - exact).abs() <= 2 * step)[finite].all()
    assert y[~finite].isnan().all() and (y.abs() <= 1)[finite].all()
    assert (y.signbit() == x.signbit())[finite].all()
    assert (y[x.abs() >= 3.9].abs() == 1).all()
