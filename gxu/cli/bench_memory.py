"""`python -m gxu bench memory`: how much more memory training runs reserve than they allocate."""

from __future__ import annotations

import argparse
import pickle
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from gxu.cli.errors import UsageError
from gxu.cli.output import make_console, make_progress, write_json

if TYPE_CHECKING:
    from gxu.benchmarks.memory import Row

MIB = 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--trace",
        type=Path,
        metavar="FILE",
        help="replay a recorded history instead: what torch.gxu.memory._dump_snapshot wrote (a pickle: trust it first)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to FILE")


def run(args: argparse.Namespace) -> int:
    from gxu.benchmarks import memory

    rows = []
    if args.trace is not None:
        try:
            rows.append(memory.measure_trace(args.trace))
        except (OSError, ValueError, pickle.UnpicklingError) as error:
            raise UsageError(f"--trace {args.trace}: {error}") from error
        runs: list[str] = []
    else:
        runs = list(memory.RUNS)
    with make_progress() as progress:
        task = progress.add_task("training runs", total=len(runs))
        for name in runs:
            rows.append(memory.measure(name))
            progress.advance(task)
    print_rows(rows)
    if args.json is not None:
        write_json(args.json, [asdict(row) for row in rows])
    return 0


def print_rows(rows: list[Row]) -> None:
    table = Table(box=box.SIMPLE, title="Peaks of device memory over a training run")
    table.add_column("run")
    for title in ("allocated MiB", "reserved MiB", "reserved / allocated", "as powers of 2"):
        table.add_column(title, justify="right")
    for row in rows:
        table.add_row(
            row.name,
            f"{row.allocated_bytes / MIB:.1f}",
            f"{row.reserved_bytes / MIB:.1f}",
            f"{row.ratio:.2f}",
            f"{row.size_class_bytes / row.allocated_bytes:.2f}",
        )
    make_console().print(table)
