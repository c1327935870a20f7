"""Device memory: statistics of the caching allocator and what the runtime has left."""

from __future__ import annotations

from typing import Any

import torch

from gxu import _C
from gxu._device import DeviceLike, get_device_index


def empty_cache() -> None:
    """Gives memory that the allocator holds but no tensor uses back to the runtime. Waits for the devices."""
    torch.accelerator.memory.empty_cache()


def memory_stats(device: DeviceLike = None) -> dict[str, Any]:
    """Counters of the caching allocator, under torch.cuda's names; empty before the first use of a device."""
    if not _C.is_initialized():
        return {}
    return torch.accelerator.memory.memory_stats(get_device_index(device))


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


def mem_get_info(device: DeviceLike = None) -> tuple[int, int]:
    """(free, total) bytes of the device; total is the limit that GXU_MEMORY_LIMIT sets for the host engine."""
    _C.init()
    return torch.accelerator.memory.get_memory_info(get_device_index(device))


def ipc_collect() -> None:
    """Frees memory that other processes have released; gxu shares none between processes yet."""
