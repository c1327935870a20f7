"""Derives the polynomials of gxu/triton/codegen/math_*.py: Remez exchange in 100 digits, rounded at the end.

    python benchmarks/math_coefficients.py [NAME ...]

prints, for each polynomial, its interval, its largest error (with the rounded coefficients) and the coefficients,
highest power first; for each table of polynomials a row a power. Needs mpmath, which torch brings along.
"""

from __future__ import annotations

import struct
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mpmath as mp

mp.mp.dps = 100
Function = Callable[[Any], Any]


@dataclass(frozen=True)
class Fit:
    """Polynomial of ``degree`` nearest to ``function`` on [low, high]; ``weight`` times the difference is levelled."""

    function: Function
    low: Any
    high: Any
    degree: int
    bits: int = 64
    weight: Function = lambda x: mp.mpf(1)


def remez(fit: Fit, rounds: int = 8) -> list[Any]:
    """Coefficients of the minimax polynomial, highest power first."""
    count = fit.degree + 2
    low, high = mp.mpf(fit.low), mp.mpf(fit.high)
    nodes = [(low + high) / 2 - (high - low) / 2 * mp.cos(mp.pi * k / (count - 1)) for k in range(count)]
    grid = [(low + high) / 2 - (high - low) / 2 * mp.cos(mp.pi * k / 600) for k in range(601)]
    # Where the polynomial is a small correction its error hardly counts, but a weight of zero would make it arbitrary.
    floor = max(fit.weight(x) for x in grid) / 100
    values = [(x, fit.function(x), max(fit.weight(x), floor)) for x in grid]
    coefficients: list[Any] = []
    for _ in range(rounds):
        system = mp.matrix(count, count)
        right = mp.matrix(count, 1)
        for row, x in enumerate(nodes):
            for power in range(fit.degree + 1):
                system[row, power] = x**power
            system[row, fit.degree + 1] = (-1) ** row / max(fit.weight(x), floor)
            right[row] = fit.function(x)
        solved = mp.lu_solve(system, right)
        coefficients = [solved[power] for power in range(fit.degree, -1, -1)]
        errors = [(mp.polyval(coefficients, x) - value) * weight for x, value, weight in values]
        peaks = _alternating(errors)
        if len(peaks) < count:
            break
        while len(peaks) > count:  # drop the smaller end, so that signs go on alternating
            peaks.pop(0 if abs(errors[peaks[0]]) < abs(errors[peaks[-1]]) else -1)
        nodes = [grid[k] for k in peaks]
    return coefficients


def _alternating(errors: list[Any]) -> list[int]:
    """Index of the largest error in every run of one sign."""
    peaks: list[int] = []
    for k, error in enumerate(errors):
        if peaks and (errors[peaks[-1]] < 0) == (error < 0):
            if abs(error) > abs(errors[peaks[-1]]):
                peaks[-1] = k
        else:
            peaks.append(k)
    return peaks


def rounded(number: Any, bits: int) -> float:
    """To float64, or to float32 as a Python float."""
    wide = float(number)
    return wide if bits == 64 else float(struct.unpack("<f", struct.pack("<f", wide))[0])


def _odd(function: Function) -> Function:
    """(function(x) / x - 1) / x**2 in u = x**2, for an odd function with slope 1 at zero."""

    def rest(u: Any) -> Any:
        x = mp.sqrt(u) if u > mp.mpf(10) ** -24 else mp.mpf(10) ** -12
        return (function(x) / x - 1) / x**2

    return rest


def _near(function: Function, epsilon: str = "1e-20") -> Function:
    """``function`` away from its removable singularity at zero."""
    return lambda x: function(x if abs(x) > mp.mpf(epsilon) else mp.mpf(epsilon))


_HALF_LN2 = mp.log(2) / 2
_EXP_REST = _near(lambda r: (mp.exp(r) - 1 - r) / r**2)
_LOG_REST = _near(lambda f: (mp.log1p(f) - f + f**2 / 2) / f**3)
_ATANH_REST = _near(lambda z: (2 * mp.atanh(mp.sqrt(z)) / mp.sqrt(z) - 2) / z)
_SIN, _COS = _odd(mp.sin), _near(lambda u: (mp.cos(mp.sqrt(u)) - 1 + u / 2) / u**2)
_QUARTER = (mp.pi / 4) ** 2
_LOG_LOW, _LOG_HIGH = mp.sqrt(0.5) - 1, mp.sqrt(2) - 1


def _from_variable(t: Any) -> Any:
    """x in [0, inf) of t = (x - 4) / (x + 4)."""
    return 4 * (1 + t) / (1 - t)


def _erfcx(x: Any) -> Any:
    return (
        mp.exp(x * x) * mp.erfc(x)
        if x < 60
        else sum(mp.fac2(2 * k - 1) * (-1) ** k / (2 * x * x) ** k if k else mp.mpf(1) for k in range(12))
        / (x * mp.sqrt(mp.pi))
    )


def _scaled_erfcx(t: Any) -> Any:
    if t > mp.mpf(1) - mp.mpf(10) ** -12:
        return 2 / mp.sqrt(mp.pi)
    x = _from_variable(t)
    return (1 + 2 * x) * _erfcx(x)


def _scaled_bessel(order: int) -> Function:
    """exp(-x) sqrt(x) I(x) in u = 1 / x."""

    def function(u: Any) -> Any:
        if u > mp.mpf("0.004"):
            return mp.exp(-1 / u) / mp.sqrt(u) * mp.besseli(order, 1 / u)
        total = term = mp.mpf(1)
        for k in range(1, 40):  # the asymptotic series
            term *= -(4 * order**2 - (2 * k - 1) ** 2) * u / (8 * k)
            total += term
        return total / mp.sqrt(2 * mp.pi)

    return function


FITS: dict[str, Fit] = {
    "EXP_F32": Fit(_EXP_REST, -_HALF_LN2, _HALF_LN2, 5, 32, lambda r: r**2 * mp.exp(-r)),
    "EXP_F64": Fit(_EXP_REST, -_HALF_LN2, _HALF_LN2, 9, 64, lambda r: r**2 * mp.exp(-r)),
    "EXPM1_F64": Fit(_EXP_REST, -_HALF_LN2, _HALF_LN2, 10, 64, abs),
    "LOG_F32": Fit(_LOG_REST, _LOG_LOW, _LOG_HIGH, 9, 32, lambda f: f**2),
    "LOG_F64": Fit(_ATANH_REST, 0, (_LOG_HIGH / (2 + _LOG_HIGH)) ** 2, 7, 64, lambda z: z),
    "SIN_F32": Fit(_SIN, 0, _QUARTER, 3, 32, lambda u: u),
    "COS_F32": Fit(_COS, 0, _QUARTER, 3, 32, lambda u: u**2),
    "SIN_F64": Fit(_SIN, 0, _QUARTER, 6, 64, lambda u: u),
    "COS_F64": Fit(_COS, 0, _QUARTER, 6, 64, lambda u: u**2),
    "TAN_F32": Fit(_odd(mp.tan), 0, _QUARTER, 6, 32, lambda u: u),
    "ATAN_F32": Fit(_odd(mp.atan), 0, 1, 10, 32, lambda u: u),
    "ATAN_F64": Fit(_odd(mp.atan), 0, mp.tan(mp.pi / 8) ** 2, 12, 64, lambda u: u),
    "ASIN_F32": Fit(_odd(mp.asin), 0, 0.25, 5, 32, lambda u: u),
    "ASIN_F64": Fit(_odd(mp.asin), 0, 0.25, 13, 64, lambda u: u),
    "TANH_F32": Fit(_odd(mp.tanh), 0, mp.mpf("0.625") ** 2, 5, 32, lambda u: u),
    "ERF_F32": Fit(lambda u: (mp.erf(mp.sqrt(u)) / mp.sqrt(u) if u else 2 / mp.sqrt(mp.pi)) - 1, 0, 1, 7, 32),
    "ERF_F64": Fit(lambda u: (mp.erf(mp.sqrt(u)) / mp.sqrt(u) if u else 2 / mp.sqrt(mp.pi)) - 1, 0, 1, 13),
    "ERFC_LOG_F32": Fit(lambda x: -mp.log(mp.erfc(x)), 1, 4, 9, 32, mp.erfc),
    "SINPI_F64": Fit(_near(lambda u: (mp.sinpi(mp.sqrt(u)) / mp.sqrt(u) - mp.pi) / u), 0, 0.0625, 6, 64, lambda u: u),
    "COSPI_F64": Fit(_near(lambda u: (mp.cospi(mp.sqrt(u)) - 1) / u), 0, 0.0625, 7, 64, lambda u: u),
    "ERFCX_F64": Fit(_scaled_erfcx, -1, 1, 24),
    "ERFINV_F64": Fit(lambda u: mp.erfinv(mp.sqrt(u)) / mp.sqrt(u) if u else mp.sqrt(mp.pi) / 2, 0, 0.25, 13),
    "I0_F64": Fit(_scaled_bessel(0), 0, 0.05, 13),
    "I1_F64": Fit(_scaled_bessel(1), 0, 0.05, 13),
}


def _shifted(function: Function, center: Any) -> Function:
    return lambda r: function(center + r)


def _reciprocal(function: Function) -> Function:
    return lambda r: 1 / function(r)


def odd_table(function: Function, step: Any, degree: int, count: int = 32) -> list[list[float]]:
    """Coefficients in r of function(k * step + r) for abs(r) <= step / 2 and each k: highest power first, a list a
    power. The function is odd and goes to 1.

    Around zero it is what is missing to r; the last interval is the 1 that float32 makes of it.
    """
    half = mp.mpf(step) / 2
    ratio = Fit(lambda r: function(r) / r if r else mp.diff(function, 0), 0, half, degree - 1)
    table = [[*remez(ratio, 4), mp.mpf(0)]]
    table[0][degree - 1] -= 1
    for k in range(1, count - 1):
        shifted = _shifted(function, k * mp.mpf(step))
        table.append(remez(Fit(shifted, -half, half, degree, weight=_reciprocal(shifted)), 4))
    table.append([mp.mpf(0)] * degree + [mp.mpf(1)])
    return [[rounded(row[power], 32) for row in table] for power in range(degree + 1)]


TABLES: dict[str, tuple[Function, Any, int]] = {
    "ERF_TABLE_F32": (mp.erf, mp.mpf(1) / 8, 5),
    "TANH_TABLE_F32": (mp.tanh, mp.mpf(75) / 256, 6),
}


def main(names: list[str]) -> None:
    for name in names or [*TABLES, *FITS]:
        if name in TABLES:
            rows = odd_table(*TABLES[name])
            lines = [textwrap.indent("\n".join(textwrap.wrap(f"{tuple(row)!r},", 110)), "    ") for row in rows]
            print("\n".join([f"{name} = (", *lines, ")\n"]), flush=True)
            continue
        fit = FITS[name]
        coefficients = [rounded(c, fit.bits) for c in remez(fit)]
        low, high = mp.mpf(fit.low), mp.mpf(fit.high)
        points = [low + (high - low) * k / 997 for k in range(998)]
        worst = max(abs((mp.polyval(coefficients, x) - fit.function(x)) * fit.weight(x)) for x in points)
        print(f"# [{float(low):.6g}, {float(high):.6g}], degree {fit.degree}, error 2**{float(mp.log(worst, 2)):.1f}")
        print(f"{name} = (" + ", ".join(repr(c) for c in coefficients) + ")\n", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
