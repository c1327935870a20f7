"""Many matrix products in one launch: the kernel gets tables of addresses and sizes, and a fixed number of programs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import triton
import triton.language as tl

SIZES = [(96, 64, 80), (33, 130, 70), (16, 16, 16), (1, 200, 48), (128, 128, 128)]

CONFIGS = [
    triton.Config({"BLOCK_M": m, "BLOCK_N": n, "BLOCK_K": 32, "PROGRAMS": programs})
    for m, n, programs in [(64, 64, 4), (32, 64, 7), (128, 128, 2)]
]


@triton.autotune(configs=CONFIGS, key=["count"])
@triton.jit
def grouped_kernel(
    a_addresses, b_addresses, c_addresses, sizes, strides, count,
    PROGRAMS: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    tile = tl.program_id(0)
    done = 0
    for problem in range(count):
        m = tl.load(sizes + problem * 3)
        n = tl.load(sizes + problem * 3 + 1)
        k = tl.load(sizes + problem * 3 + 2)
        columns = tl.cdiv(n, BLOCK_N)
        tiles = tl.cdiv(m, BLOCK_M) * columns
        while tile >= done and tile < done + tiles:
            lda = tl.load(strides + problem * 3)
            ldb = tl.load(strides + problem * 3 + 1)
            ldc = tl.load(strides + problem * 3 + 2)
            a = tl.load(a_addresses + problem).to(tl.pointer_type(tl.float16))
            b = tl.load(b_addresses + problem).to(tl.pointer_type(tl.float16))
            c = tl.load(c_addresses + problem).to(tl.pointer_type(tl.float16))
            i = (tile - done) // columns * BLOCK_M + tl.arange(0, BLOCK_M)
            j = (tile - done) % columns * BLOCK_N + tl.arange(0, BLOCK_N)
            at_k = tl.arange(0, BLOCK_K)
            a_at = a + i[:, None] * lda + at_k[None, :]
            b_at = b + at_k[:, None] * ldb + j[None, :]
            total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
            for start in range(0, k, BLOCK_K):
                tl.multiple_of(a_at, [16, 16])
                x = tl.load(a_at, (i[:, None] < m) & (at_k[None, :] < k - start), other=0.0)
                y = tl.load(b_at, (at_k[:, None] < k - start) & (j[None, :] < n), other=0.0)
                total += tl.dot(x, y)
                a_at += BLOCK_K
                b_at += BLOCK_K * ldb
            inside = (i[:, None] < m) & (j[None, :] < n)
            tl.store(c + i[:, None] * ldc + j[None, :], total.to(tl.float16), inside)
            tile += PROGRAMS
        done = done + tiles


@triton.jit
def grouped_descriptor_kernel(
    a_addresses, b_addresses, c_addresses, sizes, count,
    PROGRAMS: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """As above, through descriptors that are made for each problem; b is transposed."""
    tile = tl.program_id(0)
    done = 0
    for problem in range(count):
        m = tl.load(sizes + problem * 3)
        n = tl.load(sizes + problem * 3 + 1)
        k = tl.load(sizes + problem * 3 + 2)
        columns = tl.cdiv(n, BLOCK_N)
        tiles = tl.cdiv(m, BLOCK_M) * columns
        if tile >= done and tile < done + tiles:
            a = tl.load(a_addresses + problem).to(tl.pointer_type(tl.float16))
            b = tl.load(b_addresses + problem).to(tl.pointer_type(tl.float16))
            c = tl.load(c_addresses + problem).to(tl.pointer_type(tl.float16))
            a_tiles = tl.make_tensor_descriptor(a, shape=[m, k], strides=[k, 1], block_shape=[BLOCK_M, BLOCK_K])
            b_tiles = tl.make_tensor_descriptor(b, shape=[n, k], strides=[k, 1], block_shape=[BLOCK_N, BLOCK_K])
            c_tiles = tl.make_tensor_descriptor(c, shape=[m, n], strides=[n, 1], block_shape=[BLOCK_M, BLOCK_N])
            while tile >= done and tile < done + tiles:
                i, j = (tile - done) // columns * BLOCK_M, (tile - done) % columns * BLOCK_N
                total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
                for start in range(0, k, BLOCK_K):
                    total += tl.dot(a_tiles.load([i, start]), b_tiles.load([j, start]).T)
                c_tiles.store([i, j], total.to(tl.float16))
                tile += PROGRAMS
        done = done + tiles


def problems() -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    return (
        [torch.randn(m, k).half() for m, _, k in SIZES],
        [torch.randn(k, n).half() for _, n, k in SIZES],
    )


def addresses(tensors: list[torch.Tensor]) -> torch.Tensor:
    return torch.tensor([t.data_ptr() for t in tensors], dtype=torch.int64, device="gxu")


def check(a: list[torch.Tensor], b: list[torch.Tensor], c: list[torch.Tensor]) -> None:
    for x, y, z in zip(a, b, c, strict=True):
        torch.testing.assert_close(z.cpu().double(), x.double() @ y.double(), rtol=2e-3, atol=2e-3)


def outputs() -> list[torch.Tensor]:
    return [torch.full((m, n), float("nan"), dtype=torch.float16, device="gxu") for m, n, _ in SIZES]


def test_grouped_gemm():
    a, b = problems()
    on_device = [x.to("gxu") for x in a], [y.to("gxu") for y in b], outputs()
    sizes = torch.tensor(SIZES, dtype=torch.int32, device="gxu")
    strides = torch.tensor([(k, n, n) for _, n, k in SIZES], dtype=torch.int32, device="gxu")
    grouped_kernel[lambda meta: (meta["PROGRAMS"],)](*map(addresses, on_device), sizes, strides, len(SIZES))
    check(a, b, on_device[2])


@pytest.fixture
def device_memory_for_descriptors() -> Iterator[None]:
    triton.set_allocator(lambda size, alignment, stream: torch.empty(size, dtype=torch.int8, device="gxu"))
    yield
    triton.set_allocator(triton.runtime._allocation.NullAllocator())


@pytest.mark.usefixtures("device_memory_for_descriptors")
def test_grouped_gemm_by_descriptors():
    a, b = problems()
    on_device = [x.to("gxu") for x in a], [y.T.contiguous().to("gxu") for y in b], outputs()
    sizes = torch.tensor(SIZES, dtype=torch.int32, device="gxu")
    grouped_descriptor_kernel[(5,)](
        *map(addresses, on_device), sizes, len(SIZES), PROGRAMS=5, BLOCK_M=32, BLOCK_N=64, BLOCK_K=32
    )
    check(a, b, on_device[2])
