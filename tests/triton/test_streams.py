"""Results larger than the caches are stored past them: the numbers are those of plain stores."""

import dataclasses
import itertools

import pytest
import torch
import triton
import triton.language as tl
from triton_helpers import launch

from gxu.triton.codegen import target

CACHE_BYTES = 1 << 16
DTYPES = [torch.float32, torch.bfloat16, torch.float64, torch.int8]


@pytest.fixture(autouse=True)
def small_cache(monkeypatch):
    """Compiles for a last cache that small tensors outgrow."""
    small = dataclasses.replace(target.host_target(), cache_bytes=CACHE_BYTES)
    monkeypatch.setattr(target, "host_target", lambda: small)
    return small


@triton.jit
def double(x, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    v = tl.load(x + i, i < n)
    tl.store(out + i, v + v, i < n)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_any_length_and_alignment(dtype):
    for n, block, offset in itertools.product((1, 65521, 70000, 131072), (256, 1024), (0, 1, 3)):
        x = torch.randint(-60, 60, (n + offset,)).to(dtype).to("gxu")[offset:]
        out = torch.full((n + 2 * offset + 64,), 77, dtype=dtype, device="gxu")
        double[(triton.cdiv(n, block),)](x, out[offset:], n, BLOCK=block)
        actual = out.cpu()
        torch.testing.assert_close(actual[offset : n + offset], x.cpu() * 2, rtol=0, atol=0)
        assert (actual[:offset] == 77).all() and (actual[n + offset :] == 77).all()


@triton.jit
def rows_twice(x, first, second, columns, BLOCK: tl.constexpr):
    row, j = tl.program_id(0), tl.arange(0, BLOCK)
    v = tl.load(x + row * columns + j, j < columns)
    tl.store(first + row * columns + j, v, j < columns)
    tl.store(second + j * tl.num_programs(0) + row, v, j < columns)
    tl.store(first + row * columns + j, v + 1, j < columns)


@pytest.mark.parametrize("columns", [1, 16, 63, 256, 300])
def test_rows_written_twice_and_scattered(columns):
    rows = 2 * CACHE_BYTES // 4 // columns
    x, first, second = torch.randn(rows, columns), torch.empty(rows, columns), torch.empty(columns, rows)
    _, first, second = launch(rows_twice, (rows,), x, first, second, columns, BLOCK=512)
    torch.testing.assert_close(first, x + 1, rtol=0, atol=0)
    torch.testing.assert_close(second, x.t().contiguous(), rtol=0, atol=0)


@triton.jit
def in_place(x, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(x + i, tl.load(x + i, i < n) * 3, i < n)


@triton.jit
def counted(x, count, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(x + i, i, i < n)
    tl.atomic_add(count, 1)


def test_which_stores_go_past_the_caches(small_cache):
    n = CACHE_BYTES
    x, out, count = torch.ones(n, device="gxu"), torch.ones(n, device="gxu"), torch.zeros(1, device="gxu")
    handles = [
        double[(triton.cdiv(n, 256),)](x, out, n, BLOCK=256),
        in_place[(triton.cdiv(n, 256),)](x, n, BLOCK=256),
        counted[(triton.cdiv(n, 256),)](out, count, n, BLOCK=256),
    ]
    streams = ["!nontemporal" in str(handle.asm["llir"]) for handle in handles]
    whole_lines = small_cache.stores_past_caches and small_cache.vector_bytes >= 32
    assert streams == [whole_lines, False, False]
    assert count.item() == triton.cdiv(n, 256) and (x == 3).all()
    assert torch.equal(out.cpu(), torch.arange(n, dtype=torch.float32))


@pytest.mark.parametrize("shape", [(64, 512), (200, 130), (333, 97)])
def test_transposed(shape):
    rows, columns = shape
    x, out = torch.randn(rows, columns), torch.empty(columns, rows)
    grid = (triton.cdiv(rows, 32), triton.cdiv(columns, 64))
    _, out = launch(transpose, grid, x, out, rows, columns, BLOCK_M=32, BLOCK_N=64)
    torch.testing.assert_close(out, x.t().contiguous(), rtol=0, atol=0)


@triton.jit
def transpose(x, out, rows, columns, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    i = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    j = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    mask = (i[:, None] < rows) & (j[None, :] < columns)
    v = tl.load(x + i[:, None] * columns + j[None, :], mask)
    tl.store(out + j[:, None] * rows + i[None, :], tl.trans(v), tl.trans(mask))
