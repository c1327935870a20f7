"""Integer functions of libdevice: counting and moving bits, products, averages, and the bits of floats."""

from __future__ import annotations

from ..ir.types import BITS
from . import integers
from .builder import Builder
from .math_base import Function
from .math_convert import bitcast
from .values import Val, constant


def _to_i32(b: Builder, x: Val) -> Val:
    return integers.truncate(b, x, "i32") if BITS[x.elem] > 32 else x


def _counting(stem: str) -> Function:
    """ctlz, cttz (the width of the type for 0), or ctpop, as int32."""

    def lower(b: Builder, x: Val) -> Val:
        if stem == "ctpop":
            return _to_i32(b, b.intrinsic(stem, x))
        lanes, (value,), depth = b.operands(x)
        kind = x.elem if lanes == 1 else f"<{lanes} x {x.elem}>"
        name = f"llvm.{stem}.{x.elem if lanes == 1 else f'v{lanes}{x.elem}'}"
        b.declare(name, kind, [kind, "i1"])
        return _to_i32(b, b.emit(x.elem, f"call {kind} @{name}({kind} {value}, i1 false)", depth, lanes))

    return lower


def _find_first_set(b: Builder, x: Val) -> Val:
    """Number of the lowest bit that is set, from 1; 0 if there is none."""
    first = b.binary("add", _counting("cttz")(b, x), constant(1, "i32"))
    return b.select(b.compare("icmp eq", x, constant(0, x.elem)), constant(0, "i32"), first)


def _byte_permute(b: Builder, x: Val, y: Val, selector: Val) -> Val:
    """Each byte of the result is the one of the eight in (y, x) that three bits of its nibble of ``selector`` name."""
    low, high = (b.cast("zext", v, "i64") for v in (x, y))
    both = b.binary("or", b.binary("shl", high, constant(32, "i64")), low)
    choice = b.cast("zext", selector, "i64")
    result = constant(0, "i64")
    for byte in range(4):
        nibble = b.binary("lshr", choice, constant(4 * byte, "i64"))
        shift = b.binary("shl", b.binary("and", nibble, constant(7, "i64")), constant(3, "i64"))
        value = b.binary("and", b.binary("lshr", both, shift), constant(255, "i64"))
        result = b.binary("or", result, b.binary("shl", value, constant(8 * byte, "i64")))
    return b.cast("trunc", result, "i32")


def _multiply_high(extension: str) -> Function:
    """The upper half of the product; ``extension`` is sext or zext."""

    def lower(b: Builder, x: Val, y: Val) -> Val:
        width = BITS[x.elem]
        lanes, operands, depth = b.operands(x, y)
        wide, kind = (f"i{w}" if lanes == 1 else f"<{lanes} x i{w}>" for w in (2 * width, width))
        shift = str(width) if lanes == 1 else f"splat (i{2 * width} {width})"
        left, right = (b.define(f"{extension} {kind} {v} to {wide}", depth) for v in operands)
        high = b.define(f"lshr {wide} {b.define(f'mul {wide} {left}, {right}', depth)}, {shift}", depth)
        return b.emit(x.elem, f"trunc {wide} {high} to {kind}", depth, lanes)

    return lower


def _multiply_24(shift_back: str) -> Function:
    """The lower 32 bits of the product of the lower 24 bits; ``shift_back`` is ashr for signed numbers, else lshr."""

    def lower(b: Builder, x: Val, y: Val) -> Val:
        eight = constant(8, "i32")
        left, right = (b.binary(shift_back, b.binary("shl", v, eight), eight) for v in (x, y))
        return b.binary("mul", left, right)

    return lower


def _sum_of_difference(predicate: str) -> Function:
    """``sad``: abs(x - y) + z; the difference is unsigned, so it never overflows."""

    def lower(b: Builder, x: Val, y: Val, z: Val) -> Val:
        larger = b.compare(f"icmp {predicate}", x, y)
        difference = b.select(larger, b.binary("sub", x, y), b.binary("sub", y, x))
        return b.binary("add", difference, z)

    return lower


def _average(shift: str, up: bool) -> Function:
    """(x + y) / 2 without overflow, to the number below or (``up``) above; ``shift`` is ashr or lshr."""

    def lower(b: Builder, x: Val, y: Val) -> Val:
        half = b.binary(shift, b.binary("xor", x, y), constant(1, "i32"))
        if up:
            return b.binary("sub", b.binary("or", x, y), half)
        return b.binary("add", b.binary("and", x, y), half)

    return lower


def absolute(b: Builder, x: Val) -> Val:
    """Magnitude of an integer; the least one stays as it is."""
    negative = b.binary("sub", constant(0, x.elem), x)
    return b.select(b.compare("icmp slt", x, constant(0, x.elem)), negative, x)


def _join_halves(b: Builder, high: Val, low: Val) -> Val:
    upper = b.binary("shl", b.cast("zext", high, "i64"), constant(32, "i64"))
    return bitcast(b, b.binary("or", upper, b.cast("zext", low, "i64")), "f64")


def _half(shift: int) -> Function:
    def lower(b: Builder, x: Val) -> Val:
        return b.cast("trunc", b.binary("lshr", bitcast(b, x, "i64"), constant(shift, "i64")), "i32")

    return lower


def _as(elem: str) -> Function:
    return lambda b, x: bitcast(b, x, elem)


INTEGER: dict[str, Function] = {
    "clz": _counting("ctlz"),
    "popc": _counting("ctpop"),
    "brev": lambda b, x: b.intrinsic("bitreverse", x),
    "ffs": _find_first_set,
    "byte_perm": _byte_permute,
    "mulhi": _multiply_high("sext"),
    "umulhi": _multiply_high("zext"),
    "mul64hi": _multiply_high("sext"),
    "umul64hi": _multiply_high("zext"),
    "mul24": _multiply_24("ashr"),
    "umul24": _multiply_24("lshr"),
    "sad": _sum_of_difference("sgt"),
    "usad": _sum_of_difference("ugt"),
    "hadd": _average("ashr", up=False),
    "uhadd": _average("lshr", up=False),
    "rhadd": _average("ashr", up=True),
    "urhadd": _average("lshr", up=True),
    "llabs": absolute,
    "hiloint2double": _join_halves,
    "double2loint": _half(0),
    "double2hiint": _half(32),
    "int_as_float": _as("f32"),
    "uint_as_float": _as("f32"),
    "float_as_int": _as("i32"),
    "float_as_uint": _as("i32"),
    "longlong_as_double": _as("f64"),
    "double_as_longlong": _as("i64"),
}
