"""Loops, branches, carried values, and the order of loads and stores, against Triton's interpreter."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl
from triton_helpers import agree, launch


@triton.jit
def reverse_in_place(x, n, B: tl.constexpr):
    i = tl.arange(0, B)
    v = tl.load(x + i, i < n)
    tl.store(x + (n - 1 - i), v, i < n)


@triton.jit
def load_store_store(p, q, B: tl.constexpr):
    i = tl.arange(0, B)
    v = tl.load(p + i)
    tl.store(p + i, v * 2)
    tl.store(q + i, v)


@triton.jit
def store_then_load(p, q, B: tl.constexpr):
    i = tl.arange(0, B)
    v = tl.load(p + i)
    tl.store(p + i, v + 1)
    tl.store(q + i, tl.load(p + (B - 1 - i)))


@triton.jit
def rotate(p, B: tl.constexpr):
    i = tl.arange(0, B)
    v = tl.load(p + i)
    tl.store(p + (i + 1) % B, v)


@triton.jit
def shifted_copy(p, B: tl.constexpr):
    i = tl.arange(0, B)
    tl.store(p + i + 1, tl.load(p + i))


@triton.jit
def transpose_in_place(p, N: tl.constexpr):
    i = tl.arange(0, N)
    v = tl.load(p + i[:, None] * N + i[None, :])
    tl.store(p + i[None, :] * N + i[:, None], v)


@triton.jit
def scalar_store_between(p, q, B: tl.constexpr):
    i = tl.arange(0, B)
    v = tl.load(p + i)
    tl.store(p + 3, -7.0)
    tl.store(q + i, v)
    tl.store(q + B + i, tl.load(p + i))
    s = tl.load(p + 3)
    tl.store(p + i, v + s)
    tl.store(q + 2 * B, tl.load(p + 5))


@triton.jit
def reduce_between_stores(p, q, B: tl.constexpr):
    i = tl.arange(0, B)
    v = tl.load(p + i)
    tl.store(p + i, v * 0)
    s = tl.sum(v, 0)
    tl.store(p + i, v + s)
    t = tl.sum(tl.load(p + i), 0)
    tl.store(q + i, v * t)


@pytest.mark.parametrize("size", [1, 2, 16, 64, 512])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int8])
def test_programs_read_what_they_overwrite(size, dtype):
    x = torch.randint(-100, 100, (size,), dtype=dtype)
    agree(reverse_in_place, (1,), x, size, B=size)
    agree(rotate, (1,), x, B=size)
    agree(shifted_copy, (1,), torch.randint(-100, 100, (size + 1,), dtype=dtype), B=size)


@pytest.mark.parametrize("kernel", [load_store_store, store_then_load, reduce_between_stores])
@pytest.mark.parametrize("size", [4, 256])
def test_order_of_loads_and_stores(kernel, size):
    agree(kernel, (1,), torch.randint(-50, 50, (size,)).float(), torch.zeros(size), B=size)


def test_reverse_in_place_with_a_mask():
    agree(reverse_in_place, (1,), torch.arange(100, dtype=torch.int32), 77, B=128)


@pytest.mark.parametrize("size", [4, 32])
def test_transpose_in_place(size):
    agree(transpose_in_place, (1,), torch.randn(size, size), N=size)


def test_scalar_stores_between_tile_accesses():
    agree(scalar_store_between, (1,), torch.randn(64), torch.zeros(129), B=64)


@triton.jit
def swap_tiles(p, q, n, B: tl.constexpr):
    i = tl.arange(0, B)
    a = tl.load(p + i)
    b = tl.load(q + i)
    for _ in range(n):
        a, b = b, a + 1
    tl.store(p + i, a)
    tl.store(q + i, b)


@triton.jit
def rotate_three(p, q, r, n, B: tl.constexpr):
    i = tl.arange(0, B)
    a = tl.load(p + i)
    b = tl.load(q + i)
    c = tl.load(r + i)
    for k in tl.range(0, n):
        s = tl.sum(a, 0)
        a, b, c = b, c - s, a * 2 + k
    tl.store(p + i, a)
    tl.store(q + i, b)
    tl.store(r + i, c)


@pytest.mark.parametrize("trips", [0, 1, 2, 5])
def test_loops_swap_tiles(trips):
    a, b, c = (torch.randint(-9, 9, (256,), dtype=torch.int32) for _ in range(3))
    agree(swap_tiles, (1,), a, b, trips, B=256)
    agree(rotate_three, (1,), a, b, c, trips, B=256)


@triton.jit
def carried_kinds(x, out, n, lo, hi, STEP: tl.constexpr, B: tl.constexpr):
    i = tl.arange(0, B)
    p = x + i
    total = tl.zeros([B], tl.float32)
    count = 0
    last = -1
    offsets = i
    for k in tl.range(lo, hi, STEP):
        total += tl.load(p, mask=offsets < n, other=0.5) * k
        p += 3
        offsets += 3
        count += 1
        last = k
    tl.store(out + i, total)
    tl.store(out + B + i, offsets.to(tl.float32))
    tl.store(out + 2 * B, count.to(tl.float32))
    tl.store(out + 2 * B + 1, last.to(tl.float32))


@pytest.mark.parametrize(("lo", "hi", "step"), [(0, 5, 1), (0, 0, 1), (4, -3, -2), (5, 2, 1), (-4, 9, 3), (3, 4, -1)])
def test_loops_carry_scalars_tiles_and_pointers(lo, hi, step):
    agree(
        carried_kinds, (1,), torch.randint(-9, 9, (200,)).float(), torch.full((66,), 7.0), 40, lo, hi, STEP=step, B=32
    )


@triton.jit
def loaded_offsets_in_loop(table, data, out, n, B: tl.constexpr):
    i = tl.arange(0, B)
    offset = tl.load(table + i)
    total = tl.zeros([B], tl.int32)
    for _ in range(n):
        total += tl.load(data + offset)
        tl.store(table + i, offset * 0 + 11)
        offset += 2
    tl.store(out + i, total)
    tl.store(out + B + i, offset)


def test_loaded_offsets_survive_a_loop_that_overwrites_them():
    table = torch.randint(0, 50, (64,), dtype=torch.int32)
    data = torch.randint(-99, 99, (80,), dtype=torch.int32)
    agree(loaded_offsets_in_loop, (1,), table, data, torch.zeros(128, dtype=torch.int32), 4, B=64)


@triton.jit
def bounds_from_reduction(x, out, B: tl.constexpr):
    i = tl.arange(0, B)
    v = tl.load(x + i)
    n = tl.max(v, 0)
    start = tl.min(v, 0)
    total = tl.zeros([B], tl.int32)
    scalar = start
    for k in range(start, n):
        total += v * k
        scalar += 1
    tl.store(out + i, total + scalar)


def test_loop_bounds_from_a_reduction():
    agree(
        bounds_from_reduction,
        (1,),
        torch.randint(-3, 8, (64,), dtype=torch.int32),
        torch.zeros(64, dtype=torch.int32),
        B=64,
    )


@triton.jit
def nested(x, out, rows, cols, B: tl.constexpr):
    i = tl.arange(0, B)
    best = tl.full([B], -1e30, tl.float32)
    running = 0.0
    for r in range(rows):
        line = tl.zeros([B], tl.float32)
        for c in range(0, cols, B):
            v = tl.load(x + r * cols + c + i, mask=c + i < cols, other=0.0)
            line += v
            if c == 0:
                running += 1.0
        s = tl.sum(line, 0)
        running += s
        best = tl.maximum(best, line + running)
    tl.store(out + i, best)
    tl.store(out + B, running)


def test_nested_loops():
    for rows, cols in ((0, 8), (1, 1), (3, 37), (5, 64)):
        x = torch.randint(-5, 5, (max(rows, 1), cols)).float()
        agree(nested, (1,), x, torch.zeros(17), rows, cols, B=16)


@triton.jit
def branches(x, out, flag, n, B: tl.constexpr):
    i = tl.arange(0, B)
    v = tl.load(x + i, i < n, other=0)
    scale = 1
    if flag > 2:
        v = v * 3
        scale = 5
    elif flag == 1:
        v = tl.load(x + (B - 1 - i), B - 1 - i < n, other=1) + v
        tl.store(out + B + i, v)
    else:
        scale = flag - 4
    if tl.sum(v, 0) > 0:
        v = -v
    tl.store(out + i, v * scale)


@pytest.mark.parametrize("flag", [0, 1, 2, 3])
@pytest.mark.parametrize("n", [0, 5, 32])
def test_branches(flag, n):
    agree(
        branches,
        (1,),
        torch.randint(-9, 9, (32,), dtype=torch.int32),
        torch.full((64,), 99, dtype=torch.int32),
        flag,
        n,
        B=32,
    )


@triton.jit
def effects_only(out, a):
    pid = tl.program_id(0)
    if pid == a:
        tl.store(out + pid, 1)
    if pid > a:
        tl.store(out + pid, 2)
    else:
        pass


def test_branches_without_results():
    agree(effects_only, (5,), torch.zeros(5, dtype=torch.int32), 2)


@triton.jit
def ids(out, n):
    x, y, z = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    nx, ny, nz = tl.num_programs(0), tl.num_programs(1), tl.num_programs(2)
    at = (z * ny + y) * nx + x
    tl.store(out + at, x + 100 * y + 10000 * z + 1000000 * nx + 10000000 * ny + 100000000 * nz, at < n)


@pytest.mark.parametrize("grid", [(1,), (7,), (3, 2), (2, 3, 4), (1, 1, 5), (5, 1, 1), (1, 9, 1)])
def test_three_dimensional_grids(grid):
    count = torch.Size(grid).numel()
    agree(ids, grid, torch.full((count,), -1, dtype=torch.int32), count)


def test_empty_grid_does_nothing():
    (out,) = launch(ids, (0, 3), torch.full((4,), -1, dtype=torch.int32), 4)
    assert (out == -1).all()


@triton.jit
def while_free_collatz(x, out, steps, B: tl.constexpr):
    i = tl.arange(0, B)
    v = tl.load(x + i)
    count = tl.zeros([B], tl.int32)
    for _ in range(steps):
        alive = v != 1
        v = tl.where(alive, tl.where(v % 2 == 0, v // 2, 3 * v + 1), v)
        count += alive.to(tl.int32)
    tl.store(out + i, count)
    tl.store(x + i, v)


def test_iterating_on_tiles():
    agree(
        while_free_collatz,
        (1,),
        torch.arange(1, 129, dtype=torch.int32),
        torch.zeros(128, dtype=torch.int32),
        130,
        B=128,
    )


@triton.jit
def if_in_loop_with_tiles(x, out, n, B: tl.constexpr):
    i = tl.arange(0, B)
    a = tl.load(x + i)
    b = a * 0
    for k in range(n):
        if k % 3 == 0:
            a, b = b, a
        elif k % 3 == 1:
            a = a + tl.sum(b, 0)
        else:
            b = b - a
    tl.store(out + i, a)
    tl.store(out + B + i, b)


@pytest.mark.parametrize("trips", [0, 1, 2, 3, 7])
def test_branches_in_loops_carry_tiles(trips):
    agree(
        if_in_loop_with_tiles,
        (1,),
        torch.randint(-4, 4, (64,), dtype=torch.int32),
        torch.zeros(128, dtype=torch.int32),
        trips,
        B=64,
    )


@triton.jit
def loop_over_memory(p, n, B: tl.constexpr):
    i = tl.arange(0, B)
    for k in range(n):
        v = tl.load(p + k + i)
        tl.store(p + k + 1 + i, v + 1)


def test_iterations_see_what_earlier_ones_stored():
    agree(loop_over_memory, (1,), torch.randint(-9, 9, (80,), dtype=torch.int32), 9, B=64)


@triton.jit
def two_dimensional_carry(x, out, n, M: tl.constexpr, N: tl.constexpr):
    r = tl.arange(0, M)[:, None]
    c = tl.arange(0, N)[None, :]
    top = tl.full([M, 1], -1e9, tl.float32)
    weight = tl.zeros([M, 1], tl.float32)
    acc = tl.zeros([M, N], tl.float32)
    for k in range(n):
        v = tl.load(x + k * M * N + r * N + c)
        high = tl.maximum(top, tl.max(v, 1)[:, None])
        scale = tl.exp2(top - high)
        e = tl.exp2(v - high)
        weight = weight * scale + tl.sum(e, 1)[:, None]
        acc = acc * scale + e
        top = high
    tl.store(out + r * N + c, acc / weight)


def test_online_softmax():
    agree(two_dimensional_carry, (1,), torch.randn(3, 8, 16), torch.zeros(8, 16), 3, M=8, N=16, rtol=1e-5, atol=1e-6)
