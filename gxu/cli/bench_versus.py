"""`python -m gxu bench WHAT --against DEVICE`: gxu and another device, the same work in a process of each."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from gxu.cli.errors import UsageError
from gxu.cli.output import make_console, make_progress, summarise_bars, write_json

if TYPE_CHECKING:
    from gxu.benchmarks.versus.compare import Outcome, Row
    from gxu.benchmarks.versus.processes import Effort

EAGER_SECONDS, KERNEL_SECONDS, MODEL_SECONDS, QUICK_SECONDS = 0.3, 0.3, 3.0, 0.1
MIB = 1 << 20

#: How many outcomes a comparison is going to have, and those as they come.
Measuring = tuple[int, Iterator["Outcome"]]


def add_arguments(parser: argparse.ArgumentParser, measure: Callable[[argparse.Namespace, str], Measuring]) -> None:
    parser.add_argument(
        "--against",
        metavar="DEVICE",
        help="compare with another device of PyTorch instead (default: cuda with GXU_RUNTIME=cuda, else the CPU as "
        "described)",
    )
    parser.add_argument(
        "--budget",
        type=float,
        default=float("inf"),
        metavar="SECONDS",
        help="with --against: end after these; what has no row by then is listed",
    )
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="with --against: prepare and compile N rows at a time"
    )
    parser.set_defaults(versus=measure)


def other_device(args: argparse.Namespace) -> str | None:
    """The device that gxu is to be compared with; None where it is the CPU in the way of `bench` itself."""
    if not hasattr(args, "versus"):
        return None
    if args.against is not None:
        return str(args.against)
    from gxu.benchmarks.versus.compare import default_device

    return default_device()


def run(args: argparse.Namespace, other: str) -> int:
    """Prints the rows, and writes them after each; exit status 1 where a part of the comparison has none."""
    from gxu.benchmarks.versus.processes import WorkerError

    if args.jobs < 1:
        raise UsageError(f"--jobs {args.jobs}: want at least 1")
    rows: list[Row] = []
    failures: list[str] = []
    count, outcomes = args.versus(args, other)
    with make_progress() as progress:
        task = progress.add_task(f"gxu and {other}", total=count)
        for outcome in outcomes:
            if isinstance(outcome, WorkerError):
                failures.append(str(outcome))
            else:
                rows += outcome
            if args.json is not None:
                write_json(args.json, [asdict(row) for row in rows])
            progress.advance(task)
    print_rows(rows, other)
    console = make_console()
    for failure in failures:
        console.print(failure, markup=False)
    return 1 if failures else 0


def _effort(args: argparse.Namespace, seconds: float) -> Effort:
    from gxu.benchmarks.versus.processes import Effort

    return Effort(seconds, args.jobs, args.budget)


def eager(args: argparse.Namespace, other: str) -> Measuring:
    from gxu.benchmarks.eager import operators
    from gxu.benchmarks.versus import compare

    elements = args.elements or [compare.SMALL_ELEMENTS, compare.LARGE_ELEMENTS]
    count = len(elements) * len(operators())
    return count, compare.eager(other, elements, _effort(args, min(args.seconds, EAGER_SECONDS)))


def triton(args: argparse.Namespace, other: str) -> Measuring:
    from gxu.benchmarks.triton.cases import all_cases
    from gxu.benchmarks.versus import compare
    from gxu.cli.bench_triton import select

    _refuse_cpu(other, "torch has no Triton for the CPU")
    cases = [case for case in select(all_cases(), args.filter) if case.make is not None]
    names = [case.name for case in compare.kinds_in_turns(cases)]
    return len(names), compare.triton(other, names, _effort(args, QUICK_SECONDS if args.quick else KERNEL_SECONDS))


def launches(args: argparse.Namespace, other: str) -> Measuring:
    from gxu.benchmarks.versus import compare

    return 2, compare.launches(other, _effort(args, KERNEL_SECONDS))


def models(args: argparse.Namespace, other: str) -> Measuring:
    from gxu.benchmarks.versus import compare
    from gxu.cli.bench_models import print_absent, select, with_weights

    # Dtypes in turns, so that a small budget still meets all of them.
    requests, absent = with_weights(sorted(select(args.filter, compare.MODEL_DTYPES), key=compare.order_of))
    print_absent(absent)
    return len(requests), compare.models(other, requests, _effort(args, QUICK_SECONDS if args.quick else MODEL_SECONDS))


def memory(args: argparse.Namespace, other: str) -> Measuring:
    from gxu.benchmarks import memory as runs
    from gxu.benchmarks.versus import compare

    _refuse_cpu(other, "torch.cpu counts no memory")
    return len(runs.RUNS), compare.memory(other, runs.RUNS, _effort(args, 0.0))


def _refuse_cpu(other: str, reason: str) -> None:
    if other == "cpu":
        raise UsageError(f"--against cpu: {reason}; without --against, the command compares in a way of its own")


def print_rows(rows: Sequence[Row], other: str) -> None:
    """A table for each group; microseconds, or MiB."""
    console = make_console()
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("", "gxu", other, f"{other} / gxu", "bar", ""):
        table.add_column(title, justify="right" if title else "left", no_wrap=True)
    group = None
    places = {name: place for place, name in enumerate(dict.fromkeys(row.group for row in rows))}
    for row in sorted(rows, key=lambda row: places[row.group]):
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
