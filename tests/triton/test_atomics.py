"""Atomics whose old values are used, compare-and-swap, half precision, and programs that wait for one another."""

from __future__ import annotations

import re
import threading

import numpy
import pytest
import torch
import triton
import triton.language as tl
from triton_helpers import agree, assert_same, launch

# One program is alone with its atomics and needs no locked instructions, unless threads of the host count.
SCOPES = ["gpu", "cta", "sys"]


@triton.jit
def rmw(p, v, old, n, OP: tl.constexpr, SEM: tl.constexpr, B: tl.constexpr, SCOPE: tl.constexpr = "gpu"):
    i = tl.arange(0, B)
    m = i < n
    value = tl.load(v + i)
    if OP == "add":
        r = tl.atomic_add(p + i, value, mask=m, sem=SEM, scope=SCOPE)
    elif OP == "max":
        r = tl.atomic_max(p + i, value, mask=m, sem=SEM, scope=SCOPE)
    elif OP == "min":
        r = tl.atomic_min(p + i, value, mask=m, sem=SEM, scope=SCOPE)
    elif OP == "and":
        r = tl.atomic_and(p + i, value, mask=m, sem=SEM, scope=SCOPE)
    elif OP == "or":
        r = tl.atomic_or(p + i, value, mask=m, sem=SEM, scope=SCOPE)
    elif OP == "xor":
        r = tl.atomic_xor(p + i, value, mask=m, sem=SEM, scope=SCOPE)
    else:
        r = tl.atomic_xchg(p + i, value, mask=m, sem=SEM, scope=SCOPE)
    tl.store(old + i, r, m)


@pytest.mark.parametrize("n", [1, 37, 64])
@pytest.mark.parametrize("sem", ["relaxed", "acquire", "release", "acq_rel"])
@pytest.mark.parametrize("scope", SCOPES)
def test_semantics(sem, n, scope):
    p, v = torch.randint(-9, 9, (64,)), torch.randint(-9, 9, (64,))
    agree(rmw, (1,), p, v, torch.zeros(64, dtype=torch.int64), n, OP="add", SEM=sem, B=64, SCOPE=scope)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.uint32, torch.uint64])
@pytest.mark.parametrize("op", ["add", "max", "min", "and", "or", "xor", "xchg"])
@pytest.mark.parametrize("scope", SCOPES)
def test_integers(op, dtype, scope):
    signed = {torch.uint32: torch.int32, torch.uint64: torch.int64}.get(dtype, dtype)
    info = torch.iinfo(signed)
    p, v = (torch.randint(info.min, info.max, (64,), dtype=signed).view(dtype) for _ in range(2))
    got, _, old = launch(rmw, (1,), p, v, torch.zeros_like(p), 50, OP=op, SEM="acq_rel", B=64, SCOPE=scope)
    x, y = p.numpy(), v.numpy()
    with_numpy = {
        "add": lambda: x + y,
        "max": lambda: numpy.maximum(x, y),
        "min": lambda: numpy.minimum(x, y),
        "and": lambda: x & y,
        "or": lambda: x | y,
        "xor": lambda: x ^ y,
        "xchg": lambda: y,
    }
    assert (got.numpy()[:50] == with_numpy[op]()[:50]).all()
    assert (got.numpy()[50:] == x[50:]).all()
    assert (old.numpy()[:50] == x[:50]).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("op", ["add", "max", "min", "xchg"])
@pytest.mark.parametrize("scope", SCOPES)
def test_floats(op, dtype, scope):
    if op != "add" and dtype.itemsize == 2:
        pytest.skip("the frontend does not admit it")
    p, v = torch.randn(64).to(dtype), torch.randn(64).to(dtype)
    got, _, old = launch(rmw, (1,), p, v, torch.zeros_like(p), 50, OP=op, SEM="acq_rel", B=64, SCOPE=scope)
    expected = {"add": p + v, "max": torch.maximum(p, v), "min": torch.minimum(p, v), "xchg": v}[op]
    assert_same(got, torch.cat([expected[:50], p[50:]]))
    # Triton's float max and min are two integer atomics of which only one takes place: both old values are its own.
    assert_same(old[:50], p[:50])


@triton.jit
def masked_old(p, old, n, B: tl.constexpr):
    i = tl.arange(0, B)
    tl.store(old + i, tl.atomic_add(p + i, 1, mask=i < n))


@pytest.mark.parametrize("n", [0, 1, 33, 128])
def test_elements_outside_the_mask_give_zero(n):
    p = torch.arange(5, 133, dtype=torch.int32)
    got, old = launch(masked_old, (1,), p, torch.full((128,), -1, dtype=torch.int32), n, B=128)
    inside = torch.arange(128) < n
    assert_same(got, p + inside.int())
    assert_same(old, torch.where(inside, p, 0))


@triton.jit
def tickets(counter, out, B: tl.constexpr):
    i = tl.arange(0, B)
    t = tl.atomic_add(counter + i * 0, 1)
    tl.store(out + t, tl.program_id(0) * B + i)


def test_tickets_from_one_address_are_all_different():
    counter, out = launch(tickets, (64,), torch.zeros(1, dtype=torch.int32), torch.full((4096,), -1), B=64)
    assert counter.item() == 4096
    assert_same(out.sort().values, torch.arange(4096))


@triton.jit
def used_elsewhere(p, out, M: tl.constexpr, N: tl.constexpr):
    i, j = tl.arange(0, M)[:, None], tl.arange(0, N)[None, :]
    old = tl.atomic_add(p + i * N + j, 1.0)
    total = tl.sum(old, 1)
    tl.store(out + i * N + j, old - total[:, None])
    tl.store(out + M * N + j * M + i, tl.trans(tl.trans(old)))
    tl.store(p + i * N + j, tl.load(p + i * N + j) * 2)


def test_old_values_feed_reductions_transposes_and_later_loads():
    agree(used_elsewhere, (1,), torch.randn(8, 32), torch.zeros(512), M=8, N=32, rtol=1e-5, atol=1e-5)


@triton.jit
def cas_tile(p, expected, new, old, B: tl.constexpr):
    i = tl.arange(0, B)
    r = tl.atomic_cas(p + i, tl.load(expected + i), tl.load(new + i))
    tl.store(old + i, r)


@pytest.mark.parametrize("dtype", [torch.int16, torch.int32, torch.int64, torch.uint32])
def test_cas_of_tiles(dtype):
    p = torch.arange(32, dtype=torch.int64).to(dtype)
    expected = torch.where(torch.arange(32) % 3 == 0, torch.arange(32), 99).to(dtype)
    new = (torch.arange(32) + 50).to(dtype)
    got, _, _, old = launch(cas_tile, (1,), p, expected, new, torch.zeros_like(p), B=32)
    assert_same(old, p)
    assert_same(got, torch.where(torch.arange(32) % 3 == 0, new.long(), p.long()).to(dtype))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_cas_compares_bits_of_floats(dtype):
    p = torch.randn(32).to(dtype)
    expected = torch.where(torch.arange(32) % 2 == 0, p, p + 1)
    got, _, _, old = launch(cas_tile, (1,), p, expected, -p, torch.zeros_like(p), B=32)
    assert_same(old, p)
    assert_same(got, torch.where(torch.arange(32) % 2 == 0, -p, p))


@triton.jit
def half_sums(p, x, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    tl.atomic_add(p + i % 4, tl.load(x + i))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_under_contention(dtype):
    got, _ = launch(half_sums, (64,), torch.zeros(4, dtype=dtype), torch.ones(256 * 2, dtype=dtype), B=8)
    assert got.tolist() == [128.0] * 4


@triton.jit
def locked(lock, data, N: tl.constexpr):
    i = tl.arange(0, N)
    while tl.atomic_cas(lock, 0, 1) == 1:
        pass
    tl.store(data + i, tl.load(data + i) + 1)
    tl.atomic_xchg(lock, 0)


def test_a_lock_protects_what_it_guards():
    lock, data = launch(locked, (500,), torch.zeros(1, dtype=torch.int32), torch.zeros(256), N=256)
    assert lock.item() == 0
    assert data.tolist() == [500.0] * 256


@triton.jit
def look_back(x, flags, sums, out, B: tl.constexpr):
    pid = tl.program_id(0)
    i = pid * B + tl.arange(0, B)
    v = tl.load(x + i)
    before = 0.0
    if pid > 0:
        while tl.atomic_add(flags + pid - 1, 0, sem="acquire") == 0:
            pass
        before = tl.load(sums + pid - 1)
    tl.store(sums + pid, before + tl.sum(v, 0))
    tl.debug_barrier()
    tl.atomic_xchg(flags + pid, 1, sem="release")
    tl.store(out + i, tl.cumsum(v, 0) + before)


def test_programs_wait_for_lower_ones():
    x = torch.randint(-5, 5, (200 * 64,)).float()
    flags, zeros = torch.zeros(200, dtype=torch.int32), torch.zeros(200)
    _, _, _, out = launch(look_back, (200,), x, flags, zeros, torch.zeros_like(x), B=64)
    assert_same(out, x.cumsum(0))


@triton.jit
def volatile_wait(flags, out):
    pid = tl.program_id(0)
    if pid > 0:
        ready = tl.load(flags + pid - 1, volatile=True)
        while ready == 0:
            ready = tl.load(flags + pid - 1, volatile=True)
        tl.store(out + pid, tl.load(out + pid - 1, volatile=True) + 1)
    tl.atomic_xchg(flags + pid, 1)


def test_programs_wait_on_volatile_loads():
    _, out = launch(volatile_wait, (300,), torch.zeros(300, dtype=torch.int32), torch.zeros(300, dtype=torch.int32))
    assert_same(out, torch.arange(300, dtype=torch.int32))


def flags(kernel):
    """Those of gxuHostKernelInfo."""
    return int(re.search(r"_gxu_info = .*? \{ i32 1, i32 (\d+),", str(kernel.asm["llir"]))[1])


def test_only_kernels_that_wait_are_ordered():
    waiting = locked.warmup(torch.int32, torch.float32, N=256, grid=(1,))
    free = rmw.warmup(torch.int32, torch.int32, torch.int32, 5, OP="add", SEM="relaxed", B=64, grid=(1,))
    assert flags(waiting) & 1
    assert not flags(free) & 1


@triton.jit
def locked_sums(x, lock, count, acc, N: tl.constexpr, G: tl.constexpr):
    pid = tl.program_id(0)
    i = tl.arange(0, N)
    v = tl.load(x + pid * N + i)
    mine = lock + pid % G
    c = count + pid % G
    p = acc + (pid % G) * N + i
    while tl.atomic_cas(mine, 0, 1) == 1:
        pass
    n = tl.load(c)
    if n == 0:
        tl.atomic_xchg(c, 1)
    else:
        v += tl.load(p)
    tl.store(p, v)
    tl.debug_barrier()
    tl.atomic_xchg(mine, 0)


def test_partial_sums_under_several_locks():
    x = torch.randint(-5, 5, (512, 256)).float()
    zeros = torch.zeros(4, dtype=torch.int32)
    lock, *_, sums = launch(locked_sums, (512,), x, zeros, zeros, torch.full((4, 256), float("nan")), N=256, G=4)[1:]
    assert (lock == 0).all()
    assert_same(sums, x.view(128, 4, 256).sum(0))


@triton.jit
def scattered(p, index, x, old, n, OP: tl.constexpr, SCOPE: tl.constexpr, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    m = i < n
    to = p + tl.load(index + i, m, other=0)
    if OP == "add":
        r = tl.atomic_add(to, tl.load(x + i, m), mask=m & (i % 3 != 1), sem="relaxed", scope=SCOPE)
    elif OP == "max":
        r = tl.atomic_max(to, tl.load(x + i, m), mask=m & (i % 3 != 1), sem="relaxed", scope=SCOPE)
    else:
        r = tl.atomic_xchg(to, tl.load(x + i, m), mask=m & (i % 3 != 1), sem="relaxed", scope=SCOPE)
    tl.store(old + i, r, m)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("op", ["add", "max", "xchg"])
@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int32, torch.int64]
)
def test_lanes_that_meet_at_one_address(dtype, op, scope):
    """Lanes take their turns in order: each sees what those before it left."""
    if op != "add" and dtype.itemsize == 2:
        pytest.skip("the frontend does not admit it")
    n = 61
    p, x = torch.randint(-9, 9, (8,)).to(dtype), torch.randint(-9, 9, (64,)).to(dtype)
    if dtype.is_floating_point and op == "add":
        x[[5, 6, 9]] = torch.tensor([float("nan"), float("inf"), -float("inf")], dtype=dtype)
    index = torch.randint(0, 8, (64,), dtype=torch.int32)
    expected, olds = p.clone(), torch.zeros(64, dtype=dtype)
    for i in range(n):
        if i % 3 != 1:
            at = index[i]
            olds[i] = expected[at]
            expected[at] = {"add": olds[i] + x[i], "max": torch.maximum(olds[i], x[i]), "xchg": x[i]}[op]
    got, _, _, old = launch(scattered, (1,), p, index, x, torch.zeros_like(x), n, OP=op, SCOPE=scope, B=64)
    assert_same(got, expected)
    if op != "max" or not dtype.is_floating_point:
        # A float's maximum is two integer atomics, of which the second may see what the first did.
        assert_same(old, olds)


@triton.jit
def scatter_rows(index, x, out, columns, SCOPE: tl.constexpr, B: tl.constexpr):
    row = tl.program_id(0)
    j = tl.arange(0, B)
    m = j < columns
    tl.atomic_add(out + tl.load(index + row) * columns + j, tl.load(x + row * columns + j, m), m, scope=SCOPE)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("columns", [1, 17, 100, 256])
def test_rows_are_added_up(columns, scope):
    rows = 700
    index, x = torch.randint(0, 30, (rows,)), torch.randint(-9, 9, (rows, columns)).float()
    zeros = torch.zeros(30, columns)
    out = launch(scatter_rows, (rows,), index, x, zeros, columns, SCOPE=scope, B=256)[2]
    assert_same(out, zeros.index_add(0, index, x))


@triton.jit
def rows_after_a_product(index, x, out, COSTLY: tl.constexpr, B: tl.constexpr):
    row = tl.program_id(0)
    j = tl.arange(0, B)
    v = tl.load(x + row * B + j)
    if COSTLY:
        total = tl.zeros([B], tl.float32)
        for _ in range(100):
            total += tl.sin(tl.exp(v) + total)
        v = total
    tl.atomic_add(out + tl.load(index + row) * B + j, v)


def test_only_kernels_that_mostly_do_atomics_give_up_their_team():
    types = (torch.int64, torch.float32, torch.float32)
    light, costly = (rows_after_a_product.warmup(*types, COSTLY=c, B=256, grid=(9,)) for c in (False, True))
    system = scatter_rows.warmup(*types, 256, SCOPE="sys", B=256, grid=(9,))
    assert [flags(kernel) & 2 for kernel in (light, costly, system)] == [2, 2, 2]
    assert flags(light) >> 8 >= 2
    assert [flags(kernel) >> 8 for kernel in (costly, system)] == [1, 0] or flags(costly) >> 8 == 0


def test_streams_add_to_the_same_memory():
    """Kernels that could be alone, and kernels that cannot, on 8 streams at once."""
    rows, columns, rounds = 64, 100, 20
    index, x = torch.randint(0, 4, (rows,)), torch.ones(rows, columns)
    out = torch.zeros(4, columns, device="gxu")
    on_gxu = index.to("gxu"), x.to("gxu")
    for scope in ("gpu", "sys"):
        scatter_rows[(1,)](*on_gxu, torch.zeros(4, columns, device="gxu"), columns, SCOPE=scope, B=128)
    torch.gxu.synchronize()
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            with torch.gxu.stream(torch.gxu.Stream()):
                for i in range(rounds):
                    scope = "sys" if (number + i) % 2 else "gpu"
                    scatter_rows[(rows,)](*on_gxu, out, columns, SCOPE=scope, B=128)
                torch.gxu.current_stream().synchronize()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert not failures
    assert_same(out.cpu(), 8.0 * rounds * torch.zeros(4, columns).index_add(0, index, x))
