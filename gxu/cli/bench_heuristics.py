"""`python -m gxu bench heuristics`: gxu's choice of blocks against torch's and against the best there is."""

from __future__ import annotations

import argparse
import statistics
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from gxu.cli import bench_rows
from gxu.cli.errors import UsageError
from gxu.cli.output import make_console, make_progress, summarise_bars

if TYPE_CHECKING:
    from gxu.benchmarks.heuristics import Row, Workload

SECONDS = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    bench_rows.add_arguments(parser)
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="how long to time each choice (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Prints a table of the rows. Exit status 1 if a workload computed wrong numbers."""
    from gxu.benchmarks.heuristics import WrongResultError, measure

    bench_rows.check_arguments(args)
    workloads = select(args.filter)
    measured, failures = [], []
    with make_progress() as progress:
        task = progress.add_task("heuristics", total=len(workloads))
        for workload in workloads:
            progress.update(task, description=workload.name)
            try:
                measured.append(measure(workload, args.seconds))
            except WrongResultError as error:
                failures.append(str(error))
            progress.advance(task)
    print_rows(measured)
    return bench_rows.finish(args, measured, bars(measured), failures)


def select(texts: list[str]) -> list[Workload]:
    from gxu.benchmarks.heuristics import WORKLOADS

    chosen = [workload for workload in WORKLOADS if not texts or any(text in workload.name for text in texts)]
    if not chosen:
        names = "; ".join(workload.name for workload in WORKLOADS)
        raise UsageError(f"--filter {' '.join(texts)}: no row has that in its name; the rows are: {names}")
    return chosen


def bars(rows: list[Row]) -> list[tuple[str, float, float, str]]:
    """Two bars a row for the plot: the speed over torch's blocks, where parity is the mark, and over the best."""
    return [
        bar
        for row in rows
        for bar in (
            (row.name, row.against_torch, 1.0, "torch's blocks"),
            (row.name, row.ratio, row.bar, "the best blocks"),
        )
    ]


def print_rows(rows: list[Row]) -> None:
    """Microseconds a call; "over torch's" and "of the best" are speeds relative to those choices."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("workload")
    for title in ("gxu us", "torch's us", "best us", "over torch's", "of the best", "tried"):
        table.add_column(title, justify="right")
    table.add_column("blocks")
    table.add_column("best blocks")
    for row in rows:
        table.add_row(
            row.name,
            f"{row.gxu_us:,.1f}",
            f"{row.torch_us:,.1f}",
            f"{row.best_us:,.1f}",
            f"{row.against_torch:.2f}",
            f"{row.ratio:.2f}{'' if row.ratio >= row.bar else ' below'}",
            str(row.tried),
            row.blocks,
            row.best_blocks,
        )
    console = make_console()
    console.print(table)
    console.print(summarise_bars((row.name, row.ratio, row.bar) for row in rows))
    if rows:
        console.print(
            f"geometric means: {statistics.geometric_mean(row.against_torch for row in rows):.2f} over torch's blocks, "
            f"{statistics.geometric_mean(row.ratio for row in rows):.2f} of the best"
        )
