"""Exponentials and hyperbolic functions.

A polynomial is preceded by its interval, its degree and its error (weighted for the result's last place), as
benchmarks/math_coefficients.py finds them. Errors of whole functions are in units in the last place (ULP), against
float64 or better; benchmarks/math_ulp.py measures them, tests/triton/test_math.py holds them.
"""

from __future__ import annotations

from ..ir.types import BITS
from . import math_lookup, math_registers
from .builder import Builder
from .math_base import (
    add,
    bits,
    by_type,
    clamp,
    div,
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
    sub,
)
from .math_convert import bitcast, fabs
from .values import LLVM_TYPE, Val, constant

# exp(r) = 1 + r + r**2 * P(r)
# [-0.346574, 0.346574], degree 5, error 2**-29.8
_EXP_F32 = (
    0.00019790370424743742,
    0.0013944648671895266,
    0.008333496749401093,
    0.04166629537940025,
    0.1666666567325592,
    0.5,
)
# [-0.346574, 0.346574], degree 9, error 2**-56.3
_EXP_F64 = (
    2.5000067424147292e-08,
    2.7630233526297367e-07,
    2.755758628091983e-06,
    2.4801493137360145e-05,
    0.0001984126950676677,
    0.0013888888943596523,
    0.008333333333494336,
    0.04166666666653027,
    0.16666666666666413,
    0.5000000000000011,
)
# the same for expm1, where r is not small beside a 1
# [-0.346574, 0.346574], degree 10, error 2**-60.6
_EXPM1_F64 = (
    2.0924422772953528e-09,
    2.51090333589183e-08,
    2.7557242834781485e-07,
    2.755724421237879e-06,
    2.480158736045592e-05,
    0.00019841269886131105,
    0.0013888888888866895,
    0.008333333333321626,
    0.0416666666666667,
    0.16666666666666677,
    0.5,
)
# tanh(x) = x + x**3 * P(x**2)
# [0, 0.390625], degree 5, error 2**-30.1
_TANH_F32 = (
    0.0021475376561284065,
    -0.008182674646377563,
    0.021702967584133148,
    -0.05394720286130905,
    0.13333210349082947,
    -0.3333333134651184,
)

# Logarithms in two parts, of float32 and of float64: with FMA the first may have all its bits.
_LN2_F32 = (0.6931471824645996, -1.904654323148236e-09)
_LN2_F64 = (0.6931471805599453, 2.3190468138462996e-17)
_LOG10_2_F64 = (0.3010299956639812, -2.8037281277851704e-18)
_LOG2E, _LN2, _LOG2_10, _LN10 = 1.4426950408889634, 0.6931471805599453, 3.321928094887362, 2.302585092994046


def power_of_two(b: Builder, n: Val) -> Val:
    """2**n as a float as wide as the integer n, which must keep it a normal number."""
    elem, bias, digits = {"i32": ("f32", 127, 23), "i64": ("f64", 1023, 52)}[n.elem]
    return bitcast(b, b.binary("shl", b.binary("add", n, constant(bias, n.elem)), constant(digits, n.elem)), elem)


def _scale(b: Builder, x: Val, n: Val) -> Val:
    """x * 2**n in one instruction or two exact steps: results may be subnormal or overflow."""
    if b.avx512 and max(x.lanes, n.lanes) > 1:
        lanes, (value, power), depth = b.operands(x, n)
        vectors = [f"<{lanes} x {LLVM_TYPE[v.elem]}>" for v in (x, n)]
        name = f"llvm.ldexp.v{lanes}f{BITS[x.elem]}.v{lanes}i{BITS[n.elem]}"
        b.declare(name, vectors[0], vectors)
        return b.emit(x.elem, f"call {vectors[0]} @{name}({vectors[0]} {value}, {vectors[1]} {power})", depth, lanes)
    half = b.binary("ashr", n, constant(1, n.elem))
    return mul(b, mul(b, x, power_of_two(b, half)), power_of_two(b, b.binary("sub", n, half)))


def nearest_integer(b: Builder, x: Val) -> tuple[Val, Val]:
    """(nearest integer as float, as integer) of a float32 of magnitude below 2**22, of a float64 below 2**51.

    Adding 1.5 * 2**(digits of the mantissa) leaves the integer in the low bits.
    """
    shift, pattern = {"f32": (12582912.0, 0x4B400000), "f64": (6755399441055744.0, 0x4338000000000000)}[x.elem]
    shifted = add(b, x, number(shift, x))
    integer = b.binary("sub", bits(b, shifted), constant(pattern, integer_of(x)))
    return sub(b, shifted, number(shift, x)), integer


def _reduced(b: Builder, x: Val, n: Val, log: tuple[float, float]) -> Val:
    """x - n * log, the product exact."""
    return fma(b, n, number(-log[1], x), fma(b, n, number(-log[0], x), x))


def _exp_near_zero(b: Builder, r: Val) -> Val:
    rest = horner(b, r, _EXP_F32 if r.elem == "f32" else _EXP_F64)
    return add(b, fma(b, rest, mul(b, r, r), r), number(1.0, r))


def _exp(b: Builder, x: Val, low: float, high: float, ln2: tuple[float, float]) -> Val:
    x = clamp(b, x, low, high)
    power = mul(b, x, number(_LOG2E, x))
    if math_registers.whole(b, x):
        n = b.intrinsic("roundeven", power)
        return math_registers.scale(b, _exp_near_zero(b, _reduced(b, x, n, ln2)), n)
    n, integer = nearest_integer(b, power)
    return _scale(b, _exp_near_zero(b, _reduced(b, x, n, ln2)), integer)


def _exp_f32(b: Builder, x: Val) -> Val:
    """At most 1.1 ULP; results may be subnormal."""
    return _exp(b, x, -104.0, 89.0, _LN2_F32)


def exp_f64(b: Builder, x: Val) -> Val:
    """At most 1.1 ULP; results may be subnormal."""
    return _exp(b, x, -746.0, 710.0, _LN2_F64)


def _exp2(b: Builder, x: Val, low: float, high: float) -> Val:
    x = clamp(b, x, low, high)
    if math_registers.whole(b, x):
        n = b.intrinsic("roundeven", x)
        return math_registers.scale(b, _exp_near_zero(b, mul(b, sub(b, x, n), number(_LN2, x))), n)
    n, integer = nearest_integer(b, x)
    return _scale(b, _exp_near_zero(b, mul(b, sub(b, x, n), number(_LN2, x))), integer)


def _exp2_f32(b: Builder, x: Val) -> Val:
    """At most 1.2 ULP."""
    return _exp2(b, x, -151.0, 129.0)


def _exp2_f64(b: Builder, x: Val) -> Val:
    """At most 1.2 ULP."""
    return _exp2(b, x, -1076.0, 1025.0)


def _exp10_f64(b: Builder, x: Val) -> Val:
    """At most 1.5 ULP."""
    x = clamp(b, x, -325.0, 309.0)
    n, integer = nearest_integer(b, mul(b, x, number(_LOG2_10, x)))
    r = mul(b, _reduced(b, x, n, _LOG10_2_F64), number(_LN10, x))
    return _scale(b, _exp_near_zero(b, r), integer)


def expm1_f64(b: Builder, x: Val) -> Val:
    """At most 2 ULP."""
    z = clamp(b, x, -40.0, 710.0)
    n, integer = nearest_integer(b, mul(b, z, number(_LOG2E, z)))
    r = _reduced(b, z, n, _LN2_F64)
    near = fma(b, horner(b, r, _EXPM1_F64), mul(b, r, r), r)
    # Half of 2**n: that of the largest results is not a number.
    power = power_of_two(b, b.binary("sub", integer, constant(1, "i64")))
    half = fma(b, power, near, sub(b, power, number(0.5, x)))
    result = b.select(less(b, fabs(b, x), 2.0**-54), x, mul(b, half, number(2.0, x)))
    return b.select(is_nan(b, x), x, b.intrinsic("copysign", result, x))


def _sinh_narrow(b: Builder, x: Val) -> Val:
    """For magnitudes up to 700, beyond every result of float32."""
    power = expm1_f64(b, clamp(b, fabs(b, x), 0.0, 700.0))
    total = add(b, power, div(b, power, add(b, power, number(1.0, x))))
    return b.intrinsic("copysign", mul(b, total, number(0.5, x)), x)


def _cosh_narrow(b: Builder, x: Val) -> Val:
    power = exp_f64(b, fabs(b, x))
    return mul(b, add(b, power, div(b, number(1.0, x), power)), number(0.5, x))


def _large_half_exp(b: Builder, x: Val, small: Val) -> Val:
    """exp(abs(x)) / 2 where that is the result but exp(abs(x)) may overflow; ``small`` elsewhere."""
    magnitude = fabs(b, x)
    root = exp_f64(b, mul(b, magnitude, number(0.5, x)))
    return b.select(greater(b, magnitude, 700.0), mul(b, mul(b, root, number(0.5, x)), root), small)


def _sinh_f64(b: Builder, x: Val) -> Val:
    """At most 3 ULP."""
    return b.intrinsic("copysign", _large_half_exp(b, x, _sinh_narrow(b, x)), x)


def _cosh_f64(b: Builder, x: Val) -> Val:
    """At most 3 ULP."""
    return _large_half_exp(b, x, _cosh_narrow(b, x))


def _tanh_f64(b: Builder, x: Val) -> Val:
    """At most 3 ULP."""
    power = expm1_f64(b, mul(b, fabs(b, x), number(-2.0, x)))
    return b.intrinsic("copysign", div(b, negate(b, power), add(b, power, number(2.0, x))), x)


def _tanh_f32(b: Builder, x: Val) -> Val:
    """At most 2 ULP."""
    if b.avx512:
        return math_lookup.tanh_f32(b, x)
    magnitude = fabs(b, x)
    square = mul(b, x, x)
    small = fma(b, mul(b, horner(b, square, _TANH_F32), square), x, x)
    capped = b.select(greater(b, magnitude, 10.0), number(10.0, x), magnitude)
    power = _exp_f32(b, mul(b, capped, number(2.0, x)))
    large = sub(b, number(1.0, x), div(b, number(2.0, x), add(b, power, number(1.0, x))))
    # The sign last: a negative zero is lost in the polynomial.
    result = b.intrinsic("copysign", b.select(less(b, magnitude, 0.625), small, large), x)
    return b.select(is_nan(b, x), x, result)


exp = by_type(_exp_f32, exp_f64)
exp2 = by_type(_exp2_f32, _exp2_f64)
exp10 = by_type(in_f64(_exp10_f64), _exp10_f64)
expm1 = by_type(in_f64(expm1_f64), expm1_f64)
sinh = by_type(in_f64(_sinh_narrow), _sinh_f64)
cosh = by_type(in_f64(_cosh_narrow), _cosh_f64)
tanh = by_type(_tanh_f32, _tanh_f64)
