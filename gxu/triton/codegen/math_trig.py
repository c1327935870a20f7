"""Trigonometric functions and their inverses; for the notation see math_exp.py.

Arguments are reduced by multiples of pi/2 in three parts (Cody and Waite, with FMA). A vector with a lane beyond the
limit of that calls libm for its lanes, in code that is skipped otherwise.
"""

from __future__ import annotations

from collections.abc import Callable

from .builder import Builder
from .math_base import (
    INF,
    NAN,
    Function,
    add,
    bits,
    cold,
    div,
    equals,
    fma,
    greater,
    horner,
    in_f64,
    integer_of,
    less,
    mul,
    narrow,
    negate,
    number,
    sub,
)
from .math_convert import fabs
from .math_exp import nearest_integer
from .values import Val, constant

# sin(x) = x + x**3 * P(x**2)
# [0, 0.61685], degree 3, error 2**-28.2
_SIN_F32 = (2.71831163445313e-06, -0.0001983933470910415, 0.008333329111337662, -0.1666666716337204)
# [0, 0.61685], degree 6, error 2**-57.3
_SIN_F64 = (
    -7.578761794122739e-13,
    1.6058367893577668e-10,
    -2.505210492133399e-08,
    2.7557319214227073e-06,
    -0.00019841269841255137,
    0.008333333333333323,
    -0.16666666666666666,
)
# cos(x) = 1 - x**2 / 2 + x**4 * P(x**2)
# [0, 0.61685], degree 3, error 2**-30.9
_COS_F32 = (-2.722236160934699e-07, 2.4799690436339006e-05, -0.0013888884568586946, 0.0416666679084301)
# [0, 0.61685], degree 6, error 2**-60.0
_COS_F64 = (
    4.740187961939387e-14,
    -1.1470343539708976e-11,
    2.0876754854633717e-09,
    -2.755731921779979e-07,
    2.4801587301577916e-05,
    -0.0013888888888888883,
    0.041666666666666664,
)
# tan(x) = x + x**3 * P(x**2)
# [0, 0.61685], degree 6, error 2**-27.7
_TAN_F32 = (
    0.004413789138197899,
    9.723547918838449e-06,
    0.010902183130383492,
    0.021255049854516983,
    0.0540655218064785,
    0.13332609832286835,
    0.3333335220813751,
)
# atan(x) = x + x**3 * P(x**2)
# [0, 1], degree 10, error 2**-25.6
_ATAN_F32 = (
    -0.0007339942967519164,
    0.005127571523189545,
    -0.016785746440291405,
    0.03514198958873749,
    -0.05508461967110634,
    0.0729077085852623,
    -0.08996593952178955,
    0.11096999049186707,
    -0.14284496009349823,
    0.19999949634075165,
    -0.3333333134651184,
)
# [0, 0.171573], degree 12, error 2**-58.3
_ATAN_F64 = (
    -0.013086485958084104,
    0.029733388807738906,
    -0.04061302411837628,
    0.047074453434114365,
    -0.05255918975707284,
    0.05881672714485,
    -0.06666621605579603,
    0.07692305622412386,
    -0.09090909027130845,
    0.11111111109866786,
    -0.14285714285700388,
    0.19999999999999926,
    -0.3333333333333333,
)
# asin(x) = x + x**3 * P(x**2)
# [0, 0.25], degree 5, error 2**-30.1
_ASIN_F32 = (
    0.037565287202596664,
    0.0144025394693017,
    0.03181762993335724,
    0.04451571777462959,
    0.07500510662794113,
    0.16666659712791443,
)
# [0, 0.25], degree 13, error 2**-58.6
_ASIN_F64 = (
    0.03328508866952024,
    -0.02549988487603997,
    0.024299438492833846,
    0.000934832824645321,
    0.009930191076404457,
    0.009501232561930407,
    0.011583044710419411,
    0.013962190093045742,
    0.017352921248449307,
    0.022372152858946368,
    0.030381944601412202,
    0.04464285714059696,
    0.0750000000000152,
    0.16666666666666663,
)
# sin(pi x) = x * (pi + x**2 * P(x**2))
# [0, 0.0625], degree 6, error 2**-56.0
_SINPI_F64 = (
    -2.171932617631903e-05,
    0.00046628317855727585,
    -0.0073704299265599385,
    0.08214588658203807,
    -0.5992645293203479,
    2.5501640398773424,
    -5.16771278004997,
)
# cos(pi x) = 1 + x**2 * P(x**2)
# [0, 0.0625], degree 7, error 2**-55.4
_COSPI_F64 = (
    4.264522922918643e-06,
    -0.00010463364153489057,
    0.0019295740314175733,
    -0.025806891379972153,
    0.2353306303586819,
    -1.335262768854587,
    4.0587121264167685,
    -4.934802200544679,
)

# pi/2 in three parts, and the largest argument for which they are enough.
_PI_2 = {
    "f32": (1.5707963705062866, -4.371138828673793e-08, -1.7151245100058819e-15),
    "f64": (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33),
}
_LIMIT = {"f32": 48039.0, "f64": 2.0**27}
_PI_LOW = 1.2246467991473532e-16
_PI = 3.141592653589793


def _odd(b: Builder, x: Val, square: Val, f32: tuple[float, ...], f64: tuple[float, ...]) -> Val:
    """x + x**3 * P(x**2)"""
    rest = horner(b, square, f32 if x.elem == "f32" else f64)
    return fma(b, mul(b, rest, square), x, x)


def _sin_near_zero(b: Builder, r: Val, square: Val) -> Val:
    return _odd(b, r, square, _SIN_F32, _SIN_F64)


def _cos_near_zero(b: Builder, r: Val, square: Val) -> Val:
    """The rounding of 1 - r**2 / 2 is made good."""
    rest = horner(b, square, _COS_F32 if r.elem == "f32" else _COS_F64)
    half, one = mul(b, square, number(0.5, r)), number(1.0, r)
    near = sub(b, one, half)
    lost = sub(b, sub(b, one, near), half)
    return add(b, near, fma(b, mul(b, rest, square), square, lost))


def _quadrant(b: Builder, x: Val) -> tuple[Val, Val]:
    """(n as an integer, x - n * pi/2) with n the nearest."""
    n, integer = nearest_integer(b, mul(b, x, number(0.6366197723675814, x)))
    for part in _PI_2[x.elem]:
        x = fma(b, n, number(-part, x), x)
    return integer, x


def _too_large(b: Builder, x: Val) -> Val:
    """True for NaN and infinity too: libm knows what becomes of them."""
    return b.compare("fcmp ugt", fabs(b, x), number(_LIMIT[x.elem], x))


def _has_bit(b: Builder, integer: Val, bit: int) -> Val:
    masked = b.binary("and", integer, constant(bit, integer.elem))
    return b.compare("icmp ne", masked, constant(0, integer.elem))


def _symbol(name: str, x: Val) -> str:
    return name if x.elem == "f64" else name + "f"


def _turned(b: Builder, quadrant: Val, sine: Val, cosine: Val) -> Val:
    """The sine of quadrant * pi/2 + r, of the sine and cosine of r."""
    value = b.select(_has_bit(b, quadrant, 1), cosine, sine)
    return b.select(_has_bit(b, quadrant, 2), negate(b, value), value)


def _sine(name: str, shift: int) -> Callable[[Builder, Val], Val]:
    """sin for ``shift`` 0, cos for 1."""

    def lower(b: Builder, x: Val) -> Val:
        """At most 1.6 ULP."""
        quadrant, r = _quadrant(b, x)
        if shift:
            quadrant = b.binary("add", quadrant, constant(shift, quadrant.elem))
        square = mul(b, r, r)
        result = _turned(b, quadrant, _sin_near_zero(b, r, square), _cos_near_zero(b, r, square))
        if not shift:
            result = b.select(equals(b, x, 0.0), x, result)
        return cold(b, _too_large(b, x), result, _symbol(name, x), x)

    return lower


def _tan(b: Builder, x: Val) -> Val:
    """At most 3 ULP."""
    quadrant, r = _quadrant(b, x)
    square = mul(b, r, r)
    odd = _has_bit(b, quadrant, 1)
    if x.elem == "f32":
        tangent = _odd(b, r, square, _TAN_F32, ())
        result = b.select(odd, div(b, number(-1.0, x), tangent), tangent)
    else:
        sine, cosine = _sin_near_zero(b, r, square), _cos_near_zero(b, r, square)
        result = div(b, b.select(odd, negate(b, cosine), sine), b.select(odd, sine, cosine))
    result = b.select(equals(b, x, 0.0), x, result)
    return cold(b, _too_large(b, x), result, _symbol("tan", x), x)


def _sine_of_pi(shift: int) -> Function:
    """sinpi for ``shift`` 0, cospi for 1: the reduction is exact, so there is no limit."""

    def lower(b: Builder, x: Val) -> Val:
        """At most 1.6 ULP."""
        # Multiples of 2 do not count: the rest is small enough for an integer.
        whole = b.intrinsic("rint", mul(b, x, number(0.5, x)))
        x_in_turn = fma(b, whole, number(-2.0, x), x)
        n, quadrant = nearest_integer(b, mul(b, x_in_turn, number(2.0, x)))
        r = fma(b, n, number(-0.5, x), x_in_turn)
        square = mul(b, r, r)
        low = fma(b, square, horner(b, square, _SINPI_F64), number(_PI_LOW, x))
        sine = fma(b, r, number(_PI, x), mul(b, r, low))
        cosine = fma(b, square, horner(b, square, _COSPI_F64), number(1.0, x))
        if shift:
            quadrant = b.binary("add", quadrant, constant(shift, quadrant.elem))
        result = _turned(b, quadrant, sine, cosine)
        result = b.select(equals(b, result, 0.0), number(0.0, x), result)
        if not shift:
            result = b.select(equals(b, result, 0.0), b.intrinsic("copysign", result, x), result)
        return b.select(equals(b, fabs(b, x), INF), number(NAN, x), result)

    return lower


# -- inverses ----------------------------------------------------------------------------------------------------------


def _atan_of_ratio(b: Builder, numerator: Val, denominator: Val, q: Val) -> Val:
    """atan(q) for q = numerator / denominator in [0, 1]."""
    if q.elem == "f32":
        return _odd(b, q, mul(b, q, q), _ATAN_F32, ())
    # Above tan(pi/8): atan(q) = pi/4 + atan((q - 1) / (q + 1)).
    beyond = greater(b, q, 0.41421356237309503)
    reduced = div(b, sub(b, numerator, denominator), add(b, numerator, denominator))
    reduced = b.select(beyond, reduced, q)
    square = mul(b, reduced, reduced)
    rest = mul(b, mul(b, horner(b, square, _ATAN_F64), square), reduced)
    rest = b.select(beyond, add(b, rest, number(_PI_2["f64"][1] / 2, q)), rest)
    return add(b, b.select(beyond, number(_PI / 4, q), number(0.0, q)), add(b, reduced, rest))


def _from_right_angle(b: Builder, angle: Val, factor: float) -> Val:
    """factor * pi/2 - angle"""
    high, low, _ = _PI_2[angle.elem]
    return add(b, number(high * factor, angle), sub(b, number(low * factor, angle), angle))


def _atan(b: Builder, x: Val) -> Val:
    """At most 3 ULP."""
    a, one = fabs(b, x), number(1.0, x)
    large = greater(b, a, 1.0)
    if x.elem == "f32":
        q = b.select(large, div(b, one, a), a)
        angle = _atan_of_ratio(b, q, one, q)
    else:
        finite = b.select(greater(b, a, 1e300), number(1e300, x), a)
        numerator, denominator = b.select(large, one, finite), b.select(large, finite, one)
        angle = _atan_of_ratio(b, numerator, denominator, div(b, numerator, denominator))
    angle = b.select(large, _from_right_angle(b, angle, 1.0), angle)
    return b.intrinsic("copysign", angle, x)


def _atan2(b: Builder, y: Val, x: Val) -> Val:
    """At most 3 ULP."""
    height, width = fabs(b, y), fabs(b, x)
    steep = b.compare("fcmp ogt", height, width)
    numerator, denominator = b.select(steep, width, height), b.select(steep, height, width)
    if x.elem == "f64":
        # (q - 1) / (q + 1) is taken of the operands, whose sum must not overflow.
        large = greater(b, denominator, 2.0**1000)
        scale = b.select(large, number(2.0**-60, x), number(1.0, x))
        numerator, denominator = mul(b, numerator, scale), mul(b, denominator, scale)
    q = div(b, numerator, denominator)
    one, zero = number(1.0, x), number(0.0, x)
    both_zero, both_infinite = equals(b, denominator, 0.0), equals(b, numerator, INF)
    q = b.select(both_zero, zero, b.select(both_infinite, one, q))
    numerator = b.select(both_infinite, one, numerator)
    denominator = b.select(both_infinite, one, denominator)
    angle = _atan_of_ratio(b, numerator, denominator, q)
    angle = b.select(steep, _from_right_angle(b, angle, 1.0), angle)
    backwards = b.compare("icmp slt", bits(b, x), constant(0, integer_of(x)))
    angle = b.select(backwards, _from_right_angle(b, angle, 2.0), angle)
    result = b.intrinsic("copysign", angle, y)
    return b.select(b.compare("fcmp uno", x, y), add(b, x, y), result)


def _asin_parts(b: Builder, x: Val) -> tuple[Val, Val]:
    """(whether abs(x) is above 1/2, asin of abs(x) or of sqrt((1 - abs(x)) / 2))"""
    a = fabs(b, x)
    large = greater(b, a, 0.5)
    z = b.select(large, mul(b, sub(b, number(1.0, x), a), number(0.5, x)), mul(b, a, a))
    root = b.select(large, b.intrinsic("sqrt", z), a)
    return large, _odd(b, root, z, _ASIN_F32, _ASIN_F64)


def _asin(b: Builder, x: Val) -> Val:
    """At most 3 ULP."""
    large, angle = _asin_parts(b, x)
    result = b.select(large, _from_right_angle(b, mul(b, angle, number(2.0, x)), 1.0), angle)
    return b.intrinsic("copysign", result, x)


def _acos(b: Builder, x: Val) -> Val:
    """At most 3 ULP."""
    large, angle = _asin_parts(b, x)
    twice = mul(b, angle, number(2.0, x))
    negative = less(b, x, 0.0)
    far = b.select(negative, _from_right_angle(b, twice, 2.0), twice)
    return b.select(large, far, _from_right_angle(b, b.intrinsic("copysign", angle, x), 1.0))


sin = narrow(_sine("sin", 0))
cos = narrow(_sine("cos", 1))
tan = narrow(_tan)
sinpi = in_f64(_sine_of_pi(0))
cospi = in_f64(_sine_of_pi(1))
atan = narrow(_atan)
atan2 = narrow(_atan2)
asin = narrow(_asin)
acos = narrow(_acos)
