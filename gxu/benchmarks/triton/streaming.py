"""Kernels that read and write whole tensors once: copies, chains of elementwise operations, transpositions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra import libdevice

from gxu.benchmarks.device import DEVICE
from gxu.benchmarks.triton.comparison import bound_by_copy
from gxu.benchmarks.triton.row import Case, Work

GROUP = "streaming, 64 MB"
BAR = 0.9
ELEMENTS = 1 << 24
SIDE = 1 << 12
BLOCK = 1 << 13


@triton.jit
def copy_kernel(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y_ptr + i, tl.load(x_ptr + i, i < n), i < n)


@triton.jit
def add_kernel(x_ptr, y_ptr, z_ptr, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(z_ptr + i, tl.load(x_ptr + i, i < n) + tl.load(y_ptr + i, i < n), i < n)


@triton.jit
def chain_kernel(x_ptr, y_ptr, z_ptr, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + i, i < n)
    y = tl.load(y_ptr + i, i < n)
    z = tl.maximum(x * 2.0 + y, 0.0) - tl.abs(x) * 0.5
    tl.store(z_ptr + i, tl.sqrt(z * z + 1.0), i < n)


@triton.jit
def gelu_kernel(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + i, i < n).to(tl.float32)
    y = 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
    tl.store(y_ptr + i, y.to(y_ptr.dtype.element_ty), i < n)


@triton.jit
def tanh_gelu_kernel(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + i, i < n)
    inner = 0.7978845608028654 * (x + 0.044715 * x * x * x)
    tl.store(y_ptr + i, 0.5 * x * (1.0 + libdevice.tanh(inner)), i < n)


@triton.jit
def bias_silu_kernel(x_ptr, bias_ptr, y_ptr, n, columns, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + i, i < n) + tl.load(bias_ptr + i % columns, i < n)
    tl.store(y_ptr + i, x * tl.sigmoid(x), i < n)


@triton.jit
def transpose_kernel(x_ptr, y_ptr, rows, columns, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    i = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    j = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    mask = (i[:, None] < rows) & (j[None, :] < columns)
    x = tl.load(x_ptr + i[:, None] * columns + j[None, :], mask)
    tl.store(y_ptr + j[:, None] * rows + i[None, :], tl.trans(x), tl.trans(mask))


@triton.jit
def add_transposed_kernel(x_ptr, y_ptr, z_ptr, rows, columns, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    i = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    j = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    mask = (i[:, None] < rows) & (j[None, :] < columns)
    x = tl.load(x_ptr + i[:, None] + j[None, :] * rows, mask)
    y = tl.load(y_ptr + i[:, None] * columns + j[None, :], mask)
    tl.store(z_ptr + i[:, None] * columns + j[None, :], x + y, mask)


def cases() -> list[Case]:
    def case(name: str, make: Callable[[], Work]) -> Case:
        return bound_by_copy(name, GROUP, BAR, make)

    return [
        case("copy", lambda: flat(copy_kernel, torch.clone, 1)),
        case("copy bf16", lambda: flat(copy_kernel, torch.clone, 1, torch.bfloat16)),
        case("add", lambda: flat(add_kernel, torch.add, 2)),
        case("chain of 8", lambda: flat(chain_kernel, _chain, 2)),
        case("bias silu", bias_silu),
        case("gelu", lambda: flat(gelu_kernel, F.gelu, 1)),
        case("gelu bf16", lambda: flat(gelu_kernel, F.gelu, 1, torch.bfloat16)),
        case("gelu tanh", lambda: flat(tanh_gelu_kernel, lambda x: F.gelu(x, approximate="tanh"), 1)),
        case("transpose", transpose),
        case("add transposed", add_transposed),
    ]


def _chain(x: Tensor, y: Tensor) -> Tensor:
    z = torch.relu(x * 2.0 + y) - x.abs() * 0.5
    return torch.sqrt(z * z + 1.0)


def flat(kernel: Any, function: Callable[..., Tensor], operands: int, dtype: torch.dtype = torch.float32) -> Work:
    """64 MB an operand. Results are written to memory that is mapped already: new pages cost as much as the copy."""
    elements = ELEMENTS * 4 // dtype.itemsize
    xs = [torch.randn(elements, dtype=dtype) for _ in range(operands)]
    return written_out(
        lambda out, *inputs: kernel[(triton.cdiv(elements, BLOCK),)](*inputs, out, elements, BLOCK=BLOCK), function, xs
    )


def bias_silu() -> Work:
    xs = [torch.randn(SIDE, SIDE), torch.randn(SIDE)]
    return written_out(
        lambda out, x, bias: bias_silu_kernel[(triton.cdiv(ELEMENTS, BLOCK),)](
            x, bias, out, ELEMENTS, SIDE, BLOCK=BLOCK
        ),
        lambda x, bias: F.silu(x + bias),
        xs,
    )


def transpose() -> Work:
    grid = (SIDE // 64, SIDE // 64)
    return written_out(
        lambda out, x: transpose_kernel[grid](x, out, SIDE, SIDE, BLOCK_M=64, BLOCK_N=64),
        lambda x: x.t().contiguous(),
        [torch.randn(SIDE, SIDE)],
    )


def add_transposed() -> Work:
    grid = (SIDE // 64, SIDE // 64)
    return written_out(
        lambda out, x, y: add_transposed_kernel[grid](x, y, out, SIDE, SIDE, BLOCK_M=64, BLOCK_N=64),
        lambda x, y: x.t() + y,
        [torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE)],
    )


def written_out(launch: Callable[..., object], function: Callable[..., Tensor], operands: list[Tensor]) -> Work:
    """`launch(out, *operands)` on gxu, `function(*operands)` on the CPU with its result copied into place."""
    result = function(*operands)
    on_gxu = [x.to(DEVICE) for x in operands]
    out = torch.empty(result.shape, dtype=result.dtype, device=DEVICE)
    out_cpu = torch.empty(result.shape, dtype=result.dtype)

    def kernel() -> Tensor:
        launch(out, *on_gxu)
        return out

    def into(target: Tensor, *inputs: Tensor) -> None:
        target.copy_(function(*inputs))

    moved = sum(x.nbytes for x in operands) + out.nbytes
    halves = result.dtype in (torch.bfloat16, torch.float16)
    return Work(
        kernel,
        lambda: function(*operands),
        (into, (out_cpu, *operands)),
        moved,
        rtol=1e-2 if halves else 1e-4,
        atol=1e-2 if halves else 1e-4,
    )
