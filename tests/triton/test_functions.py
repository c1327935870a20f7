"""Returns in the middle of a function, and calls that are not inlined by Triton."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl
from triton_helpers import agree, assert_same, launch


@triton.jit
def early(x, out, n, B: tl.constexpr):
    pid = tl.program_id(0)
    if pid >= n:
        return
    i = tl.arange(0, B)
    row = tl.load(x + pid * B + i)
    tl.store(out + pid * B + i, row)
    if tl.sum(row, 0) < 0:
        tl.store(out + pid * B + i, -row)
        return
    if tl.max(row, 0) > 2:
        return
    tl.store(out + pid * B + i, row * 2)


@pytest.mark.parametrize("n", [0, 5, 16])
def test_early_returns(n):
    agree(early, (16,), torch.randn(16, 32), torch.zeros(16, 32), n, B=32)


@triton.jit
def clipped(v, low):
    if v < low:
        return low
    if v > 10:
        return v * 0 + 10
    return v


@triton.jit
def inlined(x, out):
    pid = tl.program_id(0)
    v = tl.load(x + pid)
    tl.store(out + pid, clipped(v, 3.0) + clipped(-v, 5.0) * 100)


def test_functions_with_several_returns():
    agree(inlined, (32,), torch.arange(-16, 16).float(), torch.zeros(32))


@triton.jit
def nested(x, out, B: tl.constexpr):
    pid = tl.program_id(0)
    i = tl.arange(0, B)
    total = tl.zeros((B,), tl.float32)
    if pid > 2:
        if pid > 5:
            if pid > 7:
                return
            total += 5
        for k in range(pid):
            total += tl.load(x + k * B + i)
        if pid == 4:
            tl.store(out + pid * B + i, total - 1)
            return
    tl.store(out + pid * B + i, total + 1)


def test_nested_returns():
    agree(nested, (10,), torch.randn(10, 16), torch.zeros(10, 16), B=16, rtol=1e-6, atol=1e-6)


@triton.jit(noinline=True)
def scaled(v, p):
    if v > 3:
        return v * 2
    tl.store(p, v)
    return v + 1


@triton.jit(noinline=True)
def pair(v, B: tl.constexpr):
    i = tl.arange(0, B)
    return i * v, v + 1


@triton.jit
def calls(x, out, B: tl.constexpr):
    pid = tl.program_id(0)
    v = tl.load(x + pid)
    r = scaled(v, x + pid)
    for _ in range(2):
        r = scaled(r, x + pid)
    tile, s = pair(r, B)
    tl.store(out + pid * B + tl.arange(0, B), tile + s)


def test_calls_that_triton_does_not_inline():
    x = torch.arange(8, dtype=torch.int32)
    got, out = launch(calls, (8,), x, torch.zeros(8, 16, dtype=torch.int32), B=16)
    rows, stored = [], []
    for v in range(8):
        kept = r = v
        for _ in range(3):
            if r > 3:
                r *= 2
            else:
                kept = r
                r += 1
        rows.append([i * r + r + 1 for i in range(16)])
        stored.append(kept)
    assert_same(got, torch.tensor(stored, dtype=torch.int32))
    assert_same(out, torch.tensor(rows, dtype=torch.int32))
