"""Conversions of ``tl.float8e4b15``, which MLIR does not have: Triton's frontend asks each backend for them.

The format has a sign, 4 bits of exponent with a bias of 15, and 3 of significand; it has subnormal numbers, and neither
infinities nor NaN. Its values lie on fp16's with the same exponent bias, so its bits are fp16's moved by 7 places.
Conversions to it round as in Triton's NVIDIA backend: toward zero to fp16, then to the nearest, halves away from zero;
what is larger than 1.75 (infinity and NaN too) becomes 1.75.
"""

from __future__ import annotations

from typing import Any

from triton.language import core

_LARGEST = 0x3F00  # 1.75 in fp16


def convert_custom_types(arg: Any, dst_ty: Any, fp_downcast_rounding: Any = None, _semantic: Any = None) -> Any:
    """``arg`` as a tensor of ``dst_ty``; one of the two types is float8e4b15, the other any floating-point type."""
    if arg.type.scalar.is_fp8e4b15():
        return _semantic.cast(_to_float16(arg, _semantic), dst_ty.scalar)
    half = arg
    if not arg.type.scalar.is_fp16():
        half = _semantic.cast(_semantic.cast(arg, core.float32), core.float16, "rtz")
    return _semantic.tensor(_from_float16(half, _semantic).handle, dst_ty)


def _to_float16(arg: Any, semantic: Any) -> Any:
    bits = semantic.tensor(arg.handle, _with_scalar(arg.type, core.uint8))  # its MLIR type is i8 already
    wide = semantic.cast(bits, core.uint16)
    sign = semantic.shl(semantic.and_(wide, _constant(0x80, semantic)), _constant(8, semantic))
    magnitude = semantic.shl(semantic.and_(wide, _constant(0x7F, semantic)), _constant(7, semantic))
    return semantic.bitcast(semantic.or_(sign, magnitude), _with_scalar(arg.type, core.float16))


def _from_float16(half: Any, semantic: Any) -> Any:
    bits = semantic.bitcast(half, _with_scalar(half.type, core.uint16))
    magnitude = semantic.and_(bits, _constant(0x7FFF, semantic))
    largest = _constant(_LARGEST, semantic)
    magnitude = semantic.where(semantic.less_than(magnitude, largest), magnitude, largest)
    half_step = _constant(0x40, semantic)
    rounded = semantic.lshr(semantic.add(magnitude, half_step, False), _constant(7, semantic))
    sign = semantic.and_(semantic.lshr(bits, _constant(8, semantic)), _constant(0x80, semantic))
    return semantic.cast(semantic.or_(sign, rounded), core.uint8)


def _with_scalar(ty: Any, scalar: Any) -> Any:
    return ty.with_element_ty(scalar) if ty.is_block() else scalar


def _constant(number: int, semantic: Any) -> Any:
    return semantic.scalar_constant(number, core.uint16)
