"""Tiles that a loop carries and updates under a mask: ``old = where(mask, new, old)``."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl
from triton_helpers import agree


@triton.jit
def sums(x, out, rows, columns, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    mask = i < columns
    total = tl.full((B,), 3.0, tl.float32)
    for row in range(rows):
        total = tl.where(mask, total + tl.load(x + row * columns + i, mask, 0.0), total)
    tl.store(out + i, total)


@triton.jit
def two_masks(x, out, rows, columns, half, B: tl.constexpr):
    """One accumulator ends in the middle of the other; the second is kept where the first one's mask is."""
    i = tl.arange(0, B)
    sums, largest = tl.full((B,), 1.0, tl.float32), tl.full((B,), -2.0, tl.float32)
    for row in range(rows):
        v = tl.load(x + row * columns + i, i < columns, 0.0)
        sums = tl.where(i < columns, sums + v, sums)
        largest = tl.where(i < half, tl.maximum(largest, v), largest)
    tl.store(out + i, sums)
    tl.store(out + B + i, largest)


@triton.jit
def inverted(x, out, rows, columns, B: tl.constexpr):
    i = tl.arange(0, B)
    total = tl.full((B,), 1.0, tl.float32)
    for row in range(rows):
        total = tl.where(i < columns, total, total + tl.load(x + row * B + i))
    tl.store(out + i, total)


@triton.jit
def reads_its_neighbour(x, out, rows, columns, B: tl.constexpr):
    """The old tile is read at other places: its successor must lie elsewhere, all of it."""
    i = tl.arange(0, B)
    total = tl.load(x + i)
    for _ in range(rows):
        total = tl.where(i < columns, total + tl.flip(total, 0), total)
    tl.store(out + i, total)


@triton.jit
def swapped(x, out, rows, columns, B: tl.constexpr):
    """Within the mask each tile is the next of the other; the second takes what the first keeps outside of it."""
    i = tl.arange(0, B)
    a, b = tl.load(x + i), tl.load(x + B + i)
    for _ in range(rows):
        a, b = tl.where(i < columns, b + 1, a), tl.where(i < columns, a + 2, a)
    tl.store(out + i, a)
    tl.store(out + B + i, b)


@triton.jit
def moving_mask(x, out, rows, B: tl.constexpr):
    i = tl.arange(0, B)
    total = tl.zeros((B,), tl.float32)
    for row in range(rows):
        total = tl.where(i < row * 5, total + tl.load(x + row * B + i), total)
    tl.store(out + i, total)


@triton.jit
def both_dimensions(x, out, rows, columns, R: tl.constexpr, B: tl.constexpr):
    r, i = tl.arange(0, R)[:, None], tl.arange(0, B)[None, :]
    total = tl.full((R, B), 1.0, tl.float32)
    for start in range(0, rows, R):
        mask = (start + r < rows) & (i < columns)
        v = tl.load(x + (start + r) * columns + i, mask, float("nan"))
        total = tl.where(mask, total * v, total)
    tl.store(out + r * B + i, total)


def random(count: int) -> torch.Tensor:
    x = torch.randn(count)
    x[torch.randint(0, count, (count // 50,))] = torch.tensor(float("-inf"))
    return x


@pytest.mark.parametrize("rows", [0, 1, 9])
@pytest.mark.parametrize("columns", [1, 100, 256, 300])
def test_sums_of_columns(rows, columns):
    out = torch.full((512,), torch.nan)
    agree(sums, (2,), random(max(rows * columns, 1)), out, rows, columns, B=256)


@pytest.mark.parametrize("half", [0, 31, 90, 128])
@pytest.mark.parametrize("columns", [0, 90, 128])
def test_two_masks(columns, half):
    out = torch.full((256,), torch.nan)
    agree(two_masks, (1,), random(7 * 128), out, 7, columns, half, B=128)


@pytest.mark.parametrize("columns", [0, 17, 64])
@pytest.mark.parametrize("kernel", [inverted, reads_its_neighbour, swapped], ids=lambda kernel: kernel.__name__)
def test_tiles_that_change_outside_the_mask_or_elsewhere(kernel, columns):
    agree(kernel, (1,), random(4 * 64), torch.full((128,), torch.nan), 4, columns, B=64)


def test_mask_that_moves():
    agree(moving_mask, (1,), random(20 * 64), torch.full((64,), torch.nan), 20, B=64)


@pytest.mark.parametrize("rows", [1, 8, 13])
@pytest.mark.parametrize("columns", [3, 64, 50])
def test_both_dimensions(rows, columns):
    out = torch.full((8 * 64,), torch.nan)
    agree(both_dimensions, (1,), torch.rand(rows * columns), out, rows, columns, R=8, B=64, rtol=1e-6)


def test_loop_ends_at_the_mask():
    """Not only for speed: a vector load without a lane that counts is slow where memory ends."""
    x, out = torch.randn(2 * 100, device="gxu"), torch.empty(128, device="gxu")
    compiled = sums[(1,)](x, out, 2, 100, B=128)
    lines = compiled.asm["loops"].splitlines()
    loop = next(number for number, line in enumerate(lines) if line.startswith("for %row"))
    assert " while " in lines[loop + 1], compiled.asm["loops"]


@triton.jit
def known_rows(x, out, ROWS: tl.constexpr, B: tl.constexpr):
    i = tl.arange(0, B)
    total = tl.zeros((B,), tl.float32)
    for row in range(ROWS):
        total += tl.load(x + row * B + i, row < ROWS, 0.0)
    tl.store(out + i, total)


def test_loop_index_is_in_front_of_the_end():
    """Inductor's ``r0_mask`` where the block divides: nothing is left of it."""
    x, out = torch.randn(5 * 64), torch.empty(64, device="gxu")
    compiled = known_rows[(1,)](x.to("gxu"), out, ROWS=5, B=64)
    assert "llvm.masked.load" not in compiled.asm["llir"]
    torch.testing.assert_close(out.cpu(), x.view(5, 64).sum(0))
