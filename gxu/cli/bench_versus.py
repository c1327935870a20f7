"""`python -m gxu bench WHAT --against DEVICE`: gxu and another device, the same work in a process of each."""

from __future__ import annotations

import argparse
import functools
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from gxu.cli.errors import UsageError
from gxu.cli.output import make_console, make_progress, summarise_bars, write_json

if TYPE_CHECKING:
    from gxu.benchmarks.versus.compare import Row

EAGER_SECONDS, KERNEL_SECONDS, MODEL_SECONDS, QUICK_SECONDS = 0.3, 0.3, 3.0, 0.1
MIB = 1 << 20
DAY = 86400.0
#: Of a budget, what compiling ahead may take.
COMPILE_SHARE = 0.5

#: What a comparison gives: rows, and a sentence for each part of it that has none.
Measured = tuple[list["Row"], list[str]]


def add_arguments(parser: argparse.ArgumentParser, measure: Callable[[argparse.Namespace, str], Measured]) -> None:
    parser.add_argument(
        "--against",
        metavar="DEVICE",
        help="compare with another device of PyTorch instead (default: cuda with GXU_RUNTIME=cuda, else the CPU as "
        "described)",
    )
    parser.set_defaults(versus=measure)


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="with --against: compile ahead, N models at a time"
    )
    parser.add_argument(
        "--budget",
        type=float,
        metavar="SECONDS",
        help="with --against: begin no model after these; the others are listed as not run",
    )


def other_device(args: argparse.Namespace) -> str | None:
    """The device that gxu is to be compared with; None where it is the CPU in the way of `bench` itself."""
    if not hasattr(args, "versus"):
        return None
    if args.against is not None:
        return str(args.against)
    from gxu.benchmarks.versus.compare import default_device

    return default_device()


def run(args: argparse.Namespace, other: str) -> int:
    """Prints the rows; exit status 1 where a part of the comparison has none."""
    rows, failures = args.versus(args, other)
    print_rows(rows, other)
    console = make_console()
    for failure in failures:
        console.print(failure, markup=False)
    if args.json is not None:
        write_json(args.json, [asdict(row) for row in rows])
    return 1 if failures else 0


def eager(args: argparse.Namespace, other: str) -> Measured:
    from gxu.benchmarks.versus import compare

    elements = args.elements or [compare.SMALL_ELEMENTS, compare.LARGE_ELEMENTS]
    return _attempt(lambda: compare.eager(other, elements, min(args.seconds, EAGER_SECONDS)))


def triton(args: argparse.Namespace, other: str) -> Measured:
    from gxu.benchmarks.triton.cases import all_cases
    from gxu.benchmarks.versus import compare
    from gxu.cli.bench_triton import select

    _refuse_cpu(other, "torch has no Triton for the CPU")
    names = [case.name for case in select(all_cases(), args.filter) if case.make is not None]
    failures: list[str] = []

    def measure() -> list[Row]:
        rows, sentences = compare.triton(other, names, QUICK_SECONDS if args.quick else KERNEL_SECONDS)
        failures.extend(sentences)
        return rows

    rows, problems = _attempt(measure)
    return rows, failures + problems


def launches(args: argparse.Namespace, other: str) -> Measured:
    from gxu.benchmarks.versus import compare

    return _attempt(lambda: compare.launches(other, KERNEL_SECONDS))


def models(args: argparse.Namespace, other: str) -> Measured:
    from gxu.benchmarks.versus import compare
    from gxu.cli.bench_models import print_absent, select, with_weights

    rows: list[Row] = []
    failures: list[str] = []
    start = time.monotonic()
    budget = float("inf") if args.budget is None else args.budget
    # Dtypes in turns, so that a small budget still meets all of them.
    requests, absent = with_weights(sorted(select(args.filter, compare.MODEL_DTYPES), key=compare.order_of))
    print_absent(absent)
    seconds = QUICK_SECONDS if args.quick else MODEL_SECONDS
    with make_progress() as progress, tempfile.TemporaryDirectory(prefix="gxu-bench-") as folder:
        task = progress.add_task("models", total=len(requests))
        cache = Path(folder)
        if args.jobs > 1:
            compare.compile_ahead(other, requests, args.jobs, COMPILE_SHARE * min(budget, DAY), cache)
        for request in requests:
            progress.update(task, description=request.name)
            left = budget - (time.monotonic() - start)
            if left <= 0:
                failures.append(f"{request.name}: not run, the budget of {budget:.0f} s was spent")
                continue
            found, problems = _attempt(functools.partial(compare.model, other, request, seconds, min(left, DAY), cache))
            rows += found
            failures += problems
            progress.advance(task)
    return rows, failures


def memory(args: argparse.Namespace, other: str) -> Measured:
    from gxu.benchmarks.versus import compare

    _refuse_cpu(other, "torch.cpu counts no memory")
    return _attempt(lambda: compare.memory(other))


def _refuse_cpu(other: str, reason: str) -> None:
    if other == "cpu":
        raise UsageError(f"--against cpu: {reason}; without --against, the command compares in a way of its own")


def _attempt(measure: Callable[[], list[Row]]) -> Measured:
    from gxu.benchmarks.versus.compare import WorkerError

    try:
        return measure(), []
    except WorkerError as error:
        return [], [str(error)]


def print_rows(rows: Sequence[Row], other: str) -> None:
    """A table for each group; microseconds, or MiB."""
    console = make_console()
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("", "gxu", other, f"{other} / gxu", "bar", ""):
        table.add_column(title, justify="right" if title else "left", no_wrap=True)
    group = None
    for row in rows:
        if row.group != group:
            group = row.group
            table.add_section()
            table.add_row(f"[bold]{group} ({'MiB' if row.unit == 'bytes' else row.unit})[/bold]")
        figures = (value / MIB if row.unit == "bytes" else value for value in (row.gxu, row.other))
        verdict = "" if row.ratio >= row.bar else "below"
        table.add_row(row.name, *(f"{value:,.1f}" for value in figures), f"{row.ratio:.2f}", f"{row.bar:.2f}", verdict)
    console.print(table)
    summary = summarise_bars((row.name, row.ratio, row.bar) for row in rows)
    if summary:
        console.print(summary)
    from gxu.benchmarks.versus.compare import MODEL_MEAN_BAR, model_mean

    mean = model_mean(rows)
    if mean is not None:
        console.print(f"geometric mean of the models' latencies: {mean:.3f} of {other} (bar {MODEL_MEAN_BAR:.2f})")
