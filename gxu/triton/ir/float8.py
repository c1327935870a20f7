"""The 8-bit float formats: exponent and mantissa widths, bias, and what their largest encodings mean."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Format:
    exponent_bits: int
    mantissa_bits: int
    bias: int
    nan: int  # the encoding that conversions write for NaN
    infinity: int | None  # the positive encoding, where there is one
    largest: int  # encoding of the largest finite number
    unsigned_zero: bool = False  # 0x80 is NaN, and there is no negative zero


FORMATS = {
    "f8E4M3FN": Format(4, 3, 7, nan=0x7F, infinity=None, largest=0x7E),
    "f8E5M2": Format(5, 2, 15, nan=0x7F, infinity=0x7C, largest=0x7B),
    "f8E4M3FNUZ": Format(4, 3, 8, nan=0x80, infinity=None, largest=0x7F, unsigned_zero=True),
    "f8E5M2FNUZ": Format(5, 2, 16, nan=0x80, infinity=None, largest=0x7F, unsigned_zero=True),
    "f8E4M3B11FNUZ": Format(4, 3, 11, nan=0x80, infinity=None, largest=0x7F, unsigned_zero=True),
}


def float8_bits(number: float, elem: str) -> int:
    """The encoding of a number that ``elem`` can hold; the one next to it of a number that it cannot."""
    form = FORMATS[elem]
    if math.isnan(number):
        return form.nan
    sign = 0x80 if math.copysign(1.0, number) < 0 else 0
    if math.isinf(number) and form.infinity is not None:
        return sign | form.infinity
    magnitude = min(range(form.largest + 1), key=lambda bits: abs(_decoded(bits, form) - min(abs(number), 1e30)))
    return magnitude if form.unsigned_zero and magnitude == 0 else sign | magnitude


def _decoded(magnitude: int, form: Format) -> float:
    exponent, mantissa = divmod(magnitude, 1 << form.mantissa_bits)
    fraction = mantissa / (1 << form.mantissa_bits)
    if exponent == 0:
        return math.ldexp(fraction, 1 - form.bias)
    return math.ldexp(1 + fraction, exponent - form.bias)
