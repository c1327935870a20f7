"""torch.gxu.memory_summary: the allocator's statistics as a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

BYTES = {
    "allocated_bytes": "Allocated memory",
    "active_bytes": "Active memory",
    "requested_bytes": "Requested memory",
    "reserved_bytes": "GPU reserved memory",
    "inactive_split_bytes": "Non-releasable memory",
}
COUNTS = {
    "allocation": "Allocations",
    "active": "Active allocs",
    "segment": "GPU reserved segments",
    "inactive_split": "Non-releasable allocs",
}
OVERSIZE = {"oversize_allocations": "Oversize allocations", "oversize_segments": "Oversize GPU segments"}
POOLS = {"large_pool": "from large pool", "small_pool": "from small pool"}
COLUMNS = {"current": "Cur Usage", "peak": "Peak Usage", "allocated": "Tot Alloc", "freed": "Tot Freed"}

WIDTH = 75
NAME_WIDTH = 21


def _format_size(value: int, scale: int) -> str:
    """`value` in the unit in which `scale`, the column's largest value, has three digits or fewer."""
    units = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
    unit = 0
    while scale >= 768 * 1024 and unit + 1 < len(units):
        scale //= 1024
        value //= 1024
        unit += 1
    return f"{value:6d} {units[unit]:<3}"


def _format_count(value: int, scale: int) -> str:
    units = (" ", "K", "M")
    unit = 0
    while scale >= 750 * 1000 and unit + 1 < len(units):
        scale //= 1000
        value //= 1000
        unit += 1
    return f"{value:7d} {units[unit]} "


def _row(stats: Mapping[str, Any], key: str, scale_key: str, name: str, form: Callable[[int, int], str]) -> str:
    cells = [form(stats.get(f"{key}.{column}", 0), stats.get(f"{scale_key}.{column}", 0)) for column in COLUMNS]
    return f" {name:<{NAME_WIDTH}} | " + " | ".join(cells) + " "


def _metric_rows(
    stats: Mapping[str, Any], key: str, name: str, form: Callable[[int, int], str], abbreviated: bool
) -> list[str]:
    rows = [_row(stats, f"{key}.all", f"{key}.all", name, form)]
    if not abbreviated:
        rows += [_row(stats, f"{key}.{pool}", f"{key}.all", f"      {text}", form) for pool, text in POOLS.items()]
    return rows


def format_summary(stats: Mapping[str, Any], device: int, abbreviated: bool) -> str:
    """The table of torch.cuda.memory_summary for `stats`, without the lines of single pools where `abbreviated`."""
    failures = f"GXU OOMs: {stats.get('num_ooms', 0)}", f"gxuMalloc retries: {stats.get('num_alloc_retries', 0)}"
    groups = [
        [f"{f'PyTorch GXU memory summary, device ID {device}':^{WIDTH}}"],
        [f" {failures[0]:^35} | {failures[1]:^35} "],
        [f" {'Metric':^{NAME_WIDTH}} | " + " | ".join(f"{title:<10}" for title in COLUMNS.values()) + " "],
    ]
    for metrics, form in ((BYTES, _format_size), (COUNTS, _format_count)):
        groups += [_metric_rows(stats, key, name, form, abbreviated) for key, name in metrics.items()]
    groups += [[_row(stats, key, key, name, _format_count)] for key, name in OVERSIZE.items()]
    separator = "-" * WIDTH
    lines = ["=" * WIDTH, *groups[0]]
    for group in groups[1:]:
        lines += [separator, *group]
    lines.append("=" * WIDTH)
    return "".join(f"|{line:<{WIDTH}}|\n" for line in lines)
