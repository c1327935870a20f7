"""Operations that move elements: sort, topk, flip, gather, cat; histogram; constant tables."""

from __future__ import annotations

import time

import pytest
import torch
import triton
import triton.language as tl
from triton_helpers import agree, assert_same, launch


@triton.jit
def sort_rows(x, out, M: tl.constexpr, N: tl.constexpr, DESCENDING: tl.constexpr):
    i = tl.arange(0, M)[:, None] * N + tl.arange(0, N)[None, :]
    tl.store(out + i, tl.sort(tl.load(x + i), descending=DESCENDING))


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("shape", [(1, 2), (1, 8), (3 + 1, 16), (2, 64), (1, 256)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.int32, torch.int8, torch.float16, torch.int64])
def test_sort(dtype, shape, descending):
    x = (torch.randn(shape) * 50).to(dtype)
    _, out = launch(sort_rows, (1,), x, torch.zeros_like(x), M=shape[0], N=shape[1], DESCENDING=descending)
    assert_same(out, x.sort(descending=descending).values)


@triton.jit
def sort_masked(x, out, n, B: tl.constexpr):
    i = tl.arange(0, B)
    v = tl.sort(tl.load(x + i, i < n, other=float("inf")) * 2)
    tl.store(out + i, v, i < n)


@pytest.mark.parametrize("n", [1, 100, 1000, 1024])
def test_sort_of_a_masked_row(n):
    x = torch.randn(1024)
    _, out = launch(sort_masked, (1,), x, torch.zeros(1024), n, B=1024)
    assert_same(out[:n], x[:n].sort().values * 2)


def test_sort_compiles_in_bounded_time():
    x = torch.randn(4, 2048)
    start = time.perf_counter()
    _, out = launch(sort_rows, (1,), x, torch.zeros_like(x), M=4, N=2048, DESCENDING=False)
    assert time.perf_counter() - start < 30
    assert_same(out, x.sort().values)


@triton.jit
def top(x, out, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    i, j = tl.arange(0, M)[:, None], tl.arange(0, N)[None, :]
    v = tl.topk(tl.load(x + i * N + j), K)
    tl.store(out + i * K + tl.arange(0, K)[None, :], v)


@pytest.mark.parametrize("k", [2, 8, 32])
@pytest.mark.parametrize("shape", [(1, 32), (4, 64)])
def test_topk(shape, k):
    x = torch.randn(shape)
    _, out = launch(top, (1,), x, torch.zeros(shape[0], k), M=shape[0], N=shape[1], K=k)
    assert_same(out, x.topk(k).values)


@triton.jit
def flip(x, out, M: tl.constexpr, N: tl.constexpr, DIM: tl.constexpr):
    i = tl.arange(0, M)[:, None] * N + tl.arange(0, N)[None, :]
    tl.store(out + i, tl.flip(tl.load(x + i), DIM))


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("shape", [(2, 2), (1, 4), (8, 4), (4, 128), (64, 16)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.int16])
def test_flip(dtype, shape, dim):
    x = (torch.randn(shape) * 50).to(dtype)
    _, out = launch(flip, (1,), x, torch.zeros_like(x), M=shape[0], N=shape[1], DIM=dim)
    assert_same(out, x.flip(dim))


@triton.jit
def flip_masked(x, out, n, B: tl.constexpr):
    i = tl.arange(0, B)
    tl.store(out + i, tl.flip(tl.load(x + i, i < n, other=-1), 0), i < n)


def test_flip_of_a_masked_row():
    x = torch.arange(64)
    _, out = launch(flip_masked, (1,), x, torch.zeros_like(x), 50, B=64)
    assert_same(out[:50], torch.where(x < 50, x, -1).flip(0)[:50])


@triton.jit
def gather(x, at, out, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, AXIS: tl.constexpr):
    source = tl.load(x + tl.arange(0, M)[:, None] * N + tl.arange(0, N)[None, :])
    if AXIS == 0:
        i = tl.arange(0, K)[:, None] * N + tl.arange(0, N)[None, :]
    else:
        i = tl.arange(0, M)[:, None] * K + tl.arange(0, K)[None, :]
    tl.store(out + i, tl.gather(tl.exp(source), tl.load(at + i), AXIS))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("index", [torch.int32, torch.int64, torch.int16])
@pytest.mark.parametrize("shape", [(4, 8, 8), (16, 32, 4), (2, 64, 128)])
def test_gather(shape, index, axis):
    m, n, k = shape
    x = torch.randn(m, n)
    at = torch.randint(0, (m, n)[axis], (k, n) if axis == 0 else (m, k))
    _, _, out = launch(gather, (1,), x, at.to(index), torch.zeros(at.shape), M=m, N=n, K=k, AXIS=axis)
    torch.testing.assert_close(out, x.exp().gather(axis, at), rtol=1e-6, atol=0)


@triton.jit
def cat(x, y, out, B: tl.constexpr):
    i = tl.arange(0, B)
    both = tl.cat(tl.load(x + i), tl.load(y + i) * 2, can_reorder=True)
    tl.store(out + tl.arange(0, 2 * B), both)


@pytest.mark.parametrize("size", [1, 4, 64, 256])
def test_cat(size):
    x, y = torch.randn(size), torch.randn(size)
    *_, out = launch(cat, (1,), x, y, torch.zeros(2 * size), B=size)
    assert_same(out, torch.cat([x, y * 2]))


@triton.jit
def histogram(x, out, n, B: tl.constexpr, BINS: tl.constexpr, MASKED: tl.constexpr):
    i = tl.arange(0, B)
    v = tl.load(x + i)
    counts = tl.histogram(v, BINS, i < n) if MASKED else tl.histogram(v, BINS)
    tl.store(out + tl.arange(0, BINS), counts)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("bins", [2, 16, 128, 256])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_histogram(dtype, bins, masked):
    x = torch.randint(0, bins, (512,), dtype=dtype)
    n = 300 if masked else 512
    counts = torch.zeros(bins, dtype=torch.int32)
    _, out = launch(histogram, (1,), x, counts, n, B=512, BINS=bins, MASKED=masked)
    assert_same(out, torch.bincount(x[:n], minlength=bins).int())


def test_histogram_leaves_out_what_is_out_of_range():
    x = torch.tensor([-1, 0, 1, 7, 8, 2**31 - 1, -(2**31), 3], dtype=torch.int32)
    _, out = launch(histogram, (1,), x, torch.zeros(8, dtype=torch.int32), 8, B=8, BINS=8, MASKED=False)
    assert out.tolist() == [1, 1, 0, 1, 0, 0, 0, 1]


@triton.jit
def interleave(x, y, out, B: tl.constexpr):
    i = tl.arange(0, B)
    tl.store(out + tl.arange(0, 2 * B), tl.interleave(tl.load(x + i), tl.load(y + i)))


def test_interleave():
    agree(interleave, (1,), torch.randn(64), torch.randn(64), torch.zeros(128), B=64)


@triton.jit
def sort_in_loop(x, o, T, N: tl.constexpr):
    i = tl.arange(0, N)
    best = tl.full((N,), float("-inf"), tl.float32)
    for t in range(T):
        v = tl.load(x + t * N + i)
        best = tl.maximum(best, tl.flip(tl.sort(v), 0))
    tl.store(o + i, tl.sort(best))


def test_sort_and_flip_in_a_loop():
    x = torch.randn(7, 64)
    _, out = launch(sort_in_loop, (1,), x, torch.zeros(64), 7, N=64)
    assert_same(out, x.sort(descending=True).values.max(0).values.sort().values)


@triton.jit
def five_dimensions(x, o, N: tl.constexpr):
    i = tl.arange(0, N)
    v = tl.reshape(tl.load(x + i), (2, 2, 2, 2, N // 16))
    v = tl.permute(v, (3, 1, 0, 2, 4))
    s = tl.sum(v, 3)
    m = tl.max(s, 1)
    tl.store(o + tl.arange(0, N // 4), tl.reshape(m * 2 + 1, (N // 4,)))


def test_tiles_of_five_dimensions():
    x = torch.randint(-9, 9, (256,)).float()
    _, out = launch(five_dimensions, (1,), x, torch.zeros(64), N=256)
    assert_same(out, (x.view(2, 2, 2, 2, 16).permute(3, 1, 0, 2, 4).sum(3).max(1).values * 2 + 1).reshape(-1))


@triton.jit
def scan_of_five(x, o, N: tl.constexpr):
    i = tl.arange(0, N)
    v = tl.reshape(tl.load(x + i), (2, 4, 2, 2, N // 32))
    tl.store(o + i, tl.reshape(tl.cumsum(v * 2, 1), (N,)))


def test_scan_of_five_dimensions():
    x = torch.randint(-9, 9, (256,)).float()
    _, out = launch(scan_of_five, (1,), x, torch.zeros(256), N=256)
    assert_same(out, (x * 2).view(2, 4, 2, 2, 8).cumsum(1).reshape(-1))
