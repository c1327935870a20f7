"""Conversions between number types: every 8-bit code, every half, and float32 of all kinds, against torch."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl
from triton_helpers import assert_same, launch, random_bits

_FLOAT8 = {
    torch.float8_e4m3fn: tl.float8e4nv,
    torch.float8_e5m2: tl.float8e5,
    torch.float8_e4m3fnuz: tl.float8e4b8,
    torch.float8_e5m2fnuz: tl.float8e5b16,
}


@triton.jit
def convert(x, out, n, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    m = i < n
    tl.store(out + i, tl.load(x + i, m).to(out.dtype.element_ty), m)


def converted(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return launch(convert, (-(-x.numel() // 1024),), x, torch.zeros(x.shape).to(dtype), x.numel(), B=1024)[1]


def bits(x: torch.Tensor) -> torch.Tensor:
    """The bit patterns, with every NaN the same."""
    if not x.is_floating_point():
        return x
    integer = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[x.dtype.itemsize]
    return torch.where(x.float().isnan() if x.dtype.itemsize < 8 else x.isnan(), -1, x.view(integer).to(torch.int64))


def all_halves(dtype: torch.dtype) -> torch.Tensor:
    return torch.arange(65536).to(torch.uint16).view(dtype)


def float32_of_all_kinds() -> torch.Tensor:
    edges = torch.arange(0, 512, dtype=torch.int64)[:, None] * 2**23 + torch.tensor(
        [-1, 0, 1, 2**12, 2**12 - 1, 2**15, 2**15 + 1, 2**16, 3 * 2**15]
    )
    patterns = torch.cat([torch.arange(0, 2**32, 20011), edges.flatten() % 2**32])
    return patterns.to(torch.uint32).view(torch.float32)


@pytest.mark.parametrize("dtype", list(_FLOAT8))
@pytest.mark.parametrize("target", [torch.float32, torch.float16, torch.bfloat16])
def test_every_float8_is_decoded(dtype, target):
    codes = torch.arange(256).to(torch.uint8).view(dtype)
    assert torch.equal(bits(converted(codes, target)), bits(codes.to(target)))


@pytest.mark.parametrize("dtype", list(_FLOAT8))
@pytest.mark.parametrize("source", [torch.float32, torch.float16, torch.bfloat16])
def test_floats_are_rounded_to_float8(dtype, source):
    """As torch in range; where torch gives NaN for numbers beyond it, the largest number, as GPUs do for Triton."""
    x = float32_of_all_kinds() if source == torch.float32 else all_halves(source)
    got, wanted = converted(x, dtype), x.to(dtype)
    largest = torch.finfo(dtype).max
    saturated = wanted.float().isnan() & x.isfinite()
    if dtype == torch.float8_e4m3fn:
        saturated |= x.isinf()  # in torch 2.13 as well; NaN in torch 2.11
    if dtype == torch.float8_e5m2:
        assert not saturated.any()
    assert torch.equal(got.float()[saturated], torch.copysign(torch.tensor(largest), x.float()[saturated]))
    assert torch.equal(bits(got)[~saturated], bits(wanted)[~saturated])


@triton.jit
def convert_toward_zero(x, out, n, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    m = i < n
    tl.store(out + i, tl.load(x + i, m).to(out.dtype.element_ty, fp_downcast_rounding="rtz"), m)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e5m2, torch.float8_e4m3fn])
def test_rounding_toward_zero(dtype):
    x = float32_of_all_kinds()
    x = x[x.isfinite() & (x.abs() <= torch.finfo(dtype).max)]
    got = launch(convert_toward_zero, (-(-x.numel() // 1024),), x, torch.zeros(x.shape).to(dtype), x.numel(), B=1024)[1]
    assert (got.float().abs() <= x.abs()).all()
    code = got.view(torch.uint8 if dtype.itemsize == 1 else torch.uint16).to(torch.int32)
    following = (code + 1).to(torch.uint8 if dtype.itemsize == 1 else torch.uint16).view(dtype)
    further = following.float().abs() > x.abs()
    assert (
        further | ~following.isfinite()
        if dtype.itemsize > 1
        else further | following.float().isnan() | following.float().isinf()
    ).all()
    assert torch.equal(torch.signbit(got.float()), torch.signbit(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_float32_is_rounded_to_nearest_even(dtype):
    x = float32_of_all_kinds()
    assert torch.equal(bits(converted(x, dtype)), bits(x.to(dtype)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_are_widened_exactly(dtype):
    x = all_halves(dtype)
    for target in (torch.float32, torch.float64):
        assert torch.equal(bits(converted(x, target)), bits(x.to(target)))
    other = torch.bfloat16 if dtype == torch.float16 else torch.float16
    assert torch.equal(bits(converted(x, other)), bits(x.to(other)))


def test_float64_is_rounded_to_float32():
    x = torch.cat(
        [random_bits(4000, torch.float64), torch.randn(2000).double(), torch.logspace(-50, 40, 2000).double()]
    )
    assert torch.equal(bits(converted(x, torch.float32)), bits(x.to(torch.float32)))


_INTEGERS = [torch.bool, torch.int8, torch.uint8, torch.int16, torch.uint16, torch.int32, torch.uint32, torch.int64]


@pytest.mark.parametrize("source", _INTEGERS)
@pytest.mark.parametrize("target", [*_INTEGERS, torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_integers_are_converted(source, target):
    x = torch.cat([random_bits(500, source), torch.arange(-300, 300).to(source)])
    if target in (torch.float16, torch.bfloat16):
        wanted = x.to(torch.float32).to(target)
    else:
        wanted = x.to(target)
    assert_same(converted(x, target), wanted)


@pytest.mark.parametrize("source", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("target", [torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64, torch.uint32])
def test_floats_are_truncated_to_integers(source, target):
    info = torch.iinfo(target)
    x = torch.cat(
        [torch.randn(500) * 50, torch.randn(500) * 1e6, torch.tensor([0.5, -0.5, 0.99, -0.99, 0.0, -0.0])]
    ).to(source)
    x = x[(x.double() > max(info.min, -(2.0**62)) - 1) & (x.double() < info.max) & ((info.min < 0) | (x > -1))]
    assert_same(converted(x, target), x.double().trunc().to(torch.int64).to(target))


@triton.jit
def boolean_of(x, out, n, B: tl.constexpr):
    i = tl.arange(0, B)
    m = i < n
    tl.store(out + i, tl.load(x + i, m, other=0).to(tl.int1), m)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.int32, torch.int8, torch.int64])
def test_numbers_become_booleans(dtype):
    x = torch.tensor([0, 1, -1, 2, 256 if dtype.itemsize > 1 else 4, 0, 3]).to(dtype)
    if dtype.is_floating_point:
        x = torch.cat([x, torch.tensor([float("nan"), -0.0, 1e-7, float("inf")]).to(dtype)])
    _, out = launch(boolean_of, (1,), x, torch.zeros(x.shape, dtype=torch.bool), x.numel(), B=16)
    assert torch.equal(out, x.bool())


@triton.jit
def float8_constants(out, B: tl.constexpr):
    i = tl.arange(0, B)
    tl.store(out + i, tl.full([B], 1.5, tl.float32).to(out.dtype.element_ty))
    tl.store(out + B + i, tl.zeros([B], tl.float32).to(out.dtype.element_ty), mask=i > 2)
    tl.store(out + 2 * B + i, tl.where(i < 5, -2.0, 0.25).to(out.dtype.element_ty))


@pytest.mark.parametrize("dtype", [*_FLOAT8, torch.bfloat16, torch.float16])
def test_constants_are_converted(dtype):
    (out,) = launch(float8_constants, (1,), torch.ones(24).to(dtype), B=8)
    i = torch.arange(8)
    wanted = torch.cat([torch.full((8,), 1.5), torch.where(i > 2, 0.0, 1.0), torch.where(i < 5, -2.0, 0.25)])
    assert_same(out, wanted.to(dtype))


@triton.jit
def narrow_arithmetic(x, y, out, n, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    m = i < n
    a = tl.load(x + i, m)
    b = tl.load(y + i, m)
    tl.store(out + i, a + b, m)
    tl.store(out + n + i, a - b, m)
    tl.store(out + 2 * n + i, a * b, m)
    tl.store(out + 3 * n + i, (a / b).to(out.dtype.element_ty), m)
    tl.store(out + 4 * n + i, tl.maximum(a, b), m)
    tl.store(out + 5 * n + i, tl.where(a < b, a, -b), m)
    tl.store(out + 6 * n + i, tl.abs(a), m)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_arithmetic_of_halves(dtype):
    """Each operation rounds once, as torch's do."""
    n = 3000
    x, y = torch.randn(n).to(dtype), (torch.randn(n) * 3).to(dtype)
    x[:100], y[:100] = random_bits(100, dtype), random_bits(100, dtype)
    _, _, out = launch(narrow_arithmetic, (3,), x, y, torch.zeros(7 * n, dtype=dtype), n, B=1024)
    a, b = x.float(), y.float()
    larger = torch.where(b.isnan() | (a > b), a, b)
    wanted = [a + b, a - b, a * b, a / b, larger, torch.where(a < b, a, -b), a.abs()]
    for number, (g, w) in enumerate(zip(out.reshape(7, n), wanted, strict=True)):
        w = w.to(dtype)
        if number == 4:
            keep = ~(a.isnan() | b.isnan())
            g, w = g[keep] + 0.0, w[keep] + 0.0
        different = bits(g) != bits(w)
        assert not different.any(), (number, a[different][:5], b[different][:5], g[different][:5], w[different][:5])
