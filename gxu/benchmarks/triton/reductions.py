"""Kernels that reduce, scan or sort rows or columns: what normalisations, losses and statistics are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from gxu.benchmarks.device import DEVICE
from gxu.benchmarks.triton.comparison import at_least_torch
from gxu.benchmarks.triton.row import Case, Work

GROUP = "reductions"
ROWS, COLUMNS = 4096, 1024
CLASSES = 32000
EPS = 1e-5


@triton.jit
def softmax_kernel(x_ptr, y_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    j = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * columns + j, j < columns, other=-float("inf"))
    e = tl.exp(x - tl.max(x, 0))
    tl.store(y_ptr + row * columns + j, e / tl.sum(e, 0), j < columns)


@triton.jit
def layer_norm_kernel(x_ptr, w_ptr, b_ptr, y_ptr, mean_ptr, rstd_ptr, columns, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    j = tl.arange(0, BLOCK)
    mask = j < columns
    x = tl.load(x_ptr + row * columns + j, mask, other=0.0)
    mean = tl.sum(x, 0) / columns
    centred = tl.where(mask, x - mean, 0.0)
    rstd = 1.0 / tl.sqrt(tl.sum(centred * centred, 0) / columns + eps)
    tl.store(mean_ptr + row, mean)
    tl.store(rstd_ptr + row, rstd)
    y = centred * rstd * tl.load(w_ptr + j, mask) + tl.load(b_ptr + j, mask)
    tl.store(y_ptr + row * columns + j, y, mask)


@triton.jit
def layer_norm_backward_kernel(
    dy_ptr, x_ptr, w_ptr, mean_ptr, rstd_ptr, dx_ptr, dw_ptr, db_ptr, rows, columns, BLOCK: tl.constexpr
):
    """A program takes neighbouring rows, and adds up its share of the weight's and the bias's gradients."""
    program = tl.program_id(0)
    share = tl.cdiv(rows, tl.num_programs(0))
    j = tl.arange(0, BLOCK)
    mask = j < columns
    w = tl.load(w_ptr + j, mask, other=0.0)
    dw = tl.zeros([BLOCK], tl.float32)
    db = tl.zeros([BLOCK], tl.float32)
    for row in range(program * share, tl.minimum(rows, (program + 1) * share)):
        x = tl.load(x_ptr + row * columns + j, mask, other=0.0)
        dy = tl.load(dy_ptr + row * columns + j, mask, other=0.0)
        rstd = tl.load(rstd_ptr + row)
        x_hat = tl.where(mask, (x - tl.load(mean_ptr + row)) * rstd, 0.0)
        wdy = w * dy
        c1 = tl.sum(x_hat * wdy, 0) / columns
        c2 = tl.sum(wdy, 0) / columns
        tl.store(dx_ptr + row * columns + j, (wdy - (x_hat * c1 + c2)) * rstd, mask)
        dw += dy * x_hat
        db += dy
    tl.store(dw_ptr + program * columns + j, dw, mask)
    tl.store(db_ptr + program * columns + j, db, mask)


@triton.jit
def rms_norm_kernel(x_ptr, w_ptr, y_ptr, columns, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    j = tl.arange(0, BLOCK)
    mask = j < columns
    x = tl.load(x_ptr + row * columns + j, mask, other=0.0)
    scale = tl.rsqrt(tl.sum(x * x, 0) / columns + eps)
    tl.store(y_ptr + row * columns + j, x * scale * tl.load(w_ptr + j, mask), mask)


@triton.jit
def cross_entropy_kernel(x_ptr, target_ptr, loss_ptr, classes, BLOCK: tl.constexpr):
    """One pass over the logits: the largest so far, and the sum of exponentials relative to it."""
    row = tl.program_id(0)
    start = x_ptr + row.to(tl.int64) * classes
    largest = -float("inf")
    total = 0.0
    for first in range(0, classes, BLOCK):
        j = first + tl.arange(0, BLOCK)
        x = tl.load(start + j, j < classes, other=-float("inf"))
        new = tl.maximum(largest, tl.max(x, 0))
        total = total * tl.exp(largest - new) + tl.sum(tl.exp(x - new), 0)
        largest = new
    tl.store(loss_ptr + row, largest + tl.log(total) - tl.load(start + tl.load(target_ptr + row)))


@triton.jit
def sum_kernel(x_ptr, total_ptr, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.atomic_add(total_ptr, tl.sum(tl.load(x_ptr + i, i < n, other=0.0), 0))


@triton.jit
def mean_rows_kernel(x_ptr, y_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    j = tl.arange(0, BLOCK)
    tl.store(y_ptr + row, tl.sum(tl.load(x_ptr + row * columns + j, j < columns, other=0.0), 0) / columns)


@triton.jit
def sum_columns_kernel(x_ptr, y_ptr, rows, columns, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    j = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    total = tl.zeros([BLOCK_N], tl.float32)
    for first in range(0, rows, BLOCK_M):
        i = first + tl.arange(0, BLOCK_M)
        mask = (i[:, None] < rows) & (j[None, :] < columns)
        total += tl.sum(tl.load(x_ptr + i[:, None] * columns + j[None, :], mask, other=0.0), 0)
    tl.store(y_ptr + j, total, j < columns)


@triton.jit
def argmax_kernel(x_ptr, y_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    j = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * columns + j, j < columns, other=-float("inf"))
    tl.store(y_ptr + row, tl.argmax(x, 0).to(tl.int64))


@triton.jit
def cumsum_kernel(x_ptr, y_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    j = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * columns + j, j < columns, other=0.0)
    tl.store(y_ptr + row * columns + j, tl.cumsum(x, 0), j < columns)


@triton.jit
def sort_kernel(x_ptr, y_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    j = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * columns + j, j < columns, other=float("inf"))
    tl.store(y_ptr + row * columns + j, tl.sort(x), j < columns)


def cases() -> list[Case]:
    def rowwise(kernel: Any, function: Callable[..., Tensor], columns: int = COLUMNS, rows: int = ROWS) -> Work:
        def launch(out: Tensor, x: Tensor) -> None:
            kernel[(rows,)](x, out, columns, BLOCK=triton.next_power_of_2(columns))

        return new_result(launch, function, [torch.randn(rows, columns)])

    def case(name: str, make: Callable[[], Work]) -> Case:
        return at_least_torch(name, GROUP, make)

    def softmax(x: Tensor) -> Tensor:
        return torch.softmax(x, -1)

    return [
        case("softmax 1024", lambda: rowwise(softmax_kernel, softmax)),
        case("softmax 781", lambda: rowwise(softmax_kernel, softmax, 781)),
        case("softmax 16384", lambda: rowwise(softmax_kernel, softmax, 16384, 256)),
        case("layer norm", layer_norm),
        case("layer norm backward", layer_norm_backward),
        case("rms norm", rms_norm),
        case("cross entropy", cross_entropy),
        case("sum", total),
        case("sum axis 0", sum_columns),
        case("mean axis 1", lambda: rowwise(mean_rows_kernel, lambda x: x.mean(1))),
        case("argmax axis 1", lambda: rowwise(argmax_kernel, lambda x: x.argmax(1))),
        case("cumsum", lambda: rowwise(cumsum_kernel, lambda x: x.cumsum(1))),
        case("sort", lambda: rowwise(sort_kernel, lambda x: x.sort(1).values, 1024, 1024)),
    ]


def new_result(
    launch: Callable[..., object], function: Callable[..., Tensor], operands: list[Tensor], rtol: float = 1e-4
) -> Work:
    """`launch(out, *operands)` on gxu with a new result each call, as eager and Inductor make theirs."""
    result = function(*operands)
    on_gxu = [x.to(DEVICE) for x in operands]

    def kernel() -> Tensor:
        out = torch.empty(result.shape, dtype=result.dtype, device=DEVICE)
        launch(out, *on_gxu)
        return out

    return Work(kernel, lambda: function(*operands), (function, tuple(operands)), rtol=rtol, atol=10 * rtol)


def layer_norm() -> Work:
    def launch(out: Tensor, x: Tensor, w: Tensor, b: Tensor) -> None:
        mean, rstd = (torch.empty(ROWS, device=x.device) for _ in range(2))
        layer_norm_kernel[(ROWS,)](x, w, b, out, mean, rstd, COLUMNS, EPS, BLOCK=COLUMNS)

    operands = [torch.randn(ROWS, COLUMNS), torch.randn(COLUMNS), torch.randn(COLUMNS)]
    return new_result(launch, lambda x, w, b: F.layer_norm(x, (COLUMNS,), w, b, EPS), operands)


def layer_norm_backward() -> Work:
    x, w, b, dy = torch.randn(ROWS, COLUMNS), torch.randn(COLUMNS), torch.randn(COLUMNS), torch.randn(ROWS, COLUMNS)
    _, mean, rstd = torch.native_layer_norm(x, (COLUMNS,), w, b, EPS)
    on_gxu = [t.to(DEVICE) for t in (dy, x, w, mean, rstd)]
    programs = 16

    def kernel() -> tuple[Tensor, Tensor, Tensor]:
        dx = torch.empty(ROWS, COLUMNS, device=DEVICE)
        dw, db = (torch.empty(programs, COLUMNS, device=DEVICE) for _ in range(2))
        layer_norm_backward_kernel[(programs,)](*on_gxu, dx, dw, db, ROWS, COLUMNS, BLOCK=COLUMNS)
        return dx, dw.sum(0), db.sum(0)

    def function(dy: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, w: Tensor, b: Tensor) -> Any:
        return torch.ops.aten.native_layer_norm_backward(dy, x, (COLUMNS,), mean, rstd, w, b, (True, True, True))

    operands = (dy, x, mean, rstd, w, b)
    return Work(kernel, lambda: function(*operands), (function, operands), rtol=1e-3, atol=1e-3)


def rms_norm() -> Work:
    def launch(out: Tensor, x: Tensor, w: Tensor) -> None:
        rms_norm_kernel[(ROWS,)](x, w, out, COLUMNS, EPS, BLOCK=COLUMNS)

    operands = [torch.randn(ROWS, COLUMNS), torch.randn(COLUMNS)]
    return new_result(launch, lambda x, w: F.rms_norm(x, (COLUMNS,), w, EPS), operands)


def cross_entropy() -> Work:
    rows = 512

    def launch(out: Tensor, x: Tensor, target: Tensor) -> None:
        cross_entropy_kernel[(rows,)](x, target, out, CLASSES, BLOCK=4096)

    operands = [torch.randn(rows, CLASSES), torch.randint(0, CLASSES, (rows,))]
    return new_result(launch, lambda x, target: F.cross_entropy(x, target, reduction="none"), operands)


def total() -> Work:
    n, block = ROWS * COLUMNS, 1 << 17  # 32 programs: the device wants at most 48
    kernel = sum_kernel[(triton.cdiv(n, block),)]

    def launch(out: Tensor, x: Tensor) -> None:
        out.zero_()
        kernel(x, out, n, BLOCK=block)

    return new_result(launch, torch.sum, [torch.rand(n)])


def sum_columns() -> Work:
    block = 512  # two programs: longer pieces of a row are read faster

    def launch(out: Tensor, x: Tensor) -> None:
        grid = (triton.cdiv(COLUMNS, block),)
        sum_columns_kernel[grid](x, out, ROWS, COLUMNS, BLOCK_M=8, BLOCK_N=block)

    return new_result(launch, lambda x: x.sum(0), [torch.randn(ROWS, COLUMNS)], rtol=1e-3)
