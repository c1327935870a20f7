"""What the benchmarks of many rows share: their options, and where the rows go."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gxu.cli.output import make_console, write_json


def add_arguments(parser: argparse.ArgumentParser, searched: str = "name") -> None:
    """--json, --plot and --filter; `searched` says where in a row the texts of --filter are looked for."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="also draw the rows into FILE (.png, .svg, .pdf)")
    parser.add_argument(
        "--filter",
        nargs="+",
        default=[],
        metavar="TEXT",
        help=f"only rows whose {searched} contains one of these (default: all)",
    )


def check_arguments(args: argparse.Namespace) -> None:
    """Raises UsageError if nothing can be drawn: to be called before the work, and not after it."""
    if args.plot is not None:
        from gxu.benchmarks.plot import check_plot

        check_plot(args.plot)


def finish(
    args: argparse.Namespace, rows: Sequence[Any], bars: Sequence[tuple[str, float, float, str]], failures: list[str]
) -> int:
    """Prints `failures`, writes and draws what was asked for (`bars` as `plot.draw` wants them); the exit status."""
    console = make_console()
    for failure in failures:
        console.print(failure, markup=False)
    if args.json is not None:
        write_json(args.json, [asdict(row) for row in rows])
    if args.plot is not None:
        from gxu.benchmarks.plot import draw

        draw(bars, args.plot)
    return 1 if failures else 0
