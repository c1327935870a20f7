"""`python -m gxu bench`: measurements against the CPU, on the same cores in the same run."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from rich import box
from rich.table import Table

from gxu._name import DEVICE_TYPE
from gxu.benchmarks.eager import METADATA_ONLY, WITH_GRADIENT, Maker, operators
from gxu.cli import bench_heuristics, bench_memory, bench_models, bench_triton, bench_versus
from gxu.cli.errors import UsageError
from gxu.cli.output import check_writable, make_console, make_progress, summarise_bars, write_json

HELP = "measure gxu against the CPU"

# Reference time over gxu's, the least that an eager operator may reach: 1.3 times the CPU's time on many elements, 1.1
# times where nearly all is the call itself.
EAGER_BAR = 1 / 1.3
BAR_FROM_ELEMENTS = 1 << 20
CALL_BAR = 1 / 1.1
CALL_ELEMENTS = 1
ELEMENTS = (CALL_ELEMENTS, BAR_FROM_ELEMENTS)
# Calls between two synchronisations: as in the step of a small model, and of a large one.
CALLS = 100
LARGE_CALLS = 10


@dataclass(frozen=True)
class Row:
    """Microseconds a call on each device, `ratio` = the CPU's over gxu's (higher is better), and the `bar` for it."""

    name: str
    elements: int
    cpu_us: float
    gxu_us: float
    ratio: float
    bar: float | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    benches = parser.add_subparsers(metavar="WHAT", required=True)
    eager = benches.add_parser("eager", help="eager operators, gxu against CPU")
    eager.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to FILE")
    eager.add_argument(
        "--elements",
        type=int,
        nargs="+",
        metavar="N",
        help="sizes of the operands (default: 1, which is all overhead, and 1048576; against another device 16777216)",
    )
    eager.add_argument("--seconds", type=float, default=1.0, help="how long to measure each row (default: %(default)s)")
    bench_versus.add_arguments(eager, bench_versus.eager)
    eager.set_defaults(bench=run_eager)
    triton = benches.add_parser("triton", help="Triton kernels against torch, its compiler and the machine")
    bench_triton.add_arguments(triton)
    bench_versus.add_arguments(triton, bench_versus.triton)
    triton.set_defaults(bench=bench_triton.run)
    models = benches.add_parser("models", help="whole compiled models against Inductor's C++ code")
    bench_models.add_arguments(models)
    bench_versus.add_arguments(models, bench_versus.models)
    models.set_defaults(bench=bench_models.run)
    heuristics = benches.add_parser("heuristics", help="the choice of blocks against torch's and the best there is")
    bench_heuristics.add_arguments(heuristics)
    heuristics.set_defaults(bench=bench_heuristics.run)
    launches = benches.add_parser("launches", help="a compiled graph of 50 tiny kernels, on gxu and another device")
    launches.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to FILE")
    bench_versus.add_arguments(launches, bench_versus.launches)
    launches.set_defaults(bench=run_launches)
    memory = benches.add_parser("memory", help="device memory that training runs reserve and allocate")
    bench_memory.add_arguments(memory)
    bench_versus.add_arguments(memory, bench_versus.memory)
    memory.set_defaults(bench=bench_memory.run)


def run(args: argparse.Namespace) -> int:
    if args.json is not None:
        check_writable(args.json)
    other = bench_versus.other_device(args)
    return int(args.bench(args) if other is None else bench_versus.run(args, other))


def run_launches(args: argparse.Namespace) -> int:
    return bench_versus.run(args, "cpu")


def run_eager(args: argparse.Namespace) -> int:
    args.elements = args.elements or list(ELEMENTS)
    rows = bench_eager(args)
    print_rows(rows)
    if args.json is not None:
        write_json(args.json, [asdict(row) for row in rows])
    return 0


def bench_eager(args: argparse.Namespace) -> list[Row]:
    """Frequent operators; a bar is stated for one element, and for a million and more."""
    import torch

    from gxu.cli.measure import median_latencies

    if min(args.elements) < 1:
        raise UsageError(f"--elements {min(args.elements)}: want sizes of at least 1")
    synchronize = torch.get_device_module(DEVICE_TYPE).synchronize
    rows = []
    with make_progress() as progress:
        task = progress.add_task("eager operators", total=len(args.elements) * len(operators()))
        for elements in args.elements:
            for name, make in operators().items():
                with torch.set_grad_enabled(name.endswith(WITH_GRADIENT)):
                    count = LARGE_CALLS if elements >= BAR_FROM_ELEMENTS else CALLS
                    calls = eager_calls(make, elements, count, synchronize)
                    times = median_latencies(calls, args.seconds, progress)
                cpu, gxu = (times[device] * 1e3 / count for device in ("cpu", "gxu"))
                rows.append(Row(name, elements, cpu, gxu, cpu / gxu, bar_of(name, elements)))
                progress.advance(task)
    return rows


def bar_of(name: str, elements: int) -> float | None:
    if elements == CALL_ELEMENTS:
        return CALL_BAR
    return EAGER_BAR if elements >= BAR_FROM_ELEMENTS and name not in METADATA_ONLY else None


def eager_calls(
    make: Maker, elements: int, count: int, synchronize: Callable[[], None]
) -> dict[str, Callable[[], object]]:
    """Each entry calls the operator `count` times on one device and waits for the results once, as programs do."""
    on_cpu, on_gxu = make("cpu", elements), make(DEVICE_TYPE, elements)

    def cpu() -> None:
        for _ in range(count):
            on_cpu()

    def gxu() -> None:
        for _ in range(count):
            on_gxu()
        synchronize()

    return {"cpu": cpu, "gxu": gxu}


def print_rows(rows: list[Row]) -> None:
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("operator", "elements", "CPU (us)", "gxu (us)", "CPU / gxu", "bar"):
        table.add_column(title, justify="left" if title == "operator" else "right")
    for row in rows:
        bar = "" if row.bar is None else f"{row.bar:.2f}"
        table.add_row(row.name, f"{row.elements:,}", f"{row.cpu_us:.2f}", f"{row.gxu_us:.2f}", f"{row.ratio:.2f}", bar)
    console = make_console()
    console.print(table)
    summary = summarise_bars((row.name, row.ratio, row.bar) for row in rows)
    if summary:
        console.print(summary)
