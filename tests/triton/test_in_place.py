"""One tensor given to a kernel twice, as input and as output: tiles are read before anything is stored over them."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl


@triton.jit
def rotate(x, out, cos, sin, rows, stride, HALF: tl.constexpr, ROWS: tl.constexpr):
    row = tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, HALF)[None, :]
    mask = row < rows
    at = row * stride + column
    a, b = tl.load(x + at, mask), tl.load(x + at + HALF, mask)
    c, s = tl.load(cos + column), tl.load(sin + column)
    tl.store(out + at, a * c - b * s, mask)
    tl.store(out + at + HALF, a * s + b * c, mask)


@triton.jit
def scale_and_sum(x, out, sums, rows, columns, B: tl.constexpr):
    row = tl.program_id(0)
    i = tl.arange(0, B)
    v = tl.load(x + row * columns + i, i < columns, 0.0)
    tl.store(out + row * columns + i, v * 3, i < columns)
    tl.store(sums + row, tl.sum(tl.exp(v - tl.max(v, 0)), 0))


@triton.jit
def swap_halves(x, out, B: tl.constexpr):
    i = tl.arange(0, B)
    a, b = tl.load(x + i), tl.load(x + B + i)
    tl.store(out + i, b)
    tl.store(out + B + i, a)


@pytest.mark.parametrize("rows", [1, 3, 7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rotation_of_two_halves(rows, dtype):
    x = torch.randn(rows, 64).to(dtype)
    cos, sin = torch.randn(32), torch.randn(32)
    device = x.to("gxu")
    rotate[(1,)](device, device, cos.to("gxu"), sin.to("gxu"), rows, 64, HALF=32, ROWS=8)
    a, b = x.double().split(32, 1)
    expected = torch.cat([a * cos - b * sin, a * sin + b * cos], 1)
    tolerance = 1e-6 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(device.cpu().double(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("columns", [5, 100, 128])
def test_reduction_after_a_store(columns):
    x = torch.randn(9, columns)
    device, sums = x.to("gxu"), torch.full((9,), torch.nan, device="gxu")
    scale_and_sum[(9,)](device, device, sums, 9, columns, B=128)
    assert torch.equal(device.cpu(), x * 3)
    row = torch.nn.functional.pad(x.double(), (0, 128 - columns))
    expected = (row - row.amax(1, keepdim=True)).exp().sum(1)
    torch.testing.assert_close(sums.cpu().double(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("size", [1, 8, 512])
def test_halves_that_change_places(size):
    x = torch.randn(2 * size)
    device = x.to("gxu")
    swap_halves[(1,)](device, device, B=size)
    assert torch.equal(device.cpu(), torch.cat([x[size:], x[:size]]))
