"""What the math functions are written with: constants, polynomials, calls of libm, width of computation.

A function here takes and gives float32 or float64 (``elem`` of its first argument) unless it says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .builder import Builder
from .math_convert import bitcast, convert_float
from .values import LLVM_TYPE, Val, constant

INF = float("inf")
NAN = float("nan")
Function = Callable[..., Val]


def number(value: float, like: Val) -> Val:
    """A constant of the type of ``like``."""
    return constant(value, like.elem)


def fma(b: Builder, x: Val, y: Val, z: Val) -> Val:
    return b.intrinsic("fma", x, y, z)


def mul(b: Builder, x: Val, y: Val) -> Val:
    return b.binary("fmul", x, y)


def add(b: Builder, x: Val, y: Val) -> Val:
    return b.binary("fadd", x, y)


def sub(b: Builder, x: Val, y: Val) -> Val:
    return b.binary("fsub", x, y)


def div(b: Builder, x: Val, y: Val) -> Val:
    return b.binary("fdiv", x, y)


def negate(b: Builder, x: Val) -> Val:
    return b.unary("fneg", x)


def less(b: Builder, x: Val, limit: float) -> Val:
    return b.compare("fcmp olt", x, number(limit, x))


def greater(b: Builder, x: Val, limit: float) -> Val:
    return b.compare("fcmp ogt", x, number(limit, x))


def equals(b: Builder, x: Val, value: float) -> Val:
    return b.compare("fcmp oeq", x, number(value, x))


def is_nan(b: Builder, x: Val) -> Val:
    return b.compare("fcmp uno", x, x)


def integer_of(x: Val) -> str:
    """The integer type as wide as the float ``x``."""
    return {"f32": "i32", "f64": "i64"}[x.elem]


def bits(b: Builder, x: Val) -> Val:
    return bitcast(b, x, integer_of(x))


def horner(b: Builder, x: Val, coefficients: Sequence[float]) -> Val:
    """Value of the polynomial with the highest coefficient first."""
    result = number(coefficients[0], x)
    for coefficient in coefficients[1:]:
        result = fma(b, result, x, number(coefficient, x))
    return result


def clamp(b: Builder, x: Val, low: float, high: float) -> Val:
    """NaN passes through: both comparisons are false for it."""
    x = b.select(less(b, x, low), number(low, x), x)
    return b.select(greater(b, x, high), number(high, x), x)


# -- libm, lane by lane ------------------------------------------------------------------------------------------------


def per_lane(b: Builder, symbol: str, elem: str, args: Sequence[Val], depth: int = 0) -> Val:
    """Calls a scalar function of the C library for every lane, in ``depth`` or deeper."""
    lanes = b.lanes if any(a.lanes > 1 for a in args) else 1
    if lanes == 1:
        return b.call(symbol, elem, args, 1, depth)
    depth = max(depth, *(a.depth for a in args))
    kinds = [LLVM_TYPE[a.elem] for a in args]
    result = LLVM_TYPE[elem]
    b.declare(symbol, result, kinds)
    # One function for each width: a kernel that calls sinf in five places has its code once.
    name = f"gxu_each_{symbol}_{lanes}"
    parameters = [f"<{lanes} x {kind}> %x{k}" for k, kind in enumerate(kinds)]
    if name not in b.globals:
        lines = [f"define internal <{lanes} x {result}> @{name}({', '.join(parameters)}) noinline #0 {{"]
        before = "poison"
        for lane in range(lanes):
            for k, parameter in enumerate(parameters):
                lines.append(f"  %a{k}_{lane} = extractelement {parameter}, i32 {lane}")
            joined = ", ".join(f"{kind} %a{k}_{lane}" for k, kind in enumerate(kinds))
            lines.append(f"  %c{lane} = call {result} @{symbol}({joined})")
            lines.append(f"  %r{lane} = insertelement <{lanes} x {result}> {before}, {result} %c{lane}, i32 {lane}")
            before = f"%r{lane}"
        lines += [f"  ret <{lanes} x {result}> {before}", "}"]
        b.globals[name] = "\n".join(lines)
    arguments = ", ".join(f"<{lanes} x {kind}> {b.wide(a)}" for kind, a in zip(kinds, args, strict=True))
    return b.emit(elem, f"call <{lanes} x {result}> @{name}({arguments})", depth, lanes)


def libm(name: str) -> Function:
    """The C library's function; float32 calls its own, narrower types go through float32."""

    def lower(b: Builder, *args: Val) -> Val:
        return per_lane(b, name if args[0].elem == "f64" else name + "f", args[0].elem, args)

    return narrow(lower)


def libm_in_f64(name: str) -> Function:
    """The C library's function of float64, rounded once for narrower types, whose own function is less exact."""
    return in_f64(lambda b, *args: per_lane(b, name, "f64", args))


def cold(b: Builder, condition: Val, value: Val, symbol: str, x: Val) -> Val:
    """``value``, but libm's ``symbol`` of x for a whole vector in which ``condition`` holds anywhere."""
    if condition.const == 0:
        return value
    anywhere = condition
    if condition.lanes > 1:
        any_lane, vector = f"llvm.vector.reduce.or.v{b.lanes}i1", f"<{b.lanes} x i1>"
        b.declare(any_lane, "i1", [vector])
        anywhere = b.emit("i1", f"call i1 @{any_lane}({vector} {b.wide(condition)})", condition.depth)
    with b.guarded(anywhere, [value]) as guard:
        guard.next = [per_lane(b, symbol, x.elem, [x], b.depth)]
    return guard.results[0]


# -- width of computation ----------------------------------------------------------------------------------------------


def narrow(function: Function) -> Function:
    """``function`` of float32 and float64, which float16 and bfloat16 reach through float32."""

    def lower(b: Builder, *args: Val) -> Val:
        kind = args[0].elem
        if kind not in ("f16", "bf16"):
            return function(b, *args)
        wide = function(b, *(convert_float(b, a, "f32") if a.elem == kind else a for a in args))
        return convert_float(b, wide, kind) if wide.elem == "f32" else wide

    lower.__doc__ = function.__doc__
    return lower


def in_f64(function: Function) -> Function:
    """``function`` of float64; narrower floats are extended, and the result is rounded once."""

    def lower(b: Builder, *args: Val) -> Val:
        kinds = [a.elem for a in args if a.elem in ("f16", "bf16", "f32", "f64")]
        wide = function(b, *(convert_float(b, a, "f64") if a.elem in kinds else a for a in args))
        return convert_float(b, wide, kinds[0])

    lower.__doc__ = "At most 0.51 ULP: float64's, rounded once."
    return lower


def by_type(f32: Function, f64: Function) -> Function:
    """``f32`` for float32 (and through it for narrower types), ``f64`` for float64; both docstrings are kept."""

    def lower(b: Builder, *args: Val) -> Val:
        return (f64 if args[0].elem == "f64" else f32)(b, *args)

    lower.__doc__ = f"float32: {f32.__doc__}\nfloat64: {f64.__doc__}"
    return narrow(lower)


def instruction(stem: str) -> Function:
    """An intrinsic of LLVM."""
    return narrow(lambda b, *args: b.intrinsic(stem, *args))
