"""Holds one kernel's results against numbers and against Triton's interpreter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from triton.compiler.errors import CompilationError

from gxu.conformance.case import SkipCase
from gxu.conformance.triton.execution import interpret, kernel_of, launch
from gxu.triton.errors import UnsupportedError

#: Bits of the significand, the leading one included.
DIGITS = {
    torch.float64: 53,
    torch.float32: 24,
    torch.float16: 11,
    torch.bfloat16: 8,
    torch.float8_e4m3fn: 4,
    torch.float8_e4m3fnuz: 4,
    torch.float8_e5m2: 3,
    torch.float8_e5m2fnuz: 3,
}


def ulps(got: torch.Tensor, exact: torch.Tensor) -> torch.Tensor:
    """Distance of `got` from `exact` (float64) in ULP of got's type; infinite where only one is NaN or infinite."""
    info = torch.finfo(got.dtype)
    wide, exact = got.double(), exact.double()
    # A result beyond the largest number may round to it or to infinity.
    reachable = (exact.abs() > info.max) & (wide.abs() >= info.max) & (wide.sign() == exact.sign())
    _, exponent = torch.frexp(exact.abs().clamp(min=info.tiny))
    distance = (wide - exact).abs() / torch.ldexp(torch.ones_like(exact), exponent - DIGITS[got.dtype])
    distance[(wide == exact) | (exact.isnan() & wide.isnan()) | reachable] = 0
    return torch.nan_to_num(distance, nan=float("inf"))


def assert_close(got: torch.Tensor, wanted: torch.Tensor, bound: float, atol: float, what: str) -> None:
    """Equal integers; floats at most `bound` ULP or `atol` apart, NaN at the same places."""
    if got.shape != wanted.shape:
        raise AssertionError(f"{what}: shape {tuple(got.shape)}, and not {tuple(wanted.shape)}")
    if got.is_floating_point():
        distance = ulps(got, wanted)
        bad = (distance > bound) & ~((got.double() - wanted.double()).abs() <= atol)
    else:
        bad = got.to(torch.int64) != wanted.to(torch.int64)
    if bad.any():
        at = int(bad.flatten().int().argmax())
        pair = f"{got.flatten()[at].item()!r} and not {wanted.flatten()[at].item()!r}"
        raise AssertionError(f"{what}: {int(bad.sum())} of {bad.numel()} elements differ, element {at} is {pair}")


@dataclass(frozen=True)
class Launch:
    """One launch of the kernel in `source`, and what it must leave in its tensors.

    `wanted` maps the number of a tensor argument (counted among tensors) to its content afterwards, in any type that
    holds it (float64 for floats). Tensors that are not listed are compared with the interpreter's alone. `ulp` bounds
    the distance from `wanted`, `interpreter_ulp` that from the interpreter's result (None: it is not asked).
    """

    source: str
    grid: Sequence[int]
    args: Sequence[Any]
    meta: Mapping[str, Any] = field(default_factory=dict)
    wanted: Mapping[int, torch.Tensor] = field(default_factory=dict)
    ulp: float = 0.5
    atol: float = 0.0
    interpreter_ulp: float | None = 1.0
    interpreter_atol: float = 0.0

    def check(self) -> None:
        """Raises AssertionError with the first difference, SkipCase where nothing can be compared."""
        kernel = kernel_of(self.source)
        try:
            results = launch(kernel, self.grid, *self.args, **self.meta)
        except CompilationError as error:
            if isinstance(error.__cause__, UnsupportedError):
                raise error.__cause__ from None
            # The frontend asks the backend for these, so they are not the frontend's to reject.
            if "'gxu." in str(error.__cause__) or "target doesn't provide" in str(error):
                raise AssertionError(str(error.__cause__)) from None
            lines = str(error).strip().splitlines()
            cause = f" ({error.__cause__})" if error.__cause__ else ""
            raise SkipCase(f"not accepted by the frontend: {lines[-1]}{cause}") from None
        for number, wanted in self.wanted.items():
            assert_close(results[number], wanted, self.ulp, self.atol, f"tensor {number} against the reference")
        # The interpreter holds bfloat16 as integers, and calculates with them as such.
        if self.interpreter_ulp is None or any(getattr(a, "dtype", None) == torch.bfloat16 for a in self.args):
            return
        try:
            references = interpret(kernel, self.grid, *self.args, **self.meta)
        except Exception as error:
            if not self.wanted:
                raise SkipCase(f"not run by the interpreter: {str(error).strip().splitlines()[-1:]}") from None
            return
        for number, (got, reference) in enumerate(zip(results, references, strict=True)):
            what = f"tensor {number} against the interpreter"
            assert_close(got, reference, self.interpreter_ulp, max(self.atol, self.interpreter_atol), what)
