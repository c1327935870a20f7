"""`python -m gxu bench triton`: Triton kernels against torch eager, Inductor's C++ code and what bounds them."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from gxu.cli import bench_rows
from gxu.cli.errors import UsageError
from gxu.cli.output import make_console, make_progress, summarise_bars

if TYPE_CHECKING:
    from gxu.benchmarks.triton.row import Case, Row

SECONDS, QUICK_SECONDS = 1.0, 0.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    bench_rows.add_arguments(parser, "name or group")
    parser.add_argument("--quick", action="store_true", help="the fewest calls that still make a median")


def run(args: argparse.Namespace) -> int:
    """Prints a table of the rows. Exit status 1 if a kernel's numbers were wrong: it has no row then."""
    bench_rows.check_arguments(args)
    measured, failures = measure(args)
    print_rows(measured)
    bars = [(row.name, row.ratio, row.bar, row.against) for row in measured]
    return bench_rows.finish(args, measured, bars, failures)


def measure(args: argparse.Namespace) -> tuple[list[Row], list[str]]:
    """The rows that were asked for, and a sentence for each kernel whose results were not torch's."""
    import torch

    from gxu.benchmarks.triton.cases import all_cases
    from gxu.benchmarks.triton.row import Settings, WrongResultError

    cases = select(all_cases(), args.filter)
    seconds = QUICK_SECONDS if args.quick else SECONDS
    rows, failures = [], []
    with torch.no_grad(), make_progress() as progress:
        task = progress.add_task("Triton kernels", total=len(cases))
        for case in cases:
            progress.update(task, description=case.name)
            try:
                rows.append(case.measure(Settings(seconds, progress)))
            except WrongResultError as error:
                failures.append(str(error))
            progress.advance(task)
    return rows, failures


def select(cases: list[Case], texts: list[str]) -> list[Case]:
    chosen = [case for case in cases if not texts or any(text in case.name or text in case.group for text in texts)]
    if not chosen:
        names = ", ".join(sorted({case.group for case in cases}))
        raise UsageError(
            f"--filter {' '.join(texts)}: no row has that in its name or its group; the groups are: {names}"
        )
    return chosen


def print_rows(rows: list[Row]) -> None:
    """Times in microseconds, on the device without Python's dispatch; each ratio is that variant's time over gxu's."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("kernel")
    for title in ("gxu (us)", "device (us)", "eager", "Inductor", "bound", "against", "ratio", "bar", ""):
        table.add_column(title, justify="left" if title == "against" else "right", no_wrap=True)
    group = None
    for row in rows:
        if row.group != group:
            group = row.group
            table.add_section()
            table.add_row(f"[bold]{group}[/bold]")
        table.add_row(
            row.name,
            f"{row.gxu_us:,.1f}",
            "" if row.device_us is None else f"{row.device_us:,.1f}",
            *(_times(time, row.gxu_us) for time in (row.eager_us, row.inductor_us, row.bound_us)),
            row.against,
            f"{row.ratio:.2f}",
            f"{row.bar:.2f}",
            "" if row.met else "below",
        )
    console = make_console()
    console.print(table)
    console.print(summarise_bars((row.name, row.ratio, row.bar) for row in rows))


def _times(time: float | None, gxu: float) -> str:
    return "" if time is None else f"{time / gxu:.2f} x"
