"""Math functions and float conversions as LLVM IR, for scalars and for vectors of any width.

The frequent float32 functions are polynomials written inline; their errors, in units in the last place (ULP), were
measured against float64 references over samples of the whole range (tests/test_triton_math.py holds them to the bound
stated here). The others, and all of float64, call libm once for each lane.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..ir.types import BITS
from .builder import Builder
from .float8 import decode_float8, encode_float8
from .values import LLVM_TYPE, Val, constant

_INF = float("inf")


def _f32(number: float) -> Val:
    return constant(number, "f32")


def _fma(b: Builder, x: Val, y: Val, z: Val) -> Val:
    return b.intrinsic("fma", x, y, z)


def _mul(b: Builder, x: Val, y: Val) -> Val:
    return b.binary("fmul", x, y)


def _add(b: Builder, x: Val, y: Val) -> Val:
    return b.binary("fadd", x, y)


def _sub(b: Builder, x: Val, y: Val) -> Val:
    return b.binary("fsub", x, y)


def _bits(b: Builder, x: Val) -> Val:
    return b.cast("bitcast", x, "i32")


def _float(b: Builder, x: Val) -> Val:
    return b.cast("bitcast", x, "f32")


def _horner(b: Builder, x: Val, coefficients: Sequence[float]) -> Val:
    """Value of the polynomial with the highest coefficient first."""
    result = _f32(coefficients[0])
    for coefficient in coefficients[1:]:
        result = _fma(b, result, x, _f32(coefficient))
    return result


def _clamp(b: Builder, x: Val, low: float, high: float) -> Val:
    """NaN passes through: both comparisons are false for it."""
    x = b.select(b.compare("fcmp olt", x, _f32(low)), _f32(low), x)
    return b.select(b.compare("fcmp ogt", x, _f32(high)), _f32(high), x)


# -- libm, lane by lane ------------------------------------------------------------------------------------------------


def _libm(name: str, elem: str | None = None) -> Callable[..., Val]:
    """The C library's function; ``elem`` is the result's type where it differs from the arguments'."""

    def lower(b: Builder, *args: Val) -> Val:
        kind = args[0].elem
        if kind in ("f16", "bf16"):
            wide = lower(b, *(convert_float(b, a, "f32") if a.elem == kind else a for a in args))
            return convert_float(b, wide, kind) if wide.elem == "f32" else wide
        symbol = name if kind == "f64" else name + "f"
        return per_lane(b, symbol, elem or kind, args)

    return lower


def per_lane(b: Builder, symbol: str, elem: str, args: Sequence[Val]) -> Val:
    """Calls a scalar function of the C library for every lane."""
    lanes = b.lanes if any(a.lanes > 1 for a in args) else 1
    if lanes == 1:
        return b.call(symbol, elem, args, 1)
    depth = max(a.depth for a in args)
    kinds = [LLVM_TYPE[a.elem] for a in args]
    b.declare(symbol, LLVM_TYPE[elem], kinds)
    wides = [b.wide(a) for a in args]
    result = "poison"
    vector = f"<{lanes} x {LLVM_TYPE[elem]}>"
    for lane in range(lanes):
        picked = [
            b.define(f"extractelement <{lanes} x {kind}> {wide}, i32 {lane}", depth)
            for kind, wide in zip(kinds, wides, strict=True)
        ]
        arguments = ", ".join(f"{kind} {value}" for kind, value in zip(kinds, picked, strict=True))
        one = b.define(f"call {LLVM_TYPE[elem]} @{symbol}({arguments})", depth)
        result = b.define(f"insertelement {vector} {result}, {LLVM_TYPE[elem]} {one}, i32 {lane}", depth)
    return Val(elem, result, depth, lanes)


def _inline_f32(symbol: str) -> Callable[[Callable[[Builder, Val], Val]], Callable[[Builder, Val], Val]]:
    """Wraps a float32 function: float64 calls libm's ``symbol``, narrower types go through float32."""
    fallback = _libm(symbol)

    def wrap(function: Callable[[Builder, Val], Val]) -> Callable[[Builder, Val], Val]:
        def lower(b: Builder, x: Val) -> Val:
            if x.elem == "f32":
                return function(b, x)
            if x.elem == "f64":
                return fallback(b, x)
            return convert_float(b, function(b, convert_float(b, x, "f32")), x.elem)

        lower.__doc__ = function.__doc__
        return lower

    return wrap


# -- functions that are instructions -----------------------------------------------------------------------------------


def _intrinsic(stem: str) -> Callable[..., Val]:
    def lower(b: Builder, *args: Val) -> Val:
        kind = args[0].elem
        if kind in ("f16", "bf16"):
            return convert_float(b, b.intrinsic(stem, *(convert_float(b, a, "f32") for a in args)), kind)
        return b.intrinsic(stem, *args)

    return lower


sqrt = _intrinsic("sqrt")
floor = _intrinsic("floor")
ceil = _intrinsic("ceil")
trunc = _intrinsic("trunc")
rint = _intrinsic("rint")
round_half_away = _intrinsic("round")
fma = _intrinsic("fma")
copysign = _intrinsic("copysign")


def fabs(b: Builder, x: Val) -> Val:
    if not LLVM_TYPE[x.elem].startswith("i"):
        return b.intrinsic("fabs", x)
    integer = f"i{BITS[x.elem]}"
    return b.binary("and", x, constant((1 << (BITS[x.elem] - 1)) - 1, integer))


def rsqrt(b: Builder, x: Val) -> Val:
    """At most 2 ULP: 1 / sqrt(x), both correctly rounded."""
    if x.elem in ("f16", "bf16"):
        return convert_float(b, rsqrt(b, convert_float(b, x, "f32")), x.elem)
    return b.binary("fdiv", constant(1.0, x.elem), b.intrinsic("sqrt", x))


# -- exponentials and logarithms ---------------------------------------------------------------------------------------

# 1.5 * 2**23: adding it to a float of small magnitude leaves the rounded integer in the low mantissa bits.
_ROUND = 12582912.0
# exp(r) = 1 + r + r**2 * P(r) for |r| <= ln(2)/2 (Cephes, expf.c).
_EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
# ln(2) in two parts, the first with few enough bits that its product with an exponent is exact.
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
_LOG2E, _LN2 = 1.4426950408889634, 0.6931471805599453


def _scale_by_power(b: Builder, x: Val, n: Val) -> Val:
    """x * 2**n for integers n in [-252, 254], in two exact steps so that results may be subnormal or overflow."""
    half = b.binary("ashr", n, constant(1, "i32"))
    rest = b.binary("sub", n, half)
    for power in (half, rest):
        bits = b.binary("shl", b.binary("add", power, constant(127, "i32")), constant(23, "i32"))
        x = _mul(b, x, _float(b, bits))
    return x


def _round_to_integer(b: Builder, x: Val) -> tuple[Val, Val]:
    """(nearest integer as float, as i32) of a float32 of magnitude below 2**22."""
    shifted = _add(b, x, _f32(_ROUND))
    return _sub(b, shifted, _f32(_ROUND)), b.binary("sub", _bits(b, shifted), constant(0x4B400000, "i32"))


def _exp_reduced(b: Builder, r: Val) -> Val:
    return _add(b, _fma(b, _horner(b, r, _EXP), _mul(b, r, r), r), _f32(1.0))


@_inline_f32("exp")
def exp(b: Builder, x: Val) -> Val:
    """At most 2 ULP; exact at 0, infinities and NaN as IEEE asks; results may be subnormal."""
    x = _clamp(b, x, -104.0, 89.0)
    n, integer = _round_to_integer(b, _mul(b, x, _f32(_LOG2E)))
    r = _fma(b, n, _f32(-_LN2_HIGH), x)
    r = _fma(b, n, _f32(-_LN2_LOW), r)
    return _scale_by_power(b, _exp_reduced(b, r), integer)


@_inline_f32("exp2")
def exp2(b: Builder, x: Val) -> Val:
    """At most 2 ULP."""
    x = _clamp(b, x, -151.0, 129.0)
    n, integer = _round_to_integer(b, x)
    return _scale_by_power(b, _exp_reduced(b, _mul(b, _sub(b, x, n), _f32(_LN2))), integer)


# log(1 + f) = f - f**2 / 2 + f**3 * P(f) for sqrt(1/2) <= 1 + f < sqrt(2) (Cephes, logf.c).
_LOG = (
    7.0376836292e-2,
    -1.1514610310e-1,
    1.1676998740e-1,
    -1.2420140846e-1,
    1.4249322787e-1,
    -1.6668057665e-1,
    2.0000714765e-1,
    -2.4999993993e-1,
    3.3333331174e-1,
)


def _log_parts(b: Builder, x: Val) -> tuple[Val, Val, Val]:
    """(exponent as float, f, log(1 + f) - f) of a positive finite float32."""
    tiny = b.compare("fcmp olt", x, _f32(1.1754943508222875e-38))
    x = b.select(tiny, _mul(b, x, _f32(8388608.0)), x)
    # Taking sqrt(1/2) off the bits leaves the exponent of the mantissa in [sqrt(1/2), sqrt(2)).
    shifted = b.binary("sub", _bits(b, x), constant(0x3F3504F3, "i32"))
    exponent = b.binary("ashr", shifted, constant(23, "i32"))
    mantissa = b.binary("and", shifted, constant(0x007FFFFF, "i32"))
    f = _sub(b, _float(b, b.binary("add", mantissa, constant(0x3F3504F3, "i32"))), _f32(1.0))
    exponent = b.select(tiny, b.binary("sub", exponent, constant(23, "i32")), exponent)
    square = _mul(b, f, f)
    tail = _mul(b, _mul(b, _horner(b, f, _LOG), f), square)
    return b.cast("sitofp", exponent, "f32"), f, _fma(b, square, _f32(-0.5), tail)


def _log_specials(b: Builder, x: Val, result: Val) -> Val:
    result = b.select(b.compare("fcmp oeq", x, _f32(_INF)), x, result)
    result = b.select(b.compare("fcmp oeq", x, _f32(0.0)), _f32(-_INF), result)
    return b.select(b.compare("fcmp ult", x, _f32(0.0)), _f32(float("nan")), result)


@_inline_f32("log")
def log(b: Builder, x: Val) -> Val:
    """At most 2 ULP."""
    e, f, tail = _log_parts(b, x)
    tail = _fma(b, e, _f32(_LN2_LOW), tail)
    return _log_specials(b, x, _fma(b, e, _f32(_LN2_HIGH), _add(b, f, tail)))


@_inline_f32("log2")
def log2(b: Builder, x: Val) -> Val:
    """At most 3 ULP."""
    e, f, tail = _log_parts(b, x)
    # log2(e) = 1 + _LOG2E_REST: the 1 keeps f exact.
    rest = _f32(_LOG2E - 1.0)
    small = _fma(b, tail, rest, _fma(b, f, rest, tail))
    return _log_specials(b, x, _add(b, e, _add(b, f, small)))


# -- hyperbolic tangent, error function --------------------------------------------------------------------------------

# tanh(x) = x + x**3 * P(x**2) for |x| < 0.625 (Cephes, tanhf.c).
_TANH = (-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1)


@_inline_f32("tanh")
def tanh(b: Builder, x: Val) -> Val:
    """At most 3 ULP."""
    magnitude = fabs(b, x)
    square = _mul(b, x, x)
    small = _fma(b, _mul(b, _horner(b, square, _TANH), square), x, x)
    power = exp(b, _mul(b, b.select(b.compare("fcmp ogt", magnitude, _f32(10.0)), _f32(10.0), magnitude), _f32(2.0)))
    large = _sub(b, _f32(1.0), b.binary("fdiv", _f32(2.0), _add(b, power, _f32(1.0))))
    result = b.select(b.compare("fcmp olt", magnitude, _f32(0.625)), small, large)
    # The sign last: a negative zero is lost in the polynomial.
    return b.select(b.compare("fcmp uno", x, x), x, b.intrinsic("copysign", result, x))


# erf(x) = x * P(x**2) / Q(x**2) for |x| <= 3.92, fitted to scipy's erf for the smallest relative error.
_ERF_P = (
    2.050194325420307e-06,
    2.848772273864597e-04,
    3.7652349565178156e-03,
    5.2747540175914764e-02,
    1.9039708375930786e-01,
    1.1283791065216064,
)
_ERF_Q = (
    3.8092552131274715e-05,
    1.1624490143731236e-03,
    1.4968443661928177e-02,
    1.1410528421401978e-01,
    5.020677447319031e-01,
    1.0,
)


@_inline_f32("erf")
def erf(b: Builder, x: Val) -> Val:
    """At most 7 ULP."""
    z = _clamp(b, x, -3.92, 3.92)
    square = _mul(b, z, z)
    quotient = b.binary("fdiv", _mul(b, z, _horner(b, square, _ERF_P)), _horner(b, square, _ERF_Q))
    return _clamp(b, quotient, -1.0, 1.0)


sin = _libm("sin")
cos = _libm("cos")


# -- conversions between float types -----------------------------------------------------------------------------------


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


def _round_to_bf16(b: Builder, x: Val) -> Val:
    """Round to nearest even on the bits of a float32; a NaN keeps its sign and becomes quiet.

    Not AVX-512's own conversion: that one flushes subnormal numbers to zero.
    """
    bits = _bits(b, x)
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


def bitcast(b: Builder, x: Val, elem: str) -> Val:
    """The same bits as another type; types that LLVM holds alike need no instruction."""
    if x.elem == elem:
        return x
    if LLVM_TYPE[x.elem] == LLVM_TYPE[elem]:
        if x.const is not None and x.lanes == 1:
            return Val(elem, x.ref, x.depth)
        return Val(elem, x.ref, x.depth, x.lanes, base=x.base, stride=x.stride)
    return b.cast("bitcast", x, elem)


# -- libdevice ---------------------------------------------------------------------------------------------------------


def _is_inf(b: Builder, x: Val) -> Val:
    return _as_int(b, b.compare("fcmp oeq", fabs(b, x), constant(_INF, x.elem)))


def _is_nan(b: Builder, x: Val) -> Val:
    return _as_int(b, b.compare("fcmp uno", x, x))


def _is_finite(b: Builder, x: Val) -> Val:
    return _as_int(b, b.compare("fcmp olt", fabs(b, x), constant(_INF, x.elem)))


def _signbit(b: Builder, x: Val) -> Val:
    integer = {16: "i16", 32: "i32", 64: "i64"}[BITS[x.elem]]
    return _as_int(b, b.compare("icmp slt", bitcast(b, x, integer), constant(0, integer)))


def _as_int(b: Builder, condition: Val) -> Val:
    return b.cast("zext", condition, "i32")


def _minmax(predicate: str) -> Callable[[Builder, Val, Val], Val]:
    def lower(b: Builder, x: Val, y: Val) -> Val:
        chosen = b.select(b.compare(f"fcmp {predicate}", x, y), x, y)
        return b.select(b.compare("fcmp uno", y, y), x, chosen)

    return lower


# Functions of triton.language.extra.libdevice by their symbol (see gxu/triton/libdevice.py).
LIBDEVICE: dict[str, Callable[..., Val]] = {
    "exp": exp,
    "exp2": exp2,
    "log": log,
    "log2": log2,
    "sin": sin,
    "cos": cos,
    "tanh": tanh,
    "erf": erf,
    "sqrt": sqrt,
    "rsqrt": rsqrt,
    "floor": floor,
    "ceil": ceil,
    "trunc": trunc,
    "rint": rint,
    "round": round_half_away,
    "abs": fabs,
    "fma": fma,
    "copysign": copysign,
    "fmax": _minmax("ogt"),
    "fmin": _minmax("olt"),
    "isinf": _is_inf,
    "isnan": _is_nan,
    "isfinite": _is_finite,
    "signbit": _signbit,
    "mul_rn": _mul,
    "div_rn": lambda b, x, y: b.binary("fdiv", x, y),
    "nearbyint": rint,
    **{
        name: _libm(name)
        for name in (
            "acos acosh asin asinh atan atan2 atanh cbrt cosh erfc exp10 expm1 fdim fmod hypot j0 j1 lgamma "
            "log10 log1p logb nextafter pow remainder sinh tan tgamma y0 y1"
        ).split()
    },
    "ilogb": _libm("ilogb", "i32"),
    "llrint": _libm("llrint", "i64"),
    "llround": _libm("llround", "i64"),
    "ldexp": _libm("ldexp"),
}
