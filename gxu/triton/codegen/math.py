"""Math functions as LLVM IR, for scalars and for vectors of any width: every function by its name.

Where they are: functions of floats in ``math_exp``, ``math_log``, ``math_trig``, ``math_special`` and ``math_parts``,
arithmetic with a rounding mode in ``math_rounding``, integers in ``math_integer``, conversions in ``math_convert``;
``math_base`` has what all are written with. Errors are stated in docstrings and in docs/math.md. What has no code of
its own calls libm once for each lane.
"""

from __future__ import annotations

from .math_base import Function, instruction, libm, libm_in_f64
from .math_convert import bitcast, convert_float, fabs, saturating
from .math_exp import cosh, exp, exp2, exp10, expm1, sinh, tanh
from .math_integer import INTEGER
from .math_log import acosh, asinh, atanh, cbrt, log, log1p, log2, log10, pow, powi, rcbrt
from .math_parts import PARTS, rsqrt
from .math_rounding import ROUNDING, rounded_to_i64
from .math_special import SPECIAL, erf
from .math_trig import acos, asin, atan, atan2, cos, cospi, sin, sinpi, tan

__all__ = ["LIBDEVICE", "bitcast", "convert_float", "fabs", "libdevice_function", "saturating"]

sqrt = instruction("sqrt")
floor = instruction("floor")
ceil = instruction("ceil")
fma = instruction("fma")
_rint = instruction("rint")

# Functions of triton.language.extra.libdevice by the symbols that gxu/triton/libdevice.py gives them.
LIBDEVICE: dict[str, Function] = {
    **SPECIAL,
    **PARTS,
    **ROUNDING,
    **INTEGER,
    "exp": exp,
    "exp2": exp2,
    "exp10": exp10,
    "expm1": expm1,
    "log": log,
    "log2": log2,
    "log10": log10,
    "log1p": log1p,
    "sin": sin,
    "cos": cos,
    "tan": tan,
    "sinpi": sinpi,
    "cospi": cospi,
    "asin": asin,
    "acos": acos,
    "atan": atan,
    "atan2": atan2,
    "sinh": sinh,
    "cosh": cosh,
    "tanh": tanh,
    "asinh": asinh,
    "acosh": acosh,
    "atanh": atanh,
    "pow": pow,
    "powi": powi,
    "cbrt": cbrt,
    "rcbrt": rcbrt,
    "erf": erf,
    "sqrt": sqrt,
    "rsqrt": rsqrt,
    "floor": floor,
    "ceil": ceil,
    "trunc": instruction("trunc"),
    "rint": _rint,
    "nearbyint": _rint,
    "round": instruction("round"),
    "abs": fabs,
    "fma": fma,
    "copysign": instruction("copysign"),
    "llrint": rounded_to_i64("rint"),
    "llround": rounded_to_i64("round"),
    **{name: libm(name) for name in ("fmod", "remainder", "nextafter", "logb")},
    # glibc's float32 versions of these are several ULP off, more before 2.34.
    **{name: libm_in_f64(name) for name in ("j0", "j1", "y0", "y1", "lgamma", "tgamma")},
}

# NVIDIA's names that do not follow the rule of _nvidia_names.
_NVIDIA = {
    "fabs": "abs",
    "fast_fdividef": "div_rn",
    "finitef": "isfinite",
    "isfinited": "isfinite",
    "scalbn": "ldexp",
}


def _nvidia_names(name: str) -> list[str]:
    """What ``__nv_<name>`` may be called here: without the suffix or prefix that tells its type."""
    names = [name, *(name.removesuffix(suffix) for suffix in ("f", "d", "ll"))]
    if name.startswith("fast_"):
        names.append(name.removeprefix("fast_").removesuffix("f"))
    return [*names, name.replace("fmaf_", "fma_"), name[1:]]


def libdevice_function(symbol: str) -> Function | None:
    """The function of an external symbol, by its name here or by CUDA's (``__nv_sinf``); None if there is none."""
    if not symbol.startswith("__nv_"):
        return LIBDEVICE.get(symbol)
    for name in _nvidia_names(symbol.removeprefix("__nv_")):
        function = LIBDEVICE.get(_NVIDIA.get(name, name))
        if function is not None:
            return function
    return None
