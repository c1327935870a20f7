"""Operations that act on each element alone: one row or one small function for each.

A function takes the builder, the operation and its emitted operands, and returns the emitted result.
"""

from __future__ import annotations

from collections.abc import Callable

from ..errors import UnsupportedError
from ..ir.module import Op
from ..ir.types import BITS
from . import integers, math
from .builder import Builder
from .values import LLVM_TYPE, Val, constant

Lowering = Callable[[Builder, Op, list[Val]], Val]

# Floating point instructions that LLVM has for every float type. `contract` lets a product and a sum fuse (FMA), as
# Triton's enable_fp_fusion allows.
_FLOAT_INSTRUCTIONS = {
    "arith.addf": "fadd",
    "arith.subf": "fsub",
    "arith.mulf": "fmul",
    "arith.divf": "fdiv",
    "arith.remf": "frem",
    "tt.precise_divf": "fdiv",
}
DIVISION_OPCODES = {"arith.divsi": "sdiv", "arith.divui": "udiv", "arith.remsi": "srem", "arith.remui": "urem"}
_INTEGER_INSTRUCTIONS = {
    "arith.shrsi": "ashr",
    "arith.shrui": "lshr",
}
_MATH_FUNCTIONS: dict[str, Callable[..., Val]] = {
    "math.exp": math.exp,
    "math.exp2": math.exp2,
    "math.log": math.log,
    "math.log2": math.log2,
    "math.sin": math.sin,
    "math.cos": math.cos,
    "math.erf": math.erf,
    "math.sqrt": math.sqrt,
    "math.rsqrt": math.rsqrt,
    "math.tanh": math.tanh,
    "math.floor": math.floor,
    "math.ceil": math.ceil,
    "math.absf": math.fabs,
    "math.fma": math.fma,
    "tt.precise_sqrt": math.sqrt,
}
_FLOAT_PREDICATES = (
    "false oeq ogt oge olt ole one ord ueq ugt uge ult ule une uno true".split()  # MLIR's order of arith.cmpf
)


def _float_instruction(opcode: str) -> Lowering:
    def lower(b: Builder, op: Op, args: list[Val]) -> Val:
        x, y = args
        if x.elem == "bf16":  # no arithmetic of its own on CPUs; rounding is ours (see math.convert_float)
            wide = b.binary(opcode, math.convert_float(b, x, "f32"), math.convert_float(b, y, "f32"))
            return math.convert_float(b, wide, "bf16")
        return b.binary(f"{opcode} {b.fast_flags}".rstrip(), x, y)

    return lower


def _integer_instruction(opcode: str) -> Lowering:
    def lower(b: Builder, op: Op, args: list[Val]) -> Val:
        result = b.binary(opcode, args[0], args[1])
        result.nonneg, result.bound = args[0].nonneg, args[0].bound
        return result

    return lower


def _division(opcode: str) -> Lowering:
    return lambda b, op, args: integers.divide(b, opcode, args[0], args[1])


def _bitwise(opcode: str) -> Lowering:
    return lambda b, op, args: integers.bitwise(b, opcode, args[0], args[1])


def _math(function: Callable[..., Val]) -> Lowering:
    return lambda b, op, args: function(b, *args)


def _compare_floats(b: Builder, op: Op, args: list[Val]) -> Val:
    return b.compare(f"fcmp {_FLOAT_PREDICATES[op.attrs['predicate']]}", args[0], args[1])


def _select(b: Builder, op: Op, args: list[Val]) -> Val:
    return b.select(args[0], args[1], args[2])


def _negate(b: Builder, op: Op, args: list[Val]) -> Val:
    x = args[0]
    if not LLVM_TYPE[x.elem].startswith("i"):
        return b.unary("fneg", x)
    return b.binary("xor", x, constant(1 << (BITS[x.elem] - 1), f"i{BITS[x.elem]}"))


def _propagating(predicate: str) -> Lowering:
    """``arith.maximumf`` / ``arith.minimumf``: a NaN in either operand is the result."""

    def lower(b: Builder, op: Op, args: list[Val]) -> Val:
        x, y = args
        # x wins when it compares or is NaN (unordered); a NaN in y is caught by the second test.
        first = b.select(b.compare(f"fcmp {predicate}", x, y), x, y)
        return b.select(b.compare("fcmp uno", x, x), x, first)

    return lower


def _ignoring(predicate: str) -> Lowering:
    """``arith.maxnumf`` / ``arith.minnumf``: a NaN loses against a number."""

    def lower(b: Builder, op: Op, args: list[Val]) -> Val:
        x, y = args
        first = b.select(b.compare(f"fcmp {predicate}", x, y), x, y)
        return b.select(b.compare("fcmp uno", y, y), x, first)

    return lower


def _integer_extremum(predicate: str) -> Lowering:
    return lambda b, op, args: b.select(b.compare(f"icmp {predicate}", args[0], args[1]), args[0], args[1])


def _absolute(b: Builder, op: Op, args: list[Val]) -> Val:
    negative = integers.sub(b, constant(0, args[0].elem), args[0])
    return b.select(b.compare("icmp slt", args[0], constant(0, args[0].elem)), negative, args[0])


def _multiply_high(b: Builder, op: Op, args: list[Val]) -> Val:
    elem = args[0].elem
    bits = BITS[elem]
    if bits == 64:
        lanes, (x, y), depth = b.operands(*args)
        wide, narrow = (f"<{lanes} x i128>", f"<{lanes} x i64>") if lanes > 1 else ("i128", "i64")
        shift = "splat (i128 64)" if lanes > 1 else "64"
        parts = [b.define(f"zext {narrow} {v} to {wide}", depth) for v in (x, y)]
        product = b.define(f"mul {wide} {parts[0]}, {parts[1]}", depth)
        high = b.define(f"lshr {wide} {product}, {shift}", depth)
        return b.emit(elem, f"trunc {wide} {high} to {narrow}", depth, lanes)
    left, right = (integers.extend(b, a, "i64", signed=False) for a in args)
    shifted = b.binary("lshr", integers.mul(b, left, right), constant(bits, "i64"))
    return integers.truncate(b, shifted, elem)


def _extend(signed: bool) -> Lowering:
    return lambda b, op, args: integers.extend(b, args[0], op.result.type.elem, signed=signed)


def _truncate(b: Builder, op: Op, args: list[Val]) -> Val:
    return integers.truncate(b, args[0], op.result.type.elem)


def _index_cast(b: Builder, op: Op, args: list[Val]) -> Val:
    elem = op.result.type.elem
    if BITS[elem] < BITS[args[0].elem]:
        return integers.truncate(b, args[0], elem)
    return integers.extend(b, args[0], elem, signed=True)


def _to_float(opcode: str) -> Lowering:
    def lower(b: Builder, op: Op, args: list[Val]) -> Val:
        elem = op.result.type.elem
        if elem == "bf16":
            return math.convert_float(b, b.cast(opcode, args[0], "f32"), elem)
        unsigned = "uitofp" if args[0].nonneg and args[0].elem != "i1" else opcode
        return b.cast(unsigned if BITS[args[0].elem] == 64 else opcode, args[0], elem)

    return lower


def _to_integer(opcode: str) -> Lowering:
    """Saturating, as GPUs convert."""

    def lower(b: Builder, op: Op, args: list[Val]) -> Val:
        return math.saturating(b, opcode, args[0], op.result.type.elem)

    return lower


def _convert_float(b: Builder, op: Op, args: list[Val]) -> Val:
    return math.convert_float(b, args[0], op.result.type.elem, rounding=op.attrs.get("rounding"))


def _bitcast(b: Builder, op: Op, args: list[Val]) -> Val:
    return math.bitcast(b, args[0], op.result.type.elem)


def _int_to_ptr(b: Builder, op: Op, args: list[Val]) -> Val:
    return b.cast("inttoptr", integers.extend(b, args[0], "i64", signed=False), "ptr")


def _ptr_to_int(b: Builder, op: Op, args: list[Val]) -> Val:
    return b.cast("ptrtoint", args[0], "i64")


def _add_pointer(b: Builder, op: Op, args: list[Val]) -> Val:
    return integers.offset_pointer(b, args[0], args[1], op.result.type.pointee)


def _clamp(b: Builder, op: Op, args: list[Val]) -> Val:
    x, low, high = args
    clamped = b.select(b.compare("fcmp olt", x, low), low, x)
    clamped = b.select(b.compare("fcmp ogt", clamped, high), high, clamped)
    propagates = op.attrs.get("propagateNan", 0) != 0
    return clamped if propagates else b.select(b.compare("fcmp uno", x, x), low, clamped)


def _extern(b: Builder, op: Op, args: list[Val]) -> Val:
    function = math.libdevice_function(op.attrs["symbol"])
    if function is None:
        raise UnsupportedError.at(
            f"the external function {op.attrs['symbol']!r}",
            op.location,
            "use a function of triton.language.extra.libdevice",
        )
    return function(b, *args)


ELEMENTWISE: dict[str, Lowering] = {
    **{name: _float_instruction(opcode) for name, opcode in _FLOAT_INSTRUCTIONS.items()},
    **{name: _integer_instruction(opcode) for name, opcode in _INTEGER_INSTRUCTIONS.items()},
    **{name: _math(function) for name, function in _MATH_FUNCTIONS.items()},
    "arith.addi": lambda b, op, args: integers.add(b, *args),
    "arith.subi": lambda b, op, args: integers.sub(b, *args),
    "arith.muli": lambda b, op, args: integers.mul(b, *args),
    "arith.shli": lambda b, op, args: integers.shl(b, *args),
    **{name: _division(opcode) for name, opcode in DIVISION_OPCODES.items()},
    "arith.andi": _bitwise("and"),
    "arith.ori": _bitwise("or"),
    "arith.xori": _bitwise("xor"),
    "arith.maxsi": _integer_extremum("sgt"),
    "arith.minsi": _integer_extremum("slt"),
    "arith.maxui": _integer_extremum("ugt"),
    "arith.minui": _integer_extremum("ult"),
    "arith.maximumf": _propagating("ogt"),
    "arith.minimumf": _propagating("olt"),
    "arith.maxnumf": _ignoring("ogt"),
    "arith.minnumf": _ignoring("olt"),
    "arith.negf": _negate,
    "arith.cmpi": lambda b, op, args: integers.compare(b, op.attrs["predicate"], *args),
    "arith.cmpf": _compare_floats,
    "arith.select": _select,
    "arith.extsi": _extend(signed=True),
    "arith.extui": _extend(signed=False),
    "arith.trunci": _truncate,
    "arith.index_cast": _index_cast,
    "arith.index_castui": _index_cast,
    "arith.extf": _convert_float,
    "arith.truncf": _convert_float,
    "tt.fp_to_fp": _convert_float,
    "arith.sitofp": _to_float("sitofp"),
    "arith.uitofp": _to_float("uitofp"),
    "arith.fptosi": _to_integer("fptosi"),
    "arith.fptoui": _to_integer("fptoui"),
    "arith.bitcast": _bitcast,
    "tt.bitcast": _bitcast,
    "tt.int_to_ptr": _int_to_ptr,
    "tt.ptr_to_int": _ptr_to_int,
    "tt.addptr": _add_pointer,
    "tt.mulhiui": _multiply_high,
    "tt.clampf": _clamp,
    "math.absi": _absolute,
    "tt.extern_elementwise": _extern,
}

# What a second evaluation costs, in simple instructions: decides between computing a value again and keeping it.
COST: dict[str, int] = {
    "arith.divf": 4,
    "math.sqrt": 4,
    "math.rsqrt": 6,
    "math.exp": 14,
    "math.exp2": 12,
    "math.log": 20,
    "math.log2": 20,
    "math.sin": 40,
    "math.cos": 40,
    "math.erf": 20,
    "math.tanh": 24,
    "tt.extern_elementwise": 30,
}
# From here on a store and a load are cheaper than computing a value again.
EXPENSIVE = 10
