"""Functions that are looked up give the same bits whatever the width of the tile, and their limits are exact."""

import pytest
import torch
import triton
import triton.language as tl
from triton_helpers import assert_same, launch

from gxu.triton import libdevice


@triton.jit
def tiles_of(x, y, n, FUNCTION: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y + i, FUNCTION(tl.load(x + i, i < n)), i < n)


@triton.jit
def scalars_of(x, y, FUNCTION: tl.constexpr):
    i = tl.program_id(0)
    tl.store(y + i, FUNCTION(tl.load(x + i)))


FUNCTIONS = {"erf": (libdevice.erf, torch.erf), "tanh": (libdevice.tanh, torch.tanh)}


def arguments() -> torch.Tensor:
    ends = torch.tensor([0.0, -0.0, 1e-40, -1e-40, 3e38, float("inf"), -float("inf"), float("nan"), 3.875, -3.9, 9.05])
    borders = torch.cat([torch.arange(-40, 41) / 16, torch.arange(-64, 65) * 75 / 512])
    near = torch.cat([torch.nextafter(borders, torch.tensor(sign * 99.0)) for sign in (-1, 1)])
    return torch.cat([ends, borders, near, torch.randn(137) * 3])


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("block", [1, 4, 16, 64, 256])
def test_width_does_not_matter(name: str, block: int) -> None:
    x, function = arguments(), FUNCTIONS[name][0]
    _, scalars = launch(scalars_of, (len(x),), x, torch.zeros_like(x), FUNCTION=function)
    grid = (triton.cdiv(len(x), block),)
    _, tiles = launch(tiles_of, grid, x, torch.zeros_like(x), len(x), FUNCTION=function, BLOCK=block)
    assert_same(tiles, scalars)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_borders_of_the_intervals(name: str) -> None:
    function, reference = FUNCTIONS[name]
    x = arguments()
    grid = (triton.cdiv(len(x), 64),)
    _, y = launch(tiles_of, grid, x, torch.zeros_like(x), len(x), FUNCTION=function, BLOCK=64)
    exact = reference(x.double())
    step = torch.finfo(torch.float32).eps * 2.0 ** exact.abs().clamp_min(2.0**-126).log2().floor()
    finite = ~x.isnan()
    assert ((y.double() - exact).abs() <= 2 * step)[finite].all()
    assert y[~finite].isnan().all() and (y.abs() <= 1)[finite].all()
    assert (y.signbit() == x.signbit())[finite].all()
    assert (y[x.abs() >= 9.02].abs() == 1).all()
