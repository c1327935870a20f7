"""Logarithms, inverse hyperbolic functions, powers and cube roots; for the notation see math_exp.py."""

from __future__ import annotations

from .builder import Builder
from .math_base import (
    INF,
    NAN,
    Function,
    add,
    bits,
    by_type,
    div,
    equals,
    fma,
    greater,
    horner,
    in_f64,
    integer_of,
    is_nan,
    less,
    mul,
    negate,
    number,
    per_lane,
    sub,
)
from .math_convert import bitcast, convert_float, fabs
from .math_exp import exp_f64
from .values import Val, constant

# log(1 + f) = f - f**2 / 2 + f**3 * P(f)
# [-0.292893, 0.414214], degree 9, error 2**-28.4
_LOG_F32 = (
    -0.06151614338159561,
    0.10743498057126999,
    -0.10794024914503098,
    0.11012029647827148,
    -0.12425092607736588,
    0.14286945760250092,
    -0.16669434309005737,
    0.2000003606081009,
    -0.24999965727329254,
    0.3333333432674408,
)
# log(1 + f) = 2 s + s z P(z), s = f / (2 + f), z = s**2
# [0, 0.0294373], degree 7, error 2**-60.6
_LOG_F64 = (
    0.13250281838302075,
    0.13250244829695462,
    0.15387084478954396,
    0.18181775829282318,
    0.22222222644396544,
    0.28571428569105334,
    0.4000000000000617,
    0.6666666666666666,
)

# Constants in two parts, the first of ln(2) and log10(2) of float32 and float64 as in math_exp.py.
_LN2_F32 = (0.6931471824645996, -1.904654323148236e-09)
_LN2_F64 = (0.6931471805599453, 2.3190468138462996e-17)
_LOG10_2_F64 = (0.3010299956639812, -2.8037281277851704e-18)
_LOG10_2_F32 = (0.3010300099849701, -1.432098883924482e-08)
_LOG10E_F32 = (0.4342944920063019, -1.0103049952192578e-08)
_LOG10E_F64 = (0.4342944819032518, 1.098319650216765e-17)
_LOG2E_REST_F64 = 0.4426950408889634


def _exponent(b: Builder, x: Val) -> tuple[Val, Val]:
    """(e, f) with x = 2**e * (1 + f) and 1 + f in [sqrt(1/2), sqrt(2)), of a positive finite number; e as a float."""
    elem = integer_of(x)
    root, digits, least = {"f32": (0x3F3504F3, 23, 2.0**-126), "f64": (0x3FE6A09E667F3BCD, 52, 2.0**-1022)}[x.elem]
    tiny = less(b, x, least)
    x = b.select(tiny, mul(b, x, number(2.0**digits, x)), x)
    # Taking sqrt(1/2) off the bits leaves the exponent of the mantissa in [sqrt(1/2), sqrt(2)).
    shifted = b.binary("sub", bits(b, x), constant(root, elem))
    exponent = b.binary("ashr", shifted, constant(digits, elem))
    mantissa = b.binary("and", shifted, constant((1 << digits) - 1, elem))
    f = sub(b, bitcast(b, b.binary("add", mantissa, constant(root, elem)), x.elem), number(1.0, x))
    exponent = b.select(tiny, b.binary("sub", exponent, constant(digits, elem)), exponent)
    return b.cast("sitofp", exponent, x.elem), f


def _log_rest(b: Builder, f: Val) -> Val:
    """log(1 + f) - f"""
    square = mul(b, f, f)
    if f.elem == "f32":
        tail = mul(b, mul(b, horner(b, f, _LOG_F32), f), square)
        return fma(b, square, number(-0.5, f), tail)
    s = div(b, f, add(b, f, number(2.0, f)))
    z = mul(b, s, s)
    half = mul(b, square, number(0.5, f))
    # 2 s = f - f**2 / 2 + s f**2 / 2
    return sub(b, mul(b, s, fma(b, z, horner(b, z, _LOG_F64), half)), half)


def _log_specials(b: Builder, x: Val, result: Val) -> Val:
    result = b.select(equals(b, x, INF), x, result)
    result = b.select(equals(b, x, 0.0), number(-INF, x), result)
    return b.select(b.compare("fcmp ult", x, number(0.0, x)), number(NAN, x), result)


def _log(b: Builder, x: Val, ln2: tuple[float, float]) -> Val:
    e, f = _exponent(b, x)
    tail = fma(b, e, number(ln2[1], x), _log_rest(b, f))
    return _log_specials(b, x, fma(b, e, number(ln2[0], x), add(b, f, tail)))


def _log_f32(b: Builder, x: Val) -> Val:
    """At most 1.2 ULP."""
    return _log(b, x, _LN2_F32)


def log_f64(b: Builder, x: Val) -> Val:
    """At most 1.2 ULP."""
    return _log(b, x, _LN2_F64)


def _log2(b: Builder, x: Val) -> Val:
    e, f = _exponent(b, x)
    tail = _log_rest(b, f)
    # log2(e) = 1 + rest: the 1 keeps f exact.
    rest = number(_LOG2E_REST_F64, x)
    small = fma(b, tail, rest, fma(b, f, rest, tail))
    return _log_specials(b, x, add(b, e, add(b, f, small)))


def _log2_f32(b: Builder, x: Val) -> Val:
    """At most 1.6 ULP."""
    return _log2(b, x)


def _log2_f64(b: Builder, x: Val) -> Val:
    """At most 1.6 ULP."""
    return _log2(b, x)


def _log10(b: Builder, x: Val, log10_2: tuple[float, float], log10_e: tuple[float, float]) -> Val:
    e, f = _exponent(b, x)
    high, low = (number(part, x) for part in log10_e)
    tail = fma(b, _log_rest(b, f), high, fma(b, f, low, mul(b, e, number(log10_2[1], x))))
    return _log_specials(b, x, fma(b, e, number(log10_2[0], x), fma(b, f, high, tail)))


def _log10_f32(b: Builder, x: Val) -> Val:
    """At most 1.5 ULP."""
    return _log10(b, x, _LOG10_2_F32, _LOG10E_F32)


def _log10_f64(b: Builder, x: Val) -> Val:
    """At most 1.5 ULP."""
    return _log10(b, x, _LOG10_2_F64, _LOG10E_F64)


def _log1p(b: Builder, x: Val, ln2: tuple[float, float]) -> Val:
    """log(u) + lost / u with u the rounded sum 1 + x, and ``lost`` what its rounding lost."""
    one = number(1.0, x)
    u = add(b, one, x)
    lost = b.select(greater(b, x, 1.0), sub(b, one, sub(b, u, x)), sub(b, x, sub(b, u, one)))
    e, f = _exponent(b, u)
    tail = fma(b, e, number(ln2[1], x), add(b, _log_rest(b, f), div(b, lost, u)))
    result = _log_specials(b, u, fma(b, e, number(ln2[0], x), add(b, f, tail)))
    return b.select(equals(b, x, 0.0), x, result)


def _log1p_f32(b: Builder, x: Val) -> Val:
    """At most 1.5 ULP."""
    return _log1p(b, x, _LN2_F32)


def log1p_f64(b: Builder, x: Val) -> Val:
    """At most 1.5 ULP."""
    return _log1p(b, x, _LN2_F64)


_LARGE = 2.0**28


def _asinh_f64(b: Builder, x: Val) -> Val:
    """At most 3 ULP."""
    a = fabs(b, x)
    square = mul(b, a, a)
    root = b.intrinsic("sqrt", add(b, square, number(1.0, x)))
    small = log1p_f64(b, add(b, a, div(b, square, add(b, root, number(1.0, x)))))
    large = add(b, log_f64(b, a), number(_LN2_F64[0], x))
    return b.intrinsic("copysign", b.select(greater(b, a, _LARGE), large, small), x)


def _acosh_f64(b: Builder, x: Val) -> Val:
    """At most 3 ULP."""
    t = sub(b, x, number(1.0, x))
    small = log1p_f64(b, add(b, t, b.intrinsic("sqrt", fma(b, t, t, mul(b, t, number(2.0, x))))))
    large = add(b, log_f64(b, x), number(_LN2_F64[0], x))
    result = b.select(greater(b, x, _LARGE), large, small)
    return b.select(less(b, x, 1.0), number(NAN, x), result)


def _atanh_f64(b: Builder, x: Val) -> Val:
    """At most 3 ULP."""
    a = fabs(b, x)
    quotient = div(b, mul(b, a, number(2.0, x)), sub(b, number(1.0, x), a))
    result = mul(b, log1p_f64(b, quotient), number(0.5, x))
    result = b.select(greater(b, a, 1.0), number(NAN, x), result)
    return b.intrinsic("copysign", result, x)


# -- powers ------------------------------------------------------------------------------------------------------------


def _pow_in_f64(b: Builder, x: Val, y: Val) -> Val:
    """exp(y * log(abs(x))), with the sign and the special cases of C: good for a result of float32."""
    magnitude = fabs(b, x)
    one, nan = number(1.0, x), number(NAN, x)
    result = exp_f64(b, mul(b, y, log_f64(b, magnitude)))
    result = b.select(equals(b, magnitude, 1.0), b.select(is_nan(b, y), y, one), result)
    half = mul(b, y, number(0.5, y))
    whole = b.compare("fcmp oeq", b.intrinsic("floor", y), y)
    odd = b.binary("and", whole, b.compare("fcmp une", b.intrinsic("floor", half), half))
    result = b.select(odd, b.intrinsic("copysign", result, x), result)
    negative = b.binary("and", less(b, x, 0.0), greater(b, x, -INF))
    broken = b.compare("fcmp une", b.intrinsic("floor", y), y)
    result = b.select(b.binary("and", negative, broken), nan, result)
    certain = b.binary("or", equals(b, x, 1.0), equals(b, y, 0.0))
    return b.select(certain, one, result)


def _pow_f32(b: Builder, x: Val, y: Val) -> Val:
    """At most 0.51 ULP."""
    return convert_float(b, _pow_in_f64(b, convert_float(b, x, "f64"), convert_float(b, y, "f64")), "f32")


def _pow_f64(b: Builder, x: Val, y: Val) -> Val:
    """libm's, for each lane."""
    return per_lane(b, "pow", "f64", [x, y])


pow = by_type(_pow_f32, _pow_f64)


def powi(b: Builder, x: Val, n: Val) -> Val:
    """x to an integer power, rounded once: as ``pow``, and exact in the exponent."""
    if x.elem == "f64":
        return _pow_f64(b, x, b.cast("sitofp", n, "f64"))
    wide = _pow_in_f64(b, convert_float(b, x, "f64"), b.cast("sitofp", n, "f64"))
    return convert_float(b, wide, x.elem)


def _root(sign: float) -> Function:
    """abs(x) to the power sign / 3 with the sign of x, good for a result of float32."""

    def lower(b: Builder, x: Val) -> Val:
        """At most 0.51 ULP."""
        magnitude = exp_f64(b, mul(b, log_f64(b, fabs(b, x)), number(sign / 3, x)))
        return b.select(is_nan(b, x), x, b.intrinsic("copysign", magnitude, x))

    return in_f64(lower)


def _cbrt_f64(b: Builder, x: Val) -> Val:
    """At most 1.5 ULP."""
    a = fabs(b, x)
    tiny = less(b, a, 2.0**-900)  # where the residual below would be subnormal
    a = b.select(tiny, mul(b, a, number(2.0**162, x)), a)
    y = exp_f64(b, mul(b, log_f64(b, a), number(1 / 3, x)))
    square = mul(b, y, y)
    residual = fma(b, square, y, negate(b, a))
    better = sub(b, y, div(b, residual, mul(b, square, number(3.0, x))))
    y = b.select(b.binary("and", greater(b, a, 0.0), less(b, a, INF)), better, y)
    y = b.select(tiny, mul(b, y, number(2.0**-54, x)), y)
    return b.select(is_nan(b, x), x, b.intrinsic("copysign", y, x))


def _rcbrt_f64(b: Builder, x: Val) -> Val:
    """At most 2 ULP."""
    return div(b, number(1.0, x), _cbrt_f64(b, x))


log = by_type(_log_f32, log_f64)
log2 = by_type(_log2_f32, _log2_f64)
log10 = by_type(_log10_f32, _log10_f64)
log1p = by_type(_log1p_f32, log1p_f64)
asinh = by_type(in_f64(_asinh_f64), _asinh_f64)
acosh = by_type(in_f64(_acosh_f64), _acosh_f64)
atanh = by_type(in_f64(_atanh_f64), _atanh_f64)
cbrt = by_type(_root(1.0), _cbrt_f64)
rcbrt = by_type(_root(-1.0), _rcbrt_f64)
