"""What is true of the allocator's blocks and statistics at any time."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import torch

Segment = dict[str, Any]


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
    families = ("segment", "allocation", "active", "inactive_split")
    for family in (*families, "reserved_bytes", "allocated_bytes", "active_bytes", "inactive_split_bytes"):
        for pool in ("all", "small_pool", "large_pool"):
            key = f"{family}.{pool}"
            assert stats[f"{key}.current"] == counted[key], key
            assert stats[f"{key}.peak"] >= counted[key], key
            assert stats[f"{key}.allocated"] - stats[f"{key}.freed"] == counted[key], key
    assert stats["requested_bytes.all.current"] == counted["requested_bytes.all"]
