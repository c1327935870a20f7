"""Indices divided by numbers, some known at run time only: loops are cut where quotients change."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl
from triton_helpers import assert_same, launch


@triton.jit
def divided(quotients, remainders, start, period, size, TYPE: tl.constexpr, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    at, divisor = (i + start).to(TYPE), period.to(TYPE)
    tl.store(quotients + i, (at // divisor).to(tl.int64), i < size)
    tl.store(remainders + i, (at % divisor).to(tl.int64), i < size)


@pytest.mark.parametrize("kind", [tl.int32, tl.int64, tl.uint32], ids=str)
@pytest.mark.parametrize("period", [2, 7, 64, 100, 129, 5000, -3])
@pytest.mark.parametrize("start", [0, 5, 12345, -70])
def test_quotients_and_remainders(kind: tl.dtype, period: int, start: int) -> None:
    """Divisions round towards zero. As uint32, negative numbers are large ones."""
    size = 300
    outputs = [torch.full((384,), 7, dtype=torch.int64) for _ in range(2)]
    quotients, remainders = launch(divided, (3,), *outputs, start, period, size, TYPE=kind, B=128)
    i = torch.arange(size) + start
    if kind == tl.uint32:
        i, period = i % 2**32, period % 2**32
    expected = torch.div(i, period, rounding_mode="trunc")
    assert torch.equal(quotients[:size], expected)
    assert torch.equal(remainders[:size], i - expected * period)
    assert (quotients[size:] == 7).all()
    assert (remainders[size:] == 7).all()


@triton.jit
def circular(x, y, rows, columns, offset, M: tl.constexpr, N: tl.constexpr, STEPS: tl.constexpr):
    """Windows of a matrix that goes on at its start; the pointers move along in a loop."""
    m = (tl.program_id(0) * M + tl.arange(0, M)) % rows
    n = (tl.program_id(1) * N + tl.arange(0, N) + offset) % columns
    at = x + m[:, None] * columns + n[None, :]
    total = tl.zeros([M, N], tl.float32)
    for _ in range(STEPS):
        total += tl.load(at)
        at += rows * columns
    i, j = tl.arange(0, M), tl.arange(0, N)
    window = tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)
    tl.store(y + window * M * N + i[:, None] * N + j[None, :], total)


@pytest.mark.parametrize(
    ("rows", "columns", "offset"), [(1, 1, 0), (3, 5, 2), (16, 64, 0), (50, 70, 13), (9, 1000, 990)]
)
def test_windows_of_a_matrix(rows: int, columns: int, offset: int) -> None:
    x = torch.randn(2, rows, columns)
    x[0, 0, 0], x[1, -1, -1] = float("nan"), float("inf")
    _, y = launch(circular, (4, 3), x, torch.zeros(4, 3, 16, 64), rows, columns, offset, M=16, N=64, STEPS=2)
    m, n = torch.arange(64) % rows, (torch.arange(192) + offset) % columns
    expected = x.sum(0)[m][:, n].view(4, 16, 3, 64).transpose(1, 2)
    assert_same(y, expected)


@triton.jit
def both_axes(x, y, period, N: tl.constexpr):
    """One division read along two axes of a tile."""
    folded = tl.arange(0, N) % period
    tl.store(
        y + tl.arange(0, N)[:, None] * N + tl.arange(0, N)[None, :], tl.load(x + folded)[None, :] * folded[:, None]
    )


@pytest.mark.parametrize("period", [1, 5, 32, 100])
def test_one_division_along_two_axes(period: int) -> None:
    x = torch.randn(64)
    _, y = launch(both_axes, (1,), x, torch.zeros(64, 64), period, N=64)
    folded = torch.arange(64) % period
    assert_same(y, x[folded][None, :] * folded[:, None])


@triton.jit
def add_bias(x, bias, y, size, FIRST: tl.constexpr, PERIOD: tl.constexpr, STEPS: tl.constexpr, B: tl.constexpr):
    """Sums over blocks of whole rows that start anywhere, and a row added: what Inductor makes of a split reduction."""
    i = FIRST + tl.program_id(0) * B + tl.arange(0, B)
    total = tl.zeros([B], tl.float32)
    for step in range(STEPS):
        total += tl.load(x + i % PERIOD + PERIOD * (step + STEPS * (i // PERIOD)), i < size, other=0.0)
    tl.store(y + i, total + tl.load(bias + i % PERIOD, i < size, other=0.0), i < size)


@pytest.mark.parametrize("period", [100, 1000, 1024, 5000])
@pytest.mark.parametrize("block", [32, 512, 2048])
@pytest.mark.parametrize("first", [0, 7])
def test_periods_around_a_block(period: int, block: int, first: int) -> None:
    """Periods shorter and longer than a block, which vectors fit or do not: none is read lane by lane."""
    pieces, steps = 3, 4
    size = pieces * period
    x, bias = torch.randn(pieces, steps, period), torch.randn(period)
    x[0, 0, 8], bias[-1] = float("nan"), float("inf")
    out = torch.full((size,), 7.0)
    kernel = add_bias[(triton.cdiv(size - first, block),)](x, bias, out, size, first, period, steps, block)
    expected = (x[:, 0] + x[:, 1] + x[:, 2] + x[:, 3] + bias).flatten()
    expected[:first] = 7.0
    assert_same(out, expected)
    assert "gather" not in kernel.asm["llir"]
