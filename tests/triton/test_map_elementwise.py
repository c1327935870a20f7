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


@triton.jit
def of_two(a0, a1, b0, b1):
    if b0 > b1:
        return a0 + a1, a0 - a1, b0, b1
    return a0, a1, b1, b0


@triton.jit
def of_four(a0, a1, a2, a3):
    return a3, a2, a1, a0 if a0 > 0 else 0


@triton.jit
def packed(x, y, out, out2, ROWS: tl.constexpr, COLUMNS: tl.constexpr, PACK: tl.constexpr):
    i = tl.arange(0, ROWS)[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    if PACK == 2:
        first, second = tl.map_elementwise(of_two, tl.load(x + i), tl.load(y + i), pack=2)
        tl.store(out2 + i, second)
    else:
        first = tl.map_elementwise(of_four, tl.load(x + i), pack=4)[0]
    tl.store(out + i, first)


@pytest.mark.parametrize(("rows", "columns"), [(4, 32), (32, 2), (4, 1), (1, 4)])
def test_several_elements_in_one_call(rows: int, columns: int) -> None:
    x, y = (torch.randint(-99, 99, (rows, columns), dtype=torch.int32) for _ in range(2))
    shape = {"ROWS": rows, "COLUMNS": columns}
    *_, out, out2 = launch(packed, (1,), x, y, torch.zeros_like(x), torch.zeros_like(x), PACK=2, **shape)
    (a0, a1), (b0, b1) = (v.reshape(-1, 2).T for v in (x, y))
    taken = b0 > b1
    first = torch.stack((torch.where(taken, a0 + a1, a0), torch.where(taken, a0 - a1, a1)), 1)
    second = torch.stack((torch.where(taken, b0, b1), torch.where(taken, b1, b0)), 1)
    assert_same(out, first.reshape(rows, columns))
    assert_same(out2, second.reshape(rows, columns))
    *_, out, _ = launch(packed, (1,), x, y, torch.zeros_like(x), torch.zeros_like(x), PACK=4, **shape)
    reversed_ = x.reshape(-1, 4).flip(1)
    reversed_[:, 3].clamp_(min=0)
    assert_same(out, reversed_.reshape(rows, columns))


def test_more_elements_in_one_call_than_there_are() -> None:
    x = torch.zeros(2, 1, dtype=torch.int32)
    with pytest.raises(UnsupportedError, match="map_elementwise of 4 elements at once, over a tile of 2"):
        launch(packed, (1,), x, x, x.clone(), x.clone(), ROWS=2, COLUMNS=1, PACK=4)
