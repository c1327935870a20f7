"""Loads, stores and masks of every shape; views; block pointers and tensor descriptors; atomics."""

from __future__ import annotations

import ctypes
import mmap

import pytest
import torch
import triton
import triton.language as tl
from triton_helpers import Guarded, agree, assert_same, launch, random_bits

_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@triton.jit
def strided_copy(x, out, n, sx, so, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    m = i < n
    tl.store(out + i * so, tl.load(x + i * sx, mask=m), mask=m)


@pytest.mark.parametrize(
    "dtype",
    [torch.bool, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.bfloat16, torch.float64],
)
def test_strided_copies(dtype):
    for n, sx, so in ((0, 1, 1), (1, 1, 1), (100, 1, 1), (64, 2, 1), (77, 1, 3), (129, 3, 2), (130, 0, 1)):
        x = random_bits(400, dtype)
        out = random_bits(400, dtype)
        wanted = out.clone()
        wanted[: n * so : so] = x[: n * sx : sx] if sx else x[:1]
        for offset in (0, 1):
            source, target = Guarded(x, offset), Guarded(out, offset)
            strided_copy[(-(-n // 64) + 1,)](source.tensor, target.tensor, n, sx, so, B=64)
            source.check()
            target.check()
            got = target.tensor.cpu()
            if dtype != torch.bool:
                got, wanted_bits = got.view(_BITS[dtype.itemsize]), wanted.view(_BITS[dtype.itemsize])
            else:
                wanted_bits = wanted
            assert torch.equal(got, wanted_bits), (n, sx, so, offset)


@triton.jit
def flip(x, out, n, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(out + i, tl.load(x + (n - 1) - i, mask=i < n, other=-3), mask=i < n + 2)
    tl.store(out + 300 - i, tl.load(x + i, mask=i < n, other=5), mask=i < n)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.int8, torch.float16])
def test_negative_strides(dtype):
    for n in (1, 63, 65, 100):
        agree(flip, (2,), torch.randint(-50, 50, (128,)).to(dtype), torch.zeros(301, dtype=dtype), n, B=64)


@triton.jit
def strided_load(x, out, S: tl.constexpr, B: tl.constexpr):
    i = tl.arange(0, B)
    first = 0 if S > 0 else -S * (B - 1)
    tl.store(out + i, tl.load(x + first + i * S))


@pytest.mark.parametrize("dtype", [torch.bool, torch.int8, torch.int16, torch.float32, torch.float64])
@pytest.mark.parametrize("step", [2, 3, 5, 8, 9, -1, -2, -7, -9])
def test_strided_loads_stay_between_the_first_and_the_last_element(step, dtype):
    """The operand ends where a page that must not be touched begins."""
    block, size = 256, dtype.itemsize
    count = abs(step) * (block - 1) + 1
    pages = -(-count * size // mmap.PAGESIZE) * mmap.PAGESIZE
    with_guards = mmap.mmap(-1, pages + 2 * mmap.PAGESIZE)
    memory = torch.frombuffer(with_guards, dtype=torch.uint8)
    libc = ctypes.CDLL(None, use_errno=True)
    for page in (memory.data_ptr(), memory.data_ptr() + mmap.PAGESIZE + pages):
        assert libc.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
    values = random_bits(count, dtype)
    positions = torch.arange(block) * step + (0 if step > 0 else -step * (block - 1))
    for start in (mmap.PAGESIZE, mmap.PAGESIZE + pages - count * size):
        memory[start : start + count * size] = values.view(torch.uint8)
        out = torch.empty(block, dtype=dtype, device="gxu")
        source = memory[start : start + count * size].view(dtype)
        strided_load[(1,)](source, out, S=step, B=block)
        torch.gxu.synchronize()
        assert_same(out.cpu(), values[positions])


@triton.jit
def gather_scatter(x, index, out, n, m, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    ok = i < n
    at = tl.load(index + i, mask=ok, other=0)
    v = tl.load(x + at, mask=ok & (at >= 0) & (at < m), other=-1)
    tl.store(out + at, v + 1, mask=ok & (at >= 0))


@pytest.mark.parametrize("index_dtype", [torch.int32, torch.int64])
def test_gather_and_scatter(index_dtype):
    index = torch.randperm(150)[:101].to(index_dtype) - 20
    agree(gather_scatter, (2,), torch.randn(90), index, torch.full((160,), 9.0), 101, 90, B=64)


@triton.jit
def scatter_duplicates(index, out, n, B: tl.constexpr):
    i = tl.arange(0, B)
    at = tl.load(index + i, mask=i < n, other=0)
    tl.store(out + at, i, mask=i < n)


def test_scattered_duplicates_keep_one_of_the_values():
    index = torch.randint(0, 8, (100,), dtype=torch.int32)
    _, out = launch(scatter_duplicates, (1,), index, torch.full((8,), -1, dtype=torch.int32), 100, B=128)
    for slot in range(8):
        assert out[slot].item() in ((index == slot).nonzero().flatten().tolist() or [-1])


@triton.jit
def masks_2d(x, out, m, n, M: tl.constexpr, N: tl.constexpr, KIND: tl.constexpr):
    r = tl.program_id(0) * M + tl.arange(0, M)[:, None]
    c = tl.program_id(1) * N + tl.arange(0, N)[None, :]
    if KIND == 0:
        k = (r < m) & (c < n)
    elif KIND == 1:
        k = (r < m) & (c <= r)
    elif KIND == 2:
        k = (r + c < n) & (r < m)
    elif KIND == 3:
        k = (r < m) & (c < n) & ((r * n + c) % 3 != 1)
    elif KIND == 4:
        k = (tl.program_id(0) != 1) & (c < n) & (r < m)
    else:
        k = ((r < m) | (c < 2)) & (c < n) & (r < 50)
    v = tl.load(x + r * 64 + c, mask=k, other=-1.5)
    w = tl.load(x + c * 64 + r, mask=k)
    tl.store(out + r * 64 + c, v, mask=(r < 64) & (c < 64))
    tl.store(out + 64 * 64 + r * 64 + c, tl.where(k, v * 2 + w, 0.0), mask=k)


@pytest.mark.parametrize("kind", range(6))
@pytest.mark.parametrize(("m", "n"), [(0, 5), (1, 1), (13, 37), (50, 64), (33, 0)])
def test_masks_over_two_axes(kind, m, n):
    agree(masks_2d, (4, 2), torch.randn(64, 64), torch.full((2, 64, 64), 7.0), m, n, M=16, N=32, KIND=kind)


@triton.jit
def loads_with_other(x, flags, out, scalar, n, B: tl.constexpr):
    i = tl.arange(0, B)
    flag = tl.load(flags + i)
    tl.store(out + i, tl.load(x + i, mask=flag, other=scalar))
    tl.store(out + B + i, tl.load(x + i, mask=flag & (i < n), other=i * 0.5))
    tl.store(out + 2 * B + i, tl.load(x + i, mask=(scalar > 0) & (i < n), other=tl.load(x + B - 1 - i)))
    tl.store(out + 3 * B + i, tl.load(x + 7, mask=n > 5, other=2.0) + tl.zeros([B], tl.float32))
    tl.store(out + 4 * B, tl.load(x + 100000000, mask=n > 1000, other=scalar))
    tl.store(out + 5 * B + i, 1.0, mask=flag)
    tl.store(out + 6 * B + i, 3.0, mask=(n == 3) & flag)


@pytest.mark.parametrize("n", [0, 3, 20, 64])
@pytest.mark.parametrize("scalar", [-2.5, 4.0])
def test_masks_with_other_values(n, scalar):
    flags = torch.randint(0, 2, (64,)).bool()
    agree(loads_with_other, (1,), torch.randn(64), flags, torch.full((7 * 64,), 8.0), scalar, n, B=64)


@triton.jit
def booleans(x, y, out, n, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    m = i < n
    a = tl.load(x + i, m)
    b = tl.load(y + i, m, other=1)
    tl.store(out + i * 8, a & b, m)
    tl.store(out + i * 8 + 1, a | b, m)
    tl.store(out + i * 8 + 2, a ^ b, m)
    tl.store(out + i * 8 + 3, ~a, m)
    tl.store(out + i * 8 + 4, a == b, m)
    tl.store(out + i * 8 + 5, a.to(tl.int32) + b.to(tl.int32) > 1, m)
    tl.store(out + i * 8 + 6, tl.where(a, b, ~b), m)
    tl.store(out + i * 8 + 7, i % 2 == 0, m)


def test_booleans():
    flags = torch.randint(0, 2, (2, 150)).bool()
    _, _, out = agree(booleans, (3,), flags[0], flags[1], torch.zeros(150 * 8, dtype=torch.bool), 149, B=64)
    assert set(out.view(torch.uint8).tolist()) <= {0, 1}


@triton.jit
def hints(x, out, n, B: tl.constexpr):
    i = tl.arange(0, B)
    tl.assume(n > 0)
    a = tl.load(x + i, eviction_policy="evict_first", cache_modifier=".cg")
    b = tl.load(x + i, eviction_policy="evict_last", cache_modifier=".ca")
    c = tl.load(x + i, volatile=True)
    tl.store(out + i, a + b + c, cache_modifier=".wb", eviction_policy="evict_first")
    tl.debug_barrier()
    d = tl.load(x + tl.max_contiguous(tl.multiple_of(i, B), B))
    tl.store(out + B + i, d, cache_modifier=".cs")


def test_cache_hints_change_nothing():
    x = torch.randn(64)
    _, out = launch(hints, (1,), x, torch.zeros(128), 64, B=64)
    assert_same(out, torch.cat([x + x + x, x]))


@triton.jit
def views(x, out, M: tl.constexpr, N: tl.constexpr):
    i = tl.arange(0, M * N)
    r = tl.arange(0, M)
    c = tl.arange(0, N)
    v = tl.load(x + i)
    a = tl.reshape(v, [M, N])
    tl.store(out + c[:, None] * M + r[None, :], tl.trans(a))
    tl.store(out + M * N + i, tl.reshape(tl.trans(a), [M * N]))
    b = tl.reshape(v, [M, N // 2, 2])
    p, q = tl.split(b)
    h = tl.arange(0, N // 2)
    tl.store(out + 2 * M * N + r[:, None] * (N // 2) + h[None, :], p - 3 * q)
    j = tl.join(q, p)
    tl.store(out + 3 * M * N + i, tl.reshape(j, [M * N]))
    e = tl.expand_dims(tl.expand_dims(tl.load(x + r), 1), 0) + tl.expand_dims(tl.load(x + c), [0, 1])
    tl.store(out + 4 * M * N + r[None, :, None] * N + c[None, None, :], e)
    w = tl.broadcast_to(tl.load(x + r)[:, None], [M, N]) * 2
    tl.store(out + 5 * M * N + r[:, None] * N + c[None, :], w)
    k = tl.permute(tl.reshape(v, [2, M // 2, N]), (1, 2, 0))
    tl.store(out + 6 * M * N + i, tl.reshape(k, [M * N]))
    tl.store(out + 7 * M * N + i, tl.ravel(tl.trans(tl.reshape(v, [N, M]))))


@pytest.mark.parametrize(("m", "n"), [(4, 2), (16, 32), (2, 64)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.int16])
def test_views(m, n, dtype):
    agree(views, (1,), torch.randint(-99, 99, (m * n,)).to(dtype), torch.zeros(8 * m * n, dtype=dtype), M=m, N=n)


@triton.jit
def interleave(x, y, out, B: tl.constexpr):
    i = tl.arange(0, B)
    tl.store(out + tl.arange(0, 2 * B), tl.interleave(tl.load(x + i), tl.load(y + i)))


@triton.jit
def join_loads(x, y, out, B: tl.constexpr):
    i = tl.arange(0, B)
    j = tl.join(tl.load(x + i), tl.load(y + i) * 2)
    tl.store(out + i[:, None] * 2 + tl.arange(0, 2)[None, :], j)


@pytest.mark.parametrize("kernel", [interleave, join_loads])
def test_join(kernel):
    for size in (1, 8, 128):
        agree(kernel, (1,), torch.randn(size), torch.randn(size), torch.zeros(2 * size), B=size)


@triton.jit
def split_loaded(x, out, B: tl.constexpr):
    i = tl.arange(0, B)
    a, b = tl.split(tl.load(x + i[:, None] * 2 + tl.arange(0, 2)[None, :]))
    tl.store(out + i, a)
    tl.store(out + B + i, b)
    tl.store(out + 2 * B, tl.sum(a - b, 0))


def test_split():
    for size in (1, 8, 128):
        agree(split_loaded, (1,), torch.randint(-9, 9, (2 * size,)).float(), torch.zeros(2 * size + 1), B=size)


@triton.jit
def three_d(x, out, a, b, c, A: tl.constexpr, B: tl.constexpr, C: tl.constexpr):
    i = tl.arange(0, A)[:, None, None]
    j = tl.arange(0, B)[None, :, None]
    k = tl.arange(0, C)[None, None, :]
    m = (i < a) & (j < b) & (k < c)
    v = tl.load(x + (i * b + j) * c + k, mask=m, other=2)
    tl.store(out + (k * b + j) * a + i, v * (i + 1) - j, mask=m)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 7), (4, 8, 16), (2, 1, 13)])
def test_three_dimensional_tiles(shape):
    count = torch.Size(shape).numel()
    agree(
        three_d,
        (1,),
        torch.randint(-9, 9, (count,), dtype=torch.int32),
        torch.zeros(count, dtype=torch.int32),
        *shape,
        A=4,
        B=8,
        C=16,
    )


@triton.jit
def block_pointers(x, out, m, n, sm, sn, BM: tl.constexpr, BN: tl.constexpr, PAD: tl.constexpr):
    p = tl.make_block_ptr(
        x, shape=(m, n), strides=(sm, sn), offsets=(tl.program_id(0) * BM, 0), block_shape=(BM, BN), order=(1, 0)
    )
    q = tl.make_block_ptr(
        out, shape=(m, n), strides=(n, 1), offsets=(tl.program_id(0) * BM, 0), block_shape=(BM, BN), order=(1, 0)
    )
    total = tl.zeros([BM, BN], tl.float32)
    for _ in range(0, n, BN):
        v = tl.load(p, boundary_check=(0, 1), padding_option=PAD)
        total += tl.where(v == v, v, 100.0)
        tl.store(q, v * 2 + total, boundary_check=(0, 1))
        p = tl.advance(p, (0, BN))
        q = tl.advance(q, (0, BN))


@pytest.mark.parametrize("pad", ["zero", "nan"])
@pytest.mark.parametrize(("m", "n"), [(1, 1), (13, 37), (16, 32)])
def test_block_pointers(pad, m, n):
    x = torch.randint(-9, 9, (m, n)).float()
    agree(block_pointers, (-(-m // 8),), x, torch.full((m, n), 5.0), m, n, n, 1, BM=8, BN=16, PAD=pad)
    agree(block_pointers, (-(-m // 8),), x.t().contiguous(), torch.full((m, n), 5.0), m, n, 1, m, BM=8, BN=16, PAD=pad)


@triton.jit
def descriptors(x, out, m, n, BM: tl.constexpr, BN: tl.constexpr):
    source = tl.make_tensor_descriptor(x, shape=[m, n], strides=[n, 1], block_shape=[BM, BN])
    target = tl.make_tensor_descriptor(out, shape=[m, n], strides=[n, 1], block_shape=[BM, BN])
    row = tl.program_id(0) * BM
    for col in range(0, n, BN):
        target.store([row, col], source.load([row, col]) * 3 + 1)


@pytest.mark.parametrize(("m", "n"), [(1, 4), (13, 36), (16, 32)])
def test_tensor_descriptors(m, n):
    x = torch.randn(m, n)
    _, out = launch(descriptors, (-(-m // 8),), x, torch.zeros(m, n), m, n, BM=8, BN=16)
    torch.testing.assert_close(out, x * 3 + 1)


@triton.jit
def pointer_tiles(x, y, out, which, B: tl.constexpr):
    i = tl.arange(0, B)
    p = tl.where(i % 2 == 0, x + i, y + i)
    tl.store(out + i, tl.load(p))
    q = x if which > 0 else y
    tl.store(out + B + i, tl.load(q + i))
    address = (x + i).to(tl.int64, bitcast=True) + 4 * which
    back = address.to(tl.pointer_type(tl.float32), bitcast=True)
    tl.store(out + 2 * B + i, tl.load(back))


@pytest.mark.parametrize("which", [0, 1])
def test_tiles_of_pointers(which):
    x, y = torch.randn(65), torch.randn(65)
    _, _, out = launch(pointer_tiles, (1,), x, y, torch.zeros(192), which, B=64)
    even = torch.arange(64) % 2 == 0
    assert_same(out[:64], torch.where(even, x[:64], y[:64]))
    assert_same(out[64:128], (x if which else y)[:64])
    assert_same(out[128:], x[which : 64 + which])


@triton.jit
def bitcasts(x, out, B: tl.constexpr):
    i = tl.arange(0, B)
    bits = tl.load(x.to(tl.pointer_type(tl.int32)) + i)
    tl.store(out + i, (bits ^ 0x7FFFFFFF).to(tl.float32, bitcast=True))
    half = tl.load(x.to(tl.pointer_type(tl.int16)) + i)
    tl.store(out + B + i, half.to(tl.bfloat16, bitcast=True).to(tl.float32))


def test_bitcasts():
    x = torch.randn(64)
    _, out = launch(bitcasts, (1,), x, torch.zeros(128), B=64)
    assert_same(out[:64], (x.view(torch.int32) ^ 0x7FFFFFFF).view(torch.float32))
    assert_same(out[64:], x.view(torch.bfloat16)[:64].float())


@triton.jit
def parameters(out, a, b, c, d, e, f, g):
    tl.store(out, a.to(tl.float64))
    tl.store(out + 1, b.to(tl.float64))
    tl.store(out + 2, c.to(tl.float64))
    tl.store(out + 3, d.to(tl.float64))
    tl.store(out + 4, e.to(tl.float64))
    tl.store(out + 5, f.to(tl.float64))
    tl.store(out + 6, g.to(tl.float64))


def test_scalar_parameters():
    values = (True, -5, 2**31, -(2**40), 2**63 + 2048, 0.1, -(2**31))
    (out,) = launch(parameters, (1,), torch.zeros(7, dtype=torch.float64), *values)
    wanted = torch.tensor(
        [1.0, -5.0, 2.0**31, -(2.0**40), 2.0**63 + 2048, torch.tensor(0.1).double().item(), -(2.0**31)]
    )
    torch.testing.assert_close(out, wanted.double(), rtol=1e-7, atol=0)


@triton.jit
def tuple_parameter(pointers, sizes, B: tl.constexpr):
    i = tl.arange(0, B)
    tl.store(pointers[1] + i, tl.load(pointers[0] + i, i < sizes[0], other=0) + sizes[1], i < sizes[0])


def test_tuples_of_parameters():
    x, out = torch.randn(32).to("gxu"), torch.zeros(32, device="gxu")
    tuple_parameter[(1,)]((x, out), (20, 3), B=32)
    assert_same(out.cpu(), torch.where(torch.arange(32) < 20, x.cpu() + 3, 0.0))


# -- atomics -------------------------------------------------------------------------------------------------------


@triton.jit
def contended(index, value, out, n, B: tl.constexpr, OP: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    m = i < n
    at = tl.load(index + i, m, other=0)
    v = tl.load(value + i, m, other=0)
    if OP == "add":
        tl.atomic_add(out + at, v, mask=m)
    elif OP == "max":
        tl.atomic_max(out + at, v, mask=m)
    elif OP == "min":
        tl.atomic_min(out + at, v, mask=m)
    elif OP == "and":
        tl.atomic_and(out + at, v, mask=m)
    elif OP == "or":
        tl.atomic_or(out + at, v, mask=m)
    else:
        tl.atomic_xor(out + at, v, mask=m)


@pytest.mark.parametrize("op", ["add", "max", "min", "and", "or", "xor"])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.float32, torch.float64, torch.uint32])
def test_atomics_under_contention(op, dtype):
    if dtype.is_floating_point and op in ("and", "or", "xor"):
        pytest.skip("bits of integers only")
    n, slots = 20_000, 5
    index = torch.randint(0, slots, (n,), dtype=torch.int32)
    value = torch.randint(-(2**20), 2**20, (n,)) if dtype != torch.uint32 else torch.randint(0, 2**31, (n,))
    start = torch.randint(-5, 5, (slots,)) if dtype != torch.uint32 else torch.randint(0, 5, (slots,))
    _, _, out = launch(contended, (-(-n // 64),), index, value.to(dtype), start.to(dtype), n, B=64, OP=op)
    for slot in range(slots):
        mine = [int(start[slot]), *value[index == slot].tolist()]
        wanted = mine[0]
        for number in mine[1:]:
            wanted = {
                "add": wanted + number,
                "max": max(wanted, number),
                "min": min(wanted, number),
                "and": wanted & number,
                "or": wanted | number,
                "xor": wanted ^ number,
            }[op]
        if dtype == torch.uint32:
            wanted %= 2**32
        if dtype == torch.float32 and op == "add":
            assert out[slot].item() == pytest.approx(wanted, rel=1e-3, abs=2e3)
        else:
            assert int(out[slot].item()) == wanted


@triton.jit
def tickets(counter, out, total):
    ticket = tl.atomic_add(counter, 1)
    tl.store(out + ticket, tl.program_id(0))
    tl.atomic_add(total, ticket.to(tl.float32), sem="relaxed")


def test_scalar_atomics_return_the_old_value():
    count = 3000
    counter, out, total = launch(
        tickets,
        (count,),
        torch.zeros(1, dtype=torch.int32),
        torch.full((count,), -1, dtype=torch.int32),
        torch.zeros(1),
    )
    assert counter.item() == count
    assert torch.equal(out.sort().values, torch.arange(count, dtype=torch.int32))
    assert total.item() == pytest.approx(count * (count - 1) / 2)


@triton.jit
def exchanged(out, B: tl.constexpr):
    i = tl.arange(0, B)
    tl.atomic_xchg(out + i, i * 2, mask=i % 3 == 0)
    old = tl.atomic_xchg(out + B, 5)
    tl.store(out + B + 1, old)
    tl.atomic_max(out + B + 2, tl.program_id(0))


def test_atomic_exchange():
    (out,) = launch(exchanged, (9,), torch.full((67,), -1, dtype=torch.int32), B=64)
    i = torch.arange(64, dtype=torch.int32)
    assert torch.equal(out[:64], torch.where(i % 3 == 0, i * 2, -1))
    assert out[64] == 5
    assert out[66] == 8


@triton.jit
def atomic_reduction(x, out, n, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    v = tl.load(x + i, i < n, other=0.0)
    tl.atomic_add(out, tl.sum(v, 0))
    tl.atomic_add(out + 1 + tl.arange(0, B), v, mask=i < n)
    tl.atomic_add(out + 1 + B, 1.0, mask=tl.program_id(0) % 2 == 0)


def test_atomics_after_a_reduction():
    x = torch.randint(-9, 9, (1000,)).float()
    _, out = launch(atomic_reduction, (16,), x, torch.zeros(66), 1000, B=64)
    assert out[0] == x.sum()
    padded = torch.zeros(1024)
    padded[:1000] = x
    assert_same(out[1:65], padded.reshape(16, 64).sum(0))
    assert out[65] == 8


@triton.jit
def half_atomics(x, out, B: tl.constexpr):
    i = tl.arange(0, B)
    tl.atomic_add(out + i // 2, tl.load(x + i))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_atomic_add_of_halves(dtype):
    x = torch.randint(-9, 9, (64,)).to(dtype)
    _, out = launch(half_atomics, (1,), x, torch.zeros(32, dtype=dtype), B=64)
    assert_same(out, x.reshape(32, 2).sum(1))
