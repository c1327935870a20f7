"""What is true of the allocator's blocks and statistics at any time."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import torch

Segment = dict[str, Any]
FAMILIES = ("segment", "allocation", "active", "inactive_split")
FAMILIES += ("reserved_bytes", "allocated_bytes", "active_bytes", "inactive_split_bytes")
KEYS = [f"{family}.{pool}" for family in FAMILIES for pool in ("all", "small_pool", "large_pool")]
# What other tests still held when the totals of what was allocated and freed began at zero.
held = dict.fromkeys(KEYS, 0)


def reset_statistics() -> None:
    """Peaks begin at what is in use, totals at zero."""
    torch.gxu.reset_peak_memory_stats()
    torch.gxu.reset_accumulated_memory_stats()
    stats = torch.gxu.memory_stats()
    held.update({key: stats[f"{key}.current"] for key in KEYS})


def check_snapshot(snapshot: dict[str, Any]) -> None:
    """Blocks fill their segments without gaps, segments do not overlap, and no two free neighbours are left apart."""
    for segment in snapshot["segments"]:
        blocks = segment["blocks"]
        ends = [block["address"] + block["size"] for block in blocks]
        assert blocks[0]["address"] == segment["address"]
        assert ends[-1] == segment["address"] + segment["total_size"]
        assert ends[:-1] == [block["address"] for block in blocks[1:]]
        assert all(block["size"] % 512 == 0 and block["size"] >= block["requested_size"] for block in blocks)
        states = [block["state"] for block in blocks]
        assert ("inactive", "inactive") not in itertools.pairwise(states), states
    spans = sorted((segment["address"], segment["total_size"]) for segment in snapshot["segments"])
    assert all(start + size <= after for (start, size), (after, _) in itertools.pairwise(spans))


def check_statistics(segments: list[Segment], device: int = 0) -> None:
    """Every current value of memory_stats, counted again from the segments of the device."""
    counted: Counter[str] = Counter()
    for segment in segments:
        if segment["device"] != device:
            continue
        is_split = len(segment["blocks"]) > 1
        for pool in ("all", f"{segment['segment_type']}_pool"):
            counted[f"segment.{pool}"] += 1
            counted[f"reserved_bytes.{pool}"] += segment["total_size"]
            for block in segment["blocks"]:
                state, size = block["state"], block["size"]
                counted[f"allocation.{pool}"] += state == "active_allocated"
                counted[f"allocated_bytes.{pool}"] += size * (state == "active_allocated")
                counted[f"requested_bytes.{pool}"] += block["requested_size"] * (state == "active_allocated")
                counted[f"active.{pool}"] += state != "inactive"
                counted[f"active_bytes.{pool}"] += size * (state != "inactive")
                counted[f"inactive_split.{pool}"] += is_split and state == "inactive"
                counted[f"inactive_split_bytes.{pool}"] += size * (is_split and state == "inactive")
    stats = torch.gxu.memory_stats(device)
    for key in KEYS:
        assert stats[f"{key}.current"] == counted[key], key
        assert stats[f"{key}.peak"] >= counted[key], key
        since = counted[key] - held[key] if device == 0 else counted[key]
        assert stats[f"{key}.allocated"] - stats[f"{key}.freed"] == since, key
    assert stats["requested_bytes.all.current"] == counted["requested_bytes.all"]
