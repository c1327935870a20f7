"""`python -m gxu conformance SUITE`: what the device computes against independent references, counted by operator."""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from gxu.cli.errors import UsageError
from gxu.cli.output import check_writable, make_console, make_progress, write_json

if TYPE_CHECKING:
    from gxu.conformance.case import Case, Outcome

HELP = "compare what the device computes with independent references, operator by operator"

SUITES = {"compile": "gxu.conformance.compile", "eager": "gxu.conformance.eager", "triton": "gxu.conformance.triton"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "suite",
        choices=sorted(SUITES),
        help="eager: PyTorch's OpInfo database against the CPU; compile: the same under torch.compile; "
        "triton: the Triton backend against the interpreter",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the counts and what did not pass to FILE")
    parser.add_argument(
        "--progress",
        type=Path,
        metavar="FILE",
        help="keep outcomes in FILE as they are known; cases that passed or were skipped in it are not asked again",
    )
    parser.add_argument("--operators", metavar="A,B", help="only these operators")
    parser.add_argument("--variants", metavar="A,B", help="only these variants of cases (eager: forward, out, ...)")
    parser.add_argument("--dtypes", metavar="A,B", help="only these dtypes")
    parser.add_argument("--limit", type=int, metavar="N", help="only N cases, spread over all that are chosen")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="worker processes (default: all cores)")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds that one case may take (default: 300)")


def run(args: argparse.Namespace) -> int:
    if args.json is not None:
        check_writable(args.json)
    if args.progress is not None:
        check_writable(args.progress)
    for name in ("limit", "jobs", "timeout"):
        if getattr(args, name) is not None and getattr(args, name) <= 0:
            raise UsageError(f"--{name} must be positive, not {getattr(args, name)}")
    from gxu.conformance.progress import Progress
    from gxu.conformance.report import summary
    from gxu.conformance.runner import Runner

    suite = SUITES[args.suite]
    cases = importlib.import_module(suite).collect()
    numbers = choose(cases, args.operators, args.limit, args.variants, args.dtypes)
    kept = None if args.progress is None else Progress(args.progress, cases)
    settled = {} if kept is None else {number: kept.settled[number] for number in numbers if number in kept.settled}
    numbers = [number for number in numbers if number not in settled]
    failed: list[str] = []
    with make_progress() as progress:
        task = progress.add_task(f"{len(numbers)} cases", total=len(numbers), count=lambda: f"{len(failed)} failed")

        def report(outcome: Outcome) -> None:
            if outcome.status.value == "failed":
                failed.append(outcome.name)
            if kept is not None:
                kept.record(outcome)
            progress.advance(task)

        runner = Runner(suite, cases, numbers, args.jobs, args.timeout)
        runner.outcomes.update(settled)
        counted = summary(runner.run(report))
    show(make_console(), counted)
    if args.json is not None:
        write_json(args.json, counted)
    return 1 if counted["total"]["failed"] else 0


def choose(
    cases: Sequence[Case],
    operators: str | None = None,
    limit: int | None = None,
    variants: str | None = None,
    dtypes: str | None = None,
) -> list[int]:
    """The numbers of the cases of these operators, variants and dtypes (comma-separated; all where None), at most
    `limit`, evenly spread."""
    numbers = list(range(len(cases)))
    for kind, chosen in (("operator", operators), ("variant", variants), ("dtype", dtypes)):
        if chosen is None:
            continue
        wanted = {name.strip() for name in chosen.split(",")}
        known = {getattr(case, kind) for case in cases}
        if wanted - known:
            listed = ", ".join(sorted(known - {""}))
            raise UsageError(f"no {kind} {', '.join(sorted(wanted - known))}; the suite has: {listed}")
        numbers = [number for number in numbers if getattr(cases[number], kind) in wanted]
    if limit is not None and limit < len(numbers):
        numbers = [numbers[index * len(numbers) // limit] for index in range(limit)]
    return numbers


def show(console: Console, counted: dict[str, Any]) -> None:
    """A row for each operator that has more to say than `passed`, every failure, and the totals."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("operator")
    titles = ("passed", "failed", "skipped", "expected_failures")
    for title in titles:
        table.add_column(title.replace("_", " "), justify="right")
    for operator, counts in counted["by_operator"].items():
        table.add_row(operator, *(str(counts[title]) for title in titles))
    table.add_section()
    table.add_row("total", *(str(counted["total"][title]) for title in titles))
    console.print(table)
    for failure in counted["failures"]:
        console.print(f"FAIL {failure['case']}: {failure['reason']}", markup=False)
