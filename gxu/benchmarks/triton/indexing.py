"""Kernels whose addresses come from data, or have strides."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from gxu.benchmarks.triton.comparison import at_least_torch
from gxu.benchmarks.triton.reductions import new_result
from gxu.benchmarks.triton.row import Case, Work

GROUP = "indexing"
ENTRIES, WIDTH, LOOKUPS = 30000, 384, 4096
ELEMENTS = 1 << 21
SIDE = 2048
BLOCK = 1 << 12


@triton.jit
def gather_kernel(x_ptr, index_ptr, y_ptr, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    index = tl.load(index_ptr + i, i < n, other=0)
    tl.store(y_ptr + i, tl.load(x_ptr + index, i < n), i < n)


@triton.jit
def gather_rows_kernel(x_ptr, index_ptr, y_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    j = tl.arange(0, BLOCK)
    source = tl.load(index_ptr + row)
    tl.store(y_ptr + row * columns + j, tl.load(x_ptr + source * columns + j, j < columns), j < columns)


@triton.jit
def scatter_add_kernel(x_ptr, index_ptr, y_ptr, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    index = tl.load(index_ptr + i, i < n, other=0)
    tl.atomic_add(y_ptr + index, tl.load(x_ptr + i, i < n, other=0.0), i < n, sem="relaxed")


@triton.jit
def scatter_add_rows_kernel(x_ptr, index_ptr, y_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    j = tl.arange(0, BLOCK)
    target = tl.load(index_ptr + row)
    x = tl.load(x_ptr + row * columns + j, j < columns)
    tl.atomic_add(y_ptr + target * columns + j, x, j < columns, sem="relaxed")


@triton.jit
def strided_kernel(x_ptr, y_ptr, n, STEP: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y_ptr + i, tl.load(x_ptr + i * STEP, i < n), i < n)


@triton.jit
def permute_kernel(
    x_ptr, y_ptr, n, tokens: tl.constexpr, heads: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr
):
    """(batch, token, head, width) to (batch, head, token, width), one flat index as Inductor writes it."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    d = i % WIDTH
    token = i // WIDTH % tokens
    head = i // (WIDTH * tokens) % heads
    batch = i // (WIDTH * tokens * heads)
    x = tl.load(x_ptr + d + WIDTH * (head + heads * (token + tokens * batch)), i < n)
    tl.store(y_ptr + i, x, i < n)


@triton.jit
def transposed_sum_kernel(x_ptr, y_ptr, z_ptr, rows, columns, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    i = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    j = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    mask = (i[:, None] < rows) & (j[None, :] < columns)
    x = tl.load(x_ptr + i[:, None] + j[None, :] * rows, mask)
    y = tl.load(y_ptr + i[:, None] * columns + j[None, :], mask)
    tl.store(z_ptr + i[:, None] * columns + j[None, :], x + y, mask)


def cases() -> list[Case]:
    makes: dict[str, Callable[[], Work]] = {
        "gather": gather,
        "index_select rows": index_select,
        "embedding": embedding,
        "scatter-add": scatter_add,
        "embedding backward": embedding_backward,
        "every second": lambda: strided(2),
        "every third": lambda: strided(3),
        "split heads": split_heads,
        "x.t() + y": transposed,
    }
    return [at_least_torch(name, GROUP, make) for name, make in makes.items()]


def grid(n: int) -> tuple[int]:
    return (triton.cdiv(n, BLOCK),)


def gather() -> Work:
    def launch(out: Tensor, x: Tensor, index: Tensor) -> None:
        gather_kernel[grid(ELEMENTS)](x, index, out, ELEMENTS, BLOCK=BLOCK)

    operands = [torch.randn(ELEMENTS), torch.randint(0, ELEMENTS, (ELEMENTS,))]
    return new_result(launch, lambda x, index: x.gather(0, index), operands)


def index_select() -> Work:
    def launch(out: Tensor, x: Tensor, index: Tensor) -> None:
        gather_rows_kernel[(LOOKUPS,)](x, index, out, 256, BLOCK=256)

    operands = [torch.randn(ENTRIES, 256), torch.randint(0, ENTRIES, (LOOKUPS,))]
    return new_result(launch, lambda x, index: x.index_select(0, index), operands)


def embedding() -> Work:
    def launch(out: Tensor, index: Tensor, table: Tensor) -> None:
        gather_rows_kernel[(LOOKUPS,)](table, index, out, WIDTH, BLOCK=triton.next_power_of_2(WIDTH))

    return new_result(launch, F.embedding, [torch.randint(0, ENTRIES, (LOOKUPS,)), torch.randn(ENTRIES, WIDTH)])


def scatter_add() -> Work:
    size = 1 << 16

    def launch(out: Tensor, x: Tensor, index: Tensor) -> None:
        out.zero_()
        scatter_add_kernel[grid(ELEMENTS)](x, index, out, ELEMENTS, BLOCK=BLOCK)

    operands = [torch.rand(ELEMENTS), torch.randint(0, size, (ELEMENTS,))]
    return new_result(launch, lambda x, index: torch.zeros(size).scatter_add(0, index, x), operands)


def embedding_backward() -> Work:
    def launch(out: Tensor, dy: Tensor, index: Tensor) -> None:
        out.zero_()
        scatter_add_rows_kernel[(LOOKUPS,)](dy, index, out, WIDTH, BLOCK=triton.next_power_of_2(WIDTH))

    def function(dy: Tensor, index: Tensor) -> Tensor:
        result: Tensor = torch.ops.aten.embedding_dense_backward(dy, index, 2048, -1, False)
        return result

    return new_result(launch, function, [torch.rand(LOOKUPS, WIDTH), torch.randint(0, 2048, (LOOKUPS,))])


def strided(step: int) -> Work:
    def launch(out: Tensor, x: Tensor) -> None:
        strided_kernel[grid(ELEMENTS)](x, out, ELEMENTS, STEP=step, BLOCK=BLOCK)

    return new_result(launch, lambda x: x[::step].contiguous(), [torch.randn(ELEMENTS * step)])


def split_heads() -> Work:
    batch, tokens, heads, width = 8, 512, 12, 32
    n = batch * tokens * heads * width

    def launch(out: Tensor, x: Tensor) -> None:
        permute_kernel[grid(n)](x, out, n, tokens, heads, WIDTH=width, BLOCK=BLOCK)

    def function(x: Tensor) -> Tensor:
        return x.view(batch, tokens, heads, width).permute(0, 2, 1, 3).contiguous()

    return new_result(launch, function, [torch.randn(batch, tokens, heads * width)])


def transposed() -> Work:
    def launch(out: Tensor, x: Tensor, y: Tensor) -> None:
        blocks = (SIDE // 64, SIDE // 64)
        transposed_sum_kernel[blocks](x, y, out, SIDE, SIDE, BLOCK_M=64, BLOCK_N=64)

    return new_result(launch, lambda x, y: x.t() + y, [torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE)])
