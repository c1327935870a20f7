"""Conversions of tl.float8e4b15 against the table of its values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import triton
import triton.language as tl


@triton.jit
def encode(x, out, n, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(out + i, tl.load(x + i, mask=i < n).to(tl.float8e4b15).to(tl.uint8, bitcast=True), mask=i < n)


@triton.jit
def encode_scalar(x, out):
    tl.store(out, tl.load(x).to(tl.float8e4b15).to(tl.uint8, bitcast=True))


@triton.jit
def product(x, y, out, B: tl.constexpr):
    i = tl.arange(0, B)
    at = i[:, None] * B + i[None, :]
    a = tl.load(x + at).to(tl.float8e4b15, bitcast=True)
    b = tl.load(y + at).to(tl.float8e4b15, bitcast=True)
    tl.store(out + at, tl.dot(a, b))


def values() -> np.ndarray:
    """The 128 numbers that are not negative, by the format's definition."""
    code = np.arange(128)
    exponent, rest = code >> 3, (code & 7) / 8
    return np.where(exponent == 0, rest * 2.0**-14, (1 + rest) * 2.0 ** (exponent - 15.0))


def encoded(numbers: np.ndarray) -> np.ndarray:
    """Codes of float64 `numbers`: nearest value up to 1.75, halves away from zero."""
    table = values()[:127]
    magnitude = np.where(np.isnan(numbers), np.inf, np.abs(numbers))
    return np.searchsorted((table[:-1] + table[1:]) / 2, magnitude, side="right") + 128 * np.signbit(numbers)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_encoding(dtype: torch.dtype) -> None:
    rng = torch.Generator().manual_seed(7)
    count = 1531
    x = (torch.randn(count, generator=rng) * torch.exp2(torch.randint(-18, 3, (count,), generator=rng))).to(dtype)
    x[:8] = torch.tensor([0.0, -0.0, float("inf"), -float("inf"), float("nan"), 1.75, 1.8125, 2.0**-18])
    out = torch.full((count,), 99, dtype=torch.uint8, device="gxu")
    encode[(triton.cdiv(count, 256),)](x.to("gxu"), out, count, B=256)
    # The way there is by fp16, toward zero: what lies between two of its numbers becomes the smaller one.
    wide = x.double().numpy()
    half = wide.astype(np.float16)
    with np.errstate(invalid="ignore"):
        half = np.where(np.abs(half.astype(np.float64)) > np.abs(wide), np.nextafter(half, np.float16(0)), half)
    assert np.array_equal(out.cpu().numpy(), encoded(half.astype(np.float64)))


def test_scalar() -> None:
    out = torch.zeros(1, dtype=torch.uint8, device="gxu")
    encode_scalar[(1,)](torch.tensor([-0.40625], device="gxu"), out)
    assert out.item() == encoded(np.array([-0.40625]))[0]


def test_product_of_float8e4b15() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.integers(0, 256, (2, 32, 32), dtype=np.uint8)
    table = np.concatenate([values(), -values()])
    out = torch.full((32, 32), float("nan"), device="gxu")
    product[(1,)](torch.from_numpy(a).to("gxu"), torch.from_numpy(b).to("gxu"), out, B=32)
    np.testing.assert_allclose(out.cpu().numpy(), table[a] @ table[b], rtol=1e-5, atol=1e-4)
