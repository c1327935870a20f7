"""Functions of libdevice, against torch and numpy in double precision."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import mpmath
import numpy as np
import torch

from gxu.conformance.case import Case
from gxu.conformance.triton.data import WIDE
from gxu.conformance.triton.pointwise import Pointwise, fused, square_root

#: One ULP for float32 results of float64 code, four for the others' own float64 functions.
_ULP = 4.0
#: The interpreter has no libdevice.
_SHAPES = ("flat 61", "flat 301", "tile masked", "scalar")


def _elementwise(function: Callable[..., float]) -> Callable[..., torch.Tensor]:
    """A function of Python's math for tensors; NaN where it raises."""

    def call(*values: float) -> float:
        try:
            return function(*values)
        except (ValueError, OverflowError):
            return math.nan

    return lambda *tensors: torch.from_numpy(np.vectorize(call, otypes=[np.float64])(*(t.numpy() for t in tensors)))


def _bessel(function: Callable[..., mpmath.mpf], order: int) -> Callable[..., torch.Tensor]:
    """mpmath's: torch's own Bessel functions of doubles hold about nine digits."""
    return _elementwise(lambda a: float(function(order, a)))


def _row(
    name: str,
    reference: Callable[..., torch.Tensor],
    *domains: str,
    ulp: float = _ULP,
    result: str = "",
    types: tuple[str, ...] = WIDE,
    arguments: str = "",
) -> Pointwise:
    arguments = arguments or ", ".join("abc"[: len(domains)])
    return Pointwise(
        f"libdevice.{name}",
        f"libdevice.{name}({arguments})",
        types,
        reference,
        domains=domains,
        result=result,
        ulp=ulp,
        interpreter_ulp=None,
        shapes=_SHAPES,
    )


TABLE = [
    _row("abs", torch.abs, "all", ulp=0),
    _row("acos", torch.acos, "unit"),
    _row("acosh", lambda a: torch.acosh(a + 1), "positive", arguments="a + 1", ulp=8),
    _row("asin", torch.asin, "unit"),
    _row("asinh", torch.asinh, "near"),
    _row("atan", torch.atan, "all"),
    _row("atan2", torch.atan2, "near", "near"),
    _row("atanh", torch.atanh, "unit"),
    _row("cbrt", _elementwise(math.cbrt), "near"),
    _row("ceil", torch.ceil, "all", ulp=0),
    _row("copysign", torch.copysign, "near", "near", ulp=0),
    _row("cos", torch.cos, "near"),
    _row("cosh", torch.cosh, "near"),
    _row("cyl_bessel_i0", torch.special.i0, "near", ulp=8),
    _row("cyl_bessel_i1", torch.special.i1, "near", ulp=8),
    _row("div_rn", torch.div, "near", "positive", ulp=0.5),
    _row("erf", torch.erf, "near"),
    _row("erfc", torch.erfc, "near", ulp=8),
    _row("erfcx", torch.special.erfcx, "near", ulp=8),
    _row("erfinv", torch.erfinv, "unit", ulp=8),
    _row("exp", torch.exp, "all"),
    _row("exp10", _elementwise(lambda a: 10.0**a), "near"),
    _row("exp2", torch.exp2, "all"),
    _row("expm1", torch.expm1, "all"),
    _row("fdim", lambda a, b: torch.where(a > b, a - b, torch.zeros_like(a)), "near", "near", ulp=0.5),
    _row("floor", torch.floor, "all", ulp=0),
    _row("fma", fused, "positive", "positive", "positive", ulp=0.51),
    _row("fmod", torch.fmod, "near", "positive", ulp=0),
    _row("hypot", torch.hypot, "near", "near"),
    _row("ilogb", lambda a: torch.frexp(a)[1] - 1, "positive", result="int32"),
    _row("isinf", torch.isinf, "all", result="bool", arguments="a) != (0"),
    _row("isnan", torch.isnan, "all", result="bool", arguments="a) != (0"),
    _row("j0", _bessel(mpmath.besselj, 0), "positive", ulp=300),
    _row("j1", _bessel(mpmath.besselj, 1), "positive", ulp=300),
    _row("ldexp", lambda a: a * 8, "near", ulp=0, arguments="a, tl.zeros_like(a).to(tl.int32) + 3"),
    _row("lgamma", torch.lgamma, "positive", ulp=64),
    _row("llrint", lambda a: torch.round(a).long(), "near", result="int64"),
    _row("log", torch.log, "all"),
    _row("log10", torch.log10, "all"),
    _row("log1p", torch.log1p, "all"),
    _row("log2", torch.log2, "all"),
    _row("mul_rn", torch.mul, "near", "near", ulp=0.5),
    _row("nearbyint", torch.round, "all", ulp=0),
    _row("pow", torch.pow, "positive", "near"),
    _row("rint", torch.round, "all", ulp=0),
    _row("rsqrt", torch.rsqrt, "all"),
    _row("signbit", torch.signbit, "all", result="bool", arguments="a) != (0"),
    _row("sin", torch.sin, "near"),
    _row("sinh", torch.sinh, "near"),
    _row("sqrt", square_root, "all", ulp=0.5),
    _row("tan", torch.tan, "near"),
    _row("tanh", torch.tanh, "all"),
    _row("tgamma", _elementwise(math.gamma), "positive", ulp=16),
    _row("trunc", torch.trunc, "all", ulp=0),
    _row("y0", _bessel(mpmath.bessely, 0), "positive", ulp=300),
    _row("y1", _bessel(mpmath.bessely, 1), "positive", ulp=300),
    _row("fast_tanhf", torch.tanh, "all", types=("float32",)),
    _row("fast_expf", torch.exp, "all", types=("float32",)),
]


def cases() -> Iterator[Case]:
    for row in TABLE:
        yield from row.cases()
