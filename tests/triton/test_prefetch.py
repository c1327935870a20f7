"""Loads in loops that take large steps ask for what they will read some iterations later."""

from __future__ import annotations

import mmap
import re

import pytest
import torch
import triton
import triton.language as tl
from triton_helpers import agree, assert_same


@triton.jit
def by_index(x, out, rows, FIRST: tl.constexpr, STEP: tl.constexpr, BY: tl.constexpr, B: tl.constexpr):
    """Sums of pieces of rows, addressed as Inductor does: from the number of the row."""
    i = tl.arange(0, B)
    total = tl.zeros([B], tl.float32)
    for row in range(0, rows, BY):
        total += tl.load(x + FIRST + i + STEP * row)
    tl.store(out + i, total)


@triton.jit
def by_pointer(x, out, rows, FIRST: tl.constexpr, STEP: tl.constexpr, BY: tl.constexpr, B: tl.constexpr):
    """As written by hand: the pointers move."""
    i = tl.arange(0, B)
    at = x + FIRST + i
    total = tl.zeros([B], tl.float32)
    for _ in range(0, rows, BY):
        total += tl.load(at)
        at += STEP * BY
    tl.store(out + i, total)


def prefetched(kernel: triton.compiler.CompiledKernel) -> set[int]:
    """Offsets of what is asked for, in bytes from what is read."""
    text = kernel.asm["llir"]
    asked = re.findall(r"@llvm\.prefetch\.p0\(ptr (%\w+)", text)
    return {int(re.search(rf"{re.escape(ref)} = getelementptr i8, ptr %\w+, i64 (-?\d+)", text)[1]) for ref in asked}  # type: ignore[index]


@pytest.mark.parametrize("kernel", [by_index, by_pointer], ids=["by index", "by pointer"])
@pytest.mark.parametrize(
    ("first", "step", "by", "block", "distance"),
    [
        (0, 1024, 1, 64, 8),
        (0, 256, 1, 64, 8),
        (0, 512, 3, 128, 8),
        (7, 1000, 1, 64, 8),  # not aligned with cache lines
        (30 * 1024, -1024, 1, 64, 8),
        (0, 4096, 1, 1024, 4),  # no more than a third of an L1 cache ahead
    ],
)
def test_large_steps(kernel: triton.JITFunction, first: int, step: int, by: int, block: int, distance: int) -> None:
    rows = 31
    x = torch.randn(rows * abs(step) + block)
    agree(kernel, (1,), x, torch.zeros(block), rows, FIRST=first, STEP=step, BY=by, B=block, rtol=1e-5, atol=1e-5)
    compiled = kernel[(1,)](x.to("gxu"), torch.zeros(block, device="gxu"), rows, first, step, by, block)
    lanes = int(re.findall(r"vector (\d+)", compiled.asm["loops"])[-1])
    ahead = distance * step * by * 4
    assert prefetched(compiled) == {ahead + line for line in range(0, lanes * 4, 64)}


@triton.jit
def elsewhere(x, indices, out, rows, step, KIND: tl.constexpr, B: tl.constexpr):
    i = tl.arange(0, B)
    total = tl.zeros([B], tl.float32)
    for row in range(rows):
        if KIND == "short step":
            at = i + 64 * row
        elif KIND == "in one piece":
            at = i + B * row
        elif KIND == "gathered":
            at = i * 4096 + 1024 * row
        elif KIND == "looked up":
            at = i + 1024 * tl.load(indices + row)
        elif KIND == "not a constant":
            at = i + step * row
        elif KIND == "not the same":
            at = i + 1024 * row * row
        elif KIND == "in place":
            at = i + 1024
        total += tl.load(x + at)
    tl.store(out + i, total)


@pytest.mark.parametrize(
    ("kind", "block"),
    [
        ("short step", 64),
        ("in one piece", 512),
        ("gathered", 64),
        ("looked up", 64),
        ("not a constant", 64),
        ("not the same", 64),
        ("in place", 64),
    ],
)
def test_what_is_not_asked_for(kind: str, block: int) -> None:
    rows = 9
    x, indices = torch.randn(1 << 19), torch.randint(0, 100, (rows,), dtype=torch.int32)
    agree(elsewhere, (1,), x, indices, torch.zeros(block), rows, 1024, KIND=kind, B=block, rtol=1e-5, atol=1e-5)
    out = torch.zeros(block, device="gxu")
    assert not prefetched(elsewhere[(1,)](x.to("gxu"), indices.to("gxu"), out, rows, 1024, kind, block))


def test_behind_the_end_of_memory() -> None:
    """What is asked for behind the last row may be no memory at all."""
    rows, page = 4, mmap.PAGESIZE
    with mmap.mmap(-1, rows * page) as memory:
        x = torch.frombuffer(memory, dtype=torch.float32)
        x.copy_(torch.randn(x.numel()))
        expected = x.view(rows, -1)[:, -64:].sum(0)
        out = torch.zeros(64)
        kernel = by_index[(1,)](x, out, rows, page // 4 - 64, page // 4, 1, 64)
        assert prefetched(kernel) >= {8 * page}
        assert_same(out, expected, rtol=1e-5, atol=1e-5)
        del x
