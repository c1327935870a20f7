"""Functions by polynomials that each lane looks up in registers: vectors of AVX-512 hold tables of 32 float32.

A lookup takes as long as an arithmetic instruction, and replaces two formulas and a choice between them by one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from . import math_registers
from .builder import Builder
from .math_base import add, bits, equals, fma, greater, number, sub
from .math_convert import fabs
from .math_tables import ERF_TABLE_F32, TANH_TABLE_F32
from .values import Val, constant

_WIDTH = 16  # lanes of a register
_PERMUTE = "llvm.x86.avx512.vpermi2var.ps.512"
# Added to a number below 2**22, leaves the nearest integer in the low bits.
_INTEGERS = 1.5 * 2**23


def erf_f32(b: Builder, x: Val) -> Val:
    """At most 2 ULP."""
    return _odd(b, x, 0.125, 3.875, ERF_TABLE_F32)


def tanh_f32(b: Builder, x: Val) -> Val:
    """At most 2 ULP."""
    return _odd(b, x, 75 / 256, 9.05, TANH_TABLE_F32)


def _odd(b: Builder, x: Val, step: float, limit: float, tables: Sequence[Sequence[float]]) -> Val:
    """An odd function: polynomials in the distance to the nearest multiple of ``step``, up to ``limit``, where the
    last of them is 1. Around zero the function is the distance and the polynomial.
    """
    magnitude = fabs(b, x)
    capped = b.select(greater(b, magnitude, limit), number(limit, x), magnitude)
    if math.frexp(step)[0] == 0.5:  # a power of two: sums do, and run beside the products
        index = add(b, capped, number(_INTEGERS * step, x))
        nearest = sub(b, index, number(_INTEGERS * step, x))
        r = sub(b, capped, nearest)
    else:
        index = fma(b, capped, number(1 / step, x), number(_INTEGERS, x))
        nearest = sub(b, index, number(_INTEGERS, x))
        r = fma(b, nearest, number(-step, x), capped)
    value, *rest, last = _look_up(b, bits(b, index), tables)
    for coefficient in rest:
        value = fma(b, value, r, coefficient)
    last = b.select(equals(b, nearest, 0.0), r, last)
    return b.intrinsic("copysign", fma(b, value, r, last), x)


def _look_up(b: Builder, index: Val, tables: Sequence[Sequence[float]]) -> list[Val]:
    """For each table of 32 float32 its entries at the low five bits of ``index``, an i32."""
    lanes = b.lanes if index.lanes > 1 else 1
    depth = index.depth
    parts = _registers(b, index, lanes)
    vector = f"<{_WIDTH} x float>"
    b.declare(_PERMUTE, vector, [vector, f"<{_WIDTH} x i32>", vector])
    found = []
    for table in tables:
        low, high = (
            "<" + ", ".join(f"float {constant(entry, 'f32').ref}" for entry in half) + ">"
            for half in (table[:_WIDTH], table[_WIDTH:])
        )
        picked = [
            b.define(f"call {vector} @{_PERMUTE}({vector} {low}, <{_WIDTH} x i32> {part}, {vector} {high})", depth)
            for part in parts
        ]
        found.append(_joined(b, picked, lanes, depth))
    return found


def _registers(b: Builder, index: Val, lanes: int) -> list[str]:
    """The lanes of ``index`` in whole registers; what a register has more of is undefined."""
    if lanes >= _WIDTH:
        return math_registers.split(b, index)
    if lanes == 1:
        return [b.define(f"insertelement <{_WIDTH} x i32> poison, i32 {b.scalar(index)}, i32 0", index.depth)]
    kind, picks = (
        f"<{lanes} x i32>",
        ", ".join(f"i32 {lane}" if lane < lanes else "i32 poison" for lane in range(_WIDTH)),
    )
    return [b.define(f"shufflevector {kind} {b.wide(index)}, {kind} poison, <{_WIDTH} x i32> <{picks}>", index.depth)]


def _joined(b: Builder, parts: list[str], lanes: int, depth: int) -> Val:
    """One vector of ``lanes`` float32 from whole registers."""
    if lanes >= _WIDTH:
        return math_registers.join(b, parts, "f32", _WIDTH, depth)
    if lanes == 1:
        return b.emit("f32", f"extractelement <{_WIDTH} x float> {parts[0]}, i32 0", depth)
    vector, picks = f"<{_WIDTH} x float>", ", ".join(f"i32 {lane}" for lane in range(lanes))
    return b.emit("f32", f"shufflevector {vector} {parts[0]}, {vector} poison, <{lanes} x i32> <{picks}>", depth, lanes)
