"""Operations on single elements: every operator with every type, and expressions drawn by hypothesis."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from triton_helpers import assert_same, launch, random_bits

_SIGNED = [torch.int8, torch.int16, torch.int32, torch.int64]
_UNSIGNED = [torch.uint8, torch.uint16, torch.uint32, torch.uint64]
_FLOATS = [torch.float32, torch.float64]


@triton.jit
def integer_operators(x, y, s, out, flags, n, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    m = i < n
    a = tl.load(x + i, m)
    b = tl.load(y + i, m)
    by = tl.load(s + i, m)
    tl.store(out + i, a + b, m)
    tl.store(out + n + i, a - b, m)
    tl.store(out + 2 * n + i, a * b, m)
    tl.store(out + 3 * n + i, a // b, m)
    tl.store(out + 4 * n + i, a % b, m)
    tl.store(out + 5 * n + i, a & b, m)
    tl.store(out + 6 * n + i, a | b, m)
    tl.store(out + 7 * n + i, a ^ b, m)
    tl.store(out + 8 * n + i, a << by, m)
    tl.store(out + 9 * n + i, a >> by, m)
    tl.store(out + 10 * n + i, tl.minimum(a, b), m)
    tl.store(out + 11 * n + i, tl.maximum(a, b), m)
    tl.store(out + 12 * n + i, ~a, m)
    tl.store(out + 13 * n + i, tl.where(a > b, a, b + 1), m)
    tl.store(out + 14 * n + i, tl.abs(a), m)
    tl.store(flags + i, a < b, m)
    tl.store(flags + n + i, a <= b, m)
    tl.store(flags + 2 * n + i, a == b, m)
    tl.store(flags + 3 * n + i, a != b, m)
    tl.store(flags + 4 * n + i, a >= b, m)
    tl.store(flags + 5 * n + i, a > b, m)


@pytest.mark.parametrize("dtype", [*_SIGNED, *_UNSIGNED])
@pytest.mark.parametrize("n", [1, 700])
def test_integer_operators(dtype, n):
    x, y = random_bits(n, dtype), random_bits(n, dtype)
    y[: n // 3] = torch.arange(n // 3).to(dtype)
    a, b = x.numpy(), y.numpy().copy()
    info = np.iinfo(a.dtype)
    b[(b == 0) | ((info.min < 0) & (b == np.array(-1).astype(a.dtype)) & (a == info.min))] = 3
    shift = np.random.RandomState(n).randint(0, info.bits, n).astype(a.dtype)
    with np.errstate(all="ignore"):
        quotient = np.array(
            [int(abs(int(p)) // abs(int(q))) * (1 if (p < 0) == (q < 0) else -1) for p, q in zip(a, b, strict=True)],
            dtype=object,
        ).astype(a.dtype)
        rest = (a - (quotient * b).astype(a.dtype)).astype(a.dtype)
        wanted = [a + b, a - b, a * b, quotient, rest, a & b, a | b, a ^ b, a << shift, a >> shift]
        wanted += [np.minimum(a, b), np.maximum(a, b), ~a, np.where(a > b, a, b + np.array(1, a.dtype)), np.abs(a)]
        compared = [a < b, a <= b, a == b, a != b, a >= b, a > b]
    out, flags = launch(
        integer_operators,
        (-(-n // 128),),
        x,
        torch.from_numpy(b),
        torch.from_numpy(shift),
        torch.zeros(15 * n, dtype=dtype),
        torch.zeros(6 * n, dtype=torch.bool),
        n,
        B=128,
    )[3:]
    for number, (got, want) in enumerate(zip(out.numpy().reshape(15, n), wanted, strict=True)):
        np.testing.assert_array_equal(got, want.astype(a.dtype), err_msg=f"result {number}")
    np.testing.assert_array_equal(flags.numpy().reshape(6, n), np.array(compared))


@triton.jit
def float_operators(x, y, out, flags, n, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    m = i < n
    a = tl.load(x + i, m)
    b = tl.load(y + i, m)
    tl.store(out + i, a + b, m)
    tl.store(out + n + i, a - b, m)
    tl.store(out + 2 * n + i, a * b, m)
    tl.store(out + 3 * n + i, a / b, m)
    tl.store(out + 4 * n + i, tl.minimum(a, b), m)
    tl.store(out + 5 * n + i, tl.maximum(a, b), m)
    tl.store(out + 6 * n + i, tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL), m)
    tl.store(out + 7 * n + i, tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL), m)
    tl.store(out + 8 * n + i, tl.abs(a), m)
    tl.store(out + 9 * n + i, tl.where(a > b, a, b), m)
    tl.store(flags + i, a < b, m)
    tl.store(flags + n + i, a <= b, m)
    tl.store(flags + 2 * n + i, a == b, m)
    tl.store(flags + 3 * n + i, a != b, m)
    tl.store(flags + 4 * n + i, a >= b, m)
    tl.store(flags + 5 * n + i, a > b, m)


@pytest.mark.parametrize("dtype", _FLOATS)
@pytest.mark.parametrize("n", [1, 700])
def test_float_operators(dtype, n):
    specials = torch.tensor([0.0, -0.0, float("inf"), -float("inf"), float("nan"), 1.0, -1.0, 1e-40])
    x, y = random_bits(n, dtype), random_bits(n, dtype)
    pairs = torch.cartesian_prod(specials, specials).to(dtype)[: max(n - 1, 0)]
    x[: len(pairs)], y[: len(pairs)] = pairs.T
    out, flags = launch(
        float_operators,
        (-(-n // 128),),
        x,
        y,
        torch.zeros(10 * n, dtype=dtype),
        torch.zeros(6 * n, dtype=torch.bool),
        n,
        B=128,
    )[2:]
    # torch.fmin and torch.fmax let a signalling NaN through.
    low = torch.where(x.isnan(), y, torch.where(y.isnan(), x, torch.minimum(x, y)))
    high = torch.where(x.isnan(), y, torch.where(y.isnan(), x, torch.maximum(x, y)))
    wanted = [x + y, x - y, x * y, x / y, low, high, torch.minimum(x, y), torch.maximum(x, y), x.abs()]
    wanted.append(torch.where(x > y, x, y))
    for number, (got, want) in enumerate(zip(out.reshape(10, n), wanted, strict=True)):
        different = ~((got == want) | (got.isnan() & want.isnan()))
        assert not different.any(), (number, x[different], y[different], got[different], want[different])
    assert torch.equal(flags.reshape(6, n), torch.stack([x < y, x <= y, x == y, x != y, x >= y, x > y]))


@triton.jit
def mixed_types(x8, x16, x32, x64, f16, f32, out, n, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    m = i < n
    a, b, c, d = tl.load(x8 + i, m), tl.load(x16 + i, m), tl.load(x32 + i, m), tl.load(x64 + i, m)
    e, f = tl.load(f16 + i, m), tl.load(f32 + i, m)
    tl.store(out + i, (a.to(tl.int32) * b + c).to(tl.float64) + d, m)
    tl.store(out + n + i, (e.to(tl.float32) * 2 + f).to(tl.float64) * (a > 0), m)
    tl.store(out + 2 * n + i, tl.where(f > 0, a, b).to(tl.float64) + (d % 7) * (c < d), m)
    tl.store(out + 3 * n + i, (a & 3).to(tl.int64) * (d >> 2) + (b.to(tl.int64) << 3), m)


def test_types_of_different_width_in_one_kernel():
    n = 300
    x8, x16, x32 = (random_bits(n, d) // 16 for d in _SIGNED[:3])
    x64 = torch.randint(-(2**40), 2**40, (n,))
    f16, f32 = torch.randn(n).half(), torch.randn(n)
    out = launch(mixed_types, (5,), x8, x16, x32, x64, f16, f32, torch.zeros(4 * n, dtype=torch.float64), n, B=64)[-1]
    got = out.reshape(4, n)
    assert_same(got[0], (x8.int() * x16 + x32).double() + x64)
    assert_same(got[1], (f16.float() * 2 + f32).double() * (x8 > 0))
    assert_same(got[2], torch.where(f32 > 0, x8.short(), x16).double() + torch.fmod(x64, 7) * (x32 < x64))
    assert_same(got[3], ((x8 & 3).long() * (x64 >> 2) + (x16.long() << 3)).double())


# -- drawn expressions ---------------------------------------------------------------------------------------------


@triton.jit
def drawn(
    x, y, out, n, sx, sy, so, start, B: tl.constexpr, FIRST: tl.constexpr, SECOND: tl.constexpr, MASK: tl.constexpr
):
    i = tl.program_id(0) * B + tl.arange(0, B)
    if MASK == "bound":
        m = i < n
    elif MASK == "window":
        m = (i >= start) & (i < n)
    elif MASK == "odd":
        m = (i < n) & (i % 2 == 1)
    else:
        m = (i < n) & (tl.load(x + i * sx, i < n) > 0)
    a = tl.load(x + i * sx, m, other=1)
    b = tl.load(y + i * sy, m, other=2)
    if FIRST == "add":
        c = a + b
    elif FIRST == "mul":
        c = a * b
    elif FIRST == "min":
        c = tl.minimum(a, b)
    else:
        c = a - b
    if SECOND == "where":
        d = tl.where(c > a, c, b)
    elif SECOND == "index":
        d = c + i.to(c.dtype)
    elif SECOND == "uniform":
        d = c * start + a
    else:
        d = tl.maximum(c, a) - b
    tl.store(out + i * so, d, m)


_DTYPES = st.sampled_from(
    [torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.float32, torch.float64]
)


def _check_drawn(dtype, block, n, strides, first, second, mask, start):
    sx, sy, so = strides
    size = max(n, 1)
    x = torch.randint(-20, 20, (size * max(sx, 1),)).to(dtype)
    y = torch.randint(-20, 20, (size * max(sy, 1),)).to(dtype)
    out = torch.full((size * so,), 99).to(dtype)
    got = launch(
        drawn, (-(-size // block),), x, y, out, n, sx, sy, so, start, B=block, FIRST=first, SECOND=second, MASK=mask
    )[2]
    i = torch.arange(n)
    a, b = x[i * sx], y[i * sy]
    keep = {"bound": i >= 0, "window": i >= start, "odd": i % 2 == 1, "data": a > 0}[mask]
    c = {"add": a + b, "mul": a * b, "min": torch.minimum(a, b), "sub": a - b}[first]
    if second == "where":
        d = torch.where(c > a, c, b)
    elif second == "index":
        d = c + i.to(dtype)
    elif second == "uniform":
        # A 32-bit parameter widens narrow integers; the store narrows the result.
        d = (c.long() * start + a.long()).to(dtype) if not dtype.is_floating_point else c * start + a
    else:
        d = torch.maximum(c, a) - b
    wanted = out.clone()
    wanted[i[keep] * so] = d[keep]
    assert_same(got, wanted)


_ARGUMENTS = {
    "dtype": _DTYPES,
    "block": st.sampled_from([1, 16, 128]),
    "n": st.integers(0, 300),
    "strides": st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(1, 3)),
    "first": st.sampled_from(["add", "mul", "min", "sub"]),
    "second": st.sampled_from(["where", "index", "uniform", "max"]),
    "mask": st.sampled_from(["bound", "window", "odd", "data"]),
    "start": st.integers(-5, 40),
}
_QUIET = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow], "derandomize": True, "database": None}


@settings(max_examples=60, **_QUIET)
@given(**_ARGUMENTS)
@example(torch.int8, 128, 300, (1, 1, 1), "add", "index", "bound", 0)
@example(torch.uint8, 128, 200, (1, 0, 1), "sub", "where", "window", 7)
def test_drawn_expressions(dtype, block, n, strides, first, second, mask, start):
    _check_drawn(dtype, block, n, strides, first, second, mask, start)


@pytest.mark.extended
@settings(max_examples=3000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(**_ARGUMENTS)
def test_many_drawn_expressions(dtype, block, n, strides, first, second, mask, start):
    _check_drawn(dtype, block, n, strides, first, second, mask, start)


@triton.jit
def broadcasts(x, y, z, out, m, n, M: tl.constexpr, N: tl.constexpr):
    r = tl.program_id(0) * M + tl.arange(0, M)[:, None]
    c = tl.program_id(1) * N + tl.arange(0, N)[None, :]
    k = (r < m) & (c < n)
    a = tl.load(x + r * n + c, k)
    b = tl.load(y + r, r < m)
    d = tl.load(z + c, c < n, other=1)
    tl.store(out + c * m + r, a * b + d - b * d, k)
    tl.store(out + m * n + r * n + c, tl.where(b > d, a, b), k)
    tl.store(out + 2 * m * n + c, d * 2, (c < n) & (tl.program_id(0) == 0))
    tl.store(out + 2 * m * n + n + r, b * 2 + n, (r < m) & (tl.program_id(1) == 0))


@pytest.mark.parametrize(("m", "n"), [(1, 1), (1, 100), (100, 1), (37, 53), (64, 64)])
@pytest.mark.parametrize("tile", [(1, 64), (16, 16), (64, 2)])
def test_broadcasting(m, n, tile):
    x, y, z = (
        torch.randint(-9, 9, (m, n)).float(),
        torch.randint(-9, 9, (m, 1)).float(),
        torch.randint(-9, 9, (1, n)).float(),
    )
    grid = (-(-m // tile[0]), -(-n // tile[1]))
    out = launch(broadcasts, grid, x, y, z, torch.zeros(2 * m * n + n + m), m, n, M=tile[0], N=tile[1])[3]
    wanted = [
        (x * y + z - y * z).t().reshape(-1),
        torch.where(y > z, x, y.expand(m, n)).reshape(-1),
        z.flatten() * 2,
        y.flatten() * 2 + n,
    ]
    assert_same(out, torch.cat(wanted))
