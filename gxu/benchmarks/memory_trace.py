"""Recorded histories of allocations (`torch.gxu.memory._record_memory_history`), replayed and judged."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from gxu._name import DEVICE_TYPE

#: Events of one device in their order, as the snapshot has them: `action`, `addr`, `size` in bytes, ...
Trace = list[dict[str, Any]]


@contextmanager
def recorded(trace: Trace) -> Iterator[None]:
    """Appends to `trace` what happens on the current device in the body."""
    device = torch.get_device_module(DEVICE_TYPE)
    device.memory._record_memory_history("all", None, "python", clear_history=True)
    try:
        yield
        trace.extend(device.memory._snapshot()["device_traces"][device.current_device()])
    finally:
        device.memory._record_memory_history(None)


def load(file: Path) -> Trace:
    """The history of the first device that has one, from a file of `torch.gxu.memory._dump_snapshot` (or torch.cuda's).

    ValueError where there is none. The file is a pickle: open only what you trust.
    """
    with file.open("rb") as opened:
        traces: list[Trace] = pickle.load(opened).get("device_traces", [])  # noqa: S301  the format of snapshots
    for trace in traces:
        if trace:
            return trace
    raise ValueError(f"{file} has no history: call _record_memory_history() before the run and _dump_snapshot() after")


def replay(trace: Trace) -> tuple[int, int, int]:
    """Allocates and frees what the trace did on the current device, on one stream and in a pool of its own.

    Returns the peaks of allocated and reserved bytes, and of segments. Frees of what was allocated before the trace
    began are left out; what the trace left allocated is freed at the end.
    """
    device = torch.get_device_module(DEVICE_TYPE)
    device.synchronize()
    device.empty_cache()
    device.reset_peak_memory_stats()
    before = device.memory_stats()
    live: dict[int, int] = {}
    pool = device.MemPool()
    try:
        with device.use_mem_pool(pool):
            for event in trace:
                if event["action"] == "alloc":
                    live[event["addr"]] = device.caching_allocator_alloc(event["size"], stream=0)
                elif event["action"] == "free_completed" and event["addr"] in live:
                    device.caching_allocator_delete(live.pop(event["addr"]))
        after = device.memory_stats()
    finally:
        for address in live.values():
            device.caching_allocator_delete(address)
    keys = ("allocated_bytes.all", "reserved_bytes.all", "segment.all")
    allocated, reserved, segments = (after[f"{key}.peak"] - before[f"{key}.current"] for key in keys)
    return allocated, reserved, segments


def size_class_peak(trace: Trace) -> int:
    """Bytes that the simplest cache would reserve for the trace: blocks of powers of two, from 512 on, never joined."""
    live: dict[int, int] = {}
    used: Counter[int] = Counter()
    blocks: Counter[int] = Counter()
    for event in trace:
        if event["action"] == "alloc":
            size = max(512, 1 << (event["size"] - 1).bit_length())
            live[event["addr"]] = size
            used[size] += 1
            blocks[size] = max(blocks[size], used[size])
        elif event["action"] == "free_completed" and event["addr"] in live:
            used[live.pop(event["addr"])] -= 1
    return sum(size * count for size, count in blocks.items())
