"""Debug mode: integer arithmetic that overflows, and assertions inside the functions that reductions combine with."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import triton
import triton.language as tl


@triton.jit
def add(x, y, out):
    tl.store(out, tl.load(x) + tl.load(y))


@triton.jit
def subtract(x, y, out):
    tl.store(out, tl.load(x) - tl.load(y))


@triton.jit
def multiply(x, y, out):
    tl.store(out, tl.load(x) * tl.load(y))


@triton.jit
def add_checked(x, y):
    wide = x.to(tl.int64) + y.to(tl.int64)
    tl.device_assert((wide >= -(2**31)) & (wide < 2**31), "sum out of range")
    return x + y


@triton.jit
def larger(x, i, y, j):
    if x >= y:
        tl.device_assert(x < 5000, "larger than 5000")
        value, index = x, i
    else:
        value, index = y, j
    return value, index


@triton.jit(debug=True)
def reduce_and_scan(x, sums, scans, n, SIZE: tl.constexpr, REVERSE: tl.constexpr):
    i = tl.arange(0, SIZE)
    v = tl.load(x + i, i < n, other=0)
    tl.store(sums, tl.reduce(v, 0, add_checked))
    tl.store(scans + i, tl.associative_scan(v, 0, add_checked, reverse=REVERSE))


@triton.jit(debug=True)
def reduce_rows(x, sums, n, ROWS: tl.constexpr, COLUMNS: tl.constexpr, AXIS: tl.constexpr):
    i = tl.arange(0, ROWS)[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    v = tl.load(x + i, i < n, other=0)
    tl.store(sums + tl.arange(0, ROWS if AXIS == 1 else COLUMNS), tl.reduce(v, AXIS, add_checked))


@triton.jit(debug=True)
def largest(x, out, n, SIZE: tl.constexpr):
    i = tl.arange(0, SIZE)
    value, index = tl.reduce((tl.load(x + i, i < n, other=-10000), i), 0, larger)
    tl.store(out, value)
    tl.store(out + 1, index)


def fails(launch: Callable[[], object], message: str) -> None:
    def launch_and_wait() -> None:
        launch()
        torch.gxu.synchronize()

    with pytest.raises(RuntimeError, match=message):
        launch_and_wait()


@pytest.mark.parametrize(
    ("kernel", "x", "y", "dtype", "name"),
    [
        (add, 2**31 - 1, 1, torch.int32, "int32 overflow detected for operation add"),
        (add, 100, 100, torch.int8, "int8 overflow detected for operation add"),
        (subtract, -(2**31), 1, torch.int32, "int32 overflow detected for operation sub"),
        (multiply, 2**30, 4, torch.int32, "int32 overflow detected for operation mul"),
        (multiply, 2**30, -2, torch.int32, None),
        (add, 2**62, 2**62, torch.int64, None),  # Triton checks in 64 bits
    ],
)
def test_overflow_of_integers(kernel, x, y, dtype, name):
    first, second = (torch.tensor([v], dtype=dtype, device="gxu") for v in (x, y))
    out = torch.empty_like(first)
    kernel[(1,)](first, second, out)
    kernel[(1,)](first, second, out, debug=True, sanitize_overflow=False)
    operation = {add: torch.add, subtract: torch.sub, multiply: torch.mul}[kernel]
    assert torch.equal(out.cpu(), operation(first.cpu(), second.cpu()))
    if name is None:
        kernel[(1,)](first, second, out, debug=True)
        torch.gxu.synchronize()
    else:
        fails(lambda: kernel[(1,)](first, second, out, debug=True), name)


@pytest.mark.parametrize("n", [1, 3, 500, 512])
def test_assertions_inside_combine_functions(n):
    x = torch.randint(-1000, 1000, (512,), dtype=torch.int32, device="gxu")
    sums, scans = torch.empty(64, dtype=torch.int32, device="gxu"), torch.empty(512, dtype=torch.int32, device="gxu")
    seen = x.cpu().clone()
    seen[n:] = 0
    for reverse in (False, True):
        reduce_and_scan[(1,)](x, sums, scans, n, SIZE=512, REVERSE=reverse)
        assert sums[0] == seen.sum()
        expected = seen.flip(0).cumsum(0).flip(0) if reverse else seen.cumsum(0)
        assert torch.equal(scans.cpu(), expected.int())
    for axis in (0, 1):
        reduce_rows[(1,)](x, sums, n, ROWS=32, COLUMNS=16, AXIS=axis)
        expected = seen.view(32, 16).sum(axis).int()
        assert torch.equal(sums[: len(expected)].cpu(), expected)
    if n > 1:
        x[0] = x[1] = 2**31 - 1
        fails(lambda: reduce_and_scan[(1,)](x, sums, scans, n, SIZE=512, REVERSE=False), "sum out of range")
        fails(lambda: reduce_rows[(1,)](x, sums, n, ROWS=32, COLUMNS=16, AXIS=1), "sum out of range")


def test_sums_of_integers_are_checked_too():
    @triton.jit
    def total(x, out, SIZE: tl.constexpr):
        tl.store(out, tl.sum(tl.load(x + tl.arange(0, SIZE)), 0))

    x = torch.full((64,), 2**20, dtype=torch.int32, device="gxu")
    out = torch.empty(1, dtype=torch.int32, device="gxu")
    total[(1,)](x, out, SIZE=64, debug=True)
    assert out.item() == 2**26
    x.fill_(2**26)
    fails(lambda: total[(1,)](x, out, SIZE=64, debug=True), "int32 overflow detected for operation add")


def test_branches_inside_combine_functions():
    x = torch.randperm(512, dtype=torch.int32, device="gxu")
    out = torch.empty(2, dtype=torch.int32, device="gxu")
    for n in (512, 77, 1):
        largest[(1,)](x, out, n, SIZE=512)
        assert out.tolist() == [x[:n].max().item(), x[:n].argmax().item()]
    x[80] = 6000
    largest[(1,)](x, out, 80, SIZE=512)  # what the mask leaves out may be anything
    torch.gxu.synchronize()
    fails(lambda: largest[(1,)](x, out, 81, SIZE=512), "larger than 5000")
