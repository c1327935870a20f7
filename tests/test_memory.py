"""The caching allocator: accounting, reuse, and what happens when memory runs out."""

from __future__ import annotations

import gc
import itertools

import pytest
import torch
from blocked_stream import blocked
from process_helpers import RunPython

MIB = 1 << 20


@pytest.fixture(autouse=True)
def empty_memory() -> None:
    gc.collect()
    torch.gxu.init()
    torch.gxu.empty_cache()
    torch.gxu.reset_peak_memory_stats()


def test_allocated_and_peak() -> None:
    before = torch.gxu.memory_allocated()
    x = torch.empty(MIB, device="gxu")
    assert torch.gxu.memory_allocated() - before == 4 * MIB
    y = torch.empty(3, device="gxu")
    assert torch.gxu.memory_allocated() - before == 4 * MIB + 512
    del x, y
    assert torch.gxu.memory_allocated() == before
    assert torch.gxu.max_memory_allocated() - before == 4 * MIB + 512
    torch.gxu.reset_peak_memory_stats()
    assert torch.gxu.max_memory_allocated() == before


def test_results_of_delegated_operators_are_device_memory() -> None:
    x = torch.randn(MIB, device="gxu")
    before = torch.gxu.memory_allocated()
    y = torch.sort(x).values.mul(2)
    assert torch.gxu.memory_allocated() - before == 4 * MIB
    y.resize_(2 * MIB)
    assert torch.gxu.memory_allocated() - before == 8 * MIB
    z = torch.empty(0, device="gxu")
    torch.add(x, x, out=z)
    assert torch.gxu.memory_allocated() - before == 12 * MIB
    del y, z
    assert torch.gxu.memory_allocated() == before


def test_cpu_tensors_are_not_device_memory() -> None:
    before = torch.gxu.memory_allocated()
    x = torch.randn(MIB)
    y = x + 1
    assert y.untyped_storage().device.type == "cpu"
    assert torch.gxu.memory_allocated() == before


def test_freed_memory_is_reused() -> None:
    x = torch.empty(MIB, device="gxu")
    pointer, reserved = x.data_ptr(), torch.gxu.memory_reserved()
    del x
    assert torch.gxu.memory_reserved() == reserved
    assert torch.empty(MIB, device="gxu").data_ptr() == pointer
    assert torch.gxu.memory_reserved() == reserved


@pytest.mark.parametrize("nbytes", [1, 511, 512, 513, 4096, 4097, 10_000, MIB - 1, MIB, MIB + 1, 3 * MIB + 5, 40 * MIB])
def test_blocks_hold_what_was_asked_for(nbytes: int) -> None:
    blocks = [torch.full((nbytes,), value, dtype=torch.uint8, device="gxu") for value in (1, 2, 3)]
    spans = sorted((block.data_ptr(), block.data_ptr() + nbytes) for block in blocks)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
    assert all(block.data_ptr() % 64 == 0 for block in blocks)
    assert [int(block.min()) for block in blocks] == [int(block.max()) for block in blocks] == [1, 2, 3]
    stats = torch.gxu.memory_stats()
    assert stats["reserved_bytes.all.current"] >= stats["allocated_bytes.all.current"] >= 3 * nbytes


EMPTY_CACHE = """
import torch
MIB = 1 << 20
free, total = torch.gxu.mem_get_info()
assert free == total == 256 * MIB, (free, total)
large, small = torch.empty(64 * MIB, dtype=torch.uint8, device="gxu"), torch.empty(100, device="gxu")
assert torch.gxu.mem_get_info()[0] <= free - 64 * MIB
del large
assert torch.gxu.mem_get_info()[0] <= free - 64 * MIB
torch.gxu.empty_cache()
assert torch.gxu.mem_get_info() == (free - torch.gxu.memory_reserved(), total)
assert torch.gxu.memory_reserved() == 2 * MIB                # the segment that small blocks are cut from
del small
torch.gxu.empty_cache()
assert torch.gxu.memory_reserved() == torch.gxu.memory_allocated() == 0
assert torch.gxu.mem_get_info() == (free, total)
"""


def test_empty_cache_gives_memory_back_to_the_runtime(run_python: RunPython) -> None:
    result = run_python("-c", EMPTY_CACHE, env={"GXU_MEMORY_LIMIT": "256M"})
    assert result.returncode == 0, result.stderr


def test_streams_do_not_share_cached_memory() -> None:
    x = torch.empty(MIB, device="gxu")
    pointer = x.data_ptr()
    del x
    with torch.gxu.stream(torch.gxu.Stream()):
        y = torch.empty(MIB, device="gxu")
    assert y.data_ptr() != pointer
    assert torch.empty(MIB, device="gxu").data_ptr() == pointer


def test_record_stream_keeps_memory_until_the_stream_is_done() -> None:
    stream = torch.gxu.Stream()
    before = torch.gxu.memory_stats()["active_bytes.all.current"]
    x = torch.empty(MIB, device="gxu")
    pointer = x.data_ptr()
    with blocked(stream) as go_on:
        x.record_stream(stream)
        del x
        assert torch.gxu.memory_stats()["active_bytes.all.current"] - before == 4 * MIB
        y = torch.empty(MIB, device="gxu")
        assert y.data_ptr() != pointer
        go_on.set()
        stream.synchronize()
        assert torch.empty(MIB, device="gxu").data_ptr() == pointer


def test_statistics_have_cuda_names_and_reach_torch_accelerator() -> None:
    before = torch.gxu.memory_stats()["allocated_bytes.large_pool.current"]
    x = torch.empty(2 * MIB, device="gxu")
    stats = torch.gxu.memory_stats()
    for family in ("allocated_bytes", "reserved_bytes", "active_bytes", "requested_bytes", "allocation", "segment"):
        for pool in ("all", "small_pool", "large_pool"):
            for value in ("current", "peak", "allocated", "freed"):
                assert stats[f"{family}.{pool}.{value}"] >= 0
    assert stats["allocated_bytes.large_pool.current"] - before == x.nbytes
    assert torch.accelerator.memory_allocated() == torch.gxu.memory_allocated() == stats["allocated_bytes.all.current"]
    assert torch.accelerator.max_memory_reserved() == torch.gxu.max_memory_reserved()
    torch.gxu.reset_accumulated_memory_stats()
    assert torch.gxu.memory_stats()["allocated_bytes.all.allocated"] == 0


def test_nothing_leaks() -> None:
    def work() -> None:
        model = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.GELU(), torch.nn.Linear(16, 4)).to("gxu")
        optimizer = torch.optim.Adam(model.parameters())
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.randn(8, 16, device="gxu")).square().mean().backward()
            optimizer.step()

    work()
    gc.collect()
    before = torch.gxu.memory_allocated()
    for _ in range(5):
        work()
    gc.collect()
    assert torch.gxu.memory_allocated() == before


OUT_OF_MEMORY = """
import torch
kept = torch.ones(1 << 20, device="gxu")                       # 4 MiB
for use in (lambda: torch.empty(1 << 28, device="gxu"),        # allocated here
            lambda: kept.repeat(64),                           # by a delegated operator
            lambda: kept.clone().resize_(1 << 26),
            lambda: torch.ones(1 << 26).to("gxu")):
    try:
        use()
    except torch.OutOfMemoryError as error:
        print(error)
assert torch.gxu.OutOfMemoryError is torch.OutOfMemoryError
assert torch.gxu.memory_stats()["num_ooms"] == 4
assert (kept + 1).sum().item() == 2 << 20                      # work goes on
"""


def test_out_of_memory(run_python: RunPython) -> None:
    result = run_python("-c", OUT_OF_MEMORY, env={"GXU_MEMORY_LIMIT": "64M"})
    assert result.returncode == 0, result.stderr
    messages = result.stdout.strip().splitlines()
    assert len(messages) == 4
    assert messages[0].startswith(
        "GXU out of memory. Tried to allocate 1024.00 MiB. GPU 0 has a limit of 64.00 MiB of which 44.00 MiB is free. "
    )
    assert "4.00 MiB is allocated by PyTorch, and 16.00 MiB is reserved by PyTorch but unallocated" in messages[0]
    assert "GXU_MEMORY_LIMIT" in messages[0]
    assert all("Tried to allocate 256.00 MiB" in message for message in messages[1:])


def test_cached_memory_is_given_up_before_memory_runs_out(run_python: RunPython) -> None:
    code = """
import torch
for mib in (30, 40, 50, 60, 20):
    torch.empty(mib << 20, dtype=torch.uint8, device="gxu")
stats = torch.gxu.memory_stats()
# Each replaces the one before, except the last, which is cut from the segment of 60 MiB.
assert stats["num_alloc_retries"] == 3 and stats["num_ooms"] == 0, stats
"""
    result = run_python("-c", code, env={"GXU_MEMORY_LIMIT": "64M"})
    assert result.returncode == 0, result.stderr


def test_memory_of_two_devices(run_python: RunPython) -> None:
    code = """
import torch
x = torch.empty(1 << 20, device="gxu:1")
assert torch.gxu.memory_allocated(0) == 0 and torch.gxu.memory_allocated("gxu:1") == 4 << 20
y = x + 1
assert torch.gxu.memory_allocated(0) == 0 and torch.gxu.memory_allocated(1) == 8 << 20
with torch.gxu.device(1):
    assert torch.gxu.memory_allocated() == 8 << 20
"""
    result = run_python("-c", code, env={"GXU_DEVICE_COUNT": "2"})
    assert result.returncode == 0, result.stderr


def test_pinned_memory() -> None:
    x = torch.arange(10.0).pin_memory()
    assert x.is_pinned()
    assert x[3:].is_pinned()
    assert not torch.arange(10.0).is_pinned()
    assert torch.equal(x, torch.arange(10.0))
    assert torch.empty(5, pin_memory=True).is_pinned()


@pytest.mark.skipif(
    not hasattr(torch.accelerator.memory, "empty_host_cache"), reason="torch 2.11 has no empty_host_cache"
)
def test_pinned_memory_is_reused() -> None:
    torch.accelerator.memory.empty_host_cache()
    x = torch.empty(300_000, pin_memory=True)
    pointer = x.data_ptr()
    del x
    assert torch.empty(299_000, pin_memory=True).data_ptr() == pointer


def test_data_loader_pins_memory() -> None:
    loader = torch.utils.data.DataLoader(torch.arange(8.0), batch_size=4, pin_memory=True)
    for batch in loader:
        assert batch.is_pinned()
        assert batch.to("gxu", non_blocking=True).sum().item() in (6, 22)
