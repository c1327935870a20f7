"""Atomic operations of every kind: order, scope, mask, what they return, and many to one address."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch

from gxu.conformance.case import Case
from gxu.conformance.triton.comparison import Launch
from gxu.conformance.triton.data import generator, poison, sample, select, torch_type

_ATOMIC = """@triton.jit
def kernel(x, target, old, n, SHARED, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    m = i < n
    v = tl.load(x + i, mask=m, other=0)
    before = tl.atomic_{name}(target + i % SHARED, v, mask=m{how})
    tl.store(old + i, before, mask=m)
"""
_SCALAR = """@triton.jit
def kernel(x, target, old, n):
    i = tl.program_id(0)
    before = tl.atomic_{name}(target + i, tl.load(x + i){how})
    tl.store(old + i, before)
"""
_CAS = """@triton.jit
def kernel(x, target, old, n, SHARED, B: tl.constexpr):
    i = tl.arange(0, B)
    v = tl.load(x + i)
    before = tl.atomic_cas(target + i, (v * 0 + 3).to(v.dtype), v{how})
    tl.store(old + i, before)
"""
_UFUNCS = {
    "add": np.add,
    "max": np.maximum,
    "min": np.minimum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}
_SEMANTICS = ("relaxed", "acquire", "release", "acq_rel")
_SCOPES = ("gpu", "cta", "sys")
_INTEGERS = ("int32", "uint32", "int64", "uint64")
_TYPES = {
    "add": (*_INTEGERS, "float16", "bfloat16", "float32", "float64"),
    "max": (*_INTEGERS, "float32", "float64"),
    "min": (*_INTEGERS, "float32", "float64"),
    "xchg": (*_INTEGERS, "float32", "float64"),
    **dict.fromkeys(("and", "or", "xor"), _INTEGERS),
}


def cases() -> Iterator[Case]:
    for name, types in _TYPES.items():
        operator = f"atomic_{name}"
        for dtype in types:
            for count, shared in ((61, 1000), (300, 1000), (100, 7), (40, 1)):
                if name == "xchg" and shared < count:
                    continue  # which is the last is not determined
                variant = f"n={count} shared by {shared}"
                yield Case(operator, dtype, variant, partial(_tile, name, dtype, count, shared, ""))
            yield Case(operator, dtype, "scalar", partial(_scalar, name, dtype, ""))
        for semantics in _SEMANTICS:
            for scope in _SCOPES:
                how = f', sem="{semantics}", scope="{scope}"'
                yield Case(operator, "int32", how[2:], partial(_tile, name, "int32", 61, 1000, how))
                yield Case(operator, "int32", f"scalar {how[2:]}", partial(_scalar, name, "int32", how))
    for dtype in (*_INTEGERS, "int16", "float32", "float64"):
        yield Case("atomic_cas", dtype, "", partial(_cas, dtype, ""))
    for semantics in _SEMANTICS:
        for scope in _SCOPES:
            how = f', sem="{semantics}", scope="{scope}"'
            yield Case("atomic_cas", "int32", how[2:], partial(_cas, "int32", how))


def _combine(name: str, target: np.ndarray, x: np.ndarray) -> np.ndarray:
    return x if name == "xchg" else _UFUNCS[name](target, x)


def _interpreted(name: str, kind: torch.dtype) -> bool:
    """Whether the interpreter can serve: it takes the bits of float64 for numbers in `atomic_min` and `atomic_max`."""
    return not (name in ("min", "max") and kind == torch.float64)


def _tile(name: str, dtype: str, count: int, shared: int, how: str) -> None:
    """What was there before is compared where each address is used once."""
    rng = generator("atomic", name, dtype, count, shared)
    kind = torch_type(dtype)
    domain = "small" if kind.is_floating_point else "all"
    x, target = sample(count, kind, rng, domain), sample(min(count, shared), kind, rng, domain)
    wide = (lambda t: t.double().numpy()) if kind.is_floating_point else (lambda t: t.numpy())
    result = wide(target).copy()
    with np.errstate(all="ignore"):
        if name == "xchg":
            result = wide(x)
        else:
            _UFUNCS[name].at(result, np.arange(count) % shared, wide(x))
    unique = shared >= count
    wanted = {1: torch.from_numpy(result)}
    if unique:
        wanted[2] = torch.from_numpy(wide(target))
    text = _ATOMIC.format(name=name, how=how)
    args = [x, target, poison((count,), kind), count, shared]
    # Small whole numbers add up exactly in float32; halves may round.
    atol = 32.0 if kind.itemsize == 2 and not unique else 0.0
    bound = 0.0 if unique and _interpreted(name, kind) else None
    Launch(text, (-(-count // 64),), args, {"B": 64}, wanted, 0.5, atol, bound).check()


def _scalar(name: str, dtype: str, how: str) -> None:
    rng = generator("atomic scalar", name, dtype)
    kind = torch_type(dtype)
    domain = "small" if kind.is_floating_point else "all"
    x, target = sample(5, kind, rng, domain), sample(5, kind, rng, domain)
    wide = (lambda t: t.double().numpy()) if kind.is_floating_point else (lambda t: t.numpy())
    with np.errstate(all="ignore"):
        result = _combine(name, wide(target), wide(x))
    wanted = {1: torch.from_numpy(result), 2: torch.from_numpy(wide(target))}
    args = [x, target, poison((5,), kind), 5]
    bound = 0.0 if _interpreted(name, kind) else None
    Launch(_SCALAR.format(name=name, how=how), (5,), args, {}, wanted, 0.5, interpreter_ulp=bound).check()


def _cas(dtype: str, how: str) -> None:
    rng = generator("cas", dtype, how)
    kind = torch_type(dtype)
    x, target = sample(64, kind, rng, "small"), torch.randint(2, 5, (64,), generator=rng).to(kind)
    wide = torch.float64 if kind.is_floating_point else kind
    before = target.to(wide)
    wanted = select(before == 3, x.to(wide), before)
    args = [x, target, poison((64,), kind), 64, 1]
    Launch(_CAS.format(how=how), (1,), args, {"B": 64}, {1: wanted, 2: before}, 0, interpreter_ulp=None).check()
