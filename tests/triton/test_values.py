"""Integers computed from indices: progressions to the compiler, which must still wrap and compare as integers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from triton_helpers import agree, assert_same, launch


@triton.jit
def narrowed_indices(out8, out16, wide8, wide16, shifted, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    small = i.to(tl.int8)
    short = (i * 300).to(tl.int16)
    tl.store(out8 + i, small)
    tl.store(out16 + i, short)
    tl.store(wide8 + i, small.to(tl.int32) * 3)
    tl.store(wide16 + i, short.to(tl.int32) // 7)
    tl.store(shifted + i, (small < 5).to(tl.int8))


def test_indices_wrap_when_narrowed():
    i = np.arange(512, dtype=np.int32)
    small, short = i.astype(np.int8), (i * 300).astype(np.int16)
    got = launch(
        narrowed_indices,
        (2,),
        torch.zeros(512, dtype=torch.int8),
        torch.zeros(512, dtype=torch.int16),
        torch.zeros(512, dtype=torch.int32),
        torch.zeros(512, dtype=torch.int32),
        torch.zeros(512, dtype=torch.int8),
        B=256,
    )
    wanted = [
        small,
        short,
        small.astype(np.int32) * 3,
        np.trunc(short / 7).astype(np.int32),
        (small < 5).astype(np.int8),
    ]
    for g, w in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(g.numpy(), w)


@triton.jit
def narrow_mask(x, out8, out16, B: tl.constexpr):
    i = tl.arange(0, B)
    tl.store(out8 + i, tl.load(x + i), mask=i.to(tl.int8) < 5)
    tl.store(out16 + i, tl.load(x + i), mask=i.to(tl.int16) < 21)


def test_masks_of_narrow_indices():
    x = torch.arange(256, dtype=torch.int32)
    _, out8, out16 = launch(narrow_mask, (1,), x, torch.full_like(x, -1), torch.full_like(x, -1), B=256)
    small = x.to(torch.int8)
    assert torch.equal(out8, torch.where(small < 5, x, -1))
    assert torch.equal(out16, torch.where(x < 21, x, -1))


@triton.jit
def hashed(out, wide, rem, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    h = i * 20000003
    tl.store(out + i, h)
    tl.store(wide + i, h.to(tl.int64) + 1)
    tl.store(rem + i, h % 1000)


def test_products_of_indices_wrap():
    i = np.arange(512, dtype=np.int32)
    h = (i * np.int32(20000003)).astype(np.int32)
    out, wide, rem = launch(
        hashed,
        (2,),
        torch.zeros(512, dtype=torch.int32),
        torch.zeros(512, dtype=torch.int64),
        torch.zeros(512, dtype=torch.int32),
        B=256,
    )
    np.testing.assert_array_equal(out.numpy(), h)
    np.testing.assert_array_equal(rem.numpy(), np.fmod(h.astype(np.int64), 1000).astype(np.int32))
    np.testing.assert_array_equal(wide.numpy(), h.astype(np.int64) + 1)


@triton.jit
def unsigned_hash(out, high, B: tl.constexpr):
    i = (tl.program_id(0) * B + tl.arange(0, B)).to(tl.uint32)
    h = i * 0x01234567
    tl.store(out + i, h.to(tl.uint64) >> 3)
    tl.store(high + i, tl.umulhi(h, 0x9E3779B1))


def test_unsigned_products_of_indices_wrap():
    i = np.arange(512, dtype=np.uint32)
    h = i * np.uint32(0x01234567)
    out, high = launch(
        unsigned_hash, (2,), torch.zeros(512, dtype=torch.int64), torch.zeros(512, dtype=torch.int32), B=256
    )
    np.testing.assert_array_equal(out.numpy().view(np.uint64), h.astype(np.uint64) >> np.uint64(3))
    wanted = ((h.astype(np.uint64) * np.uint64(0x9E3779B1)) >> np.uint64(32)).astype(np.uint32)
    np.testing.assert_array_equal(high.numpy().view(np.uint32), wanted)


@triton.jit
def bounded(out, base, bound, B: tl.constexpr, KIND: tl.constexpr):
    i = tl.arange(0, B)
    at = base + i
    if KIND == 0:
        m = at < bound
    elif KIND == 1:
        m = at <= bound
    elif KIND == 2:
        m = bound > at
    elif KIND == 3:
        m = bound >= at
    elif KIND == 4:
        m = at * 3 + 1 < bound
    elif KIND == 5:
        m = at >= bound
    elif KIND == 6:
        m = (at < bound) & (i > 2) & (i != 7)
    elif KIND == 7:
        m = (at < bound) | (i == B - 1)
    else:
        m = -at > -bound
    tl.store(out + i, i, mask=m)


_BOUNDS = {
    0: lambda i, a, n: a < n,
    1: lambda i, a, n: a <= n,
    2: lambda i, a, n: n > a,
    3: lambda i, a, n: n >= a,
    4: lambda i, a, n: a * 3 + 1 < n,
    5: lambda i, a, n: a >= n,
    6: lambda i, a, n: (a < n) & (i > 2) & (i != 7),
    7: lambda i, a, n: (a < n) | (i == i[-1]),
    8: lambda i, a, n: -a > -n,
}


@pytest.mark.parametrize("kind", sorted(_BOUNDS))
@pytest.mark.parametrize("size", [1, 8, 128])
def test_bounds_cut_loops_at_the_right_place(kind, size):
    i = torch.arange(size, dtype=torch.int32)
    for base, bound in (
        (0, 0),
        (0, 1),
        (0, 77),
        (0, 128),
        (0, 500),
        (-20, 5),
        (5, -20),
        (100, 131),
        (-200, -130),
        (3, 3),
    ):
        (out,) = launch(bounded, (1,), torch.full((size,), -1, dtype=torch.int32), base, bound, B=size, KIND=kind)
        assert torch.equal(out, torch.where(_BOUNDS[kind](i, i + base, bound), i, -1)), (base, bound)


@pytest.mark.parametrize(
    ("base", "bound", "kind"),
    [
        (0, 2**31 - 1, 1),
        (0, 2**31 - 1, 0),
        (2_000_000_000, -2_000_000_000, 0),
        (-2_000_000_000, 2_000_000_000, 0),
        (-(2**31), 2**31 - 1, 1),
        (2**31 - 128, 2**31 - 20, 0),
        (0, -(2**31), 0),
    ],
)
def test_bounds_at_the_ends_of_the_integers(base, bound, kind):
    i = torch.arange(128, dtype=torch.int32)
    (out,) = launch(bounded, (1,), torch.full((128,), -1, dtype=torch.int32), base, bound, B=128, KIND=kind)
    assert torch.equal(out, torch.where(_BOUNDS[kind](i.long(), i.long() + base, bound), i, -1))


@triton.jit
def divided(out, base, D: tl.constexpr, B: tl.constexpr):
    i = tl.arange(0, B)
    at = base + tl.program_id(0) * B + i
    tl.store(out + tl.program_id(0) * 5 * B + i, at // D)
    tl.store(out + tl.program_id(0) * 5 * B + B + i, at % D)
    tl.store(out + tl.program_id(0) * 5 * B + 2 * B + i, (at // D) % 3 + (at * 2 + 1) // D)
    tl.store(out + tl.program_id(0) * 5 * B + 3 * B + i, (at % D) // 2 * D)
    tl.store(out + tl.program_id(0) * 5 * B + 4 * B + i, (at * D + 3) % D + (at * D) // D)


@pytest.mark.parametrize("divisor", [1, 2, 3, 7, 16, 24, 32, 48, 64, 100, 128, 1000, -3])
def test_quotients_and_remainders_of_indices(divisor):
    for base in (0, 16, 5, -40):
        (out,) = launch(divided, (3,), torch.zeros(3 * 5 * 128, dtype=torch.int32), base, D=divisor, B=128)
        at = torch.arange(3 * 128) + base

        def quotient(a, b):
            return torch.div(a, b, rounding_mode="trunc")

        d = divisor
        wanted = [
            quotient(at, d),
            torch.fmod(at, d),
            torch.fmod(quotient(at, d), 3) + quotient(at * 2 + 1, d),
            quotient(torch.fmod(at, d), 2) * d,
            torch.fmod(at * d + 3, d) + quotient(at * d, d),
        ]
        got = out.reshape(3, 5, 128)
        for number, w in enumerate(wanted):
            assert torch.equal(got[:, number].reshape(-1).long(), w), (base, number)


@triton.jit
def divided_in_loop(x, out, n, D: tl.constexpr, R: tl.constexpr):
    total = tl.zeros([R], tl.int32)
    for start in range(0, n, R):
        at = start + tl.arange(0, R)
        m = at < n
        q = at // D
        r = at % D
        total += tl.load(x + q * (2 * D) + (D - 1 - r), m, other=0) * (q + 1)
    tl.store(out + tl.arange(0, R), total)


@pytest.mark.parametrize("divisor", [3, 8, 20, 64, 96])
def test_split_indices_in_loops(divisor):
    agree(
        divided_in_loop,
        (1,),
        torch.randint(-9, 9, (2000,), dtype=torch.int32),
        torch.zeros(64, dtype=torch.int32),
        777,
        D=divisor,
        R=64,
    )


@triton.jit
def shifted(out, s, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(out + i * 6, (i << 3) >> 1)
    tl.store(out + i * 6 + 1, i << s)
    tl.store(out + i * 6 + 2, (0 - i) >> s)
    tl.store(out + i * 6 + 3, (i ^ 5) & 12 | 1)
    tl.store(out + i * 6 + 4, (i - 100) // 4)
    tl.store(out + i * 6 + 5, ~i % 16)


@pytest.mark.parametrize("shift", [0, 1, 4, 20])
def test_shifts_and_bits_of_indices(shift):
    agree(shifted, (2,), torch.zeros(6 * 256, dtype=torch.int32), shift, B=128)


@triton.jit
def wide_to_narrow(out, base, B: tl.constexpr):
    i = tl.arange(0, B).to(tl.int64) + base
    narrow = i.to(tl.int32)
    tl.store(out + tl.arange(0, B), narrow // 3)
    tl.store(out + B + tl.arange(0, B), (narrow > 0).to(tl.int32))


def test_wide_indices_wrap_when_narrowed():
    for base in (0, 2**31, 2**31 - 20, 2**32 - 20, -(2**31) - 5):
        (out,) = launch(wide_to_narrow, (1,), torch.zeros(128, dtype=torch.int32), base, B=64)
        narrow = (torch.arange(64) + base).to(torch.int32)
        assert torch.equal(out[:64], torch.div(narrow, 3, rounding_mode="trunc"))
        assert torch.equal(out[64:], (narrow > 0).int())


@triton.jit
def uniform_chain(x, out, a, b, B: tl.constexpr):
    i = tl.arange(0, B)
    s = (a * 7 - b) // 3 % 5
    t = tl.where(a > b, s, -s)
    f = (a.to(tl.float32) * 0.5 + t).to(tl.int32)
    tl.store(out + i, tl.load(x + i) * s + t - f)
    tl.store(out + B + i, tl.full([B], 3, tl.int32) + i * t)


@pytest.mark.parametrize(("a", "b"), [(5, -9), (-100, 3), (0, 0), (2, 2), (16, 48)])
def test_uniform_arithmetic(a, b):
    x = torch.randint(-99, 99, (64,), dtype=torch.int32)
    _, out = launch(uniform_chain, (1,), x, torch.zeros(128, dtype=torch.int32), a, b, B=64)

    def cdiv(p, q):
        return int(p / q)

    s = cdiv(a * 7 - b, 3)
    s = s - cdiv(s, 5) * 5
    t = s if a > b else -s
    f = int(np.float32(a) * np.float32(0.5) + t)
    assert torch.equal(out[:64], (x * s + t - f))
    assert torch.equal(out[64:], 3 + torch.arange(64, dtype=torch.int32) * t)


@triton.jit
def divide_by_one(x, y, out, B: tl.constexpr):
    i = tl.arange(0, B)
    a, b = tl.load(x + i), tl.load(y)
    tl.store(out + i, a // b)
    tl.store(out + B + i, a % b)


@triton.jit
def divide_by_many(x, y, out, B: tl.constexpr):
    i = tl.arange(0, B)
    a, b = tl.load(x + i), tl.load(y + i)
    tl.store(out + i, a // b)
    tl.store(out + B + i, a % b)


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint32])
def test_division_of_any_two_integers(dtype):
    """Multiples of the divisor and their neighbours, and the largest numbers, are where a reciprocal would go wrong."""
    low, high = (-(2**31), 2**31 - 1) if dtype == torch.int32 else (0, 2**32 - 1)
    generator = torch.Generator().manual_seed(3)
    divisors = [1, 2, 3, 5, 7, 10, 641, 65535, 65537, 2**30 + 1, 2**31 - 1, high, high - 1]
    divisors += [int(d) for d in torch.randint(1, 2**31 - 1, (20,), generator=generator)]
    divisors += [-d for d in divisors] if low < 0 else []
    for divisor in divisors:
        multiples = torch.randint(low // abs(divisor), high // abs(divisor) + 1, (320,), generator=generator) * divisor
        numbers = torch.cat([multiples - 1, multiples, multiples + 1, torch.tensor([low + 1, high, 0, 1])])
        numbers = torch.cat([numbers, torch.randint(low, high + 1, (60,), generator=generator)]).clamp(low, high)
        x = numbers.to(dtype)
        quotient, remainder = truncated(numbers, torch.tensor(divisor))
        wanted = torch.cat([quotient, remainder]).to(dtype)
        out = torch.zeros(2048, dtype=dtype)
        many = torch.tensor([divisor]).repeat(1024).to(dtype)
        for kernel in (divide_by_one, divide_by_many):
            assert_same(launch(kernel, (1,), x, many, out, B=1024)[2], wanted)


def truncated(x, y):
    """C's quotient and remainder of int64 tensors."""
    quotient = torch.div(x, y, rounding_mode="trunc")
    return quotient, x - quotient * y
