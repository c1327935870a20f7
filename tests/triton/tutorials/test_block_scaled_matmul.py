"""Block-scaled matrix product: operands by descriptors, scales shuffled into blocks of 128 x 4 as tensor cores want."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from test_dot_scaled import E2M1
from triton.tools.tensor_descriptor import TensorDescriptor


@triton.jit
def block_scaled_kernel(
    a, a_scale, b, b_scale, c, M, N, K,
    A_FORMAT: tl.constexpr, B_FORMAT: tl.constexpr, GROUP: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    A_PACKED: tl.constexpr, B_PACKED: tl.constexpr, num_stages: tl.constexpr,
):  # fmt: skip
    tiles_m = tl.cdiv(M, BLOCK_M)
    tile_m, tile_n = tl.program_id(0) % tiles_m, tl.program_id(0) // tiles_m
    rows_m: tl.constexpr = BLOCK_M // 128
    rows_n: tl.constexpr = BLOCK_N // 128
    columns: tl.constexpr = BLOCK_K // GROUP // 4
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for step in tl.range(0, tl.cdiv(K, BLOCK_K), num_stages=num_stages):
        x = a.load([tile_m * BLOCK_M, step * (BLOCK_K // A_PACKED)])
        y = b.load([tile_n * BLOCK_N, step * (BLOCK_K // B_PACKED)])
        x_scale = a_scale.load([0, tile_m * rows_m, step * columns, 0, 0])
        y_scale = b_scale.load([0, tile_n * rows_n, step * columns, 0, 0])
        x_scale = x_scale.reshape(rows_m, columns, 32, 4, 4).trans(0, 3, 2, 1, 4).reshape(BLOCK_M, BLOCK_K // GROUP)
        y_scale = y_scale.reshape(rows_n, columns, 32, 4, 4).trans(0, 3, 2, 1, 4).reshape(BLOCK_N, BLOCK_K // GROUP)
        total = tl.dot_scaled(x, x_scale, A_FORMAT, y.T, y_scale, B_FORMAT, total)
    c.store([tile_m * BLOCK_M, tile_n * BLOCK_N], total.to(c.dtype))


def matrix(rows: int, columns: int, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """(as the kernel gets it, its numbers)."""
    if kind == "e4m3":
        values = torch.randn(rows, columns).to(torch.float8_e4m3fn)
        return values, values.double()
    codes = np.random.randint(0, 16, (rows, columns))
    packed = (codes[:, ::2] | codes[:, 1::2] << 4).astype(np.uint8)
    return torch.from_numpy(packed), torch.from_numpy(E2M1[codes])


def shuffled(scales: torch.Tensor) -> torch.Tensor:
    """[rows, groups] as [1, rows / 128, groups / 4, 2, 256]: 32 rows lie together with those 32, 64, 96 further on."""
    rows, groups = scales.shape
    blocks = scales.view(torch.uint8).reshape(rows // 128, 4, 32, groups // 4, 4).permute(0, 3, 2, 1, 4)
    return blocks.contiguous().view(scales.dtype).reshape(1, rows // 128, groups // 4, 2, 256)


@pytest.mark.parametrize("kind", ["mxfp8", "mxfp4", "nvfp4", "mixed"])
@pytest.mark.parametrize("block_n", [128, 256])
def test_block_scaled_matmul(kind, block_n):
    m, n, k = 256, 256, 256
    formats = {"mxfp8": ("e4m3", "e4m3"), "mixed": ("e4m3", "e2m1")}.get(kind, ("e2m1", "e2m1"))
    group = 16 if kind == "nvfp4" else 32
    operands, exact, scales = [], [], []
    for rows, form in zip((m, n), formats, strict=True):
        values, numbers = matrix(rows, k, form)
        if kind == "nvfp4":
            scale = (torch.rand(rows, k // group) * 4).to(torch.float8_e4m3fn)
            factors = scale.double()
        else:
            scale = torch.randint(124, 131, (rows, k // group), dtype=torch.uint8)
            factors = torch.exp2(scale.double() - 127)
        operands.append(values.to("gxu"))
        scales.append(shuffled(scale).to("gxu"))
        exact.append(numbers * factors.repeat_interleave(group, 1))
    block_m, block_k = 128, 128
    packed = [1 if form == "e4m3" else 2 for form in formats]
    c = torch.full((m, n), float("nan"), dtype=torch.float32, device="gxu")
    block_scaled_kernel[(m // block_m * (n // block_n),)](
        TensorDescriptor.from_tensor(operands[0], [block_m, block_k // packed[0]]),
        TensorDescriptor.from_tensor(scales[0], [1, block_m // 128, block_k // group // 4, 2, 256]),
        TensorDescriptor.from_tensor(operands[1], [block_n, block_k // packed[1]]),
        TensorDescriptor.from_tensor(scales[1], [1, block_n // 128, block_k // group // 4, 2, 256]),
        TensorDescriptor.from_tensor(c, [block_m, block_n]),
        m, n, k, *formats, group, block_m, block_n, block_k, *packed, 2,
    )  # fmt: skip
    bound = exact[0].abs() @ exact[1].abs().T * (k + 1) * 2.0**-24
    assert ((c.cpu().double() - exact[0] @ exact[1].T).abs() <= bound).all()
