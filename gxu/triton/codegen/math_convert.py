"""Conversions between float types, and of bits, as LLVM IR for scalars and for vectors of any width."""

from __future__ import annotations

from ..ir.types import BITS
from . import math_registers
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


_SUBNORMAL = 0x20  # of vfpclassps


def _round_to_bf16(b: Builder, x: Val) -> Val:
    """To nearest even; a NaN keeps its sign and becomes quiet.

    AVX-512's own conversion takes subnormal numbers for zero: a vector that holds one is rounded by its bits.
    """
    if not (b.converts_bf16 and math_registers.whole(b, x)):
        return _round_bits_to_bf16(b, x)
    parts = math_registers.split(b, x)
    tests, check = [], "llvm.x86.avx512.fpclass.ps.512"
    b.declare(check, "<16 x i1>", ["<16 x float>", "i32 immarg"])
    for part in parts:
        tests.append(b.define(f"call <16 x i1> @{check}(<16 x float> {part}, i32 {_SUBNORMAL})", x.depth))
    any_lane = tests[0]
    for test in tests[1:]:
        any_lane = b.define(f"or <16 x i1> {any_lane}, {test}", x.depth)
    as_number = b.define(f"bitcast <16 x i1> {any_lane} to i16", x.depth)
    found = b.emit("i1", f"icmp ne i16 {as_number}, 0", x.depth)
    with b.guarded(found, [_converted(b, x, parts)]) as guard:
        guard.next = [_round_bits_to_bf16(b, x)]
    return guard.results[0]


def _converted(b: Builder, x: Val, parts: list[str]) -> Val:
    """By the CPU's instruction: one register, or two at a time."""
    vector = "<16 x float>"
    if len(parts) == 1:
        b.declare("llvm.x86.avx512bf16.cvtneps2bf16.512", "<16 x bfloat>", [vector])
        result = b.define(f"call <16 x bfloat> @llvm.x86.avx512bf16.cvtneps2bf16.512({vector} {parts[0]})", x.depth)
        return b.emit("bf16", f"bitcast <16 x bfloat> {result} to <16 x i16>", x.depth, x.lanes)
    function = "llvm.x86.avx512bf16.cvtne2ps2bf16.512"
    b.declare(function, "<32 x bfloat>", [vector, vector])
    pairs = [
        b.define(
            "bitcast <32 x bfloat> "
            + b.define(f"call <32 x bfloat> @{function}({vector} {high}, {vector} {low})", x.depth)
            + " to <32 x i16>",
            x.depth,
        )
        for low, high in zip(parts[::2], parts[1::2], strict=True)
    ]
    return math_registers.join(b, pairs, "bf16", 32, x.depth)


def _round_bits_to_bf16(b: Builder, x: Val) -> Val:
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
