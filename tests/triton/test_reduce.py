"""Reductions over every axis of tiles of one to three dimensions, with every combine function that Triton's library has
and some of our own, against torch and numpy."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl
from triton_helpers import agree, assert_same, launch


@triton.jit
def reduce_1d(x, out, n, B: tl.constexpr, OP: tl.constexpr):
    i = tl.arange(0, B)
    v = tl.load(x + i, i < n, other=0)
    if OP == "sum":
        r = tl.sum(v, 0)
    elif OP == "max":
        r = tl.max(v, 0)
    elif OP == "min":
        r = tl.min(v, 0)
    elif OP == "xor":
        r = tl.xor_sum(v, 0)
    elif OP == "argmax":
        r = tl.argmax(v, 0)
    elif OP == "argmin":
        r = tl.argmin(v, 0)
    tl.store(out, r)


_TORCH = {
    "sum": lambda x, d: x.sum(d),
    "max": lambda x, d: x.amax(d),
    "min": lambda x, d: x.amin(d),
    "argmax": lambda x, d: x.argmax(d),
    "argmin": lambda x, d: x.argmin(d),
}


@pytest.mark.parametrize("op", ["sum", "max", "min", "xor", "argmax", "argmin"])
@pytest.mark.parametrize("dtype", [torch.int8, torch.int32, torch.int64, torch.float32, torch.float64, torch.float16])
def test_whole_tiles(op, dtype):
    if op == "xor" and dtype.is_floating_point:
        pytest.skip("bits of integers only")
    for size in (1, 2, 16, 256):
        x = torch.randint(-9, 9, (size,)).to(dtype)  # small whole numbers: sums are exact, extrema have ties
        for n in {size, size * 3 // 4, 0}:
            _, out = launch(
                reduce_1d,
                (1,),
                x,
                torch.zeros(1, dtype=torch.int64 if op.startswith("arg") else dtype),
                n,
                B=size,
                OP=op,
            )
            v = torch.where(torch.arange(size) < n, x, 0)
            if op == "xor":
                wanted = 0
                for number in v.tolist():
                    wanted ^= number
            else:
                wanted = _TORCH[op](v.double(), 0).item()
                if op == "argmax":
                    wanted = (v == v.max()).nonzero()[0].item()
                elif op == "argmin":
                    wanted = (v == v.min()).nonzero()[0].item()
            assert out.item() == wanted, (size, n)


@triton.jit
def sums_2d(x, out, m, n, M: tl.constexpr, N: tl.constexpr):
    r = tl.arange(0, M)[:, None]
    c = tl.arange(0, N)[None, :]
    k = (r < m) & (c < n)
    v = tl.load(x + r * n + c, k, other=0)
    rows = tl.sum(v, 1)
    cols = tl.sum(v, 0)
    tl.store(out + tl.arange(0, M), rows)
    tl.store(out + M + tl.arange(0, N), cols)
    kept = tl.max(v, 1, keep_dims=True)
    tl.store(out + M + N + tl.arange(0, M)[:, None], kept)
    tl.store(out + 2 * M + N + tl.arange(0, N)[None, :], tl.min(v, 0, keep_dims=True))
    total = tl.sum(rows, 0) + tl.sum(tl.sum(v, 0), 0) + tl.sum(v)
    tl.store(out + 2 * M + 2 * N, total)
    centred = tl.where(k, v - kept, 0)
    tl.store(out + 2 * M + 2 * N + 1, tl.max(tl.sum(centred, 1), 0))
    tl.store(x + r * n + c, centred + rows[:, None] * 2 - cols[None, :], k)


@pytest.mark.parametrize(("m", "n"), [(1, 1), (2, 40), (13, 5), (16, 64), (0, 7)])
@pytest.mark.parametrize("shape", [(16, 64), (32, 64)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.int32])
def test_both_axes_of_a_tile(m, n, shape, dtype):
    x = torch.randint(-9, 9, (max(m * n, 1),)).to(dtype)
    rows, cols = shape
    agree(sums_2d, (1,), x, torch.zeros(2 * rows + 2 * cols + 2, dtype=dtype), m, n, M=rows, N=cols)


@triton.jit
def reduce_3d(x, out, A: tl.constexpr, B: tl.constexpr, C: tl.constexpr):
    i = tl.arange(0, A)[:, None, None]
    j = tl.arange(0, B)[None, :, None]
    k = tl.arange(0, C)[None, None, :]
    v = tl.load(x + (i * B + j) * C + k)
    a, b, c = tl.arange(0, A), tl.arange(0, B), tl.arange(0, C)
    tl.store(out + b[:, None] * C + c[None, :], tl.sum(v, 0))
    out += B * C
    tl.store(out + a[:, None] * C + c[None, :], tl.max(v, 1))
    out += A * C
    tl.store(out + a[:, None] * B + b[None, :], tl.argmin(v, 2))
    out += A * B
    tl.store(out + b, tl.sum(tl.max(v, 2), 0))
    out += B
    tl.store(out + a, tl.min(tl.sum(v, 1), 1))
    out += A
    tl.store(out + c, tl.xor_sum(tl.max(v, 0), 0))
    out += C
    tl.store(out, tl.sum(v))
    tl.store(out + 1, tl.max(tl.sum(v * (tl.sum(v, 2, keep_dims=True) - tl.max(v, 0, keep_dims=True)), 1)))


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 4, 8), (1, 16, 32), (8, 1, 4), (4, 32, 1), (16, 2, 16)])
def test_every_axis_of_three(shape):
    a, b, c = shape
    out = torch.zeros(b * c + a * c + a * b + b + a + c + 2, dtype=torch.int32)
    agree(reduce_3d, (1,), torch.randint(-9, 9, (a * b * c,), dtype=torch.int32), out, A=a, B=b, C=c)


@triton.jit
def extrema(x, out, where, n, M: tl.constexpr, N: tl.constexpr):
    r = tl.arange(0, M)
    c = tl.arange(0, N)[None, :]
    v = tl.load(x + r[:, None] * N + c, c < n, other=float("-inf"))
    value, index = tl.max(v, 1, return_indices=True)
    tl.store(out + r, value)
    tl.store(where + r, index)
    value, index = tl.max(v, 1, return_indices=True, return_indices_tie_break_left=False)
    tl.store(out + M + r, value)
    tl.store(where + M + r, index)
    low = tl.where(c < n, v, float("inf"))
    value, index = tl.min(low, 1, return_indices=True)
    tl.store(out + 2 * M + r, value)
    tl.store(where + 2 * M + r, index)


@pytest.mark.parametrize("n", [1, 15, 64, 77, 128])
def test_indices_of_extrema_with_ties(n):
    x = torch.randint(-3, 3, (8, 128)).float()
    x[3] = float("-inf")
    x[4, : n // 2] = float("inf")
    _, out, where = launch(extrema, (1,), x, torch.zeros(24), torch.zeros(24, dtype=torch.int32), n, M=8, N=128)
    v = x[:, :n]
    high, low = v.amax(1), v.amin(1)
    assert_same(out, torch.cat([high, high, low]))
    first_high = (v == high[:, None]).int().argmax(1)
    first_low = (v == low[:, None]).int().argmax(1)
    assert torch.equal(where[:8].long(), first_high)
    assert torch.equal(where[16:].long(), first_low)
    # Any of the equal ones will do where ties are not broken; -inf also fills the masked rest of row 3.
    free = where[8:16].long()
    assert all(free[row] < n and v[row, free[row]] == high[row] for row in range(8) if row != 3)


@triton.jit
def nan_extrema(x, out, B: tl.constexpr):
    i = tl.arange(0, B)
    v = tl.load(x + i)
    tl.store(out, tl.max(v, 0))
    tl.store(out + 1, tl.min(v, 0))
    tl.store(out + 2, tl.sum(v, 0))


def test_extrema_ignore_nan_unless_there_is_nothing_else():
    nan = float("nan")
    for size in (1, 4, 128):
        x = torch.full((size,), nan)
        _, out = launch(nan_extrema, (1,), x, torch.zeros(3), B=size)
        assert out.isnan().all()
        if size > 1:
            x[size // 3] = -2.0
            _, out = launch(nan_extrema, (1,), x, torch.zeros(3), B=size)
            assert out[:2].tolist() == [-2.0, -2.0]
            assert out[2].isnan()


@triton.jit
def welford_combine(mean_1, m2_1, weight_1, mean_2, m2_2, weight_2):
    delta = mean_2 - mean_1
    weight = weight_1 + weight_2
    ratio = tl.where(weight == 0.0, 0.0, weight_2 / weight)
    return mean_1 + delta * ratio, m2_1 + m2_2 + delta * delta * weight_1 * ratio, weight


@triton.jit
def welford(x, out, n, M: tl.constexpr, N: tl.constexpr, AXIS: tl.constexpr):
    r = tl.arange(0, M)[:, None]
    c = tl.arange(0, N)[None, :]
    k = c < n
    v = tl.load(x + r * n + c, k, other=0.0)
    mean, m2, weight = tl.reduce((v, tl.zeros_like(v), tl.where(k, 1.0, 0.0) + r * 0), AXIS, welford_combine)
    if AXIS == 1:
        i = tl.arange(0, M)
        tl.store(out + i * 3, mean)
        tl.store(out + i * 3 + 1, m2 / weight)
        tl.store(out + i * 3 + 2, weight)
    else:
        i = tl.arange(0, N)
        tl.store(out + i * 3, mean, i < n)
        tl.store(out + i * 3 + 1, m2 / weight, i < n)
        tl.store(out + i * 3 + 2, weight, i < n)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(
    ("m", "n", "block"), [(1, 1, 1), (8, 5, 8), (16, 100, 128), (32, 31, 32), (1, 100, 128), (64, 2, 2)]
)
def test_welford(axis, m, n, block):
    x = torch.randn(m, n) * 3 + 100
    count = m if axis == 1 else n
    _, out = launch(welford, (1,), x, torch.zeros(count, 3), n, M=m, N=block, AXIS=axis)
    wide = x.double()
    torch.testing.assert_close(out[:, 0].double(), wide.mean(axis), rtol=1e-5, atol=0)
    torch.testing.assert_close(out[:, 1].double(), wide.var(axis, correction=0), rtol=1e-4, atol=1e-4)
    assert (out[:, 2] == (n if axis == 1 else m)).all()


@triton.jit
def larger_magnitude(a, i, b, j):
    first = (tl.abs(a) > tl.abs(b)) | ((tl.abs(a) == tl.abs(b)) & (i < j))
    return tl.where(first, a, b), tl.where(first, i, j)


@triton.jit
def nan_max(a, b):
    keep = a > b
    keep |= a != a
    return tl.where(keep, a, b)


@triton.jit
def bit_or(a, b):
    return a | b


@triton.jit
def wrapped_product(a, b):
    return a * b


@triton.jit
def scaled_sum(a, b):
    return (a + b) % 1009


@triton.jit
def custom(x, out, n, M: tl.constexpr, N: tl.constexpr):
    r = tl.arange(0, M)
    c = tl.arange(0, N)
    v = tl.load(x + r[:, None] * N + c[None, :], (c[None, :] < n) | (r[:, None] == 0), other=1)
    value, index = tl.reduce((v, tl.broadcast_to(c[None, :], [M, N])), 1, larger_magnitude)
    tl.store(out + r, value)
    tl.store(out + M + r, index)
    tl.store(out + 2 * M + r, tl.reduce(v, 1, bit_or))
    tl.store(out + 3 * M + r, tl.reduce(v, 1, wrapped_product))
    tl.store(out + 4 * M + r, tl.reduce(v + 10, 1, scaled_sum))
    out += 5 * M
    tl.store(out + c, tl.reduce(v, 0, wrapped_product))
    tl.store(out + N + c, tl.reduce(v + 10, 0, scaled_sum))
    tl.store(out + 2 * N, tl.reduce(tl.reduce(v + 10, 0, scaled_sum), 0, scaled_sum))
    tl.store(out + 2 * N + 1, tl.reduce(tl.reshape(v, [M * N]) + 10, 0, scaled_sum))


@pytest.mark.parametrize("shape", [(1, 1), (1, 64), (8, 4), (4, 128), (32, 1)])
def test_combine_functions_of_our_own(shape):
    m, n = shape
    x = torch.randint(-9, 9, (m * n,), dtype=torch.int32)
    x = torch.where(x == 0, 1, x)
    agree(custom, (1,), x, torch.zeros(5 * m + 2 * n + 2, dtype=torch.int32), n - n // 3, M=m, N=n)


@triton.jit
def nan_reduction(x, out, n, M: tl.constexpr, N: tl.constexpr):
    r = tl.arange(0, M)
    c = tl.arange(0, N)
    k = c[None, :] < n
    v = tl.load(x + r[:, None] * n + c[None, :], k, other=0.0)
    tl.store(out + r, tl.reduce(tl.where(k, v, float("-inf")), 1, nan_max))


@pytest.mark.parametrize("n", [1, 31, 64, 100])
def test_nan_propagating_combine(n):
    x = torch.randn(8, n)
    x[2, n // 2] = float("nan")
    x[5] = float("nan")
    x[6] = float("-inf")
    _, out = launch(nan_reduction, (1,), x, torch.zeros(8), n, M=8, N=128)
    assert_same(out, x.amax(1))


@triton.jit
def booleans(x, out, M: tl.constexpr, N: tl.constexpr):
    r = tl.arange(0, M)
    c = tl.arange(0, N)
    v = tl.load(x + r[:, None] * N + c[None, :])
    tl.store(out + r, tl.reduce(v, 1, bit_or))
    tl.store(out + M + r, tl.min(v.to(tl.int8), 1).to(tl.int1))
    tl.store(out + 2 * M + c, tl.reduce(v, 0, bit_or))


@pytest.mark.parametrize("shape", [(2, 4), (16, 64), (1, 256)])
def test_any_and_all(shape):
    x = torch.rand(shape) < 1.5 / shape[1]
    _, out = launch(booleans, (1,), x, torch.zeros(2 * shape[0] + shape[1], dtype=torch.bool), M=shape[0], N=shape[1])
    assert torch.equal(out, torch.cat([x.any(1), x.all(1), x.any(0)]))


@triton.jit
def looped(x, out, rows, cols, M: tl.constexpr, N: tl.constexpr):
    r = tl.program_id(0) * M + tl.arange(0, M)[:, None]
    c = tl.arange(0, N)[None, :]
    total = tl.zeros([M, N], tl.float32)
    high = tl.full([M, N], float("-inf"), tl.float32)
    where = tl.full([M, N], 2147483647, tl.int32)
    for start in tl.range(0, cols, N):
        at = start + c
        k = (at < cols) & (r < rows)
        v = tl.load(x + r * cols + at, k, other=0.0)
        total = tl.where(k, total + v, total)
        better = k & (v > high)
        high = tl.where(better, v, high)
        where = tl.where(better, at, where)
    s = tl.sum(total, 1)[:, None]
    top = tl.max(high, 1)[:, None]
    first = tl.min(tl.where(high == top, where, 2147483647), 1)[:, None]
    tl.store(out + r, s, r < rows)
    tl.store(out + rows + r, top, r < rows)
    tl.store(out + 2 * rows + r, first.to(tl.float32), r < rows)
    for start in tl.range(0, cols, N):
        at = start + c
        k = (at < cols) & (r < rows)
        tl.store(x + r * cols + at, tl.load(x + r * cols + at, k) - s, k)


@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (5, 33), (16, 200), (9, 64)])
@pytest.mark.parametrize("tile", [(1, 64), (4, 16), (8, 32), (64, 1)])
def test_accumulating_in_a_loop(rows, cols, tile):
    x = torch.randint(-99, 99, (rows, cols)).float()
    agree(looped, (-(-rows // tile[0]),), x, torch.zeros(3, rows), rows, cols, M=tile[0], N=tile[1])


@triton.jit
def softmax(x, out, n, M: tl.constexpr, N: tl.constexpr, AXIS: tl.constexpr):
    r = tl.arange(0, M)[:, None]
    c = tl.arange(0, N)[None, :]
    k = c < n
    v = tl.load(x + r * n + c, k, other=float("-inf"))
    if AXIS == 1:
        e = tl.exp(v - tl.max(v, 1)[:, None])
        y = e / tl.sum(e, 1)[:, None]
    else:
        e = tl.exp(v - tl.max(v, 0)[None, :])
        y = e / tl.sum(e, 0)[None, :]
    tl.store(out + r * n + c, y, k)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(("m", "n"), [(1, 1), (4, 100), (32, 128), (8, 3)])
def test_softmax(axis, m, n):
    x = torch.randn(m, n) * 10
    _, out = launch(softmax, (1,), x, torch.zeros(m, n), n, M=m, N=max(triton.next_power_of_2(n), 1), AXIS=axis)
    torch.testing.assert_close(out.double(), x.double().softmax(axis), rtol=1e-5, atol=1e-7)


@triton.jit
def mixed_results(x, y, out, n, B: tl.constexpr):
    i = tl.arange(0, B)
    k = i < n
    a = tl.load(x + i, k, other=0.0)
    b = tl.load(y + i, k, other=0.0)
    dot = tl.sum(a * b, 0)
    norm = tl.sqrt(tl.sum(a * a, 0)) * tl.sqrt(tl.sum(b * b, 0))
    cosine = dot / norm
    tl.store(out + i, a * cosine + tl.sum(tl.where(k, b - dot, 0.0), 0), k)
    if dot > 0:
        tl.store(out + B, tl.sum(a, 0))
    else:
        tl.store(out + B, tl.max(b, 0))


@pytest.mark.parametrize("n", [1, 50, 256])
def test_scalars_of_reductions(n):
    agree(mixed_results, (1,), torch.randn(n), torch.randn(n), torch.zeros(257), n, B=256, rtol=1e-4, atol=1e-3)
