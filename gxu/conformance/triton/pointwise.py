"""One expression on single elements, in the three kinds of code that it can become: flat tiles, 2-D tiles, scalars."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from gxu.conformance.case import Case
from gxu.conformance.triton.comparison import Launch
from gxu.conformance.triton.data import generator, poison, sample, select, torch_type

_FLAT = """@triton.jit
def kernel({pointers}, out, n, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    m = i < n
{loads}
    tl.store(out + i, {expression}, mask=m)
"""
_TILE = """@triton.jit
def kernel({pointers}, out, keep, rows, columns, M: tl.constexpr, N: tl.constexpr):
    row = tl.program_id(0) * M + tl.arange(0, M)[:, None]
    column = tl.arange(0, N)[None, :]
    m = (row < rows) & (column < columns)
    m = m & (tl.load(keep + row * columns + column, mask=m, other=0) != 0)
{loads}
    tl.store(out + row * columns + column, {expression}, mask=m)
"""
_SCALAR = """@triton.jit
def kernel({pointers}, out):
    i = tl.program_id(0)
{loads}
    tl.store(out + i, {expression})
"""
NAMES = "abc"


@dataclass(frozen=True)
class Pointwise:
    """`expression` of a, b, c. References take tensors: `integers` as they are (numpy), floats as float64 (torch).

    `result` is the type of the result where it is not the operands'; `domains` say where each operand comes from.
    `ulp` bounds the error: 0.5 is correctly rounded. `interpreter_ulp` is None where the interpreter cannot serve.
    """

    name: str
    expression: str
    types: Sequence[str]
    floats: Callable[..., torch.Tensor] | None = None
    integers: Callable[..., np.ndarray] | None = None
    domains: Sequence[str] = ("all",)
    result: str = ""
    ulp: float = 0.5
    interpreter_ulp: float | None = 1.0
    shapes: Sequence[str] = ("flat 61", "flat 301", "tile full", "tile masked", "scalar")

    def cases(self) -> Iterator[Case]:
        for dtype in self.types:
            for shape in self.shapes:
                yield Case(self.name, dtype, shape, partial(self.check, dtype, shape))

    def source(self, template: str) -> str:
        loads = []
        for number, name in enumerate(NAMES[: len(self.domains)]):
            address = f"x{number} + i"
            mask = ", mask=m, other=1"
            if template is _TILE:
                # The second operand is a row that is broadcast.
                address = f"x{number} + column" if number == 1 else f"x{number} + row * columns + column"
                mask = ", mask=column < columns, other=1" if number == 1 else mask
            loads.append(f"    {name} = tl.load({address}{'' if template is _SCALAR else mask})")
        pointers = ", ".join(f"x{number}" for number in range(len(self.domains)))
        return template.format(pointers=pointers, loads="\n".join(loads), expression=self.expression)

    def check(self, dtype: str, shape: str) -> None:
        kind, _, size = shape.partition(" ")
        rng = generator(self.name, dtype, shape)
        rows, columns = (7, 29) if size == "masked" else (8, 32) if kind == "tile" else (1, int(size or 40))
        count = rows * columns
        inputs = [sample(count, torch_type(dtype), rng, domain) for domain in self.domains]
        if kind == "tile" and len(inputs) > 1:
            inputs[1] = inputs[1][:columns].repeat(rows)
        wanted = self.reference(inputs, dtype)
        out = poison((count,), torch_type(self.result or dtype))
        if kind == "flat":
            block = 32 if len(self.name + dtype) % 2 else 128
            self.launch(_FLAT, (-(-count // block),), [*inputs, out, count], {"B": block}, wanted)
        elif kind == "scalar":
            self.launch(_SCALAR, (count,), [*inputs, out], {}, wanted)
        else:
            keep = torch.ones(count, dtype=torch.bool)
            if size == "masked":
                keep = torch.rand(count, generator=rng) < 0.7
                wanted = select(keep, wanted, out.to(wanted.dtype))
            args = [*inputs, out, keep, rows, columns]
            self.launch(_TILE, (-(-rows // 4),), args, {"M": 4, "N": 32}, wanted)

    def reference(self, inputs: Sequence[torch.Tensor], dtype: str) -> torch.Tensor:
        if torch_type(dtype).is_floating_point:
            assert self.floats is not None, f"{self.name} has no reference for floats"
            return self.floats(*(x.double() for x in inputs))
        assert self.integers is not None, f"{self.name} has no reference for integers"
        with np.errstate(all="ignore"):
            result = np.asarray(self.integers(*(x.numpy() for x in inputs)))
        return torch.from_numpy(result.astype(np.dtype(self.result or dtype)) if result.dtype == object else result)

    def launch(self, template: str, grid: Sequence[int], args: list, meta: dict, wanted: torch.Tensor) -> None:
        number = len(self.domains)
        Launch(
            self.source(template), grid, args, meta, {number: wanted}, self.ulp, interpreter_ulp=self.interpreter_ulp
        ).check()


def fused(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """a * b + c, rounded (nearly) once: in extended precision."""
    x, y, z = (value.numpy().astype(np.longdouble) for value in (a, b, c))
    return torch.from_numpy((x * y + z).astype(np.float64))


def square_root(a: torch.Tensor) -> torch.Tensor:
    """numpy's, which is correctly rounded; torch's vectorised one of doubles is not."""
    with np.errstate(invalid="ignore"):
        return torch.from_numpy(np.sqrt(a.numpy()))
