"""The 8-bit float types, which LLVM does not have: integer code over their bits."""

from __future__ import annotations

from ..ir.float8 import FORMATS
from .builder import Builder
from .values import Val, constant


def _i32(number: int) -> Val:
    return constant(number, "i32")


def decode_float8(b: Builder, x: Val) -> Val:
    """float8 bits (i8 lanes) to float32, exactly."""
    form = FORMATS[x.elem]
    bits = b.cast("zext", x, "i32")
    sign = b.binary("shl", b.binary("and", bits, _i32(0x80)), _i32(24))
    magnitude = b.binary("and", bits, _i32(0x7F))
    # The magnitude moved to float32's place is right but for the bias; a product repairs it, subnormals included.
    moved = b.cast("bitcast", b.binary("shl", magnitude, _i32(23 - form.mantissa_bits)), "f32")
    value = b.binary("fmul", moved, constant(2.0 ** (127 - form.bias), "f32"))
    result = b.cast("bitcast", b.binary("or", b.cast("bitcast", value, "i32"), sign), "f32")
    nan = constant(float("nan"), "f32")
    if form.unsigned_zero:
        return b.select(b.compare("icmp eq", bits, _i32(0x80)), nan, result)
    if form.infinity is not None:
        infinite = b.cast("bitcast", b.binary("or", sign, _i32(0x7F800000)), "f32")
        result = b.select(b.compare("icmp eq", magnitude, _i32(form.infinity)), infinite, result)
        return b.select(b.compare("icmp ugt", magnitude, _i32(form.infinity)), nan, result)
    return b.select(b.compare("icmp eq", magnitude, _i32(form.nan)), nan, result)


def encode_float8(b: Builder, x: Val, elem: str, *, toward_zero: bool = False) -> Val:
    """float32 to float8 bits: to nearest even, or toward zero; saturating formats end at their largest number."""
    form = FORMATS[elem]
    bits = b.cast("bitcast", x, "i32")
    sign = b.binary("and", b.binary("lshr", bits, _i32(24)), _i32(0x80))
    magnitude = b.binary("and", bits, _i32(0x7FFFFFFF))
    shift = 23 - form.mantissa_bits
    smallest_exponent = 127 - form.bias + 1
    # Normal results: rebias, round at the cut, shift.
    rounded = magnitude
    if not toward_zero:
        odd = b.binary("and", b.binary("lshr", magnitude, _i32(shift)), _i32(1))
        rounded = b.binary("add", b.binary("add", magnitude, odd), _i32((1 << (shift - 1)) - 1))
    normal = b.binary("sub", b.binary("lshr", rounded, _i32(shift)), _i32((127 - form.bias) << form.mantissa_bits))
    # Subnormal results: adding a number whose last place is the format's smallest step rounds there.
    anchor = float(2 ** (23 + smallest_exponent - 127 - form.mantissa_bits))
    positive = b.cast("bitcast", magnitude, "f32")
    shifted = b.binary("fadd", positive, constant(anchor, "f32"))
    if toward_zero:
        over = b.compare("fcmp ogt", b.binary("fsub", shifted, constant(anchor, "f32")), positive)
        stepped = b.binary("sub", b.cast("bitcast", shifted, "i32"), b.cast("zext", over, "i32"))
        shifted = b.cast("bitcast", stepped, "f32")
    base = b.cast("bitcast", constant(anchor, "f32"), "i32")
    subnormal = b.binary("sub", b.cast("bitcast", shifted, "i32"), base)
    small = b.compare("icmp ult", magnitude, _i32(smallest_exponent << 23))
    result = b.select(small, subnormal, normal)
    beyond = b.compare("icmp ugt", result, _i32(form.largest))
    overflow = form.infinity if form.infinity is not None and not toward_zero else form.largest
    result = b.select(beyond, _i32(overflow), result)
    if form.infinity is not None:
        result = b.select(b.compare("icmp eq", magnitude, _i32(0x7F800000)), _i32(form.infinity), result)
    nan = b.compare("icmp ugt", magnitude, _i32(0x7F800000))
    if form.unsigned_zero:
        nan = b.compare("icmp uge", magnitude, _i32(0x7F800000))
        zero = b.compare("icmp eq", result, _i32(0))
        sign = b.select(b.binary("or", zero, nan), _i32(0), sign)
    result = b.binary("or", b.select(nan, _i32(form.nan), result), sign)
    return b.cast("trunc", result, elem)
