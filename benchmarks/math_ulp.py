"""Errors and speed of the Triton backend's math functions.

    python benchmarks/math_ulp.py [--step N] [NAME ...]  errors in float32 over all 2**32 floats, or every Nth
    python benchmarks/math_ulp.py --sample [NAME ...]    errors in float64 and of two arguments, over samples
    python benchmarks/math_ulp.py --speed [NAME ...]     time for 2**20 elements beside torch on the CPU

Each runs as a Triton kernel on gxu, and prints a row of a Markdown table for each function. References: for float32,
float64 functions of torch or the C library (their own error is 2**-29 of a float32 unit); for float64, mpmath with 60
digits. Errors are in units in the last place (ULP) of the exact result.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import mpmath as mp
import torch
import triton
import triton.language as tl

import gxu  # noqa: F401  (registers the device)
from gxu.triton import libdevice

Reference = Callable[..., torch.Tensor]


@triton.jit
def apply(x, y, out, n, F: tl.constexpr, ARITY: tl.constexpr, B: tl.constexpr):  # noqa: N803
    i = tl.program_id(0) * B + tl.arange(0, B)
    m = i < n
    r = F(tl.load(x + i, m)) if ARITY == 1 else F(tl.load(x + i, m), tl.load(y + i, m))
    tl.store(out + i, r, m)


# float32 functions of one argument, in float64.
UNARY: dict[str, Reference] = {
    "exp": torch.exp,
    "exp2": torch.exp2,
    "exp10": lambda x: torch.pow(torch.tensor(10.0, dtype=torch.float64), x),
    "expm1": torch.expm1,
    "log": torch.log,
    "log2": torch.log2,
    "log10": torch.log10,
    "log1p": torch.log1p,
    "sin": torch.sin,
    "cos": torch.cos,
    "tan": torch.tan,
    "asin": torch.asin,
    "acos": torch.acos,
    "atan": torch.atan,
    "sinh": torch.sinh,
    "cosh": torch.cosh,
    "tanh": torch.tanh,
    "asinh": torch.asinh,
    "acosh": torch.acosh,
    "atanh": torch.atanh,
    "erf": torch.erf,
    "erfc": torch.erfc,
    "sqrt": torch.sqrt,
    "rsqrt": lambda x: 1 / torch.sqrt(x),
    "cbrt": lambda x: torch.copysign(torch.pow(x.abs(), 1 / 3), x),
}
BINARY: dict[str, Reference] = {"pow": torch.pow, "atan2": torch.atan2, "hypot": torch.hypot}
# float64 functions: mpmath's, and the interval of the sample.
FLOAT64: dict[str, tuple[Callable[[Any], Any], float, float]] = {
    "exp": (mp.exp, -700, 700),
    "exp2": (lambda x: mp.mpf(2) ** x, -1000, 1000),
    "exp10": (lambda x: mp.mpf(10) ** x, -300, 300),
    "expm1": (mp.expm1, -40, 700),
    "log": (mp.log, 0, 1e3),
    "log2": (lambda x: mp.log(x, 2), 0, 1e3),
    "log10": (mp.log10, 0, 1e3),
    "log1p": (mp.log1p, -1, 1e3),
    "sin": (mp.sin, -1e6, 1e6),
    "cos": (mp.cos, -1e6, 1e6),
    "tan": (mp.tan, -1e6, 1e6),
    "asin": (mp.asin, -1, 1),
    "acos": (mp.acos, -1, 1),
    "atan": (mp.atan, -1e3, 1e3),
    "sinh": (mp.sinh, -700, 700),
    "cosh": (mp.cosh, -700, 700),
    "tanh": (mp.tanh, -20, 20),
    "asinh": (mp.asinh, -1e6, 1e6),
    "acosh": (mp.acosh, 1, 1e6),
    "atanh": (mp.atanh, -1, 1),
    "erf": (mp.erf, -6, 6),
    "erfc": (mp.erfc, -6, 26),
    "cbrt": (lambda x: mp.sign(x) * mp.cbrt(abs(x)), -1e6, 1e6),
}


def evaluate(name: str, *args: torch.Tensor) -> torch.Tensor:
    """``libdevice.name`` of CPU tensors, on gxu."""
    on_device = [a.to("gxu") for a in args]
    out = torch.empty_like(on_device[0])
    grid = (triton.cdiv(out.numel(), 4096),)
    apply[grid](on_device[0], on_device[-1], out, out.numel(), F=getattr(libdevice, name), ARITY=len(args), B=4096)
    return out.cpu()


def distance(got: torch.Tensor, exact: torch.Tensor) -> torch.Tensor:
    """ULP of float32 between ``got`` and the exact result; infinite where only one of them is NaN or infinite."""
    wide = got.double()
    _, exponent = torch.frexp(exact.abs().clamp(min=2.0**-126))
    far = (wide - exact).abs() / torch.ldexp(torch.ones_like(exact), exponent - 24)
    largest = torch.finfo(torch.float32).max
    overflow = (exact.abs() > largest) & (wide.abs() >= largest) & (wide.sign() == exact.sign())
    far[(wide == exact) | (exact.isnan() & wide.isnan()) | overflow] = 0
    return torch.nan_to_num(far, nan=float("inf"))


def over_all_floats(name: str, step: int) -> str:
    worst, where, total, count = 0.0, 0.0, 0.0, 0
    chunk = 2**22 * step
    for start in range(0, 2**32, chunk):
        x = torch.arange(start, min(start + chunk, 2**32), step).to(torch.uint32).view(torch.float32)
        far = distance(evaluate(name, x), UNARY[name](x.double()))
        top = int(far.argmax())
        if far[top] > worst:
            worst, where = float(far[top]), float(x[top])
        total, count = total + float(far.sum()), count + far.numel()
    sample = "all" if step == 1 else f"every {step}th"
    return f"| {name} | float32, {sample} | {worst:.3f} | {total / count:.3f} | {where!r} |"


def over_a_sample(name: str, size: int = 4000) -> str:
    """float64, against mpmath: uniform arguments, and as many of random magnitude."""
    function, low, high = FLOAT64[name]
    generator = torch.Generator().manual_seed(1)
    uniform = torch.empty(2 * size, dtype=torch.float64).uniform_(low, high, generator=generator)
    smaller = uniform[size:] * torch.exp2(torch.empty(size).double().uniform_(-60, 0, generator=generator))
    x = torch.cat([uniform[:size], smaller[(smaller > low) & (smaller < high)]])
    worst, where, total = 0.0, 0.0, 0.0
    with mp.workdps(60):
        for argument, value in zip(x.tolist(), evaluate(name, x).tolist(), strict=True):
            exact = function(mp.mpf(argument))
            far = float(abs(value - exact) / mp.ldexp(1, max(mp.frexp(exact)[1] - 53, -1074)))
            total += far
            if far > worst:
                worst, where = far, argument
    return (
        f"| {name} | float64, {x.numel()} in [{low:g}, {high:g}] | {worst:.3f} | {total / x.numel():.3f} | {where!r} |"
    )


def over_pairs(name: str, size: int = 2**24) -> str:
    """float32 of two arguments: random bits, and normal numbers, half of the sample each."""
    generator = torch.Generator().manual_seed(1)
    draws = []
    for _ in range(2):
        bits = torch.randint(-(2**31), 2**31, (size // 2,), generator=generator).to(torch.int32)
        draws.append(torch.cat([bits.view(torch.float32), torch.randn(size // 2, generator=generator) * 8]))
    if name == "pow":  # results within the range of float32
        draws[0][size // 2 :] = draws[0][size // 2 :].abs()
    far = distance(evaluate(name, *draws), BINARY[name](*(d.double() for d in draws)))
    top = int(far.argmax())
    where = (float(draws[0][top]), float(draws[1][top]))
    return f"| {name} | float32, {size} pairs | {float(far[top]):.3f} | {float(far.mean()):.3f} | {where!r} |"


def _best(run: Callable[[], object]) -> float:
    """Seconds of the fastest of many runs."""
    times = []
    deadline = time.perf_counter() + 0.4
    while time.perf_counter() < deadline or len(times) < 5:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def speed(name: str, kind: torch.dtype, size: int = 2**20) -> str:
    low, high = {"acosh": (1.0, 9.0), "log": (0.1, 9.0)}.get(name, (0.05, 0.95))
    args = [torch.empty(size, dtype=kind).uniform_(low, high) for _ in range(2 if name in BINARY else 1)]
    moved = [a.to("gxu") for a in args]
    out, grid = torch.empty_like(moved[0]), (triton.cdiv(size, 4096),)
    function = getattr(libdevice, name)

    def ours() -> None:
        apply[grid](moved[0], moved[-1], out, size, F=function, ARITY=len(moved), B=4096)
        torch.gxu.synchronize()

    theirs = getattr(torch, name, None)
    result = torch.empty_like(args[0])
    other = f"{_best(lambda: theirs(*args, out=result)) * 1e6:.0f}" if theirs is not None else "-"
    ours()
    return f"| {name} | {str(kind).removeprefix('torch.')} | {_best(ours) * 1e6:.0f} | {other} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--step", type=int, default=1, help="every STEP-th float32 only")
    parser.add_argument("--sample", action="store_true", help="float64 functions, and functions of two arguments")
    parser.add_argument("--speed", action="store_true", help="times instead of errors")
    chosen = parser.parse_args()

    def wanted(table: Any) -> list[str]:
        return [name for name in table if not chosen.names or name in chosen.names]

    if chosen.speed:
        print("| function | type | gxu (us) | torch, CPU (us) |\n| --- | --- | --- | --- |")
        for kind in (torch.float32, torch.float64):
            for name in wanted([*UNARY, *BINARY]):
                print(speed(name, kind), flush=True)
        return
    print("| function | measured over | largest error (ULP) | mean (ULP) | at |\n| --- | --- | --- | --- | --- |")
    if chosen.sample:
        for name in wanted(BINARY):
            print(over_pairs(name), flush=True)
        for name in wanted(FLOAT64):
            print(over_a_sample(name), flush=True)
        return
    for name in wanted(UNARY):
        print(over_all_floats(name, chosen.step), flush=True)


if __name__ == "__main__":
    main()
