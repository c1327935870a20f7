"""Operations that move elements: permutations, joins, sorts, gathers, histograms."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch

from gxu.conformance.case import Case
from gxu.conformance.triton.comparison import Launch
from gxu.conformance.triton.data import FLOATS, INTEGERS, generator, poison, sample, torch_type

_MOVE = """@triton.jit
def kernel(x, out, M: tl.constexpr, N: tl.constexpr):
    r = tl.arange(0, M)
    c = tl.arange(0, N)
    v = tl.load(x + r[:, None] * N + c[None, :])
    first = tl.load(x + c)
    w = {expression}
    tl.store(out + tl.arange(0, {count}), tl.reshape(w, [{count}]))
"""
Reference = Callable[[np.ndarray], np.ndarray]
#: Name, expression of `v` [M, N] and `first` [N], reference of v as an array.
_TABLE: list[tuple[str, str, Reference]] = [
    ("trans", "tl.trans(v)", lambda v: v.T),
    ("trans", "v.T", lambda v: v.T),
    ("permute", "tl.permute(tl.reshape(v, [M, 2, N // 2]), (2, 0, 1))", lambda v: _split(v).transpose(2, 0, 1)),
    ("permute", "tl.permute(tl.reshape(v, [M, 2, N // 2]), (1, 2, 0))", lambda v: _split(v).transpose(1, 2, 0)),
    ("permute", "tl.permute(tl.reshape(v, [M, 2, N // 2]), (2, 1, 0))", lambda v: _split(v).transpose(2, 1, 0)),
    ("reshape", "tl.reshape(tl.trans(v), [M * N])", lambda v: v.T),
    ("reshape", "tl.reshape(tl.reshape(v, [N, M]), [M * N // 2, 2])", lambda v: v),
    ("view", "tl.view(v, [N, M])", lambda v: v),
    ("ravel", "tl.ravel(tl.trans(v))", lambda v: v.T),
    ("expand_dims", "tl.expand_dims(v, 1)", lambda v: v),
    ("expand_dims", "first[None, :, None]", lambda v: v[0]),
    ("broadcast", "tl.broadcast_to(first[None, :], [M, N])", lambda v: np.broadcast_to(v[0], v.shape)),
    ("broadcast", "tl.broadcast_to(tl.reshape(first, [N, 1]), [N, M])", lambda v: np.repeat(v[0], len(v))),
    ("broadcast", "first[None, :] + v * 0", lambda v: np.broadcast_to(v[0], v.shape)),
    ("join", "tl.join(v, v + v)", lambda v: np.stack([v, v + v], -1)),
    ("split", "tl.split(tl.reshape(v, [M, N // 2, 2]))[0]", lambda v: v[:, 0::2]),
    ("split", "tl.split(tl.reshape(v, [M, N // 2, 2]))[1]", lambda v: v[:, 1::2]),
    ("split", "tl.split(tl.join(v, v + v))[1]", lambda v: v + v),
    ("interleave", "tl.interleave(v, v + v)", lambda v: np.stack([v, v + v], -1)),
    ("cat", "tl.cat(first, first + first)", lambda v: np.concatenate([v[0], v[0] + v[0]])),
    (
        "cat",
        "tl.sort(tl.cat(first, first + first, can_reorder=True))",
        lambda v: np.sort(np.concatenate([v[0], v[0] + v[0]])),
    ),
    ("flip", "tl.flip(v, 1)", lambda v: v[:, ::-1]),
    ("flip", "tl.flip(v, 0)", lambda v: v[::-1]),
    ("flip", "tl.flip(first, 0)", lambda v: v[0, ::-1]),
    ("sort", "tl.sort(v)", lambda v: np.sort(v, 1)),
    ("sort", "tl.sort(v, descending=True)", lambda v: np.sort(v, 1)[:, ::-1]),
    ("sort", "tl.sort(first)", lambda v: np.sort(v[0])),
    ("topk", "tl.topk(v, 2)", lambda v: np.sort(v, 1)[:, ::-1][:, :2]),
    ("topk", "tl.topk(first, 4)", lambda v: np.sort(v[0])[::-1][:4]),
    (
        "gather",
        "tl.gather(v, tl.broadcast_to((c * 5 + 3)[None, :] % N, [M, N]), 1)",
        lambda v: v[:, _places(v.shape[1])],
    ),
    ("gather", "tl.gather(v, tl.broadcast_to((r * 5 + 3)[:, None] % M, [M, N]), 0)", lambda v: v[_places(len(v))]),
    ("gather", "tl.gather(first, (c * 5 + 3) % N, 0)", lambda v: v[0, _places(v.shape[1])]),
    ("zeros", "tl.zeros([M, N], v.dtype)", np.zeros_like),
    ("zeros", "tl.zeros_like(v) + v", lambda v: v),
    ("full", "tl.full([M, N], 3, v.dtype) + v", lambda v: v + np.array(3, v.dtype)),
    ("map_elementwise", "tl.map_elementwise(larger, v, tl.flip(v, 1))", lambda v: np.maximum(v, v[:, ::-1])),
    ("call", "twice(v)", lambda v: v + v),
    ("call", "v + outlined(tl.load(x))", lambda v: v + (v[0, 0] + v[0, 0] + v[0, 0])),
]
_FUNCTIONS = """@triton.jit
def larger(a, b):
    if a > b:
        return a
    return b


@triton.jit
def twice(v):
    return v + v


@triton.jit(noinline=True)
def outlined(a):
    return twice(a) + a


"""
_HISTOGRAM = """@triton.jit
def kernel(x, out, n, N: tl.constexpr, BINS: tl.constexpr):
    i = tl.arange(0, N)
    v = tl.load(x + i, mask=i < n, other=0)
    tl.store(out + tl.arange(0, BINS), tl.histogram(v, BINS{mask}))
"""
_SHAPES = ((4, 8), (8, 4), (1, 64), (16, 32))


def _split(v: np.ndarray) -> np.ndarray:
    return v.reshape(len(v), 2, -1)


def _places(count: int) -> np.ndarray:
    return (np.arange(count) * 5 + 3) % count


def cases() -> Iterator[Case]:
    for name, expression, reference in _TABLE:
        sorts = name in ("sort", "topk")
        for dtype in ("int8", "uint16", "int32", "int64", "uint64", *FLOATS) if not sorts else (*INTEGERS, *FLOATS):
            if dtype == "bfloat16":
                continue  # numpy has none
            for shape in _SHAPES if dtype in ("int32", "float32") or sorts else _SHAPES[:1]:
                arguments = (expression, reference, dtype, shape)
                variant = f"{expression} {shape[0]}x{shape[1]}"
                yield Case(name, dtype, variant, partial(_move, *arguments))
    for dtype in ("int32", "uint32", "int64", "uint8"):
        for count in (32, 27):
            for bins in (4, 16, 128):
                variant = f"n={count} bins={bins}"
                yield Case("histogram", dtype, variant, partial(_histogram, dtype, count, bins))


def _move(expression: str, reference: Reference, dtype: str, shape: tuple[int, int]) -> None:
    rng = generator("move", expression, dtype, shape)
    domain = "near" if torch_type(dtype).is_floating_point else "all"
    x = sample(shape[0] * shape[1], torch_type(dtype), rng, domain).reshape(shape)
    with np.errstate(all="ignore"):
        wanted = torch.from_numpy(np.ascontiguousarray(reference(x.numpy())).reshape(-1).copy())
    count = wanted.numel()
    text = _FUNCTIONS + _MOVE.format(expression=expression, count=count)
    args = [x, poison((count,), x.dtype)]
    # The interpreter runs neither calls of what is mapped, nor functions that are not inlined.
    bound = None if "map_" in expression else 0.0
    Launch(text, (1,), args, {"M": shape[0], "N": shape[1]}, {1: wanted}, 0.0, interpreter_ulp=bound).check()


def _histogram(dtype: str, count: int, bins: int) -> None:
    rng = generator("histogram", dtype, count, bins)
    x = torch.randint(0, bins, (count,), generator=rng).to(torch_type(dtype))
    wanted = torch.bincount(x.long(), minlength=bins)
    text = _HISTOGRAM.format(mask=", mask=i < n" if count != 32 else "")
    Launch(text, (1,), [x, poison((bins,), torch.int32), count], {"N": 32, "BINS": bins}, {1: wanted}, 0).check()
