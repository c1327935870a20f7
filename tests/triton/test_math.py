"""Math functions against double precision: the bounds (in ULP) that gxu/triton/codegen/math.py states."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from triton.language.extra import libdevice
from triton_helpers import assert_same, launch

from gxu.triton import libdevice as gxu_libdevice
from gxu.triton.codegen import math as lowered


@triton.jit
def apply(x, out, n, B: tl.constexpr, OP: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    m = i < n
    v = tl.load(x + i, m)
    if OP == "exp":
        r = tl.exp(v)
    elif OP == "exp2":
        r = tl.exp2(v)
    elif OP == "log":
        r = tl.log(v)
    elif OP == "log2":
        r = tl.log2(v)
    elif OP == "sin":
        r = tl.sin(v)
    elif OP == "cos":
        r = tl.cos(v)
    elif OP == "erf":
        r = tl.erf(v)
    elif OP == "sqrt":
        r = tl.sqrt(v)
    elif OP == "sqrt_rn":
        r = tl.sqrt_rn(v)
    elif OP == "rsqrt":
        r = tl.rsqrt(v)
    elif OP == "tanh":
        r = libdevice.tanh(v)
    elif OP == "floor":
        r = tl.floor(v)
    elif OP == "ceil":
        r = tl.ceil(v)
    elif OP == "abs":
        r = tl.abs(v)
    else:
        r = tl.sigmoid(v)
    tl.store(out + i, r, m)


_REFERENCE = {
    "exp": torch.exp,
    "exp2": torch.exp2,
    "log": torch.log,
    "log2": torch.log2,
    "sin": torch.sin,
    "cos": torch.cos,
    "erf": torch.erf,
    "sqrt": torch.sqrt,
    "sqrt_rn": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "tanh": torch.tanh,
    "floor": torch.floor,
    "ceil": torch.ceil,
    "abs": torch.abs,
    "sigmoid": torch.sigmoid,
}
# Where no docstring states a bound: 0.5 is correctly rounded, 0 exact; the C library's functions hold 1.
_BOUNDS = {
    "sqrt": 0.5,
    "sqrt_rn": 0.5,
    "rsqrt": 1.5,
    "sin": 1.6,
    "cos": 1.6,
    "floor": 0.0,
    "ceil": 0.0,
    "abs": 0.0,
    "sigmoid": 4.0,
}


def stated_bound(op: str) -> float:
    if op in _BOUNDS:
        return _BOUNDS[op]
    found = re.search(r"At most ([\d.]+) ULP", getattr(lowered, op).__doc__ or "")
    assert found, f"math.{op} states no bound"
    return float(found[1])


def all_kinds_of_f32(step: int = 4099) -> torch.Tensor:
    """Every ``step``-th bit pattern, and around every power of two and every special number all the neighbours."""
    edges = torch.arange(0, 512, dtype=torch.int64)[:, None] * 2**23 + torch.arange(-3, 4)[None, :]
    patterns = torch.cat([torch.arange(0, 2**32, step), edges.flatten() % 2**32])
    return patterns.to(torch.uint32).view(torch.float32)


def errors(got: torch.Tensor, exact: torch.Tensor) -> torch.Tensor:
    """Distance in ULP of ``got``'s type; infinite where one is NaN or infinite and the other not."""
    kind = got.dtype
    info = torch.finfo(kind)
    wide = got.double()
    # A result beyond the largest number may round to it or to infinity.
    overflow = exact.abs() > info.max
    reachable = overflow & (wide.abs() >= info.max) & (wide.sign() == exact.sign())
    _, exponent = torch.frexp(exact.abs().clamp(min=info.tiny))
    digits = {torch.float32: 24, torch.float16: 11, torch.bfloat16: 8, torch.float64: 53}[kind]
    ulp = torch.ldexp(torch.ones_like(exact), exponent - digits)
    distance = (wide - exact).abs() / ulp
    distance[wide == exact] = 0
    distance[exact.isnan() & wide.isnan()] = 0
    distance[reachable] = 0
    return torch.nan_to_num(distance, nan=float("inf"))


def evaluate(op: str, x: torch.Tensor) -> torch.Tensor:
    return launch(apply, (-(-x.numel() // 1024),), x, torch.full_like(x, 77.0), x.numel(), B=1024, OP=op)[1]


@pytest.mark.parametrize("op", sorted(_REFERENCE))
def test_float32_functions_hold_their_bounds(op):
    x = all_kinds_of_f32()
    if op == "sigmoid":
        x = x[~(x < -87)]  # tl.sigmoid is 1 / (1 + exp(-x)), which overflows before the result leaves the subnormals
    distance = errors(evaluate(op, x), _REFERENCE[op](x.double()))
    worst = int(distance.argmax())
    assert distance[worst] <= stated_bound(op), f"{op}({x[worst].item()!r}) is off by {distance[worst].item()} ULP"


@pytest.mark.extended
@pytest.mark.parametrize("op", ["exp", "exp2", "log", "log2", "tanh", "erf", "rsqrt"])
def test_float32_functions_hold_their_bounds_densely(op):
    for start in range(0, 2**32, 2**28):
        x = torch.arange(start, start + 2**28, 31).to(torch.uint32).view(torch.float32)
        distance = errors(evaluate(op, x), _REFERENCE[op](x.double()))
        assert distance.max() <= stated_bound(op)


@pytest.mark.parametrize(
    "op", ["exp", "exp2", "log", "log2", "erf", "tanh", "sqrt", "rsqrt", "sin", "floor", "abs", "sigmoid"]
)
def test_special_values_of_float32(op):
    inf, nan = float("inf"), float("nan")
    x = torch.tensor([0.0, -0.0, inf, -inf, nan, 1.0, -1.0, 1e-45, -1e-45, 3.4028235e38, -3.4028235e38])
    got, wanted = evaluate(op, x), _REFERENCE[op](x.double()).float()
    assert torch.equal(got.isnan(), wanted.isnan()), f"{got} {wanted}"
    assert torch.equal(got[wanted.isinf()], wanted[wanted.isinf()])
    assert torch.equal(torch.signbit(got[wanted == 0]), torch.signbit(wanted[wanted == 0]))


@pytest.mark.parametrize("op", ["tanh", "abs"])  # Triton's frontend takes the others in float32 and float64 only
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_functions(op, dtype):
    """Computed in float32 and rounded once: at most a little over half a unit in the last place."""
    x = torch.arange(65536).to(torch.uint16).view(dtype)
    distance = errors(evaluate(op, x), _REFERENCE[op](x.double()))
    assert distance.max() <= 0.51


@pytest.mark.parametrize("op", sorted(set(_REFERENCE) - {"sqrt_rn"}))
def test_float64_functions(op):
    x = torch.cat(
        [torch.randn(2000).double() * 10, torch.randn(2000).double() * 1e-3, torch.logspace(-300, 300, 999).double()]
    )
    got, wanted = evaluate(op, x), _REFERENCE[op](x)
    assert errors(got, wanted).max() <= (3 if op in ("sigmoid", "rsqrt") else 2), op


# -- libdevice -----------------------------------------------------------------------------------------------------


@triton.jit
def apply_libdevice(x, y, out, n, B: tl.constexpr, F: tl.constexpr, ARITY: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    m = i < n
    if ARITY == 1:
        r = F(tl.load(x + i, m))
    elif ARITY == 2:
        r = F(tl.load(x + i, m), tl.load(y + i, m))
    else:
        r = F(tl.load(x + i, m), tl.load(y + i, m), tl.load(x + i, m))
    tl.store(out + i, r, m)


_UNARY = {
    "acos": torch.acos,
    "acosh": torch.acosh,
    "asin": torch.asin,
    "asinh": torch.asinh,
    "atan": torch.atan,
    "atanh": torch.atanh,
    "cosh": torch.cosh,
    "sinh": torch.sinh,
    "tan": torch.tan,
    "tanh": torch.tanh,
    "erfc": torch.erfc,
    "erf": torch.erf,
    "exp": torch.exp,
    "exp2": torch.exp2,
    "expm1": torch.expm1,
    "log": torch.log,
    "log10": torch.log10,
    "log1p": torch.log1p,
    "log2": torch.log2,
    "lgamma": torch.lgamma,
    "ceil": torch.ceil,
    "floor": torch.floor,
    "trunc": torch.trunc,
    "rint": torch.round,
    "nearbyint": torch.round,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "abs": torch.abs,
    "sin": torch.sin,
    "cos": torch.cos,
    "j0": torch.special.bessel_j0,
    "j1": torch.special.bessel_j1,
    "y0": torch.special.bessel_y0,
    "y1": torch.special.bessel_y1,
    "fast_expf": torch.exp,
    "fast_logf": torch.log,
    "fast_tanhf": torch.tanh,
}
_LIBDEVICE_ULP = {
    "lgamma": 12,
    "j0": 1e4,
    "j1": 1e4,
    "y0": 1e4,
    "y1": 1e4,
    "erf": 7,
    "tanh": 3,
    "fast_tanhf": 3,
    "log2": 3,
    "erfc": 4,
}


@pytest.mark.parametrize("name", sorted(_UNARY))
def test_unary_libdevice_functions(name):
    x = torch.cat(
        [torch.linspace(-1, 1, 501), torch.linspace(-30, 30, 1201), torch.tensor([1e-30, -1e-30, 1e30, -1e30])]
    )
    if name in ("j0", "j1", "y0", "y1"):
        x = x[x.abs() < 20]
    if name == "lgamma":
        x = x[x > 0.1]
    function = getattr(gxu_libdevice, name)
    for kind, bound in ((torch.float32, _LIBDEVICE_ULP.get(name, 2.5)), (torch.float64, None)):
        v = x.to(kind)
        _, _, got = launch(
            apply_libdevice, (-(-v.numel() // 256),), v, v, torch.zeros_like(v), v.numel(), B=256, F=function, ARITY=1
        )
        wanted = _UNARY[name](v.double())
        if kind == torch.float32:
            far = errors(got, wanted)
            if bound >= 1e4:  # Bessel functions near their zeros: absolute error
                torch.testing.assert_close(got.double(), wanted, rtol=1e-5, atol=1e-6, equal_nan=True)
            else:
                assert far.max() <= bound, f"{name}({v[int(far.argmax())].item()}) is off by {far.max().item()} ULP"
        else:
            # torch's own Bessel functions are good for six digits in double precision.
            close = 1e-6 if name in ("j0", "j1", "y0", "y1") else 1e-12
            torch.testing.assert_close(got, wanted, rtol=close, atol=close, equal_nan=True)


_BINARY = {
    "atan2": torch.atan2,
    "copysign": torch.copysign,
    "fmod": torch.fmod,
    "hypot": torch.hypot,
    "pow": torch.pow,
    "nextafter": None,
    "fdim": lambda a, b: (a - b).clamp(min=0),
    "remainder": None,
    "div_rn": torch.div,
    "mul_rn": torch.mul,
    "fast_powf": torch.pow,
    "fast_dividef": torch.div,
}


@pytest.mark.parametrize("name", sorted(_BINARY))
def test_binary_libdevice_functions(name):
    x, y = torch.randn(1000) * 5, torch.randn(1000) * 3
    x[:4], y[:4] = torch.tensor([0.0, -0.0, float("inf"), 2.0]), torch.tensor([2.0, -1.0, 1.0, float("nan")])
    _, _, got = launch(
        apply_libdevice, (4,), x, y, torch.zeros_like(x), 1000, B=256, F=getattr(gxu_libdevice, name), ARITY=2
    )
    if name == "nextafter":
        assert_same(got, torch.nextafter(x, y))
    elif name == "remainder":
        wanted = [
            np.float32(np.nan) if not np.isfinite(a) or np.isnan(b) else np.float32(_ieee_remainder(a, b))
            for a, b in zip(x.tolist(), y.tolist(), strict=True)
        ]
        assert_same(got, torch.tensor(wanted))
    else:
        assert errors(got, _BINARY[name](x.double(), y.double())).max() <= (3.0 if name == "atan2" else 1.0)


def _ieee_remainder(a: float, b: float) -> float:
    import math

    return math.remainder(a, b)


@triton.jit
def predicates(x, out, n, B: tl.constexpr):
    i = tl.arange(0, B)
    m = i < n
    v = tl.load(x + i, m)
    tl.store(out + i, libdevice.isnan(v).to(tl.int32), m)
    tl.store(out + n + i, libdevice.isinf(v).to(tl.int32), m)
    tl.store(out + 2 * n + i, (libdevice.signbit(v) != 0).to(tl.int32), m)
    tl.store(out + 3 * n + i, libdevice.finitef(v).to(tl.int32), m)
    tl.store(out + 4 * n + i, libdevice.ilogb(tl.where(v == v, v, 1.0)), m)
    tl.store(out + 5 * n + i, libdevice.llrint(tl.where(tl.abs(v) < 1e6, v, 0.0)).to(tl.int32), m)
    tl.store(out + 6 * n + i, libdevice.llround(tl.where(tl.abs(v) < 1e6, v, 0.0)).to(tl.int32), m)


def test_libdevice_functions_with_integer_results():
    inf, nan = float("inf"), float("nan")
    x = torch.tensor([1.0, -1.0, nan, -nan, inf, -inf, 0.75, -2.5, 2.5, 3.5, 1e-40, -1e30, 1024.0, 0.5])
    n = x.numel()
    _, out = launch(predicates, (1,), x, torch.zeros(7 * n, dtype=torch.int32), n, B=16)
    got = out.reshape(7, n)
    assert torch.equal(got[0].bool(), x.isnan())
    assert torch.equal(got[1].bool(), x.isinf())
    assert torch.equal(got[2].bool(), torch.signbit(x))
    assert torch.equal(got[3].bool(), x.isfinite())
    finite = x.isfinite()
    assert torch.equal(got[4][finite], torch.frexp(x[finite].double()).exponent - 1)
    small = x.abs() < 1e6
    assert torch.equal(got[5][small], x[small].round().int())
    away = torch.trunc(x[small].double() + torch.copysign(torch.tensor(0.5).double(), x[small].double())).int()
    assert torch.equal(got[6][small], away)


@triton.jit
def ldexp(x, e, out, B: tl.constexpr):
    i = tl.arange(0, B)
    tl.store(out + i, libdevice.ldexp(tl.load(x + i), tl.load(e + i)))
    tl.store(out + B + i, libdevice.fma(tl.load(x + i), 3.0, 1.0))


def test_ldexp_and_fma():
    x, e = torch.randn(64), torch.randint(-160, 130, (64,), dtype=torch.int32)
    _, _, out = launch(ldexp, (1,), x, e, torch.zeros(128), B=64)
    assert_same(out[:64], torch.ldexp(x.double(), e).float())
    assert_same(out[64:], (x.double() * 3 + 1).float())


# -- fused products and divisions ----------------------------------------------------------------------------------


@triton.jit
def arithmetic(x, y, out, n, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    m = i < n
    a = tl.load(x + i, m)
    b = tl.load(y + i, m, other=1.0)
    tl.store(out + i, a / b, m)
    tl.store(out + n + i, tl.div_rn(a, b), m)
    tl.store(out + 2 * n + i, a % b, m)
    tl.store(out + 3 * n + i, tl.fma(a, b, 1.0), m)
    tl.store(out + 4 * n + i, -a, m)
    tl.store(out + 5 * n + i, tl.clamp(a, -1.0, 2.0), m)
    tl.store(out + 6 * n + i, tl.clamp(a, -1.0, 2.0, propagate_nan=tl.PropagateNan.ALL), m)


def test_float_arithmetic():
    inf, nan = float("inf"), float("nan")
    specials = torch.tensor([0.0, -0.0, inf, -inf, nan, 1.0, -2.5, 1e-45, 3e38])
    a, b = torch.cartesian_prod(specials, specials).T.contiguous()
    x, y = torch.cat([a, torch.randn(500)]), torch.cat([b, torch.randn(500) * 3])
    n = x.numel()
    _, _, out = launch(arithmetic, (-(-n // 64),), x, y, torch.zeros(7 * n), n, B=64)
    got = out.reshape(7, n)
    assert_same(got[0], x / y)
    assert_same(got[1], x / y)
    assert_same(got[2], torch.fmod(x.double(), y.double()).float())
    assert_same(got[3], (x.double() * y.double() + 1).float())
    assert_same(got[4], 0 - x)  # so Triton's frontend writes a negation
    assert_same(got[6], x.clamp(-1, 2))
    assert_same(got[5], torch.where(x.isnan(), -1.0, x.clamp(-1, 2)))
