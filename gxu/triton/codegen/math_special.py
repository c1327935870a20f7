"""Error functions, their relatives and inverses, and Bessel functions.

Most are computed in float64 and rounded once for narrower types. For the notation see math_exp.py.
"""

from __future__ import annotations

import math as exact

from . import math_lookup
from .builder import Builder
from .math_base import (
    INF,
    Function,
    add,
    by_type,
    clamp,
    div,
    equals,
    fma,
    greater,
    horner,
    in_f64,
    is_nan,
    less,
    mul,
    negate,
    number,
    per_lane,
    sub,
)
from .math_convert import convert_float, fabs
from .math_exp import exp, exp_f64
from .math_log import log_f64
from .values import Val

# erf(x) = x + x * P(x**2) up to 1, 1 - exp(-P(x)) beyond
# [0, 1], degree 7, error 2**-27.1
_ERF_F32 = (
    -9.68013955571223e-06,
    0.00011270544928265736,
    -0.00084847112884745,
    0.005221074912697077,
    -0.02686544507741928,
    0.11283782869577408,
    -0.37612637877464294,
    0.12837916612625122,
)
# [1, 4], degree 9, error 2**-28.7
_ERFC_LOG_F32 = (
    -6.828545195958213e-08,
    -1.82006502313925e-07,
    3.265050327172503e-05,
    -0.0005268116947263479,
    0.0045317416079342365,
    -0.025941915810108185,
    0.10942915827035904,
    0.6323767900466919,
    1.129969835281372,
    -0.00026570260524749756,
)
# [0, 1], degree 13, error 2**-56.2
_ERF_F64 = (
    -4.233124650461926e-12,
    8.710461937312833e-11,
    -1.21649675634089e-09,
    1.4792469453107219e-08,
    -1.636464952888257e-07,
    1.6462045978746048e-06,
    -1.4925647594397373e-05,
    0.00012055332903808763,
    -0.0008548327021955926,
    0.005223977625423609,
    -0.026866170645129868,
    0.1128379167095512,
    -0.37612638903183754,
    0.1283791670955126,
)
# exp(x**2) erfc(x) = P(t) / (1 + 2 x), t = (x - 4) / (x + 4), for all x >= 0
# [-1, 1], degree 24, error 2**-53.9
_ERFCX_F64 = (
    -2.565278889130879e-10,
    9.332829028608743e-10,
    3.1131541462578157e-09,
    -1.235898049323344e-08,
    -2.0412963131789115e-08,
    1.0636881818896512e-07,
    7.724797394379497e-08,
    -8.211369902920362e-07,
    2.921847939897525e-07,
    5.7066429294260575e-06,
    -1.1221420014161373e-05,
    -2.43977688666163e-05,
    0.00015062154578795374,
    -0.00019925713803844604,
    -0.000757773276760201,
    0.005031970065554924,
    -0.01619773405711039,
    0.03716751552687074,
    -0.06633036581246395,
    0.09373283499906818,
    -0.10103906603628583,
    0.0680970542546701,
    0.015379652102619297,
    -0.1396211168405623,
    1.2329951186255526,
)
# erfinv(x) = x * P(x**2)
# [0, 0.25], degree 13, error 2**-54.3
_ERFINV_F64 = (
    0.11414866110025274,
    -0.07770788215023025,
    0.07462321904031566,
    0.007955865754883839,
    0.031725388520323694,
    0.031121230172363318,
    0.036525983763293766,
    0.042832322826028515,
    0.051731499598793765,
    0.06495961079142894,
    0.08655212937436717,
    0.12755617530427613,
    0.23201366653465966,
    0.886226925452758,
)
# I0(x) = exp(x) / sqrt(x) * P(1 / x), and I1
# [0, 0.05], degree 13, error 2**-55.2
_I0_F64 = (
    201348.79890476025,
    -47612.59307386163,
    6009.083549213666,
    -367.7168768324478,
    28.940864161176048,
    1.8104698665223808,
    0.7027895077081537,
    0.22818941139475918,
    0.09060508785552261,
    0.04474220050794171,
    0.029219405357325662,
    0.028050629090614287,
    0.04986778505017917,
    0.3989422804014327,
)
# [0, 0.05], degree 13, error 2**-55.2
_I1_F64 = (
    -212847.25446650008,
    50176.41611689139,
    -6341.365463210177,
    384.97807107579007,
    -31.09755041859536,
    -2.101510117583223,
    -0.8095333244706449,
    -0.269705144702173,
    -0.11073919262159672,
    -0.0575256896173668,
    -0.04090716748124329,
    -0.046751048484425774,
    -0.14960335515053735,
    0.3989422804014327,
)

_SQRT_PI = 1.772453850905516
_SQRT_HALF = (0.7071067811865476, -4.833646656726457e-17)
_SQRT_2 = 1.4142135623730951


# -- error functions ---------------------------------------------------------------------------------------------------


def _erf_f32(b: Builder, x: Val) -> Val:
    """At most 2 ULP."""
    if b.avx512:
        return math_lookup.erf_f32(b, x)
    a = clamp(b, fabs(b, x), 0.0, 4.0)
    square = mul(b, a, a)
    small = fma(b, horner(b, square, _ERF_F32), a, a)
    large = sub(b, number(1.0, x), exp(b, negate(b, horner(b, a, _ERFC_LOG_F32))))
    result = b.intrinsic("copysign", b.select(less(b, a, 1.0), small, large), x)
    return b.select(is_nan(b, x), x, result)


def _exp_of_square(b: Builder, x: Val, sign: float) -> Val:
    """exp(sign * x**2), with what the square's rounding loses."""
    square = mul(b, x, x)
    lost = fma(b, x, x, negate(b, square))
    power = exp_f64(b, mul(b, square, number(sign, x)))
    corrected = fma(b, power, mul(b, lost, number(sign, x)), power)
    return b.select(less(b, fabs(b, power), INF), corrected, power)


def _erfcx_positive(b: Builder, x: Val) -> Val:
    """exp(x**2) erfc(x) for x >= 0"""
    t = div(b, sub(b, x, number(4.0, x)), add(b, x, number(4.0, x)))
    near = div(b, horner(b, t, _ERFCX_F64), fma(b, x, number(2.0, x), number(1.0, x)))
    # 1 / (sqrt(pi) x) is exact for large x, where 2 x overflows.
    return b.select(greater(b, x, 1e10), div(b, number(1 / _SQRT_PI, x), x), near)


def _erfcx(b: Builder, x: Val) -> Val:
    """At most 8 ULP (float64)."""
    positive = _erfcx_positive(b, fabs(b, x))
    # exp(x**2) overflows from 26.7 on: its square's error must not meet infinities.
    power = _exp_of_square(b, clamp(b, x, -30.0, 0.0), 1.0)
    return b.select(less(b, x, 0.0), sub(b, mul(b, power, number(2.0, x)), positive), positive)


def _erfc_f64(b: Builder, x: Val) -> Val:
    """At most 6 ULP."""
    a = fabs(b, x)
    positive = mul(b, _exp_of_square(b, b.select(greater(b, a, 30.0), number(30.0, x), a), -1.0), _erfcx_positive(b, a))
    positive = b.select(greater(b, a, 27.3), number(0.0, x), positive)
    result = b.select(less(b, x, 0.0), sub(b, number(2.0, x), positive), positive)
    # Near 1 the product of two rounded factors is less exact than a difference.
    near = fma(b, x, horner(b, mul(b, x, x), _ERF_F64), x)
    return b.select(less(b, a, 0.5), sub(b, number(1.0, x), near), result)


def _erf_f64(b: Builder, x: Val) -> Val:
    """At most 1.5 ULP."""
    a = fabs(b, x)
    square = mul(b, a, a)
    small = fma(b, a, horner(b, square, _ERF_F64), a)
    large = sub(b, number(1.0, x), _erfc_f64(b, a))
    return b.intrinsic("copysign", b.select(less(b, a, 1.0), small, large), x)


def _inverse_tail(b: Builder, p: Val) -> Val:
    """y with erfc(y) = p, 0 < p <= 1/2: Newton's iteration for log(erfc(y)) = -y**2 + log(erfcx(y))."""
    wanted = log_f64(b, p)
    # Winitzki's closed form starts within 0.3 %.
    c = 2 / (exact.pi * 0.147)
    log = add(b, wanted, log_f64(b, sub(b, number(2.0, p), p)))
    t = fma(b, log, number(0.5, p), number(c, p))
    inner = fma(b, t, t, mul(b, log, number(-1 / 0.147, p)))
    y = b.intrinsic("sqrt", sub(b, b.intrinsic("sqrt", inner), t))
    for _ in range(3):
        scaled = _erfcx_positive(b, y)
        error = add(b, sub(b, log_f64(b, scaled), wanted), negate(b, mul(b, y, y)))
        y = fma(b, mul(b, error, scaled), number(_SQRT_PI / 2, p), y)
    return y


def _inverse(b: Builder, complement: Val, x: Val) -> Val:
    """erfinv(x), ``complement`` = 1 - abs(x), each exact where it is small."""
    center = mul(b, x, horner(b, mul(b, x, x), _ERFINV_F64))
    tail = b.intrinsic("copysign", _inverse_tail(b, complement), x)
    return b.select(greater(b, fabs(b, x), 0.5), tail, center)


def _erfinv(b: Builder, x: Val) -> Val:
    """At most 4 ULP (float64)."""
    a = fabs(b, x)
    result = _inverse(b, sub(b, number(1.0, x), a), x)
    return b.select(equals(b, a, 1.0), b.intrinsic("copysign", number(INF, x), x), result)


def _erfcinv(b: Builder, p: Val) -> Val:
    """At most 4 ULP (float64)."""
    other = sub(b, number(2.0, p), p)
    complement = b.select(less(b, p, 1.0), p, other)
    result = _inverse(b, complement, sub(b, number(1.0, p), p))
    result = b.select(equals(b, p, 0.0), number(INF, p), result)
    return b.select(equals(b, p, 2.0), number(-INF, p), result)


def _normcdf(b: Builder, x: Val) -> Val:
    """erfc(-x / sqrt(2)) / 2; at most 4 ULP (float64)."""
    z = clamp(b, x, -40.0, 40.0)
    argument = mul(b, z, number(-_SQRT_HALF[0], x))
    lost = fma(b, z, number(-_SQRT_HALF[0], x), negate(b, argument))
    lost = fma(b, z, number(-_SQRT_HALF[1], x), lost)
    value = _erfc_f64(b, argument)
    slope = mul(b, _exp_of_square(b, argument, -1.0), number(-2 / _SQRT_PI, x))
    return mul(b, fma(b, slope, lost, value), number(0.5, x))


def _normcdfinv(b: Builder, p: Val) -> Val:
    """At most 5 ULP (float64)."""
    # The sum makes a positive zero of the median.
    return fma(b, _erfcinv(b, mul(b, p, number(2.0, p))), number(-_SQRT_2, p), number(0.0, p))


# -- Bessel functions --------------------------------------------------------------------------------------------------

# I_n(x) = (x / 2)**n * sum of (x**2 / 4)**k / (k! (k + n)!), all terms positive; enough of them for x <= 20.
_SERIES = {n: tuple(1 / (exact.factorial(k) * exact.factorial(k + n)) for k in range(39, -1, -1)) for n in (0, 1)}


def _modified_bessel(order: int) -> Function:
    def lower(b: Builder, x: Val) -> Val:
        """At most 6 ULP (float64)."""
        a = fabs(b, x)
        near = clamp(b, a, 0.0, 20.0)
        half = mul(b, near, number(0.5, x))
        small = horner(b, mul(b, half, half), _SERIES[order])
        if order:
            small = mul(b, small, half)
        # In two factors: exp(x) overflows before the result does.
        far = b.select(greater(b, a, 20.0), a, number(20.0, x))
        root = exp_f64(b, mul(b, far, number(0.5, x)))
        tail = horner(b, div(b, number(1.0, x), far), _I1_F64 if order else _I0_F64)
        large = mul(b, mul(b, root, div(b, tail, b.intrinsic("sqrt", far))), root)
        large = b.select(equals(b, a, INF), a, large)
        result = b.select(greater(b, a, 20.0), large, small)
        return b.intrinsic("copysign", result, x) if order else result

    return in_f64(lower)


def _bessel_of_order(name: str) -> Function:
    """``jn``, ``yn`` of libm in float64."""

    def lower(b: Builder, n: Val, x: Val) -> Val:
        wide = per_lane(b, name, "f64", [n, convert_float(b, x, "f64")])
        return convert_float(b, wide, x.elem)

    return lower


erf = by_type(_erf_f32, _erf_f64)

SPECIAL: dict[str, Function] = {
    "erfc": by_type(in_f64(_erfc_f64), _erfc_f64),
    "erfcx": in_f64(_erfcx),
    "erfinv": in_f64(_erfinv),
    "erfcinv": in_f64(_erfcinv),
    "normcdf": in_f64(_normcdf),
    "normcdfinv": in_f64(_normcdfinv),
    "cyl_bessel_i0": _modified_bessel(0),
    "cyl_bessel_i1": _modified_bessel(1),
    "jn": _bessel_of_order("jn"),
    "yn": _bessel_of_order("yn"),
}
