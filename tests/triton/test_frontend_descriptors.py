"""Tensor descriptors, made on the host and in the kernel: loads, stores, gathers, scatters, atomics, at every edge."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor
from triton_helpers import Guarded, assert_same

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.int32, torch.int64]


@triton.jit
def double_host(source, target, BM: tl.constexpr, BN: tl.constexpr):
    at = [tl.program_id(0) * BM - 4, tl.program_id(1) * BN]
    tile = source.load(at)
    target.store(at, tile + tile)


@triton.jit
def double_device(source, target, M, N, row, BM: tl.constexpr, BN: tl.constexpr):
    a = tl.make_tensor_descriptor(source, [M, N], [row, 1], [BM, BN])
    b = tl.make_tensor_descriptor(target, [M, N], [row, 1], [BM, BN])
    at = [tl.program_id(0) * BM - 4, tl.program_id(1) * BN]
    tile = a.load(at)
    b.store(at, tile + tile)


def matrix(dtype: torch.dtype, rows: int, columns: int) -> torch.Tensor:
    values = torch.randn(rows, columns) * 20
    if dtype.is_floating_point:
        values[0, 1], values[-1, -1] = float("nan"), float("inf")
    return values.to(dtype)


@pytest.mark.parametrize("made_on", ["host", "device"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("rows", "columns"), [(37, 60), (16, 64), (3, 5), (1, 129)])
def test_tiles_end_where_the_tensor_ends(made_on, dtype, rows, columns):
    # The rows are padded to 16 bytes, as Triton demands; the padding must stay as it is.
    row = -(-columns // 16) * 16
    inputs, outputs = matrix(dtype, rows, row), torch.full((rows, row), 77, dtype=dtype)
    x, y = Guarded(inputs), Guarded(outputs)
    grid = (triton.cdiv(rows + 4, 16), triton.cdiv(columns, 32))
    if made_on == "host":
        a, b = (TensorDescriptor(t.tensor, [rows, columns], [row, 1], [16, 32]) for t in (x, y))
        double_host[grid](a, b, BM=16, BN=32)
    else:
        double_device[grid](x.tensor, y.tensor, rows, columns, row, BM=16, BN=32)
    torch.gxu.synchronize()
    x.check()
    y.check()
    outputs[:, :columns] = inputs[:, :columns] + inputs[:, :columns]
    assert_same(y.tensor.cpu(), outputs)


@triton.jit
def copy_tile(source, target, at, R: tl.constexpr, B: tl.constexpr, SIZE: tl.constexpr):
    if R == 1:
        tile = source.load([at])
    elif R == 2:
        tile = source.load([at, at])
    elif R == 3:
        tile = source.load([at, at, at])
    elif R == 4:
        tile = source.load([at, at, at, at])
    else:
        tile = source.load([at, at, at, at, at])
    tl.store(target + tl.arange(0, SIZE), tl.reshape(tile, (SIZE,)))


@pytest.mark.parametrize("padding", ["zero", "nan"])
@pytest.mark.parametrize("rank", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("at", [-2, 0, 3])
def test_every_rank_and_padding(rank, padding, at):
    shape, block = (5, 6, 3, 5, 8)[-rank:], (2, 4, 1, 2, 8)[-rank:]
    data = torch.randn(shape)
    out = torch.full((int(np.prod(block)),), 7.0, device="gxu")
    descriptor = TensorDescriptor.from_tensor(data.to("gxu"), list(block), padding=padding)
    copy_tile[(1,)](descriptor, out, at, R=rank, B=block, SIZE=out.numel())
    expected = np.full(block, 0.0 if padding == "zero" else np.nan, np.float32)
    for index in itertools.product(*map(range, block)):
        place = tuple(i + at for i in index)
        if all(0 <= p < size for p, size in zip(place, shape, strict=True)):
            expected[index] = data[place]
    np.testing.assert_array_equal(out.cpu().numpy(), expected.reshape(-1))


@triton.jit
def move_rows(source, target, rows, column, R: tl.constexpr):
    chosen = tl.load(rows + tl.arange(0, R))
    target.scatter(source.gather(chosen, column), chosen, column)


def test_gather_and_scatter_of_rows():
    data, rows = torch.randn(37, 64), torch.tensor([3, 1, 36, 0, 37, 7, 100, 20], dtype=torch.int32)
    x, y = data.to("gxu"), Guarded(torch.full((37, 64), 7.0))
    a, b = (TensorDescriptor.from_tensor(t, [1, 32]) for t in (x, y.tensor))
    move_rows[(1,)](a, b, rows.to("gxu"), 48, R=8)
    torch.gxu.synchronize()
    y.check()
    expected = torch.full((37, 64), 7.0)
    inside = rows[rows < 37].long()
    expected[inside, 48:] = data[inside, 48:]
    assert_same(y.tensor.cpu(), expected)


@triton.jit
def reduce_into(descriptor, source, at, OPERATION: tl.constexpr):
    tile = tl.load(source + tl.arange(0, 16))
    if OPERATION == "add":
        descriptor.atomic_add([at], tile)
    elif OPERATION == "max":
        descriptor.atomic_max([at], tile)
    elif OPERATION == "min":
        descriptor.atomic_min([at], tile)
    elif OPERATION == "and":
        descriptor.atomic_and([at], tile)
    elif OPERATION == "or":
        descriptor.atomic_or([at], tile)
    else:
        descriptor.atomic_xor([at], tile)


@pytest.mark.parametrize("operation", ["add", "max", "min", "and", "or", "xor"])
def test_reductions_into_a_tensor(operation):
    before, tile = torch.randint(-99, 99, (41,), dtype=torch.int32), torch.randint(-99, 99, (16,), dtype=torch.int32)
    memory = Guarded(before)
    reduce_into[(1,)](TensorDescriptor.from_tensor(memory.tensor, [16]), tile.to("gxu"), 32, OPERATION=operation)
    torch.gxu.synchronize()
    memory.check()
    combine = {
        "add": torch.add,
        "max": torch.maximum,
        "min": torch.minimum,
        "and": torch.bitwise_and,
        "or": torch.bitwise_or,
        "xor": torch.bitwise_xor,
    }[operation]
    expected = before.clone()
    expected[32:] = combine(before[32:], tile[:9])
    assert_same(memory.tensor.cpu(), expected)


@triton.jit
def add_from_tuple(pair, out, B: tl.constexpr):
    i = tl.arange(0, B)
    tl.store(out + i, pair[0].load([0]) * pair[1][0] + pair[1][2])


def test_descriptors_inside_tuples():
    data, out = torch.randn(37), torch.zeros(32, device="gxu")
    add_from_tuple[(1,)]((TensorDescriptor.from_tensor(data.to("gxu"), [32]), (3, None, 0.5)), out, B=32)
    torch.testing.assert_close(out.cpu(), data[:32] * 3 + 0.5)


def test_no_allocator_is_needed():
    """Descriptors made in a kernel live in its registers: the allocator for global scratch memory is never asked."""

    def refuse(size: int, alignment: int, stream: int | None) -> torch.Tensor:
        raise AssertionError("a kernel of gxu asked for global scratch memory")

    triton.set_allocator(refuse)
    try:
        x = torch.randn(5, 32, device="gxu")
        y = torch.zeros_like(x)
        double_device[(1, 1)](x, y, 5, 32, 32, BM=16, BN=32)
        assert double_device.warmup(x, y, 5, 32, 32, BM=16, BN=32, grid=(1, 1)).metadata.global_scratch_size == 0
    finally:
        triton.set_allocator(triton.runtime._allocation.NullAllocator())
    assert (y == x + x).all()


@triton.jit
def product(a, b, c, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    m, n = tl.program_id(0) * BM, tl.program_id(1) * BN
    total = tl.zeros((BM, BN), tl.float32)
    for k in range(0, K, BK):
        total = tl.dot(a.load([m, k]), b.load([k, n]), total)
    c.store([m, n], total)


def test_product_over_descriptors():
    a, b = torch.randn(70, 52), torch.randn(52, 36)
    c = torch.full((70, 36), float("nan"), device="gxu")
    make = TensorDescriptor.from_tensor
    product[(3, 2)](
        make(a.to("gxu"), [32, 16]), make(b.to("gxu"), [16, 32]), make(c, [32, 32]), 52, BM=32, BN=32, BK=16
    )
    torch.testing.assert_close(c.cpu().double(), a.double() @ b.double(), rtol=1e-5, atol=1e-4)
