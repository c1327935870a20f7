"""torch.gxu.memory: the caching allocator, with torch.cuda.memory's names.

What a name means is what it means there; docs/memory.md has what differs.
"""

from __future__ import annotations

import collections
import os
import pickle
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, cast

import torch

from gxu import _C
from gxu._device import DeviceLike, get_device_index
from gxu._name import DEVICE_TYPE
from gxu.memory_summary import format_summary

PoolId = tuple[int, int]


def empty_cache() -> None:
    """Gives memory that the allocator holds but no tensor uses back to the runtime.

    Waits for the streams that still use freed tensors (see Tensor.record_stream), and for the devices.
    """
    torch.accelerator.memory.empty_cache()


# ---- Statistics


def memory_stats_as_nested_dict(device: DeviceLike = None) -> dict[str, Any]:
    """memory_stats with a dictionary for each dot in its keys."""
    result: dict[str, Any] = {}
    for key, value in memory_stats(device).items():
        *parents, name = key.split(".")
        inner = result
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[name] = value
    return result


def memory_stats(device: DeviceLike = None) -> dict[str, Any]:
    """Counters of the caching allocator, under torch.cuda's keys; empty before the first use of a device."""
    if not _C.is_initialized():
        return {}
    index = get_device_index(device)
    stats = dict(torch.accelerator.memory.memory_stats(index))
    stats.setdefault("num_oom_rejections", 0)
    for pool, kinds in _C.reserved_bytes_by_private_pools(index).items():
        for kind, values in kinds.items():
            for name, value in values.items():
                stats[f"reserved_bytes_by_private_pools.{pool[0]}_{pool[1]}.{kind}.{name}"] = value
    return collections.OrderedDict(sorted(stats.items()))


def memory_allocated(device: DeviceLike = None) -> int:
    """Bytes that tensors occupy."""
    return memory_stats(device).get("allocated_bytes.all.current", 0)


def max_memory_allocated(device: DeviceLike = None) -> int:
    """The largest `memory_allocated` since the start or the last reset_peak_memory_stats."""
    return memory_stats(device).get("allocated_bytes.all.peak", 0)


def memory_reserved(device: DeviceLike = None) -> int:
    """Bytes that the allocator holds, for tensors and cached."""
    return memory_stats(device).get("reserved_bytes.all.current", 0)


def max_memory_reserved(device: DeviceLike = None) -> int:
    """The largest `memory_reserved` since the start or the last reset_peak_memory_stats."""
    return memory_stats(device).get("reserved_bytes.all.peak", 0)


def reset_peak_memory_stats(device: DeviceLike = None) -> None:
    """Sets every peak to the current value."""
    if _C.is_initialized():
        torch.accelerator.memory.reset_peak_memory_stats(get_device_index(device))


def reset_accumulated_memory_stats(device: DeviceLike = None) -> None:
    """Sets the counters of everything allocated and freed so far to zero."""
    if _C.is_initialized():
        torch.accelerator.memory.reset_accumulated_memory_stats(get_device_index(device))


def reset_max_memory_allocated(device: DeviceLike = None) -> None:
    """reset_peak_memory_stats under its older name."""
    reset_peak_memory_stats(device)


def reset_max_memory_cached(device: DeviceLike = None) -> None:
    """reset_peak_memory_stats under its older name."""
    reset_peak_memory_stats(device)


def memory_cached(device: DeviceLike = None) -> int:
    """memory_reserved under its older name."""
    return memory_reserved(device)


def max_memory_cached(device: DeviceLike = None) -> int:
    """max_memory_reserved under its older name."""
    return max_memory_reserved(device)


def memory_summary(device: DeviceLike = None, abbreviated: bool = False) -> str:
    """The statistics as a table; without the lines of single pools where `abbreviated`."""
    _C.init()
    return format_summary(memory_stats(device), get_device_index(device), abbreviated)


# ---- How much there is, and how much may be used


def mem_get_info(device: DeviceLike = None) -> tuple[int, int]:
    """(free, total) bytes of the device; total is the limit that GXU_MEMORY_LIMIT sets for the host engine."""
    _C.init()
    return torch.accelerator.memory.get_memory_info(get_device_index(device))


def set_per_process_memory_fraction(fraction: float, device: DeviceLike = None) -> None:
    """Lets the allocator hold at most `fraction` (0 to 1) of the device's total memory."""
    _C.init()
    if not isinstance(fraction, float):
        raise TypeError("Invalid type for fraction argument, must be `float`")
    if not 0 <= fraction <= 1:
        raise ValueError(f"Invalid fraction value: {fraction}. Allowed range: 0~1")
    _C.set_memory_fraction(fraction, get_device_index(device))


def get_per_process_memory_fraction(device: DeviceLike = None) -> float:
    """The fraction that set_per_process_memory_fraction set; 1 where it was not called."""
    _C.init()
    return _C.get_memory_fraction(get_device_index(device))


def list_gpu_processes(device: DeviceLike = None) -> str:
    """What this process holds on the device: the runtime's interface does not tell about others."""
    index = get_device_index(device)
    megabytes = memory_reserved(index) / (1 << 20)
    return f"GPU:{index}\nprocess {os.getpid():>10d} uses {megabytes:>12.3f} MB GPU memory"


def get_allocator_backend() -> str:
    """`native`: the only one there is."""
    return "native"


# ---- Memory without a tensor


def caching_allocator_alloc(size: int, device: DeviceLike = None, stream: torch.Stream | int | None = None) -> int:
    """The address of `size` bytes for use on `stream` (a stream or its handle; None: the current one)."""
    if size < 0:
        raise ValueError(f"Invalid memory size: {size}")
    _C.init()
    index = get_device_index(device)
    if stream is None:
        stream = _C.current_stream_id(index)
    elif isinstance(stream, torch.Stream):
        stream = stream.stream_id
    if not isinstance(stream, int):
        raise TypeError(
            f"stream must be a torch.{DEVICE_TYPE}.Stream or the handle of one, not {type(stream).__name__}"
        )
    return _C.caching_allocator_alloc(size, stream, index)


def caching_allocator_delete(mem_ptr: int) -> None:
    """Frees what caching_allocator_alloc gave. ValueError for other addresses."""
    _C.caching_allocator_delete(mem_ptr)


# ---- Private pools


class MemPool:
    """Memory apart from everything else, for allocations under `use_mem_pool`.

    `use_on_oom`: it may serve other allocations before memory runs out. `no_split`: a segment serves one allocation
    only. When the object goes, memory of the pool that no tensor uses goes back to the runtime.
    """

    def __init__(self, allocator: None = None, use_on_oom: bool = False, no_split: bool = False) -> None:
        if allocator is not None:
            raise NotImplementedError(
                "MemPool(allocator=...) is not supported: memory of a gxu device comes from its runtime library alone; "
                "leave the argument out."
            )
        _C.init()
        self.device = _C.current_device()
        self._id = _C.new_pool_id()
        _C.retain_pool(self.device, self._id, use_on_oom, no_split)

    def __del__(self) -> None:
        if hasattr(self, "_id"):
            _C.release_pool(self.device, self._id)
            _C.empty_pool(self._id)

    @property
    def id(self) -> PoolId:
        return self._id

    def use_count(self) -> int:
        """How many use the pool: this object and the blocks of `use_mem_pool` that are open."""
        return _C.pool_use_count(self.device, self._id)

    def snapshot(self, include_traces: bool = True) -> list[dict[str, Any]]:
        """The pool's segments, as memory_snapshot gives them."""
        return memory_snapshot(self._id, include_traces)


@contextmanager
def use_mem_pool(pool: MemPool, device: DeviceLike = None) -> Iterator[None]:
    """In its body, allocations of the calling thread come from `pool`."""
    index = get_device_index(device)
    _C.begin_allocate_current_thread_to_pool(index, pool.id)
    try:
        yield
    finally:
        _C.end_allocate_to_pool(index, pool.id)
        _C.release_pool(index, pool.id)


# ---- Snapshots


def memory_snapshot(mempool_id: PoolId | None = None, include_traces: bool = True) -> list[dict[str, Any]]:
    """The segments of all devices, or of one private pool, with their blocks."""
    _C.init()
    segments: list[dict[str, Any]] = _C.memory_snapshot(mempool_id or (0, 0), include_traces)["segments"]
    return segments


def _record_memory_history(
    enabled: Literal["state", "all"] | None = "all",
    context: Literal["state", "alloc", "all"] | None = "all",
    stacks: Literal["python", "all"] = "all",
    max_entries: int = sys.maxsize,
    device: DeviceLike = None,
    clear_history: bool = False,
    compile_context: bool = False,
    global_record_annotations: bool = False,
    skip_actions: list[str] | None = None,
) -> None:
    """Records from where memory is allocated (`"state"`), and also every event (`"all"`); None ends that.

    `context` says whose stacks are kept: of live blocks, also of allocations in the history, also of frees. `stacks` is
    `"python"` or, with C++ frames, which cost much more to look up, `"all"`. All devices are recorded, whatever
    `device` is. NotImplementedError for `compile_context` and `global_record_annotations`.
    """
    for name, value in (("compile_context", compile_context), ("global_record_annotations", global_record_annotations)):
        if value:
            raise NotImplementedError(f"_record_memory_history({name}=True) is not supported on gxu; leave it out.")
    _C.record_memory_history(enabled, context, stacks, max_entries, clear_history, skip_actions or [])


def _snapshot(device: DeviceLike = None, augment_with_fx_traces: bool = False) -> dict[str, Any]:
    """Segments, blocks and the recorded history of all devices, in the format of torch.cuda.memory._snapshot."""
    _C.init()
    snapshot: dict[str, Any] = _C.memory_snapshot((0, 0), True)
    if augment_with_fx_traces:
        from torch._utils import _augment_memory_snapshot_stack_traces

        snapshot = dict(_augment_memory_snapshot_stack_traces(cast("Any", snapshot)))
    return snapshot


def _dump_snapshot(filename: str = "dump_snapshot.pickle", augment_with_fx_traces: bool = False) -> None:
    """Writes `_snapshot()` to a file that pytorch.org/memory_viz and torch.cuda._memory_viz open."""
    with Path(filename).open("wb") as file:
        pickle.dump(_snapshot(augment_with_fx_traces=augment_with_fx_traces), file)


def _allocation_traceback(data_ptr: int) -> list[dict[str, Any]] | None:
    """The stack from which the tensor memory that starts at `data_ptr` was allocated; None where not recorded."""
    return _C.allocation_traceback(data_ptr)


def _set_memory_metadata(metadata: str) -> None:
    """A text for the history's entries of this thread from here on; empty: none."""
    _C.set_memory_metadata(metadata)


def _get_memory_metadata() -> str:
    return _C.get_memory_metadata()


def _save_segment_usage(filename: str = "output.svg", snapshot: dict[str, Any] | None = None) -> None:
    """Writes the segments as a flame graph."""
    from torch.cuda._memory_viz import segments

    Path(filename).write_text(segments(snapshot or _snapshot()))


def _save_memory_usage(filename: str = "output.svg", snapshot: dict[str, Any] | None = None) -> None:
    """Writes the live blocks as a flame graph."""
    from torch.cuda._memory_viz import memory

    Path(filename).write_text(memory(snapshot or _snapshot()))


def _fail_allocation(nth: int, device: DeviceLike = None) -> None:
    """Makes the `nth` allocation from here on run out of memory, once, to test what happens then; 0: none."""
    _C.init()
    _C.fail_allocation(nth, get_device_index(device))


def ipc_collect() -> None:
    """Frees memory of tensors that were sent to other processes, are gone here, and are open there.

    Sending and freeing shared tensors do this, too, and the allocator before it runs out of memory.
    """
    if _C.is_initialized():
        _C.free_opened_memory()
