"""Scans, sorts, matrix products, while loops, and atomics whose old value is used, against torch."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl
from triton_helpers import agree, assert_same, launch


@triton.jit
def scans(x, out, M: tl.constexpr, N: tl.constexpr, AXIS: tl.constexpr, REVERSE: tl.constexpr):
    at = tl.arange(0, M)[:, None] * N + tl.arange(0, N)[None, :]
    v = tl.load(x + at)
    tl.store(out + at, tl.cumsum(v, AXIS, reverse=REVERSE))
    tl.store(out + M * N + at, tl.cumprod(v % 4, AXIS, reverse=REVERSE))
    total = tl.sum(tl.cumsum(v, AXIS), AXIS)
    if AXIS == 1:
        tl.store(out + 2 * M * N + at, tl.cumsum(v - total[:, None], AXIS))
    else:
        tl.store(out + 2 * M * N + at, tl.cumsum(v - total[None, :], AXIS))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (4, 64), (64, 4), (1, 128)])
def test_scans_of_two_dimensional_tiles(axis, reverse, shape):
    m, n = shape
    x = torch.randint(0, 9, (m, n), dtype=torch.int32)
    _, out = launch(scans, (1,), x, torch.zeros(3 * m * n, dtype=torch.int32), M=m, N=n, AXIS=axis, REVERSE=reverse)
    got = out.reshape(3, m, n)

    def scanned(function, v):
        v = v.flip(axis) if reverse else v
        r = function(v.long(), axis)
        return (r.flip(axis) if reverse else r).to(torch.int32)

    assert torch.equal(got[0], scanned(torch.cumsum, x))
    assert torch.equal(got[1], scanned(torch.cumprod, x % 4))
    centred = x - x.cumsum(axis).sum(axis, keepdim=True)
    assert torch.equal(got[2], centred.cumsum(axis).int())


@triton.jit
def higher(a, b):
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def masked_scans(x, out, n, B: tl.constexpr):
    """One loop over all of it: what is scanned is stored, scanned again, and cut at n."""
    i = tl.arange(0, B)
    v = tl.load(x + i, i < n, other=0)
    once = tl.cumsum(v, 0)
    tl.store(out + i, once, i < n)
    tl.store(out + B + i, tl.cumsum(once.to(x.dtype.element_ty), 0) + tl.load(x + i % 8), i < n)
    tl.store(out + 2 * B + i, tl.associative_scan(v, 0, higher), i < n)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.int32, torch.int64, torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "block"), [(1, 2), (8, 8), (100, 128), (129, 512), (512, 512)])
def test_scans_along_a_vector(n, block, dtype):
    """Small integers, so that sums of floats are exact in any order."""
    x = torch.randint(-1, 2, (max(n, 8),)).to(dtype)
    agree(
        masked_scans, (1,), torch.nn.functional.pad(x, (0, block)), torch.full((3 * block,), 7, dtype=dtype), n, B=block
    )


@pytest.mark.parametrize("place", [0, 5, 40, 127])
def test_scans_carry_nan_and_infinity_on(place):
    x = torch.randn(128)
    x[place] = float("nan")
    x[127 - place] = float("inf")
    _, out = launch(masked_scans, (1,), x, torch.zeros(3 * 128), 128, B=128)
    assert_same(out[:128], x.cumsum(0), rtol=1e-4, atol=1e-4)
    assert_same(out[256:], x.cummax(0).values)


@triton.jit
def recurrence(a, b, c, d):
    return a * c, b * c + d


@triton.jit
def largest(a, i, b, j):
    keep = (a > b) | ((a == b) & (i < j))
    return tl.where(keep, a, b), tl.where(keep, i, j)


@triton.jit
def associative(x, y, out, n, B: tl.constexpr):
    i = tl.arange(0, B)
    k = i < n
    a = tl.load(x + i, k, other=1)
    b = tl.load(y + i, k, other=0)
    _, state = tl.associative_scan((a, b), 0, recurrence)
    tl.store(out + i, state, k)
    high, where = tl.associative_scan((b, i), 0, largest)
    tl.store(out + B + i, high * 1000 + where, k)
    tl.store(out + 2 * B, tl.max(state, 0))


@pytest.mark.parametrize("n", [1, 50, 128])
def test_associative_scans_of_several_tiles(n):
    a, b = torch.randint(-1, 2, (128,), dtype=torch.int32), torch.randint(-9, 9, (128,), dtype=torch.int32)
    _, _, out = launch(associative, (1,), a, b, torch.zeros(257, dtype=torch.int32), n, B=128)
    state, high, where = 0, -(10**9), 0
    for i in range(n):
        state = int(a[i]) * state + int(b[i]) if i else int(b[0])
        if int(b[i]) > high:
            high, where = int(b[i]), i
        assert out[i] == state
        assert out[128 + i] == high * 1000 + where


@triton.jit
def sorted_rows(x, out, M: tl.constexpr, N: tl.constexpr):
    at = tl.arange(0, M)[:, None] * N + tl.arange(0, N)[None, :]
    v = tl.load(x + at)
    tl.store(out + at, tl.sort(v, 1))
    tl.store(out + M * N + at, tl.sort(v, 1, descending=True))
    tl.store(out + 2 * M * N + at, tl.flip(v, 1))


@pytest.mark.parametrize("shape", [(1, 8), (4, 32), (8, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.int32])
def test_sort_and_flip(shape, dtype):
    x = torch.randint(-99, 99, shape).to(dtype)
    _, out = launch(sorted_rows, (1,), x, torch.zeros(3 * x.numel(), dtype=dtype), M=shape[0], N=shape[1])
    got = out.reshape(3, *shape)
    assert_same(got[0], x.sort(1).values)
    assert_same(got[1], x.sort(1, descending=True).values)
    assert_same(got[2], x.flip(1))


@triton.jit
def matmul(a, b, c, m, n, k, sam, sak, sbk, sbn, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, RELU: tl.constexpr):
    r = tl.program_id(0) * M + tl.arange(0, M)
    s = tl.program_id(1) * N + tl.arange(0, N)
    q = tl.arange(0, K)
    total = tl.zeros([M, N], tl.int32 if a.dtype.element_ty == tl.int8 else tl.float32)
    for start in range(0, k, K):
        at = start + q
        x = tl.load(a + r[:, None] * sam + at[None, :] * sak, (r[:, None] < m) & (at[None, :] < k), other=0)
        y = tl.load(b + at[:, None] * sbk + s[None, :] * sbn, (at[:, None] < k) & (s[None, :] < n), other=0)
        total = tl.dot(x, y, total, out_dtype=total.dtype)
    if RELU:
        total = tl.maximum(total, 0)
    tl.store(c + r[:, None] * n + s[None, :], total.to(c.dtype.element_ty), (r[:, None] < m) & (s[None, :] < n))


@pytest.mark.parametrize(("m", "n", "k"), [(16, 16, 16), (1, 5, 3), (33, 70, 50), (64, 32, 100)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int8])
@pytest.mark.parametrize("tile", [(16, 16, 16), (32, 64, 32)])
def test_matrix_products(m, n, k, dtype, tile):
    a, b = (torch.randint(-9, 9, shape).to(dtype) for shape in ((m, k), (k, n)))
    kind = torch.int32 if dtype == torch.int8 else torch.float32
    grid = (-(-m // tile[0]), -(-n // tile[1]))
    wanted = (a.double() @ b.double()).to(kind)
    _, _, got = launch(
        matmul,
        grid,
        a,
        b,
        torch.full((m, n), 7, dtype=kind),
        m,
        n,
        k,
        k,
        1,
        n,
        1,
        M=tile[0],
        N=tile[1],
        K=tile[2],
        RELU=False,
    )
    assert_same(got, wanted)
    _, _, got = launch(
        matmul,
        grid,
        a.t().contiguous(),
        b.t().contiguous(),
        torch.full((m, n), 7, dtype=kind),
        m,
        n,
        k,
        1,
        m,
        1,
        k,
        M=tile[0],
        N=tile[1],
        K=tile[2],
        RELU=True,
    )
    assert_same(got, wanted.clamp(min=0))


@triton.jit
def attention(q, k, v, out, n, scale, M: tl.constexpr, N: tl.constexpr, D: tl.constexpr):
    r = tl.program_id(0) * M + tl.arange(0, M)
    d = tl.arange(0, D)
    x = tl.load(q + r[:, None] * D + d[None, :], r[:, None] < n, other=0.0)
    top = tl.full([M], float("-inf"), tl.float32)
    weight = tl.zeros([M], tl.float32)
    total = tl.zeros([M, D], tl.float32)
    for start in range(0, n, N):
        c = start + tl.arange(0, N)
        y = tl.load(k + c[None, :] * D + d[:, None], c[None, :] < n, other=0.0)
        s = tl.where(c[None, :] < n, tl.dot(x, y) * scale, float("-inf"))
        high = tl.maximum(top, tl.max(s, 1))
        p = tl.exp(s - high[:, None])
        shrink = tl.exp(top - high)
        weight = weight * shrink + tl.sum(p, 1)
        z = tl.load(v + c[:, None] * D + d[None, :], c[:, None] < n, other=0.0)
        total = total * shrink[:, None] + tl.dot(p, z)
        top = high
    tl.store(out + r[:, None] * D + d[None, :], total / weight[:, None], r[:, None] < n)


@pytest.mark.parametrize("n", [1, 30, 64])
def test_attention(n):
    q, k, v = torch.randn(3, n, 32)
    _, _, _, out = launch(attention, (-(-n // 16),), q, k, v, torch.zeros(n, 32), n, 32**-0.5, M=16, N=16, D=32)
    wanted = ((q.double() @ k.double().t()) * 32**-0.5).softmax(1) @ v.double()
    torch.testing.assert_close(out.double(), wanted, rtol=1e-5, atol=1e-5)


@triton.jit
def collatz(x, steps, out, B: tl.constexpr):
    i = tl.arange(0, B)
    v = tl.load(x + i)
    count = tl.zeros([B], tl.int32)
    rounds = 0
    while tl.max(v, 0) > 1:
        v = tl.where(v > 1, tl.where(v % 2 == 0, v // 2, 3 * v + 1), v)
        count += (v > 1).to(tl.int32)
        rounds += 1
    tl.store(steps + i, count)
    tl.store(out, rounds)


def test_while_loops():
    agree(
        collatz,
        (1,),
        torch.arange(1, 65, dtype=torch.int32),
        torch.zeros(64, dtype=torch.int32),
        torch.zeros(1, dtype=torch.int32),
        B=64,
    )


@triton.jit
def old_values(x, index, out, n, B: tl.constexpr):
    i = tl.arange(0, B)
    k = i < n
    at = tl.load(index + i, k, other=0)
    old = tl.atomic_add(x + at, 1, mask=k)
    tl.store(out + i, old, k)


@triton.jit
def swapped(x, out, B: tl.constexpr):
    i = tl.arange(0, B)
    old = tl.atomic_cas(x + i, i, i + 1000)
    tl.store(out + i, old)
    tl.store(out + B, tl.atomic_cas(x, 1000, -1))


def test_atomics_return_old_values():
    index = torch.randint(0, 5, (100,), dtype=torch.int32)
    x, _, out = launch(
        old_values, (1,), torch.zeros(5, dtype=torch.int32), index, torch.zeros(128, dtype=torch.int32), 77, B=128
    )
    for slot in range(5):
        mine = out[:77][index[:77] == slot]
        assert torch.equal(mine.sort().values, torch.arange(len(mine), dtype=torch.int32))
        assert x[slot] == len(mine)


def test_compare_and_swap():
    x = torch.where(torch.arange(64) % 2 == 0, torch.arange(64), 5).to(torch.int32)
    after, out = launch(swapped, (1,), x, torch.zeros(65, dtype=torch.int32), B=64)
    i = torch.arange(64, dtype=torch.int32)
    wanted = torch.where(x == i, i + 1000, x)
    wanted[0] = -1
    assert torch.equal(after, wanted)
    assert torch.equal(out[:64], x)
    assert out[64] == 1000


@triton.jit
def locked(lock, x, B: tl.constexpr):
    i = tl.arange(0, B)
    while tl.atomic_cas(lock, 0, 1) == 1:
        pass
    tl.store(x + i, tl.load(x + i) + 1)
    tl.debug_barrier()
    tl.atomic_xchg(lock, 0)


def test_locks_between_programs():
    _, x = launch(locked, (200,), torch.zeros(1, dtype=torch.int32), torch.zeros(32, dtype=torch.int32), B=32)
    assert (x == 200).all()
