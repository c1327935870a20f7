"""`python -m gxu bench memory`: how much more memory training runs reserve than they allocate."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from gxu.cli.output import make_console, make_progress, write_json

if TYPE_CHECKING:
    from gxu.benchmarks.memory import Row

MIB = 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to FILE")


def run(args: argparse.Namespace) -> int:
    from gxu.benchmarks import memory

    rows = []
    with make_progress() as progress:
        task = progress.add_task("training runs", total=len(memory.RUNS))
        for name in memory.RUNS:
            rows.append(memory.measure(name))
            progress.advance(task)
    print_rows(rows)
    if args.json is not None:
        write_json(args.json, [asdict(row) for row in rows])
    return 0


def print_rows(rows: list[Row]) -> None:
    table = Table(box=box.SIMPLE, title="Peaks of device memory over a training run")
    table.add_column("run")
    for title in ("allocations", "allocated MiB", "reserved MiB", "segments", "reserved / allocated"):
        table.add_column(title, justify="right")
    for row in rows:
        table.add_row(
            row.name,
            str(row.allocations),
            f"{row.allocated_bytes / MIB:.1f}",
            f"{row.reserved_bytes / MIB:.1f}",
            str(row.segments),
            f"{row.ratio:.2f}",
        )
    make_console().print(table)
