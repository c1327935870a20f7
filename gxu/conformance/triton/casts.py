"""Conversions between all types, bit casts, and what mixed operands become."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch

from gxu.conformance.case import Case
from gxu.conformance.triton.comparison import Launch
from gxu.conformance.triton.data import (
    FLOAT8,
    FLOATS,
    INTEGERS,
    generator,
    language_type,
    poison,
    sample,
    select,
    torch_type,
)

_CAST = """@triton.jit
def kernel(x, out, n, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(out + i, tl.load(x + i, mask=i < n).to({type}{how}), mask=i < n)
"""
_DECODE = """@triton.jit
def kernel(x, out, B: tl.constexpr):
    i = tl.arange(0, B)
    tl.store(out + i, tl.load(x + i).to(tl.float8e4b15, bitcast=True).to({type}))
"""
_ENCODE = """@triton.jit
def kernel(x, out, B: tl.constexpr):
    i = tl.arange(0, B)
    tl.store(out + i, tl.load(x + i).to(tl.float8e4b15).to(tl.uint8, bitcast=True))
"""
_MIXED = """@triton.jit
def kernel(x, y, out, n, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    a = tl.load(x + i, mask=i < n)
    b = tl.load(y + i, mask=i < n)
    tl.store(out + i, {expression}, mask=i < n)
"""
_TYPES = ("bool", *INTEGERS, *FLOATS, *FLOAT8)
_COUNTS = (1, 61, 500)


def cases() -> Iterator[Case]:
    for source in _TYPES:
        for target in _TYPES:
            pair = f"{source}->{target}"
            for count in _COUNTS[1:]:
                yield Case("cast", pair, f"n={count}", partial(_cast, source, target, count))
            if source != target and torch_type(source).itemsize == torch_type(target).itemsize:
                yield Case("bitcast", pair, "n=61", partial(_bitcast, source, target))
    for target in ("float16", "bfloat16", "float8_e5m2", "float8_e4m3fn"):
        yield Case("cast_toward_zero", f"float32->{target}", "n=500", partial(_toward_zero, target))
    for target in ("float16", "float32", "bfloat16"):
        yield Case("cast_float8e4b15", f"uint8->{target}", "all codes", partial(_decode, target))
        yield Case("cast_float8e4b15", f"{target}->uint8", "all codes", partial(_encode, target))
    for left, right in (("int8", "int32"), ("uint8", "int8"), ("int32", "float32"), ("int64", "float16")):
        yield from _promotions(left, right)
    for left, right in (("float16", "float32"), ("float32", "float64"), ("int16", "uint32"), ("bool", "int32")):
        yield from _promotions(left, right)


def _promotions(left: str, right: str) -> Iterator[Case]:
    for expression in ("a + b", "a * b", "tl.where(a > b, a, b)", "a < b"):
        name = f"{left},{right}"
        yield Case("promotion", name, expression, partial(_mixed, left, right, expression))


def _bits_equal(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return x.view(dtype)


def _cast(source: str, target: str, count: int) -> None:
    rng = generator("cast", source, target, count)
    kind, wanted_kind = torch_type(source), torch_type(target)
    x = sample(count, kind, rng)
    integer = not wanted_kind.is_floating_point
    if kind.is_floating_point and integer and target != "bool":
        # Other numbers have no meaning as integers, and C, GPUs and numpy disagree about them.
        info = torch.iinfo(wanted_kind)
        wide = torch.nan_to_num(x.double(), 3.0, 3.0, 3.0)
        largest = float(min(info.max, 2**53)) * (1 - 2**-9)
        x = wide.clamp(max(info.min, -(2**53)) + 1, largest).to(torch.float32).to(kind)
        x = torch.where(x.double().trunc().clamp(info.min, largest) == x.double().trunc(), x, torch.ones(()).to(kind))
    if wanted_kind.itemsize == 1 and wanted_kind.is_floating_point:
        largest = torch.finfo(wanted_kind).max
        x = select(x.double().abs() <= largest, x, torch.ones(()).to(kind)) if kind != torch.bool else x
    if target == "bool":
        wanted = x.double() != 0 if kind.is_floating_point else x != 0
    elif integer:
        wanted = x.double().trunc().to(torch.int64) if kind.is_floating_point else x
        wanted = wanted.to(wanted_kind)
    else:
        wanted = _as_float(x, wanted_kind)
    how = _CAST.format(type=language_type(target), how="")
    block = 32 if count < 100 else 128
    grid = (-(-count // block),)
    args = [x, poison((count,), wanted_kind), count]
    Launch(how, grid, args, {"B": block}, {1: wanted}, 0.0, interpreter_ulp=None).check()


def _as_float(x: torch.Tensor, target: torch.dtype) -> torch.Tensor:
    """x rounded once to `target`, as float64. Integers of 64 bits go through numpy, which rounds them once too."""
    if not x.dtype.is_floating_point and x.dtype != torch.bool and target in (torch.float32, torch.float64):
        return torch.from_numpy(x.numpy().astype(np.float32 if target == torch.float32 else np.float64)).double()
    if x.dtype == torch.float64 or not x.dtype.is_floating_point:
        # Triton converts by way of float32 where the target is smaller than that, as torch does.
        x = x.double() if target == torch.float64 else x.to(torch.float32)
    return x.to(target).double()


def _bitcast(source: str, target: str) -> None:
    kind = torch_type(target)
    x = sample(61, torch_type(source), generator("bitcast", source, target))
    if kind == torch.bool or torch_type(source) == torch.bool:
        x = (x.view(torch.uint8) & 1).view(x.dtype)
    integer = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[kind.itemsize]
    text = _CAST.format(type=language_type(target), how=", bitcast=True")
    text = text.replace("tl.store(out + i, ", "tl.store(out + i, (").replace(
        "True), mask", f"True)).to({_tl(integer)}, bitcast=True), mask"
    )
    args = [x, torch.full((61,), 77, dtype=integer), 61]
    Launch(text, (2,), args, {"B": 32}, {1: x.view(integer)}, interpreter_ulp=0).check()


def _tl(dtype: torch.dtype) -> str:
    return language_type(str(dtype).removeprefix("torch."))


def _toward_zero(target: str) -> None:
    """By way of the interpreter alone for float8; for halves the neighbour towards zero of the nearest number."""
    rng = generator("rtz", target)
    kind = torch_type(target)
    x = (torch.rand(500, generator=rng) * 4 - 2) * 8
    nearest = x.to(kind)
    code = nearest.view(torch.uint8 if kind.itemsize == 1 else torch.int16)
    smaller = (code - 1).view(kind)
    wanted = torch.where(nearest.double().abs() > x.double().abs(), smaller.double(), nearest.double())
    text = _CAST.format(type=language_type(target), how=', fp_downcast_rounding="rtz"')
    Launch(text, (4,), [x, poison((500,), kind), 500], {"B": 128}, {1: wanted}, 0.0, interpreter_ulp=None).check()


def _float8e4b15() -> torch.Tensor:
    """The values of the 256 codes: 4 bits of exponent with bias 15, 3 of significand, neither infinities nor NaN."""
    code = torch.arange(256)
    exponent, rest = (code >> 3) & 15, (code & 7).double() / 8
    value = torch.where(exponent == 0, rest * 2.0**-14, (1 + rest) * torch.exp2((exponent - 15).double()))
    return torch.where(code >= 128, -value, value)


def _decode(target: str) -> None:
    args = [torch.arange(256).to(torch.uint8), poison((256,), torch_type(target))]
    text = _DECODE.format(type=language_type(target))
    Launch(text, (1,), args, {"B": 256}, {1: _float8e4b15()}, 0.0, interpreter_ulp=None).check()


def _encode(source: str) -> None:
    """Conversions end at 1.75, as in Triton's NVIDIA backend, although the code above it is a number."""
    codes = torch.arange(256)
    codes[[0x7F, 0xFF]] -= 1
    codes = codes.to(torch.uint8)
    args = [_float8e4b15().to(torch_type(source)), torch.full((256,), 77, dtype=torch.uint8)]
    Launch(_ENCODE, (1,), args, {"B": 256}, {1: codes}, interpreter_ulp=None).check()


def _mixed(left: str, right: str, expression: str) -> None:
    """The result's type is as wide as float64 (or int64), so that a wrong common type shows."""
    rng = generator("mixed", left, right, expression)
    x, y = sample(61, torch_type(left), rng, "small"), sample(61, torch_type(right), rng, "small")
    if not x.dtype.is_floating_point and x.dtype != torch.bool:
        x = sample(61, x.dtype, rng)
    floating = x.dtype.is_floating_point or y.dtype.is_floating_point
    out = poison((61,), torch.bool if "<" in expression else torch.float64 if floating else torch.int64)
    Launch(_MIXED.format(expression=expression), (2,), [x, y, out, 61], {"B": 32}).check()
