"""`python -m gxu demo`: a real model, eager and compiled, on the CPU and on gxu, checked and timed in one run."""

from __future__ import annotations

import argparse
import contextlib
import copy
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from gxu._name import DEVICE_TYPE
from gxu.cli.errors import UsageError
from gxu.cli.output import check_writable, make_console, make_progress, write_json

if TYPE_CHECKING:
    from torch import Tensor, nn

    from gxu.cli.workloads import Match, Workload

HELP = "run a real model on gxu, eager and compiled, and compare it with the CPU"

SHARE = Path(__file__).resolve().parent.parent / "share"
# With a text of the user's own and no queries, its first lines are looked up among the others.
DEFAULT_QUERIES = 3

VARIANTS = {
    "cpu_eager": "CPU eager",
    "cpu_compiled": "CPU compiled",
    "gxu_eager": "gxu eager",
    "gxu_compiled": "gxu compiled",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        choices=["minilm", "mlp"],
        default="minilm",
        help="minilm: pretrained sentence embeddings (default); mlp: Linear 512-1024-512-10, batch 64",
    )
    parser.add_argument("--text", type=Path, metavar="FILE", help="sentences to embed, one a line (UTF-8)")
    parser.add_argument(
        "--queries",
        type=Path,
        metavar="FILE",
        help=f"texts to look up, one a line; with --text alone, its first {DEFAULT_QUERIES} lines",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE")
    parser.add_argument(
        "--seconds", type=float, default=8.0, help="how long to measure latencies (default: %(default)s)"
    )


@dataclass
class Result:
    """The figures of one run; `latency_ms`, `compile_s` and `difference` by variant."""

    latency_ms: dict[str, float]
    compile_s: dict[str, float]
    difference: dict[str, float]
    kernels_generated: int
    kernels_launched: int
    output: Tensor
    gradient_difference: float | None = None

    def as_json(self) -> dict[str, Any]:
        value: dict[str, Any] = {
            "max_abs_diff": max(self.difference.values()),
            "kernels_generated": self.kernels_generated,
            "kernels_launched": self.kernels_launched,
            "compile_s": self.compile_s,
            "latency_ms": self.latency_ms,
        }
        if self.gradient_difference is not None:
            value["max_abs_diff_gradients"] = self.gradient_difference
        return value


def run(args: argparse.Namespace) -> int:
    if args.json is not None:
        check_writable(args.json)
    if args.model == "mlp" and (args.text or args.queries):
        raise UsageError("--text and --queries are for --model minilm; the MLP runs on fixed random numbers")
    # Nothing is fetched: the weights and the tokenizer come from an installed package.
    os.environ["HF_HUB_OFFLINE"] = "1"
    from gxu.cli import workloads

    if args.model == "mlp":
        queries: list[str] = []
        sentences: list[str] = []
        workload = workloads.mlp()
    else:
        queries, sentences = read_texts(args.text, args.queries)
        workload = workloads.minilm([*queries, *sentences])

    console = make_console()
    console.print(workload.title)
    with make_progress() as progress:
        result = measure(workload, args.seconds, progress)
        if args.model == "mlp":
            result.gradient_difference = gradient_difference(workload)
    if queries:
        print_matches(console, workloads.nearest(queries, sentences, result.output))
    print_figures(console, result)
    if args.json is not None:
        write_json(args.json, result.as_json())
    return 0


def read_texts(text: Path | None, queries: Path | None) -> tuple[list[str], list[str]]:
    """The texts to look up, and the sentences to look among."""
    sentences = read_lines(text or SHARE / "sentences.txt")
    if queries is not None:
        return read_lines(queries), sentences
    if text is None:
        return read_lines(SHARE / "queries.txt"), sentences
    if len(sentences) < 2:
        raise UsageError(
            f"{text} has one line, and the first lines are looked up among the others: add lines, or give --queries"
        )
    return sentences[: min(DEFAULT_QUERIES, len(sentences) - 1)], sentences


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not blank."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"cannot read {path}: byte {error.start} is not UTF-8; convert the file to UTF-8") from None
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise UsageError(f"{path} has no text in it: write one sentence a line")
    return lines


def measure(workload: Workload, seconds: float, progress: Progress) -> Result:
    """Runs the workload's four variants on all batches, and times them on the first one."""
    import torch
    from torch._inductor.utils import fresh_cache

    from gxu import _C
    from gxu.cli.measure import compile_cold, median_latencies, warm_up_compiler

    synchronize: dict[str, Callable[[], None]] = {
        "cpu": lambda: None,
        "gxu": torch.get_device_module(DEVICE_TYPE).synchronize,
    }
    modules = {"cpu": workload.module, "gxu": copy.deepcopy(workload.module).to(DEVICE_TYPE)}
    names = {"cpu": "cpu", "gxu": DEVICE_TYPE}
    batches = {device: [tuple(t.to(names[device]) for t in batch) for batch in workload.batches] for device in modules}

    def caller(variant: str) -> Callable[[], Tensor]:
        device = variant.split("_")[0]
        inputs, wait = batches[device][0], synchronize[device]

        def call() -> Tensor:
            output = variants[variant](*inputs)
            wait()
            return output

        return call

    # Cache folders live as long as the kernels in them may be loaded from there.
    with torch.no_grad(), contextlib.ExitStack() as caches:
        task = progress.add_task("starting the compiler", total=None)
        caches.enter_context(fresh_cache())
        warm_up_compiler([DEVICE_TYPE, "cpu"])
        progress.remove_task(task)
        compiled = {}
        # gxu is first: what a first real compilation still has to initialise counts against it.
        for device, label in (("gxu", "gxu"), ("cpu", "the CPU")):
            caches.enter_context(fresh_cache())
            compiled[device] = compile_cold(modules[device], batches[device][0], synchronize[device], progress, label)
        variants: dict[str, Callable[..., Tensor]] = {
            "cpu_eager": modules["cpu"],
            "cpu_compiled": compiled["cpu"].module,
            "gxu_eager": modules["gxu"],
            "gxu_compiled": compiled["gxu"].module,
        }
        launched = _C.launch_count()
        caller("gxu_compiled")()
        launched = _C.launch_count() - launched
        outputs = {
            name: torch.cat([module(*batch).cpu() for batch in batches[name.split("_")[0]]])
            for name, module in variants.items()
        }
        latency_ms = median_latencies({name: caller(name) for name in variants}, seconds, progress)
    reference = outputs["cpu_eager"]
    return Result(
        latency_ms=latency_ms,
        compile_s={device: compiled[device].seconds for device in ("gxu", "cpu")},
        difference={name: float((o - reference).abs().max()) for name, o in outputs.items() if name != "cpu_eager"},
        kernels_generated=compiled["gxu"].kernels_generated,
        kernels_launched=launched,
        output=outputs["gxu_compiled"],
    )


def gradient_difference(workload: Workload) -> float:
    """The largest absolute difference between gradients of compiled gxu and of CPU eager, over all parameters."""
    import torch
    from torch import nn

    from gxu.cli.workloads import CLASSES

    def gradients(module: nn.Module, device: str, *, compiled: bool) -> list[Tensor]:
        call = torch.compile(module, fullgraph=True, dynamic=False) if compiled else module
        output = call(*(t.to(device) for t in workload.batches[0]))
        target = torch.arange(output.shape[0], device=device) % CLASSES
        nn.functional.cross_entropy(output, target).backward()
        return [p.grad.cpu() for p in module.parameters() if p.grad is not None]

    expected = gradients(copy.deepcopy(workload.module), "cpu", compiled=False)
    actual = gradients(copy.deepcopy(workload.module).to(DEVICE_TYPE), DEVICE_TYPE, compiled=True)
    return max(float((a - e).abs().max()) for a, e in zip(actual, expected, strict=True))


def print_matches(console: Console, matches: Sequence[Match]) -> None:
    table = Table(title="Nearest sentence by compiled gxu", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("query")
    table.add_column("nearest")
    table.add_column("cosine", justify="right")
    for match in matches:
        table.add_row(match.query, match.sentence, f"{match.similarity:.3f}")
    console.print(table)


def print_figures(console: Console, result: Result) -> None:
    latency, compile_s = result.latency_ms, result.compile_s
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("")
    for title in VARIANTS.values():
        table.add_column(title, justify="right")

    def row(title: str, cell: Callable[[str], str]) -> None:
        table.add_row(title, *(cell(name) for name in VARIANTS))

    row("median latency (ms)", lambda name: f"{latency[name]:.3f}")
    row("speed-up over CPU eager", lambda name: f"{latency['cpu_eager'] / latency[name]:.2f}x")
    row("speed-up over CPU compiled", lambda name: f"{latency['cpu_compiled'] / latency[name]:.2f}x")
    row("speed-up over its own eager", lambda name: f"{latency[name[:3] + '_eager'] / latency[name]:.2f}x")
    row(
        "cold compile (s)",
        lambda name: f"{compile_s[name[:3]]:.2f}" if name.endswith("compiled") else "",
    )
    row(
        "largest difference from CPU eager",
        lambda name: f"{result.difference[name]:.1e}" if name in result.difference else "",
    )
    row("Triton kernels generated", lambda name: str(result.kernels_generated) if name == "gxu_compiled" else "")
    row("launched in one forward", lambda name: str(result.kernels_launched) if name == "gxu_compiled" else "")
    if result.gradient_difference is not None:
        row(
            "largest difference of gradients",
            lambda name: f"{result.gradient_difference:.1e}" if name == "gxu_compiled" else "",
        )
    console.print(table)
