"""Branches that give tiles: cheap sides are both computed and selected from, others stay branches."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl
from triton_helpers import agree


@triton.jit
def first_or_later(x, out, rows, B: tl.constexpr):
    """What Inductor's Welford reductions do: the first iteration takes the row itself."""
    i = tl.arange(0, B)
    mean, weight = tl.full((B,), float("nan"), tl.float32), tl.full((B,), float("nan"), tl.float32)
    for row in range(rows):
        v = tl.load(x + row * B + i)
        if row == 0:
            mean, weight = v, tl.full((B,), 1.0, tl.float32)
        else:
            weight += 1
            mean += (v - mean) / weight
    tl.store(out + i, mean)
    tl.store(out + B + i, weight)


@triton.jit
def not_taken_side_divides_by_zero(x, out, divisor, B: tl.constexpr):
    i = tl.arange(0, B)
    v = tl.load(x + i)
    r, s = v, 7
    if divisor != 0:
        r, s = v // divisor + v % divisor, 100 // divisor
    tl.store(out + i, r + s)


@triton.jit
def nested(x, out, a, b, B: tl.constexpr):
    i = tl.arange(0, B)
    v = tl.load(x + i)
    if a > 0:
        if b > 0:
            v, k = v + 1, 1
        else:
            v, k = v * 2, 2
        v = v - 3
    else:
        k = 3
    tl.store(out + i, v + k)


@triton.jit
def with_memory(x, out, a, B: tl.constexpr):
    """A side that loads or stores is only entered when it is chosen: behind a null pointer otherwise."""
    i = tl.arange(0, B)
    v = i.to(tl.float32)
    if a > 0:
        v = tl.load(x + i)
        tl.store(out + B + i, v)
    tl.store(out + i, v)


@triton.jit
def costly(x, out, a, B: tl.constexpr):
    i = tl.arange(0, B)
    v = tl.load(x + i)
    if a > 0:
        v = tl.sin(tl.exp(tl.sin(v))) + tl.cos(v)
    tl.store(out + i, v)


@pytest.mark.parametrize("rows", [0, 1, 2, 11])
@pytest.mark.parametrize("size", [4, 128])
def test_first_iteration_differs(rows, size):
    agree(first_or_later, (1,), torch.randn(max(rows, 1) * size), torch.zeros(2 * size), rows, B=size, rtol=1e-6)


@pytest.mark.parametrize("divisor", [0, 2, -1, 7])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_side_that_must_not_be_taken(divisor, dtype):
    info = torch.iinfo(dtype)
    x = torch.cat([torch.tensor([info.min, info.max, 0, -1]), torch.randint(-1000, 1000, (60,))]).to(dtype)
    agree(not_taken_side_divides_by_zero, (1,), x, torch.empty(64, dtype=dtype), divisor, B=64)


@pytest.mark.parametrize("a", [-1, 2])
@pytest.mark.parametrize("b", [-1, 2])
def test_nested(a, b):
    agree(nested, (1,), torch.randn(64), torch.empty(64), a, b, B=64)


@pytest.mark.parametrize("a", [0, 2])
def test_sides_with_memory_stay_branches(a):
    x = torch.randn(64, device="gxu")
    out = torch.full((128,), -5.0, device="gxu")
    compiled = with_memory[(1,)](x if a else torch.empty(0, device="gxu"), out, a, B=64)
    expected = torch.cat([x.cpu(), x.cpu()]) if a else torch.cat([torch.arange(64.0), torch.full((64,), -5.0)])
    assert torch.equal(out.cpu(), expected)
    assert "if %" in compiled.asm["loops"]


def test_costly_sides_stay_branches():
    x, out = torch.randn(64, device="gxu"), torch.empty(64, device="gxu")
    assert "if %" in costly[(1,)](x, out, 0, B=64).asm["loops"]
    assert torch.equal(out.cpu(), x.cpu())


def test_a_cheap_branch_is_no_loop_of_its_own():
    x, out = torch.randn(128, device="gxu"), torch.empty(128, device="gxu")
    loops = first_or_later[(1,)](x, out, 2, B=64).asm["loops"]
    assert "if %" not in loops
    assert sum(line.startswith("  vector") for line in loops.splitlines()) == 1, loops
