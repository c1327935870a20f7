"""Conversions between float types, and of bits, as LLVM IR for scalars and for vectors of any width."""

from __future__ import annotations

from ..ir.types import BITS
from .builder import Builder
from .float8 import decode_float8, encode_float8
from .values import LLVM_TYPE, Val, constant


def convert_float(b: Builder, x: Val, elem: str, rounding: int | None = None) -> Val:
    """Any float type to any other, to nearest even unless ``rounding`` is 0 (toward zero, narrowing from float32)."""
    if x.elem == elem:
        return x
    if isinstance(x.const, float) and not elem.startswith("f8") and rounding != 0:
        return constant(x.const, elem)
    if LLVM_TYPE[x.elem] == "i8":
        return convert_float(b, decode_float8(b, x), elem)
    if LLVM_TYPE[elem] == "i8":
        return encode_float8(b, convert_float(b, x, "f32"), elem, toward_zero=rounding == 0)
    if x.elem == "bf16":
        return convert_float(b, b.bf16_to_f32(x), elem, rounding)
    if elem == "bf16" and x.elem != "f32":
        return convert_float(b, convert_float(b, x, "f32"), elem, rounding)
    if BITS[elem] > BITS[x.elem]:
        return b.cast("fpext", x, elem)
    if rounding == 0 and x.elem == "f32":
        return _truncate_toward_zero(b, x, elem)
    if elem == "bf16":
        return _round_to_bf16(b, x)
    return b.cast("fptrunc", x, elem)


def _round_to_bf16(b: Builder, x: Val) -> Val:
    """Round to nearest even on the bits of a float32; a NaN keeps its sign and becomes quiet.

    Not AVX-512's own conversion: that one flushes subnormal numbers to zero.
    """
    bits = bitcast(b, x, "i32")
    odd = b.binary("and", b.binary("lshr", bits, constant(16, "i32")), constant(1, "i32"))
    rounded = b.binary("add", b.binary("add", bits, odd), constant(0x7FFF, "i32"))
    quiet = b.binary("or", bits, constant(0x00400000, "i32"))
    chosen = b.select(b.compare("fcmp uno", x, x), quiet, rounded)
    return b.cast("trunc", b.binary("lshr", chosen, constant(16, "i32")), "bf16")


def _truncate_toward_zero(b: Builder, x: Val, elem: str) -> Val:
    """Narrows to nearest and steps back where that moved away from zero."""
    nearest = convert_float(b, x, elem)
    away = b.compare("fcmp ogt", fabs(b, convert_float(b, nearest, "f32")), fabs(b, x))
    bits = bitcast(b, nearest, "i16")
    return bitcast(b, b.select(away, b.binary("sub", bits, constant(1, "i16")), bits), elem)


def fabs(b: Builder, x: Val) -> Val:
    """Magnitude of any float; exact, and clears the sign of a NaN."""
    if not LLVM_TYPE[x.elem].startswith("i"):
        return b.intrinsic("fabs", x)
    integer = f"i{BITS[x.elem]}"
    return b.binary("and", x, constant((1 << (BITS[x.elem] - 1)) - 1, integer))


def bitcast(b: Builder, x: Val, elem: str) -> Val:
    """The same bits as another type; types that LLVM holds alike need no instruction."""
    if x.elem == elem:
        return x
    if LLVM_TYPE[x.elem] == LLVM_TYPE[elem]:
        if x.const is not None and x.lanes == 1:
            return Val(elem, x.ref, x.depth)
        return Val(elem, x.ref, x.depth, x.lanes, base=x.base, stride=x.stride)
    return b.cast("bitcast", x, elem)


def saturating(b: Builder, opcode: str, x: Val, elem: str) -> Val:
    """``fptosi`` or ``fptoui`` to ``elem`` as GPUs convert: toward zero, out of range to the nearest end, NaN to 0.

    A plain LLVM conversion of a number out of range is undefined.
    """
    if x.elem in ("bf16", "f16"):
        x = convert_float(b, x, "f32")
    lanes = b.lanes if x.lanes > 1 else 1
    target = f"v{lanes}{elem}.v{lanes}{x.elem}" if lanes > 1 else f"{elem}.{x.elem}"
    return b.call(f"llvm.{opcode}.sat.{target}", elem, [x], lanes)
