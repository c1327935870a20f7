"""Every function of triton.language.extra.libdevice against exact arithmetic, mpmath, or a definition in Python."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import mpmath as mp
import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from triton.language.extra import libdevice as stubs
from triton.language.extra.cuda import libdevice as cuda
from triton_helpers import launch

from gxu.triton import libdevice
from gxu.triton.codegen import math as lowered

_FUNCTIONS = sorted(
    {n for module in (stubs, cuda) for n, f in vars(module).items() if inspect.isfunction(f) and n[0] != "_"}
)
_INF, _NAN = math.inf, math.nan
_TORCH = {"f": torch.float32, "d": torch.float64, "i": torch.int32, "l": torch.int64, "u": torch.uint32}
_TORCH |= {"U": torch.uint64}


@triton.jit
def apply(x, y, z, w, out, n, F: tl.constexpr, ARITY: tl.constexpr, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    m = i < n
    if ARITY == 1:
        r = F(tl.load(x + i, m))
    elif ARITY == 2:
        r = F(tl.load(x + i, m), tl.load(y + i, m))
    elif ARITY == 3:
        r = F(tl.load(x + i, m), tl.load(y + i, m), tl.load(z + i, m))
    else:
        r = F(tl.load(x + i, m), tl.load(y + i, m), tl.load(z + i, m), tl.load(w + i, m))
    tl.store(out + i, r.to(out.dtype.element_ty), m)


def call(function: Any, result: str, *args: torch.Tensor) -> torch.Tensor:
    """``function`` of the frontend on gxu, elementwise; ``result`` is a letter of _TORCH."""
    size = args[0].numel()
    filled = [*args, args[0], args[0], args[0]][:4]
    out = torch.full((size,), 77, dtype=_TORCH[result])
    return launch(apply, (-(-size // 64),), *filled, out, size, F=function, ARITY=len(args), B=64)[-1]


def random_floats(kind: str, size: int, low: float = -30.0, high: float = 30.0) -> torch.Tensor:
    """Uniform in [low, high], and as many of random magnitude with the same bounds."""
    spread = torch.empty(size).double().uniform_(low, high)
    small = torch.empty(size).double().uniform_(low, high) * torch.exp2(torch.empty(size).double().uniform_(-40, 0))
    inside = torch.where((small >= low) & (small <= high), small, spread)
    return torch.cat([spread, inside]).to(_TORCH[kind])


def ulps(got: float, exact: Any, kind: str) -> float:
    """Distance to the exact result in units of its last place."""
    digits, least = (24, -149) if kind == "f" else (53, -1074)
    largest = float(torch.finfo(_TORCH[kind]).max)
    if abs(exact) > largest and (math.isinf(got) or abs(got) == largest):
        return 0.0
    if not math.isfinite(got):
        return _INF
    exponent = max(mp.frexp(exact)[1] - digits, least) if exact else least
    return float(abs(mp.mpf(got) - exact) / mp.ldexp(1, exponent))


def test_every_function_resolves():
    """For gxu's own table, and for kernels that import CUDA's."""
    for name in _FUNCTIONS:
        assert hasattr(libdevice, name), f"libdevice.{name} is missing"
    wanted = inspect.getsource(cuda)
    symbols = {word.strip('"') for word in wanted.replace("(", " ").replace(",", " ").split() if '"__nv_' in word}
    assert len(symbols) > 300
    missing = sorted(s for s in symbols if lowered.libdevice_function(s) is None)
    assert not missing


def test_every_function_is_tested():
    tested = {*_REAL, *_EXACT, *_SEVERAL, *_INTEGER, *_PREDICATES, *_TO_INTEGER, *_FROM_INTEGER, *_DIRECTED, *_FAST}
    assert set(_FUNCTIONS) == tested & set(_FUNCTIONS)
    assert set(_FUNCTIONS) - tested == set()


# -- functions of reals ------------------------------------------------------------------------------------------------


def _erfcinv(p: Any) -> Any:
    if p > 0.5:
        return mp.erfinv(1 - p)
    guess = mp.sqrt(-mp.log(p * mp.sqrt(mp.pi) * mp.sqrt(-mp.log(p))))
    return mp.findroot(lambda y: mp.log(mp.erfc(y)) - mp.log(p), guess)


def _erfcx(x: Any) -> Any:
    return mp.exp(x * x) * mp.erfc(x)


# Name: (function, lower end, upper end, ULP in float32, ULP in float64).
_REAL: dict[str, tuple[Callable[[Any], Any], float, float, float, float]] = {
    "sin": (mp.sin, -1e5, 1e5, 1.6, 1.6),
    "cos": (mp.cos, -1e5, 1e5, 1.6, 1.6),
    "tan": (mp.tan, -1e5, 1e5, 3, 3),
    "sinpi": (mp.sinpi, -50, 50, 0.51, 1.5),
    "cospi": (mp.cospi, -50, 50, 0.51, 1.5),
    "asin": (mp.asin, -1, 1, 3, 3),
    "acos": (mp.acos, -1, 1, 3, 3),
    "atan": (mp.atan, -30, 30, 3, 3),
    "exp": (mp.exp, -80, 80, 1.1, 1.1),
    "exp2": (lambda x: mp.mpf(2) ** x, -140, 120, 1.2, 1.2),
    "exp10": (lambda x: mp.mpf(10) ** x, -40, 38, 0.51, 1.5),
    "expm1": (mp.expm1, -30, 80, 0.51, 2),
    "log": (mp.log, 1e-9, 30, 1.2, 1.2),
    "log2": (lambda x: mp.log(x, 2), 1e-9, 30, 1.6, 1.6),
    "log10": (mp.log10, 1e-9, 30, 1.5, 1.5),
    "log1p": (mp.log1p, -0.99, 30, 1.5, 1.5),
    "sinh": (mp.sinh, -80, 80, 0.51, 3),
    "cosh": (mp.cosh, -80, 80, 0.51, 3),
    "tanh": (mp.tanh, -10, 10, 2, 3),
    "asinh": (mp.asinh, -1e6, 1e6, 0.51, 3),
    "acosh": (mp.acosh, 1, 1e6, 0.51, 3),
    "atanh": (mp.atanh, -0.999, 0.999, 0.51, 3),
    "sqrt": (mp.sqrt, 0, 1e9, 0.5, 0.5),
    "rsqrt": (lambda x: 1 / mp.sqrt(x), 1e-9, 1e9, 1.5, 1.5),
    "rsqrt_rn": (lambda x: 1 / mp.sqrt(x), 1e-9, 1e9, 0.501, 0.5),
    "cbrt": (lambda x: mp.sign(x) * mp.cbrt(abs(x)), -1e9, 1e9, 0.51, 1.5),
    "rcbrt": (lambda x: mp.sign(x) / mp.cbrt(abs(x)), -1e9, 1e9, 0.51, 2),
    "erf": (mp.erf, -6, 6, 2, 1.5),
    "erfc": (mp.erfc, -6, 25, 0.51, 6),
    "erfcx": (_erfcx, -5, 20, 0.51, 8),
    "erfinv": (mp.erfinv, -0.9999, 0.9999, 0.51, 4),
    "erfcinv": (_erfcinv, 1e-30, 1.999, 0.51, 4),
    "normcdf": (mp.ncdf, -12, 6, 0.51, 5),
    "normcdfinv": (lambda p: -mp.sqrt(2) * _erfcinv(2 * p), 1e-30, 0.999, 0.51, 6),
    "cyl_bessel_i0": (lambda x: mp.besseli(0, x), -80, 80, 0.51, 6),
    "cyl_bessel_i1": (lambda x: mp.besseli(1, x), -80, 80, 0.51, 6),
    "lgamma": (mp.loggamma, 0.01, 60, 0.51, 16),
    "tgamma": (mp.gamma, 0.01, 30, 0.51, 10),
    "rcp64h": (lambda x: 1 / x, 0.1, 30, 0, 2**32),
    "j0": (lambda x: mp.besselj(0, x), -2, 2, 0.51, 6),
    "j1": (lambda x: mp.besselj(1, x), -2, 2, 0.51, 6),
    "y0": (lambda x: mp.bessely(0, x), 1, 3, 0.51, 6),
    "y1": (lambda x: mp.bessely(1, x), 0.01, 2, 0.51, 6),
}


@pytest.mark.parametrize("kind", ["f", "d"])
@pytest.mark.parametrize("name", sorted(_REAL))
def test_real_functions(name, kind):
    reference, low, high, *bounds = _REAL[name]
    bound = bounds[kind == "d"]
    if (name, kind) in (("rsqrt_rn", "d"), ("rcp64h", "f")):
        pytest.skip("libdevice has it for the other type only")
    x = random_floats(kind, 75, low, high)
    got = call(getattr(libdevice, name), kind, x)
    with mp.workdps(60):
        for argument, value in zip(x.tolist(), got.tolist(), strict=True):
            far = ulps(value, reference(mp.mpf(argument)), kind)
            assert far <= bound, f"{name}({argument!r}) = {value!r} is off by {far} ULP"


_N = _NAN
# Name: (argument, result), where mpmath and C may differ or the formula alone would fail.
_SPECIALS: dict[str, list[tuple[float, float]]] = {
    "sin": [(0.0, 0.0), (-0.0, -0.0), (_INF, _N), (_N, _N), (5e-324, 5e-324)],
    "cos": [(0.0, 1.0), (_INF, _N), (_N, _N)],
    "tan": [(-0.0, -0.0), (-_INF, _N), (_N, _N), (5e-324, 5e-324)],
    "sinpi": [(-0.0, -0.0), (3.0, 0.0), (-4.0, -0.0), (0.5, 1.0), (-1.5, 1.0), (_INF, _N), (_N, _N), (1e30, 0.0)],
    "cospi": [(0.0, 1.0), (0.5, 0.0), (1.5, 0.0), (7.0, -1.0), (-_INF, _N), (_N, _N), (1e30, 1.0)],
    "asin": [(-0.0, -0.0), (1.0, math.pi / 2), (-1.0, -math.pi / 2), (1.5, _N), (_N, _N)],
    "acos": [(1.0, 0.0), (-1.0, math.pi), (0.0, math.pi / 2), (-2.0, _N), (_N, _N)],
    "atan": [
        (-0.0, -0.0),
        (_INF, math.pi / 2),
        (-_INF, -math.pi / 2),
        (_N, _N),
        (1e308, math.pi / 2),
        (5e-324, 5e-324),
    ],
    "exp": [(-_INF, 0.0), (_INF, _INF), (_N, _N), (-0.0, 1.0), (1e5, _INF), (-1e5, 0.0)],
    "exp2": [(-_INF, 0.0), (_INF, _INF), (_N, _N), (10.0, 1024.0), (-3.0, 0.125)],
    "exp10": [(-_INF, 0.0), (_INF, _INF), (_N, _N), (2.0, 100.0), (0.0, 1.0)],
    "expm1": [(-0.0, -0.0), (-_INF, -1.0), (_INF, _INF), (_N, _N), (5e-324, 5e-324), (-1e5, -1.0)],
    "log": [(0.0, -_INF), (-0.0, -_INF), (-1.0, _N), (_INF, _INF), (-_INF, _N), (_N, _N), (1.0, 0.0)],
    "log2": [(0.0, -_INF), (8.0, 3.0), (2.0**-140, -140.0), (-1.0, _N), (_INF, _INF), (_N, _N)],
    "log10": [(0.0, -_INF), (1000.0, 3.0), (-1.0, _N), (_INF, _INF), (_N, _N)],
    "log1p": [(-1.0, -_INF), (-2.0, _N), (-0.0, -0.0), (_INF, _INF), (_N, _N), (5e-324, 5e-324)],
    "sinh": [(-0.0, -0.0), (_INF, _INF), (-_INF, -_INF), (_N, _N), (-1e5, -_INF)],
    "cosh": [(-_INF, _INF), (_N, _N), (0.0, 1.0), (1e5, _INF)],
    "tanh": [(-0.0, -0.0), (_INF, 1.0), (-_INF, -1.0), (_N, _N), (50.0, 1.0)],
    "asinh": [(-0.0, -0.0), (_INF, _INF), (-_INF, -_INF), (_N, _N), (5e-324, 5e-324)],
    "acosh": [(1.0, 0.0), (0.5, _N), (_INF, _INF), (_N, _N), (-_INF, _N)],
    "atanh": [(-0.0, -0.0), (1.0, _INF), (-1.0, -_INF), (2.0, _N), (_N, _N), (_INF, _N)],
    "cbrt": [(-0.0, -0.0), (-_INF, -_INF), (_N, _N), (27.0, 3.0)],
    "rcbrt": [(-0.0, -_INF), (0.0, _INF), (-_INF, -0.0), (_N, _N), (-8.0, -0.5)],
    "rsqrt": [(0.0, _INF), (_INF, 0.0), (-1.0, _N), (_N, _N)],
    "erf": [(-0.0, -0.0), (_INF, 1.0), (-_INF, -1.0), (_N, _N)],
    "erfc": [(_INF, 0.0), (-_INF, 2.0), (_N, _N), (0.0, 1.0)],
    "erfcx": [(_INF, 0.0), (-_INF, _INF), (_N, _N), (0.0, 1.0), (-50.0, _INF)],
    "erfinv": [(1.0, _INF), (-1.0, -_INF), (1.5, _N), (-0.0, -0.0), (_N, _N), (0.0, 0.0)],
    "erfcinv": [(0.0, _INF), (2.0, -_INF), (1.0, 0.0), (-0.5, _N), (2.5, _N), (_N, _N)],
    "normcdf": [(_INF, 1.0), (-_INF, 0.0), (0.0, 0.5), (_N, _N)],
    "normcdfinv": [(0.0, -_INF), (1.0, _INF), (0.5, 0.0), (-1.0, _N), (2.0, _N), (_N, _N)],
    "cyl_bessel_i0": [(0.0, 1.0), (_INF, _INF), (-_INF, _INF), (_N, _N)],
    "cyl_bessel_i1": [(-0.0, -0.0), (_INF, _INF), (-_INF, -_INF), (_N, _N)],
    "lgamma": [(1.0, 0.0), (2.0, 0.0), (0.0, _INF), (-3.0, _INF), (-_INF, _INF), (_N, _N)],
    "tgamma": [(0.0, _INF), (-0.0, -_INF), (5.0, 24.0), (-1.0, _N), (_INF, _INF), (-_INF, _N), (_N, _N)],
    "saturatef": [(_N, 0.0), (-1.0, 0.0), (0.25, 0.25), (7.0, 1.0), (_INF, 1.0), (-_INF, 0.0)],
    "logb": [(1.0, 0.0), (10.0, 3.0), (0.0, -_INF), (_INF, _INF), (-_INF, _INF), (_N, _N), (2.0**-140, -140.0)],
    "abs": [(-0.0, 0.0), (-2.5, 2.5), (-_INF, _INF), (_N, _N)],
}


@pytest.mark.parametrize("kind", ["f", "d"])
@pytest.mark.parametrize("name", sorted(_SPECIALS))
def test_special_values(name, kind):
    table = _SPECIALS[name]
    x = torch.tensor([x for x, _ in table], dtype=torch.float64).to(_TORCH[kind])
    wanted = torch.tensor([y for _, y in table], dtype=torch.float64).to(_TORCH[kind])
    got = call(getattr(libdevice, name), kind, x)
    torch.testing.assert_close(got, wanted, rtol=2e-7 if kind == "f" else 4e-16, atol=0, equal_nan=True)
    zeros = wanted == 0
    assert torch.equal(torch.signbit(got[zeros]), torch.signbit(wanted[zeros])), (x[zeros], got[zeros])


# -- functions that are exact ------------------------------------------------------------------------------------------


_EXACT: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "floor": torch.floor,
    "ceil": torch.ceil,
    "trunc": torch.trunc,
    "rint": torch.round,
    "nearbyint": torch.round,
    "round": lambda x: torch.copysign(torch.floor(x.abs().double() + 0.5).to(x.dtype), x),
    "abs": torch.abs,
    "saturatef": lambda x: torch.nan_to_num(x, nan=0.0).clamp(0, 1),
    "logb": lambda x: (torch.frexp(x.double()).exponent - 1).to(x.dtype),
}


@pytest.mark.parametrize("kind", ["f", "d"])
@pytest.mark.parametrize("name", sorted(_EXACT))
def test_exact_functions(name, kind):
    x = torch.cat([random_floats(kind, 200), torch.arange(-6, 6).to(_TORCH[kind]) / 2])
    x = x[x != 0]
    assert torch.equal(call(getattr(libdevice, name), kind, x), _EXACT[name](x))


def _norm(*args: Any) -> Any:
    return mp.sqrt(sum(a * a for a in args))


# Functions of several reals: (function, number of arguments, ULP in float32, ULP in float64).
_SEVERAL: dict[str, tuple[Callable[..., Any], int, float, float]] = {
    "atan2": (mp.atan2, 2, 3, 3),
    "hypot": (_norm, 2, 0.51, 2),
    "rhypot": (lambda *a: 1 / _norm(*a), 2, 0.51, 2),
    "norm3d": (_norm, 3, 0.51, 2),
    "rnorm3d": (lambda *a: 1 / _norm(*a), 3, 0.51, 3),
    "norm4d": (_norm, 4, 0.51, 3),
    "rnorm4d": (lambda *a: 1 / _norm(*a), 4, 0.51, 4),
    "fma": (lambda x, y, z: x * y + z, 3, 0.5, 0.5),
    "fdim": (lambda x, y: max(x - y, mp.mpf(0)), 2, 0.5, 0.5),
    "fmod": (lambda x, y: mp.sign(x) * (abs(x) - abs(y) * mp.floor(abs(x) / abs(y))), 2, 0, 0),
    "remainder": (lambda x, y: x - y * mp.nint(x / y), 2, 0, 0),
    "copysign": (lambda x, y: abs(x) * mp.sign(y), 2, 0, 0),
    "pow": (lambda x, y: abs(x) ** y, 2, 0.51, 1),
    "nextafter": (None, 2, 0, 0),  # type: ignore[dict-item]
    "fast_powf": (lambda x, y: abs(x) ** y, 2, 0.51, 1),
    "fast_dividef": (lambda x, y: x / y, 2, 0.5, 0.5),
}


@pytest.mark.parametrize("kind", ["f", "d"])
@pytest.mark.parametrize("name", sorted(_SEVERAL))
def test_functions_of_several_reals(name, kind):
    reference, arity, *bounds = _SEVERAL[name]
    args = [random_floats(kind, 100, -20, 20) for _ in range(arity)]
    if "pow" in name:
        args[0] = args[0].abs()
    got = call(getattr(libdevice, name), kind, *args)
    if name == "nextafter":
        assert torch.equal(got, torch.nextafter(*args))
        return
    with mp.workdps(60):
        for row, value in zip(zip(*(a.tolist() for a in args), strict=True), got.tolist(), strict=True):
            far = ulps(value, reference(*map(mp.mpf, row)), kind)
            assert far <= bounds[kind == "d"], f"{name}{row} = {value!r} is off by {far} ULP"


@pytest.mark.parametrize("kind", ["f", "d"])
@pytest.mark.parametrize("name", ["pow", "atan2", "hypot", "fmod", "fdim"])
def test_special_values_of_two_arguments(name, kind):
    """C's own functions, through numpy in float64, for all pairs of special numbers."""
    numbers = [0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5, 3.0, -3.0, 2.5, _INF, -_INF, _NAN, 1e-40, -1e-40, 1e38]
    x, y = (v.contiguous() for v in torch.cartesian_prod(*[torch.tensor(numbers).to(_TORCH[kind])] * 2).T)
    a, b = x.double().numpy(), y.double().numpy()
    with np.errstate(all="ignore"):
        if name == "fdim":
            wanted = np.where(np.isnan(a) | np.isnan(b), np.nan, np.where(a > b, a - b, 0.0))
        else:
            function = {"pow": np.power, "atan2": np.arctan2, "hypot": np.hypot, "fmod": np.fmod}[name]
            wanted = function(a, b)
    expected = torch.from_numpy(wanted).to(_TORCH[kind])
    got = call(getattr(libdevice, name), kind, x, y)
    torch.testing.assert_close(got, expected, rtol=5e-7 if kind == "f" else 1e-15, atol=0, equal_nan=True)
    zeros = expected == 0
    assert torch.equal(torch.signbit(got[zeros]), torch.signbit(expected[zeros]))


_FAST = {
    "fast_sinf": "sin",
    "fast_cosf": "cos",
    "fast_tanf": "tan",
    "fast_tanhf": "tanh",
    "fast_expf": "exp",
    "fast_exp10f": "exp10",
    "fast_logf": "log",
    "fast_log2f": "log2",
    "fast_log10f": "log10",
}


@pytest.mark.parametrize("name", sorted(_FAST))
def test_fast_variants_are_the_exact_functions(name):
    x = random_floats("f", 200)
    got = call(getattr(libdevice, name), "f", x)
    wanted = call(getattr(libdevice, _FAST[name]), "f", x)
    assert torch.equal(got.view(torch.int32), wanted.view(torch.int32))


# -- integers ----------------------------------------------------------------------------------------------------------


def _signed(number: int, width: int) -> int:
    number &= (1 << width) - 1
    return number - (1 << width) if number >> (width - 1) else number


def _byte_perm(x: int, y: int, s: int) -> int:
    source = [((y & 0xFFFFFFFF) << 32 | (x & 0xFFFFFFFF)) >> (8 * k) & 255 for k in range(8)]
    return sum(source[(s >> (4 * k)) & 7] << (8 * k) for k in range(4))


def _low24(number: int, signed: bool) -> int:
    return _signed(number, 24) if signed else number & 0xFFFFFF


def _reversed(x: int, width: int) -> int:
    return int(format(x & ((1 << width) - 1), f"0{width}b")[::-1], 2)


def _leading_zeros(x: int, width: int) -> int:
    return width - (x & ((1 << width) - 1)).bit_length()


# Name: rows of (argument types, result type, function of Python integers).
_INTEGER: dict[str, list[tuple[str, str, Callable[..., int]]]] = {
    "clz": [("i", "i", lambda x: _leading_zeros(x, 32)), ("l", "i", lambda x: _leading_zeros(x, 64))],
    "popc": [
        ("i", "i", lambda x: (x & (2**32 - 1)).bit_count()),
        ("l", "i", lambda x: (x & (2**64 - 1)).bit_count()),
    ],
    "ffs": [("i", "i", lambda x: (x & -x).bit_length()), ("l", "i", lambda x: (x & -x).bit_length())],
    "brev": [("i", "i", lambda x: _reversed(x, 32)), ("l", "l", lambda x: _reversed(x, 64))],
    "byte_perm": [("iii", "i", _byte_perm)],
    "mulhi": [
        ("ii", "i", lambda x, y: x * y >> 32),
        ("uu", "u", lambda x, y: x * y >> 32),
        ("ll", "l", lambda x, y: x * y >> 64),
        ("UU", "U", lambda x, y: x * y >> 64),
    ],
    "mul24": [
        ("ii", "i", lambda x, y: _low24(x, True) * _low24(y, True)),
        ("uu", "u", lambda x, y: _low24(x, False) * _low24(y, False)),
    ],
    "sad": [("iiu", "i", lambda x, y, z: abs(x - y) + z), ("uuu", "u", lambda x, y, z: abs(x - y) + z)],
    "hadd": [("ii", "i", lambda x, y: (x + y) >> 1), ("uu", "u", lambda x, y: (x + y) >> 1)],
    "rhadd": [("ii", "i", lambda x, y: (x + y + 1) >> 1), ("uu", "u", lambda x, y: (x + y + 1) >> 1)],
    "abs": [("i", "i", abs), ("l", "l", abs)],
}


def random_integers(kind: str, size: int) -> torch.Tensor:
    """Uniform over all bit patterns, and the ends."""
    width = 64 if kind in "lU" else 32
    signed = {32: torch.int32, 64: torch.int64}[width]
    values = torch.randint(-(2**31), 2**31, (size * 2,)).to(torch.int32).view(signed)[:size].clone()
    values[:6] = torch.tensor([0, 1, -1, 2, -(2 ** (width - 1)), 2 ** (width - 1) - 1]).to(signed)
    return values[torch.randperm(size)].view(_TORCH[kind])


@pytest.mark.parametrize(
    ("name", "row"), [(name, row) for name in sorted(_INTEGER) for row in range(len(_INTEGER[name]))]
)
def test_integer_functions(name, row):
    kinds, result, reference = _INTEGER[name][row]
    args = [random_integers(kind, 300) for kind in kinds]
    got = call(getattr(libdevice, name), result, *args)
    width = 64 if result in "lU" else 32
    wanted = [reference(*values) & ((1 << width) - 1) for values in zip(*(a.tolist() for a in args), strict=True)]
    assert [value & ((1 << width) - 1) for value in got.tolist()] == wanted


_PREDICATES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "isnan": torch.isnan,
    "isinf": torch.isinf,
    "finitef": torch.isfinite,
    "isfinited": torch.isfinite,
    "signbit": torch.signbit,
}


@pytest.mark.parametrize("kind", ["f", "d"])
@pytest.mark.parametrize("name", sorted(_PREDICATES))
def test_predicates(name, kind):
    x = torch.tensor([0.0, -0.0, 1.0, -1.0, _INF, -_INF, _NAN, -_NAN, 1e-45, 3e38]).to(_TORCH[kind])
    assert torch.equal(call(getattr(libdevice, name), "i", x).bool(), _PREDICATES[name](x))


# -- rounding modes ----------------------------------------------------------------------------------------------------


def directed(exact: Fraction, mode: str, kind: str) -> float:
    """``exact`` rounded to float32 or float64, down (rd), up (ru), toward zero (rz) or to nearest even (rn)."""
    scalar = {"f": np.float32, "d": np.float64}[kind]
    if mode == "rz":
        mode = "rd" if exact > 0 else "ru"
    largest = Fraction(float(np.finfo(scalar).max))
    if abs(exact) > largest and mode != "rn":
        toward = (exact > 0) == (mode == "rd")
        return (float(largest) if toward else _INF) * (1 if exact > 0 else -1)
    with np.errstate(all="ignore"):
        below = scalar(float(exact))
        while not np.isfinite(below) or Fraction(float(below)) > exact:
            below = np.nextafter(below, scalar(-_INF))
        while Fraction(float(np.nextafter(below, scalar(_INF)))) <= exact:
            below = np.nextafter(below, scalar(_INF))
        above = below if Fraction(float(below)) == exact else np.nextafter(below, scalar(_INF))
    if mode == "rn":
        distances = exact - Fraction(float(below)), Fraction(float(above)) - exact
        even = int(below.view(np.uint32 if kind == "f" else np.uint64)) % 2 == 0
        return float(below if distances[0] < distances[1] or (distances[0] == distances[1] and even) else above)
    return float(below if mode == "rd" else above)


def _root(x: Fraction) -> Fraction:
    """sqrt(x) to 1300 bits: enough to round it, and exact where it is short."""
    scale = 1 << 1300
    whole = math.isqrt(x.numerator * scale * scale // x.denominator)
    exact = whole * whole * x.denominator == x.numerator * scale * scale
    return Fraction(2 * whole + (0 if exact else 1), 2 * scale)


_ARITHMETIC: dict[str, tuple[int, Callable[..., Fraction]]] = {
    "add": (2, lambda x, y: x + y),
    "sub": (2, lambda x, y: x - y),
    "mul": (2, lambda x, y: x * y),
    "div": (2, lambda x, y: x / y),
    "rcp": (1, lambda x: 1 / x),
    "sqrt": (1, lambda x: _root(abs(x))),
    "fma": (3, lambda x, y, z: x * y + z),
    "double2float": (1, lambda x: x),
}
_DIRECTED = [f"{stem}_{mode}" for stem in _ARITHMETIC for mode in ("rn", "rz", "rd", "ru")]


@pytest.mark.parametrize("kind", ["f", "d"])
@pytest.mark.parametrize("name", _DIRECTED)
def test_arithmetic_with_a_rounding_mode(name, kind):
    stem, mode = name.split("_")
    arity, reference = _ARITHMETIC[stem]
    source = "d" if stem == "double2float" else kind
    args = [random_floats(source, 75) for _ in range(arity)]
    for k, a in enumerate(args):  # subnormal and huge results, exact ones, results of zero
        tiny, huge = torch.finfo(_TORCH[source]).tiny, torch.finfo(_TORCH[source]).max
        a[:4] = torch.tensor([tiny * 0.7, huge * 0.9, 3.0, 0.25 * (k + 1)], dtype=a.dtype)
        a[a == 0] = 1.0
    if stem == "sqrt":
        args[0] = args[0].abs()
    target = "f" if stem == "double2float" else kind
    got = call(getattr(libdevice, name), target, *args)
    for row, value in zip(zip(*(a.tolist() for a in args), strict=True), got.tolist(), strict=True):
        exact = reference(*map(Fraction, row))
        if mode == "rn" and abs(exact) > Fraction(torch.finfo(_TORCH[target]).max):
            assert math.isinf(value)
        else:
            assert value == directed(exact, mode, target), f"{name}{row}"


_MODES = ("rn", "rz", "rd", "ru")
_TO_INTEGER = {f"{s}2{t}_{m}" for s in ("float", "double") for t in ("int", "uint", "ll", "ull") for m in _MODES}
_TO_INTEGER |= {"llrint", "llround", "ilogb", "float_as_int", "float_as_uint", "double_as_longlong"}
_TO_INTEGER |= {"double2loint", "double2hiint"}
_FROM_INTEGER = {f"{s}2{t}_{m}" for s in ("int", "uint", "ll", "ull") for t in ("float", "double") for m in _MODES}
_FROM_INTEGER |= {"int_as_float", "uint_as_float", "longlong_as_double", "hiloint2double", "ldexp", "scalbn"}
_FROM_INTEGER |= {"jn", "yn"}


@pytest.mark.parametrize("name", sorted(n for n in _TO_INTEGER if "2" in n and "_" in n))
def test_floats_to_integers(name):
    """Out of range: the nearest end. NaN: 0."""
    (source, target), mode = name.split("_")[0].split("2"), name.split("_")[1]
    kind = "f" if source == "float" else "d"
    width, signed = (64 if "ll" in target else 32), not target.startswith("u")
    low, high = (-(2 ** (width - 1)), 2 ** (width - 1) - 1) if signed else (0, 2**width - 1)
    x = torch.cat(
        [random_floats(kind, 50), torch.arange(-8, 8).to(_TORCH[kind]) / 2, random_floats(kind, 50, -3e9, 3e9)]
    )
    x = torch.cat([x, torch.tensor([_INF, -_INF, _NAN, 1e30, -1e30, 1e19, 4e18]).to(_TORCH[kind])])
    rounded = {"rn": round, "rz": math.trunc, "rd": math.floor, "ru": math.ceil}[mode]
    got = call(getattr(libdevice, name), "l" if width == 64 else "i", x)
    for argument, value in zip(x.tolist(), got.tolist(), strict=True):
        wanted = 0 if math.isnan(argument) else (high if argument > 0 else low) if math.isinf(argument) else None
        if wanted is None:
            wanted = min(max(rounded(argument), low), high)
        assert value == _signed(wanted, width), f"{name}({argument})"


@pytest.mark.parametrize("name", sorted(n for n in _FROM_INTEGER if "2" in n and "_" in n))
def test_integers_to_floats(name):
    (source, target), mode = name.split("_")[0].split("2"), name.split("_")[1]
    letter = {"int": "i", "uint": "u", "ll": "l", "ull": "U"}[source]
    kind = "f" if target == "float" else "d"
    x = random_integers(letter, 200)
    got = call(getattr(libdevice, name), kind, x)
    for argument, value in zip(x.tolist(), got.tolist(), strict=True):
        assert value == directed(Fraction(argument), mode, kind), f"{name}({argument})"


def test_bits_of_floats():
    x, d = random_floats("f", 100), random_floats("d", 100)
    assert torch.equal(call(libdevice.float_as_int, "i", x), x.view(torch.int32))
    assert torch.equal(call(libdevice.float_as_uint, "i", x), x.view(torch.int32))
    assert torch.equal(call(libdevice.int_as_float, "f", x.view(torch.int32)), x)
    assert torch.equal(call(libdevice.uint_as_float, "f", x.view(torch.uint32)), x)
    assert torch.equal(call(libdevice.double_as_longlong, "l", d), d.view(torch.int64))
    assert torch.equal(call(libdevice.longlong_as_double, "d", d.view(torch.int64)), d)
    low, high = d.view(torch.int32).reshape(-1, 2).T.contiguous()
    assert torch.equal(call(libdevice.double2loint, "i", d), low)
    assert torch.equal(call(libdevice.double2hiint, "i", d), high)
    assert torch.equal(call(libdevice.hiloint2double, "d", high, low), d)


@pytest.mark.parametrize("kind", ["f", "d"])
def test_exponents(kind):
    x = torch.cat([random_floats(kind, 100), torch.tensor([1e-45, 2.5, -2.5, 0.5, -1.5]).to(_TORCH[kind])])
    x = x[x != 0]
    n = torch.randint(-170, 140, (x.numel(),), dtype=torch.int32)
    assert torch.equal(call(libdevice.ilogb, "i", x), (torch.frexp(x.double()).exponent - 1).to(torch.int32))
    wanted = torch.from_numpy(np.ldexp(x.double().numpy(), n.numpy())).to(x.dtype)
    for name in ("ldexp", "scalbn"):
        assert torch.equal(call(getattr(libdevice, name), kind, x, n), wanted)
    assert call(libdevice.llrint, "l", x).tolist() == [round(v) for v in x.tolist()]
    away = [math.floor(abs(v) + 0.5) * (1 if v > 0 else -1) for v in x.tolist()]
    assert call(libdevice.llround, "l", x).tolist() == away


@pytest.mark.parametrize("kind", ["f", "d"])
@pytest.mark.parametrize("name", ["jn", "yn"])
def test_bessel_functions_of_an_order(name, kind):
    x = torch.empty(60, dtype=_TORCH[kind]).uniform_(1, 12)
    n = torch.randint(0, 6, (60,), dtype=torch.int32)
    got = call(getattr(libdevice, name), kind, n, x)
    reference = mp.besselj if name == "jn" else mp.bessely
    wanted = torch.tensor(
        [float(reference(k, mp.mpf(v))) for k, v in zip(n.tolist(), x.tolist(), strict=True)]
    ).double()
    torch.testing.assert_close(got.double(), wanted.double(), rtol=3e-7, atol=1e-7)


@pytest.mark.parametrize("kind", ["f", "d"])
def test_integer_powers(kind):
    x = random_floats(kind, 60, -3, 3)
    n = torch.randint(-12, 13, (x.numel(),), dtype=torch.int32)
    got = call(libdevice.pow, kind, x, n)
    for argument, power, value in zip(x.tolist(), n.tolist(), got.tolist(), strict=True):
        assert ulps(value, mp.mpf(argument) ** power, kind) <= (0.51 if kind == "f" else 1.0), (argument, power)


def test_the_functions_of_cuda():
    """A kernel that names CUDA's libdevice gets the same functions."""
    x = random_floats("f", 100)
    for name in ("sin", "fast_expf", "add_rd", "isnan", "norm3d", "mul_ru", "abs", "fast_dividef"):
        function = getattr(cuda, name)
        arity = len(inspect.signature(getattr(stubs, name)).parameters)
        args = [random_floats("f", 100) for _ in range(arity)] if arity > 1 else [x]
        assert torch.equal(call(function, "f", *args), call(getattr(libdevice, name), "f", *args)), name
