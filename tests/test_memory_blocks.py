"""Blocks of the caching allocator: cut, joined, kept apart by stream and by pool, and counted."""

from __future__ import annotations

import gc
import random

import pytest
import torch
from blocked_stream import blocked
from memory_helpers import check_snapshot, check_statistics, reset_statistics
from process_helpers import RunPython

pytestmark = pytest.mark.counts_memory
MIB = 1 << 20
SMALL = MIB // 4
Allocation = tuple[torch.Tensor, int]


@pytest.fixture(autouse=True)
def empty_memory() -> None:
    gc.collect()
    torch.gxu.init()
    torch.gxu.synchronize()
    torch.gxu.empty_cache()
    reset_statistics()


def random_size(generator: random.Random) -> int:
    """Bytes, with the limits of the pools among them."""
    return generator.choice(
        [
            generator.randint(1, 2000),
            generator.randint(1, SMALL),
            generator.randint(SMALL - 600, SMALL + 600),
            generator.randint(SMALL, 12 * MIB),
        ]
    )


@pytest.mark.parametrize("seed", range(3))
def test_random_allocations(seed: int) -> None:
    generator = random.Random(seed)
    held: list[Allocation] = []
    for step in range(400):
        if held and generator.random() < 0.5:
            tensor, value = held.pop(generator.randrange(len(held)))
            assert tensor.min().item() == tensor.max().item() == value  # nobody else wrote there
        else:
            value = step % 256
            held.append((torch.full((random_size(generator),), value, dtype=torch.uint8, device="gxu"), value))
        if step % 40 == 0:
            snapshot = torch.gxu.memory._snapshot()
            check_snapshot(snapshot)
    del tensor
    torch.gxu.synchronize()
    snapshot = torch.gxu.memory._snapshot()
    check_snapshot(snapshot)
    live = {b["address"] for s in snapshot["segments"] for b in s["blocks"] if b["state"] == "active_allocated"}
    assert {tensor.data_ptr() for tensor, _ in held} <= live
    held.clear()
    torch.gxu.empty_cache()
    snapshot = torch.gxu.memory._snapshot()
    check_statistics(snapshot["segments"])
    assert torch.gxu.memory_stats()["inactive_split.all.peak"] > 0


def test_small_blocks_share_a_segment_and_join_again() -> None:
    segments = torch.gxu.memory_stats()["segment.small_pool.allocated"]
    blocks = [torch.empty(1000, dtype=torch.uint8, device="gxu") for _ in range(100)]
    assert torch.gxu.memory_stats()["segment.small_pool.allocated"] <= segments + 1
    addresses = sorted(block.data_ptr() for block in blocks)
    del blocks[::2]
    check_snapshot(torch.gxu.memory._snapshot())
    blocks.clear()
    # The smallest place for it starts where the first block was, once the freed blocks became one.
    large = torch.empty(addresses[-1] - addresses[0], dtype=torch.uint8, device="gxu")
    assert large.data_ptr() == addresses[0]
    assert torch.gxu.memory_stats()["segment.small_pool.allocated"] <= segments + 1


def test_large_segments_are_cut_where_more_than_a_small_block_is_left() -> None:
    x = torch.empty(3 * MIB, dtype=torch.uint8, device="gxu")
    # More than is left of 20 MiB: a segment of 18 MiB, of which just as much as a small block may have is left.
    y = torch.empty(18 * MIB - SMALL, dtype=torch.uint8, device="gxu")
    sizes = {segment["total_size"] for segment in torch.gxu.memory_snapshot() if segment["segment_type"] == "large"}
    assert sizes == {20 * MIB, 18 * MIB}
    stats = torch.gxu.memory_stats()
    assert stats["inactive_split_bytes.large_pool.current"] == 17 * MIB
    del x, y
    assert torch.gxu.memory_stats()["inactive_split_bytes.large_pool.current"] == 0


def test_deferred_frees_are_counted_as_active() -> None:
    stream = torch.gxu.Stream()
    with blocked(stream):
        x = torch.empty(5 * MIB, dtype=torch.uint8, device="gxu")
        x.record_stream(stream)
        del x
        segments = torch.gxu.memory_snapshot()
        states = {block["state"] for segment in segments for block in segment["blocks"]}
        assert "active_awaiting_free" in states
        check_statistics(segments)
    torch.gxu.empty_cache()
    check_statistics(torch.gxu.memory_snapshot())
    assert torch.gxu.memory_stats()["active_bytes.large_pool.current"] == 0


def test_a_pool_keeps_its_memory_to_itself() -> None:
    outside = torch.empty(1000, device="gxu")
    pool = torch.gxu.MemPool()
    with torch.gxu.use_mem_pool(pool):
        assert pool.use_count() == 2
        inside = torch.empty(1000, device="gxu")
    assert pool.use_count() == 1
    (segment,) = pool.snapshot()
    assert segment["segment_pool_id"] == pool.id != (0, 0)
    assert segment["address"] <= inside.data_ptr() < segment["address"] + segment["total_size"]
    assert not segment["address"] <= outside.data_ptr() < segment["address"] + segment["total_size"]
    key = f"reserved_bytes_by_private_pools.{pool.id[0]}_{pool.id[1]}.all.current"
    assert torch.gxu.memory_stats()[key] == segment["total_size"]
    pointer = inside.data_ptr()
    del inside
    assert torch.empty(1000, device="gxu").data_ptr() != pointer
    torch.gxu.empty_cache()
    assert pool.snapshot()  # its graph, or whoever else made it, counts on these addresses
    with torch.gxu.use_mem_pool(pool):
        assert torch.empty(1000, device="gxu").data_ptr() == pointer
    identifier = pool.id
    del pool
    assert not torch.gxu.memory_snapshot(identifier)
    check_statistics(torch.gxu.memory_snapshot())


def test_tensors_outlive_their_pool() -> None:
    pool = torch.gxu.MemPool()
    with torch.gxu.use_mem_pool(pool):
        x = torch.arange(1000.0, device="gxu")
    del pool
    assert torch.equal(x.cpu(), torch.arange(1000.0))
    del x
    torch.gxu.empty_cache()
    check_statistics(torch.gxu.memory_snapshot())


def test_pools_refuse_what_they_cannot_do() -> None:
    with pytest.raises(NotImplementedError, match=r"MemPool\(allocator=\.\.\.\) is not supported"):
        torch.gxu.MemPool(object())  # type: ignore[arg-type]
    pool = torch.gxu.MemPool()
    with (
        torch.gxu.use_mem_pool(pool),
        pytest.raises(RuntimeError, match="Requests already go to the memory pool"),
        torch.gxu.use_mem_pool(pool),
    ):
        pass


def test_a_pool_for_need_serves_others_before_memory_runs_out(run_python: RunPython) -> None:
    code = """
import torch
def use(**options):
    pool = torch.gxu.MemPool(**options)
    with torch.gxu.use_mem_pool(pool):
        torch.empty(40 << 20, dtype=torch.uint8, device="gxu")
    return pool
pool = use(use_on_oom=True)
x = torch.empty(40 << 20, dtype=torch.uint8, device="gxu")
assert pool.snapshot()[0]["address"] == x.data_ptr()
del x, pool
torch.gxu.empty_cache()
pool = use()
try:
    torch.empty(40 << 20, dtype=torch.uint8, device="gxu")
except torch.OutOfMemoryError as error:
    assert "40.00 MiB of the reserved memory belongs to private pools" in str(error), error
else:
    raise AssertionError("the pool's memory was given away")
"""
    result = run_python("-c", code, env={"GXU_MEMORY_LIMIT": "64M"})
    assert result.returncode == 0, result.stderr


def test_settings(run_python: RunPython) -> None:
    code = """
import torch
MIB = 1 << 20
held = torch.empty(96 * MIB, dtype=torch.uint8, device="gxu")
stats = torch.gxu.memory_stats()
assert stats["max_split_size"] == 32 * MIB
assert stats["oversize_allocations.current"] == stats["oversize_segments.current"] == 1
del held
small = torch.empty(3 * MIB, dtype=torch.uint8, device="gxu")     # is not cut from the 96 MiB
assert torch.gxu.memory_reserved() == 116 * MIB
odd = torch.empty(9 * MIB // 8 - 100, dtype=torch.uint8, device="gxu")
assert torch.gxu.memory_allocated() == 3 * MIB + 5 * MIB // 4        # rounded to quarters of 1 MiB
"""
    settings = "max_split_size_mb:32,roundup_power2_divisions:4"
    result = run_python("-c", code, env={"PYTORCH_ALLOC_CONF": settings})
    assert result.returncode == 0, result.stderr


def test_memory_without_a_tensor() -> None:
    before = torch.gxu.memory_allocated()
    pointer = torch.gxu.caching_allocator_alloc(5000, stream=torch.gxu.Stream())
    assert torch.gxu.memory_allocated() - before == 5120
    torch.gxu.caching_allocator_delete(pointer)
    assert torch.gxu.memory_allocated() == before
    with pytest.raises(ValueError, match="is not the start of memory that the allocator gave out"):
        torch.gxu.caching_allocator_delete(pointer)
    with pytest.raises(TypeError, match="stream must be"):
        torch.gxu.caching_allocator_alloc(10, stream="main")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Invalid memory size"):
        torch.gxu.caching_allocator_alloc(-1024)
