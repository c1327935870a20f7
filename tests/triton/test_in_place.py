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


@triton.jit
def shift_blocks(x, out, n, B: tl.constexpr):
    for start in range(0, n, B):
        i = start + tl.arange(0, B)
        v = tl.load(x + i, i < n, 0.0)
        tl.store(out + i + 3, v + 1, i < n)


@triton.jit
def reverse(x, out, B: tl.constexpr):
    i = tl.arange(0, B)
    tl.store(out + i, tl.load(x + B - 1 - i))


@triton.jit
def transpose(x, out, stride, B: tl.constexpr, ADDRESSES: tl.constexpr):
    i, j = tl.arange(0, B)[:, None], tl.arange(0, B)[None, :]
    v = tl.load(x + i * stride + j)
    if ADDRESSES:
        tl.store(out + j * stride + i, v)
    else:
        tl.store(out + i * stride + j, tl.trans(v))


@triton.jit
def read_after_write(x, out, x_step, out_step, n, B: tl.constexpr):
    i = tl.arange(0, B)
    v = tl.load(x + i)
    for k in range(1, n):
        tl.store(out + k * out_step + i, v + tl.load(x + k * x_step + i))
        v += tl.load(x + k * x_step + i)
    tl.store(out + i, v)


@triton.jit
def add_to_mirror(x, out, B: tl.constexpr):
    i = tl.arange(0, B)
    v = tl.load(x + i)
    tl.atomic_add(out + B - 1 - i, v)
    tl.store(out + B + i, v)


def twice(x: torch.Tensor, view: bool) -> tuple[torch.Tensor, torch.Tensor]:
    return x, x.view(-1) if view else x


@pytest.mark.parametrize("view", [False, True])
@pytest.mark.parametrize("size", [8, 128, 1024])
def test_other_elements_of_one_tensor(size, view):
    """Tiles are loaded before they are stored, and blocks one after the other, wherever the two pointers go."""
    values = torch.randn(6 * size)
    n, expected = 4 * size + 3, values.clone()
    for start in range(0, n, size):
        stop = min(start + size, n)
        expected[start + 3 : stop + 3] = expected[start:stop] + 1
    x = values.to("gxu")
    shift_blocks[(1,)](*twice(x, view), n, B=size)
    assert torch.equal(x.cpu(), expected)

    x = values.to("gxu")
    reverse[(1,)](*twice(x, view), B=size)
    assert torch.equal(x.cpu(), torch.cat([values[:size].flip(0), values[size:]]))


@pytest.mark.parametrize("addresses", [False, True])
@pytest.mark.parametrize(("size", "stride"), [(8, 8), (32, 37), (64, 64)])
def test_transposed_tile_of_one_tensor(size, stride, addresses):
    values = torch.randn(size, stride)
    x, out = values.to("gxu"), torch.zeros(size, stride, device="gxu")
    transpose[(1,)](x, out, stride, B=size, ADDRESSES=addresses)
    assert torch.equal(x.cpu(), values)
    transpose[(1,)](x, x, stride, B=size, ADDRESSES=addresses)
    expected = values.clone()
    expected[:, :size] = values[:, :size].T
    assert torch.equal(x.cpu(), expected)
    assert torch.equal(out.cpu()[:, :size], expected[:, :size])


@pytest.mark.parametrize("size", [8, 256])
def test_load_after_a_store_to_one_tensor(size):
    values = torch.randn(5, size)
    x = values.to("gxu")
    read_after_write[(1,)](x, x, size, size, 5, B=size)
    expected = values.clone()
    v = expected[0].clone()
    for k in range(1, 5):
        expected[k] += v
        v += expected[k]
    expected[0] = v
    torch.testing.assert_close(x.cpu(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", [8, 256])
def test_atomics_on_one_tensor(size):
    values = torch.randn(2, size)
    x = values.to("gxu")
    add_to_mirror[(1,)](x, x, B=size)
    assert torch.equal(x.cpu(), torch.stack([values[0] + values[0].flip(0), values[0]]))


def test_elementwise_kernels_need_no_second_version():
    """Launches of kernels that read and write the same elements check nothing."""
    x = torch.randn(2, 64, device="gxu")
    sums = torch.empty(2, device="gxu")
    kernel = scale_and_sum.warmup(x, x, sums, 2, 64, B=64, grid=(2,))
    assert [0, 1] not in kernel.metadata.conflicts
    kernel = reverse.warmup(x, x, B=64, grid=(1,))
    assert kernel.metadata.conflicts == [[0, 1]]
