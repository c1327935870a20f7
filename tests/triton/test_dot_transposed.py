"""Products whose operands are transposes, or lie in memory column by column, against float64; int8 exactly."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl
from triton_helpers import launch


@triton.jit
def products(
    x, y, z, c, steps, ROWS: tl.constexpr, COLUMNS: tl.constexpr, INNER: tl.constexpr, OUT: tl.constexpr,
    LEFT: tl.constexpr, RIGHT: tl.constexpr, LOADED: tl.constexpr,
):  # fmt: skip
    """c = sum over steps of op(x) @ op(y[step]) + op(x) @ op(z): x and z stay the same in the loop, y changes.

    An operand marked LEFT or RIGHT is its transpose in memory: transposed by tl.trans, or (LOADED) by its pointers.
    """
    m, n, k = tl.arange(0, ROWS), tl.arange(0, COLUMNS), tl.arange(0, INNER)
    if LEFT:
        a = tl.load(x + m[:, None] + k[None, :] * ROWS) if LOADED else tl.load(x + k[:, None] * ROWS + m[None, :]).T
    else:
        a = tl.load(x + m[:, None] * INNER + k[None, :])
    if RIGHT:
        at = n[None, :] * INNER + k[:, None] if LOADED else n[:, None] * INNER + k[None, :]
    else:
        at = k[:, None] * COLUMNS + n[None, :]
    fixed = tl.load(z + at)
    total = tl.zeros([ROWS, COLUMNS], OUT)
    for step in range(steps):
        b = tl.load(y + step * INNER * COLUMNS + at)
        if RIGHT and not LOADED:
            total = tl.dot(a, b.T, total, out_dtype=OUT)
            total = tl.dot(a, fixed.T, total, out_dtype=OUT)
        else:
            total = tl.dot(a, b, total, out_dtype=OUT)
            total = tl.dot(a, fixed, total, out_dtype=OUT)
    tl.store(c + m[:, None] * COLUMNS + n[None, :], total)


def operand(kind: torch.dtype, *shape: int) -> torch.Tensor:
    return torch.randint(-128, 128, shape, dtype=kind) if kind == torch.int8 else torch.randn(shape).to(kind)


@pytest.mark.parametrize("loaded", [False, True], ids=["trans", "loaded"])
@pytest.mark.parametrize("sides", [(True, False), (False, True)], ids=["left", "right"])
@pytest.mark.parametrize("shape", [(32, 8, 64), (1, 32, 16), (64, 2, 1)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int8], ids=str)
def test_transposed_operands(
    dtype: torch.dtype, shape: tuple[int, int, int], sides: tuple[bool, bool], loaded: bool
) -> None:
    rows, columns, inner = shape
    left, right = sides
    x, y, z = operand(dtype, rows, inner), operand(dtype, 3, inner, columns), operand(dtype, inner, columns)
    kind = {torch.int8: torch.int32, torch.float64: torch.float64}.get(dtype, torch.float32)
    out = {torch.int8: tl.int32, torch.float64: tl.float64}.get(dtype, tl.float32)
    exact = x.double() @ (y.double().sum(0) + 3 * z.double())
    inputs = (x.t() if left else x, y.mT if right else y, z.t() if right else z)
    *_, c = launch(
        products, (1,), *(t.contiguous() for t in inputs), torch.full((rows, columns), 7, dtype=kind), 3,
        ROWS=rows, COLUMNS=columns, INNER=inner, OUT=out, LEFT=left, RIGHT=right, LOADED=loaded,
    )  # fmt: skip
    size = x.double().abs() @ (y.double().abs().sum(0) + 3 * z.double().abs())
    rounding = 0.0 if dtype == torch.int8 else torch.finfo(kind).eps * (6 * inner + 1)
    assert ((c.double() - exact).abs() <= rounding * size).all()


@triton.jit
def batched(x, y, c, B: tl.constexpr, N: tl.constexpr):
    i, j, k = tl.arange(0, B)[:, None, None], tl.arange(0, N)[None, :, None], tl.arange(0, N)[None, None, :]
    at = (i * N + j) * N + k
    product = tl.dot(tl.permute(tl.load(x + at), (0, 2, 1)), tl.permute(tl.load(y + at), (0, 2, 1)))
    tl.store(c + at, product)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_batches_of_transposed_operands(dtype: torch.dtype) -> None:
    x, y = torch.randn(4, 32, 32).to(dtype), torch.randn(4, 32, 32).to(dtype)
    *_, c = launch(batched, (1,), x, y, torch.zeros(4, 32, 32), B=4, N=32)
    torch.testing.assert_close(c.double(), x.double().mT @ y.double().mT, rtol=1e-5, atol=1e-5)


@triton.jit
def reused(x, scales, c, transposed, N: tl.constexpr):
    """A transpose that is stored, too, and one of what the kernel computes; nothing of it is the same in the loop."""
    i, j = tl.arange(0, N)[:, None], tl.arange(0, N)[None, :]
    total = tl.zeros([N, N], tl.float32)
    square = tl.load(x + i * N + j)
    for step in range(3):
        square = square * tl.load(scales + step)
        other = tl.trans(square)
        total = tl.dot(other, tl.trans(tl.maximum(square, 0)), total)
        tl.store(transposed + step * N * N + i * N + j, other)
    tl.store(c + i * N + j, tl.dot(tl.trans(total), tl.trans(tl.load(x + i * N + j))))


def test_transposes_of_computed_tiles() -> None:
    x, scales = torch.randn(32, 32), torch.tensor([2.0, -0.5, 3.0])
    _, _, c, transposed = launch(reused, (1,), x, scales, torch.zeros(32, 32), torch.zeros(3, 32, 32), N=32)
    steps = [x * scales[: n + 1].prod() for n in range(3)]
    total = sum(s.double().t() @ s.double().clamp(min=0).t() for s in steps)
    torch.testing.assert_close(transposed, torch.stack([s.t() for s in steps]))
    torch.testing.assert_close(c.double(), total.t() @ x.double().t(), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("place", [(0, 0), (5, 13), (15, 15)], ids=str)
def test_not_finite(place: tuple[int, int]) -> None:
    """NaN and infinity stay in their own row and column."""
    x, y, z = torch.randn(16, 16), torch.randn(1, 16, 16), torch.zeros(16, 16)
    x[place], y[0, 3, 4] = float("nan"), float("inf")
    *_, c = launch(
        products, (1,), x.t().contiguous(), y.mT.contiguous(), z, torch.zeros(16, 16), 1,
        ROWS=16, COLUMNS=16, INNER=16, OUT=tl.float32, LEFT=True, RIGHT=True, LOADED=False,
    )  # fmt: skip
    torch.testing.assert_close(c, x @ y[0], rtol=1e-5, atol=1e-5, equal_nan=True)
