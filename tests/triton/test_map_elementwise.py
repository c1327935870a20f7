"""map_elementwise: scalar functions with branches, over tiles."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl
from triton_helpers import assert_same, launch

from gxu.triton.errors import UnsupportedError


@triton.jit
def compare(a, b):
    if a < b:
        return -1
    if a > b:
        return 1
    return 0


@triton.jit
def quotient(a, b):
    if b == 0:
        return 0, a
    return a // b, a % b


@triton.jit
def steps(a):
    r = a * 2
    if a > 0:
        r += 1
        if a > 5:
            r = -r
    return r + 3


@triton.jit
def summed(a):
    total = a
    for _ in range(a):
        total += a
    return total


@triton.jit
def kernel(x, y, out, out2, FUNCTION: tl.constexpr, B: tl.constexpr):
    i = tl.arange(0, B)
    a, b = tl.load(x + i), tl.load(y + i)
    if FUNCTION == "compare":
        tl.store(out + i, tl.map_elementwise(compare, a, b))
    elif FUNCTION == "quotient":
        q, r = tl.map_elementwise(quotient, a, b)
        tl.store(out + i, q)
        tl.store(out2 + i, r)
    elif FUNCTION == "steps":
        for _ in range(2):
            a = tl.map_elementwise(steps, a)
        tl.store(out + i, a)
    else:
        tl.store(out + i, tl.map_elementwise(summed, a))


def run(function, size=64):
    x, y = torch.randint(-9, 9, (size,), dtype=torch.int32), torch.randint(-3, 3, (size,), dtype=torch.int32)
    *_, out, out2 = launch(kernel, (1,), x, y, torch.zeros_like(x), torch.zeros_like(x), FUNCTION=function, B=size)
    return x, y, out, out2


@pytest.mark.parametrize("size", [1, 8, 64, 512])
def test_several_returns(size):
    x, y, out, _ = run("compare", size)
    assert_same(out, torch.sign(x - y))


def test_a_branch_keeps_its_division_from_zero():
    x, y, out, rest = run("quotient")
    safe = torch.where(y == 0, 1, y)
    assert_same(out, torch.where(y == 0, 0, torch.div(x, safe, rounding_mode="trunc")))
    assert_same(rest, torch.where(y == 0, x, torch.fmod(x, safe)))


def test_nested_branches_in_a_loop():
    def once(a):
        r = a * 2
        r = torch.where(a > 0, r + 1, r)
        return torch.where(a > 5, -r, r) + 3

    x, _, out, _ = run("steps")
    assert_same(out, once(once(x)))


def test_loops_are_refused():
    with pytest.raises(UnsupportedError, match=r"scf.for inside map_elementwise.*use operations on whole tiles"):
        run("summed")
