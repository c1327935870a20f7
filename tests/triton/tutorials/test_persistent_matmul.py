"""Persistent matrix products: as many programs as the device has units, each computing tile after tile.

The operands come by pointers, by descriptors made on the host (autotuned: a hook sets their blocks), and by descriptors
made in the kernel, with an epilogue that stores each tile in two halves.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

DTYPES = [torch.float16, torch.float8_e4m3fn]


@triton.jit
def tile_position(tile, tiles_m, in_group, GROUP_M: tl.constexpr):
    first = tile // in_group * GROUP_M
    height = min(tiles_m - first, GROUP_M)
    return first + tile % height, tile % in_group // height


@triton.jit
def pointer_kernel(
    a, b, c, M, N, K, lda, ldb, ldc,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP_M: tl.constexpr, PROGRAMS: tl.constexpr,
):  # fmt: skip
    tiles_m, tiles_n = tl.cdiv(M, BLOCK_M), tl.cdiv(N, BLOCK_N)
    steps = tl.cdiv(K, BLOCK_K)
    for tile in tl.range(tl.program_id(0), tiles_m * tiles_n, PROGRAMS, flatten=True):
        tile_m, tile_n = tile_position(tile, tiles_m, GROUP_M * tiles_n, GROUP_M)
        i = tile_m * BLOCK_M + tl.arange(0, BLOCK_M)
        j = tile_n * BLOCK_N + tl.arange(0, BLOCK_N)
        i_inside = tl.max_contiguous(tl.multiple_of(tl.where(i < M, i, 0), BLOCK_M), BLOCK_M)
        j_inside = tl.where(j < N, j, 0)
        total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
        for step in range(steps):
            k = step * BLOCK_K + tl.arange(0, BLOCK_K)
            x = tl.load(a + i_inside[:, None] * lda + k[None, :], mask=k[None, :] < K, other=0.0)
            y = tl.load(b + k[:, None] + j_inside[None, :] * ldb, mask=k[:, None] < K, other=0.0)
            total = tl.dot(x, y, total)
        inside = (i[:, None] < M) & (j[None, :] < N)
        tl.store(c + i[:, None] * ldc + j[None, :], total.to(c.dtype.element_ty), inside)


def set_blocks(arguments: dict[str, Any]) -> None:
    m, n, k = (arguments[name] for name in ("BLOCK_M", "BLOCK_N", "BLOCK_K"))
    arguments["a"].block_shape = [m, k]
    arguments["b"].block_shape = [n, k]
    arguments["c"].block_shape = [m, n // 2 if arguments["HALVES"] else n]


CONFIGS = [
    triton.Config(
        {"BLOCK_M": m, "BLOCK_N": n, "BLOCK_K": k, "GROUP_M": 8, "HALVES": halves},
        num_stages=stages,
        num_warps=warps,
        pre_hook=set_blocks,
    )
    for m, n, k, stages, warps in [(128, 128, 64, 3, 8), (64, 32, 64, 4, 4)]
    for halves in (False, True)
]


@triton.autotune(configs=CONFIGS, key=["M", "N", "K"])
@triton.jit
def host_descriptor_kernel(
    a, b, c, M, N, K,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP_M: tl.constexpr,
    HALVES: tl.constexpr, PROGRAMS: tl.constexpr,
):  # fmt: skip
    tiles_m, tiles_n = tl.cdiv(M, BLOCK_M), tl.cdiv(N, BLOCK_N)
    for tile in tl.range(tl.program_id(0), tiles_m * tiles_n, PROGRAMS):
        tile_m, tile_n = tile_position(tile, tiles_m, GROUP_M * tiles_n, GROUP_M)
        i, j = tile_m * BLOCK_M, tile_n * BLOCK_N
        total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
        for step in range(tl.cdiv(K, BLOCK_K)):
            total = tl.dot(a.load([i, step * BLOCK_K]), b.load([j, step * BLOCK_K]).T, total)
        store_tile(c, i, j, total, HALVES)


@triton.jit
def store_tile(c, i, j, total, HALVES: tl.constexpr):
    if HALVES:
        rows: tl.constexpr = total.shape[0]
        columns: tl.constexpr = total.shape[1] // 2
        left, right = total.reshape(rows, 2, columns).permute(0, 2, 1).split()
        c.store([i, j], left.to(c.dtype))
        c.store([i, j + columns], right.to(c.dtype))
    else:
        c.store([i, j], total.to(c.dtype))


@triton.jit
def device_descriptor_kernel(
    a, b, c, M, N, K,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP_M: tl.constexpr,
    HALVES: tl.constexpr, PROGRAMS: tl.constexpr, FLATTEN: tl.constexpr,
):  # fmt: skip
    a_tiles = tl.make_tensor_descriptor(a, shape=[M, K], strides=[K, 1], block_shape=[BLOCK_M, BLOCK_K])
    b_tiles = tl.make_tensor_descriptor(b, shape=[N, K], strides=[K, 1], block_shape=[BLOCK_N, BLOCK_K])
    c_columns: tl.constexpr = BLOCK_N // 2 if HALVES else BLOCK_N
    c_tiles = tl.make_tensor_descriptor(c, shape=[M, N], strides=[N, 1], block_shape=[BLOCK_M, c_columns])
    tiles_m, tiles_n = tl.cdiv(M, BLOCK_M), tl.cdiv(N, BLOCK_N)
    stored = tl.program_id(0) - PROGRAMS
    for tile in tl.range(tl.program_id(0), tiles_m * tiles_n, PROGRAMS, flatten=FLATTEN):
        tile_m, tile_n = tile_position(tile, tiles_m, GROUP_M * tiles_n, GROUP_M)
        total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
        for step in range(tl.cdiv(K, BLOCK_K)):
            x = a_tiles.load([tile_m * BLOCK_M, step * BLOCK_K])
            y = b_tiles.load([tile_n * BLOCK_N, step * BLOCK_K])
            total = tl.dot(x, y.T, total)
        # The position is counted a second time, as a pipelined epilogue does.
        stored += PROGRAMS
        store_m, store_n = tile_position(stored, tiles_m, GROUP_M * tiles_n, GROUP_M)
        store_tile(c_tiles, store_m * BLOCK_M, store_n * BLOCK_N, total, HALVES)


def operands(dtype: torch.dtype, m: int = 200, n: int = 160, k: int = 144) -> tuple[torch.Tensor, ...]:
    """a, b (transposed), what their product is, and room for it on the device."""
    a, b = torch.randn(m, k).to(dtype), torch.randn(n, k).to(dtype)
    return a, b, a.double() @ b.double().T, torch.full((m, n), float("nan"), dtype=torch.float16, device="gxu")


def check(result: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(result.cpu().double(), expected, rtol=2e-3, atol=2e-3)


def programs() -> int:
    return torch.gxu.get_device_properties().multi_processor_count


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [1, 3, 100])
def test_pointers(dtype, count):
    a, b, expected, c = operands(dtype)
    (m, k), n = a.shape, b.shape[0]
    blocks = {"BLOCK_M": 64, "BLOCK_N": 32, "BLOCK_K": 64, "GROUP_M": 2}
    pointer_kernel[(count,)](a.to("gxu"), b.to("gxu"), c, m, n, k, k, k, n, **blocks, PROGRAMS=count)
    check(c, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_descriptors_made_on_the_host(dtype):
    a, b, expected, c = operands(dtype)
    (m, k), n = a.shape, b.shape[0]
    descriptors = [TensorDescriptor.from_tensor(t, [1, 1]) for t in (a.to("gxu"), b.to("gxu"), c)]
    host_descriptor_kernel[(programs(),)](*descriptors, m, n, k, PROGRAMS=programs())
    check(c, expected)


@pytest.fixture
def device_memory_for_descriptors() -> Iterator[None]:
    triton.set_allocator(lambda size, alignment, stream: torch.empty(size, dtype=torch.int8, device="gxu"))
    yield
    triton.set_allocator(triton.runtime._allocation.NullAllocator())


@pytest.mark.usefixtures("device_memory_for_descriptors")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("halves", [False, True])
@pytest.mark.parametrize("flatten", [False, True])
def test_descriptors_made_on_the_device(dtype, halves, flatten):
    a, b, expected, c = operands(dtype)
    (m, k), n = a.shape, b.shape[0]
    blocks = {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 32, "GROUP_M": 8}
    device_descriptor_kernel[(3,)](
        a.to("gxu"), b.to("gxu"), c, m, n, k, **blocks, HALVES=halves, PROGRAMS=3, FLATTEN=flatten
    )
    check(c, expected)
