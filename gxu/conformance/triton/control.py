"""Control flow: loops of every kind, branches, early returns, calls, static code; against Python's own execution."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch

from gxu.conformance.case import Case
from gxu.conformance.triton.comparison import Launch
from gxu.conformance.triton.data import generator, poison, sample, torch_type

_KERNEL = """@triton.jit
def step(v, k):
    if k % 2 == 0:
        return v + 3
    return v - 1


@triton.jit
def early(v, k):
    for j in range(k):
        v += j
    return v


@triton.jit
def kernel(x, out, n, k, B: tl.constexpr, STATIC: tl.constexpr):
    i = tl.arange(0, B)
    m = i < n
    v = tl.load(x + i, mask=m, other=0)
{body}
    tl.store(out + i, v, mask=m)
"""
Reference = Callable[[torch.Tensor, int], torch.Tensor]


def _iterate(step: Callable[[torch.Tensor, int], torch.Tensor], numbers: Callable[[int], range]) -> Reference:
    def run(v: torch.Tensor, k: int) -> torch.Tensor:
        for j in numbers(k):
            v = step(v, j)
        return v

    return run


def _double_until(v: torch.Tensor, k: int) -> torch.Tensor:
    total, count = int(v.sum()), 0
    while total < 1000 and count < k:
        v, total, count = v * 2, total + 100, count + 1
    return v


def _sums(v: torch.Tensor, k: int) -> torch.Tensor:
    for _ in range(k):
        v = v + torch.fmod(v.sum(), 7)
    return v


_ADD = _iterate(lambda v, j: v + j, range)
#: Name, variant, body, reference of (v, k).
_TABLE: list[tuple[str, str, str, Reference]] = [
    ("for", "range(k)", "for j in range(k):\n    v += j", _ADD),
    (
        "for",
        "range(1, k, 2)",
        "for j in range(1, k, 2):\n    v += j",
        _iterate(lambda v, j: v + j, lambda k: range(1, k, 2)),
    ),
    (
        "for",
        "downwards",
        "for j in range(k, 0, -1):\n    v = v * 2 - j",
        _iterate(lambda v, j: v * 2 - j, lambda k: range(k, 0, -1)),
    ),
    (
        "for",
        "constant bounds",
        "for j in range(5):\n    v = v * 3 + j",
        _iterate(lambda v, j: v * 3 + j, lambda k: range(5)),
    ),
    ("for", "never", "for j in range(0):\n    v = v * 3 + j", lambda v, k: v),
    ("for", "two carried", "w = v * 2\nfor j in range(k):\n    v, w = w + j, v", lambda v, k: _swap(v, v * 2, k)),
    ("for", "two names of one value", "w = v\nfor j in range(k):\n    v, w = w + j, v", lambda v, k: _swap(v, v, k)),
    (
        "for",
        "nested",
        "for j in range(k):\n    for l in range(j):\n        v += l * j",
        lambda v, k: v + sum(a * j for j in range(k) for a in range(j)),
    ),
    (
        "for",
        "reduction inside",
        "for j in range(k):\n    v += tl.sum(tl.where(m, v, 0), 0) % 7",
        _sums,
    ),
    (
        "for",
        "branch inside",
        "for j in range(k):\n    if j % 2 == 0:\n        v += j\n    else:\n        v -= 2 * j",
        _iterate(lambda v, j: v + j if j % 2 == 0 else v - 2 * j, range),
    ),
    ("range", "num_stages", "for j in tl.range(0, k, num_stages=3):\n    v += j", _ADD),
    ("range", "loop_unroll_factor", "for j in tl.range(0, k, loop_unroll_factor=4):\n    v += j", _ADD),
    (
        "range",
        "flatten",
        "for j in tl.range(0, k, flatten=True):\n    for l in tl.range(0, 2):\n        v += j",
        lambda v, k: v + k * (k - 1),
    ),
    ("range", "disallow_acc_multi_buffer", "for j in tl.range(k, disallow_acc_multi_buffer=True):\n    v += j", _ADD),
    ("range", "disable_licm", "for j in tl.range(k, disable_licm=True):\n    v += j", _ADD),
    ("range", "warp_specialize", "for j in tl.range(0, k, warp_specialize=True):\n    v += j", _ADD),
    (
        "static_range",
        "4",
        "for j in tl.static_range(4):\n    v = v * 2 + j",
        _iterate(lambda v, j: v * 2 + j, lambda k: range(4)),
    ),
    ("static_range", "1, 9, 3", "for j in tl.static_range(1, 9, 3):\n    v += j", lambda v, k: v + 12),
    ("while", "scalar", "j = 0\nwhile j < k:\n    v += j\n    j += 1", _ADD),
    (
        "while",
        "two conditions",
        "total = tl.sum(v, 0)\nj = 0\nwhile (total < 1000) & (j < k):\n    v = v * 2\n    total += 100\n    j += 1",
        _double_until,
    ),
    (
        "while",
        "nested in for",
        "for j in range(3):\n    l = 0\n    while l < k:\n        v += l\n        l += 2",
        lambda v, k: v + 3 * sum(range(0, k, 2)),
    ),
    ("if", "scalar", "if k > 3:\n    v += 1\nelse:\n    v -= 1", lambda v, k: v + 1 if k > 3 else v - 1),
    ("if", "without else", "if k > 3:\n    v = v * 5", lambda v, k: v * 5 if k > 3 else v),
    (
        "if",
        "elif",
        "if k == 0:\n    v += 1\nelif k < 5:\n    v += 2\nelse:\n    v += 3",
        lambda v, k: v + (1 if k == 0 else 2 if k < 5 else 3),
    ),
    ("if", "of loaded", "if tl.load(x) > 0:\n    v += k", lambda v, k: v + k if v[0] > 0 else v),
    ("if", "static", "if STATIC:\n    v += k\nelse:\n    v = v.missing", lambda v, k: v + k),
    ("if", "expression", "v += (k if k > 3 else 2 * k)", lambda v, k: v + (k if k > 3 else 2 * k)),
    ("return", "early", "if k == 0:\n    return\nv += 1", lambda v, k: v + 1),
    ("call", "branches", "v = step(v, k)", lambda v, k: v + 3 if k % 2 == 0 else v - 1),
    (
        "call",
        "in a loop",
        "for j in range(k):\n    v = step(v, j)",
        _iterate(lambda v, j: v + 3 if j % 2 == 0 else v - 1, range),
    ),
    ("call", "with a loop", "v = early(v, k) + early(v, 2)", lambda v, k: 2 * v + k * (k - 1) // 2 + 1),
    ("assume", "k", "tl.assume(k >= 0)\nv += k", lambda v, k: v + k),
    ("static_assert", "B", "tl.static_assert(B >= 1)\nv += k", lambda v, k: v + k),
    ("device_assert", "true", "tl.device_assert(k >= 0, 'negative')\nv += k", lambda v, k: v + k),
    ("debug_barrier", "", "tl.debug_barrier()\nv += k", lambda v, k: v + k),
    (
        "multiple_of",
        "i",
        "j = tl.multiple_of(tl.max_contiguous(i, 1), 1)\nv += tl.where(j >= 0, k, 0)",
        lambda v, k: v + k,
    ),
]


def _swap(v: torch.Tensor, w: torch.Tensor, k: int) -> torch.Tensor:
    for j in range(k):
        v, w = w + j, v
    return v


def cases() -> Iterator[Case]:
    for name, variant, body, reference in _TABLE:
        for dtype in ("int32", "int64", "float32", "float64"):
            for count, k in ((1, 0), (13, 5), (64, 4), (100, 1)):
                arguments = (body, reference, dtype, count, k, name == "return" and k == 0)
                yield Case(name, dtype, f"{variant} n={count} k={k}", partial(_check, *arguments))


def _check(body: str, reference: Reference, dtype: str, count: int, k: int, returns: bool) -> None:
    """Small whole numbers: floats are exact too."""
    x = sample(count, torch_type(dtype), generator("control", body, dtype, count, k), "small")
    out = poison((count,), x.dtype)
    wanted = out if returns else reference(x, k)
    text = _KERNEL.format(body="\n".join(f"    {line}" for line in body.splitlines()))
    meta = {"B": 64 if count > 13 and count <= 64 else 16 if count <= 16 else 128, "STATIC": True}
    wide = wanted.double() if wanted.is_floating_point() else wanted
    # The interpreter keeps Python's values of loop variables; what it returns early from it does not leave.
    Launch(text, (1,), [x, out, count, k], meta, {1: wide}, 0, interpreter_ulp=0.0).check()
