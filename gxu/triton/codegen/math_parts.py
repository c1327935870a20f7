"""Norms, and small functions of a float's parts: its sign, its exponent, what kind of number it is."""

from __future__ import annotations

from .builder import Builder
from .math_base import (
    INF,
    Function,
    bits,
    div,
    equals,
    fma,
    greater,
    in_f64,
    integer_of,
    is_nan,
    less,
    mul,
    narrow,
    number,
    per_lane,
    sub,
)
from .math_convert import fabs
from .values import Val, constant

# -- norms -------------------------------------------------------------------------------------------------------------


def _norm(b: Builder, *args: Val) -> Val:
    """At most 2 ULP (float64). Infinite if an argument is, even beside a NaN."""
    magnitudes = [fabs(b, a) for a in args]
    largest = magnitudes[0]
    for a in magnitudes[1:]:
        largest = b.select(b.compare("fcmp ogt", a, largest), a, largest)
    # Squares of very large and very small numbers leave the range.
    huge, tiny = greater(b, largest, 2.0**500), less(b, largest, 2.0**-500)
    scale = b.select(huge, number(2.0**-600, args[0]), b.select(tiny, number(2.0**600, args[0]), number(1.0, args[0])))
    back = b.select(huge, number(2.0**600, args[0]), b.select(tiny, number(2.0**-600, args[0]), number(1.0, args[0])))
    total = number(0.0, args[0])
    infinite = constant(0, "i1")
    for a in magnitudes:
        scaled = mul(b, a, scale)
        total = fma(b, scaled, scaled, total)
        infinite = b.binary("or", infinite, equals(b, a, INF))
    result = mul(b, b.intrinsic("sqrt", total), back)
    return b.select(infinite, number(INF, args[0]), result)


def _reciprocal_norm(b: Builder, *args: Val) -> Val:
    return div(b, number(1.0, args[0]), _norm(b, *args))


# -- parts of floats ---------------------------------------------------------------------------------------------------


def _saturate(b: Builder, x: Val) -> Val:
    """To [0, 1]; NaN is 0."""
    low = b.select(greater(b, x, 0.0), x, number(0.0, x))
    return b.select(greater(b, low, 1.0), number(1.0, x), low)


def _positive_difference(b: Builder, x: Val, y: Val) -> Val:
    return b.select(b.compare("fcmp ole", x, y), number(0.0, x), sub(b, x, y))


def _rsqrt(b: Builder, x: Val) -> Val:
    """At most 1.5 ULP: 1 / sqrt(x), both correctly rounded."""
    return div(b, number(1.0, x), b.intrinsic("sqrt", x))


def _ldexp(b: Builder, x: Val, n: Val) -> Val:
    return per_lane(b, "ldexp" if x.elem == "f64" else "ldexpf", x.elem, [x, n])


def _ilogb(b: Builder, x: Val) -> Val:
    """The exponent as int32: the least one for 0 and NaN, the largest one for infinity."""
    return per_lane(b, "ilogb" if x.elem == "f64" else "ilogbf", "i32", [x])


def _as_int(b: Builder, condition: Val) -> Val:
    return b.cast("zext", condition, "i32")


def _sign_bit(b: Builder, x: Val) -> Val:
    return _as_int(b, b.compare("icmp slt", bits(b, x), constant(0, integer_of(x))))


rsqrt = narrow(_rsqrt)

PARTS: dict[str, Function] = {
    "hypot": in_f64(_norm),
    "rhypot": in_f64(_reciprocal_norm),
    "norm3d": in_f64(_norm),
    "norm4d": in_f64(_norm),
    "rnorm3d": in_f64(_reciprocal_norm),
    "rnorm4d": in_f64(_reciprocal_norm),
    "saturatef": narrow(_saturate),
    "fdim": narrow(_positive_difference),
    "ldexp": narrow(_ldexp),
    "ilogb": narrow(_ilogb),
    "signbit": narrow(_sign_bit),
    "isinf": narrow(lambda b, x: _as_int(b, equals(b, fabs(b, x), INF))),
    "isnan": narrow(lambda b, x: _as_int(b, is_nan(b, x))),
    "isfinite": narrow(lambda b, x: _as_int(b, less(b, fabs(b, x), INF))),
}
