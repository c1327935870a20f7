"""Rows of gxu against another device: the same work in a process of each, and the bars that it has to reach."""

from __future__ import annotations

import os
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gxu._name import DEVICE_TYPE
from gxu.benchmarks.models.catalogue import MODELS
from gxu.benchmarks.models.measure import Request
from gxu.benchmarks.versus.processes import Effort, Item, Reply, WorkerError, measured

if TYPE_CHECKING:
    from gxu.benchmarks.triton.row import Case

#: The other device's figure over gxu's has to be at least this.
LARGE_EAGER_BAR, SMALL_EAGER_BAR = 0.99, 0.85
MODEL_BAR, MODEL_MEAN_BAR = 0.9, 0.98
KERNEL_BAR, LAUNCH_BAR = 0.98, 1.0
MEMORY_BARS = {"allocated_bytes": 1 / 1.03, "reserved_bytes": 1 / 1.05}
SMALL_ELEMENTS, LARGE_ELEMENTS = 1, 1 << 24
#: Errors of a model may be so many times those on the other device; those below the floors are rounding.
ERROR_FACTOR = 2.0
ERROR_FLOOR = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 1e-2}
MODEL_DTYPES = ("float16", "bfloat16", "float32")


@dataclass(frozen=True)
class Row:
    """One figure on both devices, in `unit`; `ratio` is the other's over gxu's: higher is better."""

    group: str
    name: str
    gxu: float
    other: float
    ratio: float
    bar: float
    unit: str


#: The rows of something that was measured, or why it has none.
Outcome = list[Row] | WorkerError


def default_device() -> str | None:
    """`cuda` where the runtime's devices are PyTorch's CUDA devices, too; None where gxu is compared with the CPU."""
    import torch

    if os.environ.get("GXU_RUNTIME", "host") in ("", "host") or not torch.cuda.is_available():
        return None
    properties = torch.get_device_module(DEVICE_TYPE).get_device_properties(0)
    return "cuda" if properties.triton_backend == "cuda" else None


def _row(group: str, name: str, gxu: float, other: float, bar: float, unit: str = "us") -> Row:
    return Row(group, name, gxu, other, other / gxu if gxu else float(other == gxu), bar, unit)


def _latencies(group: str, bar: float, other: str, items: Sequence[Item], effort: Effort) -> Iterator[Outcome]:
    for item, outcome in measured(other, items, effort):
        if isinstance(outcome, WorkerError):
            yield outcome
        else:
            gxu, reference = outcome
            yield [_row(group, item.name, gxu["us"], reference["us"], bar)]


def _memory_rows(group: str, name: str, gxu: Reply, other: Reply) -> list[Row]:
    return [
        _row(f"{group}, {key.replace('_', ' ')}", name, gxu[key], other[key], bar, "bytes")
        for key, bar in MEMORY_BARS.items()
        if key in gxu and key in other
    ]


def eager(other: str, elements: Sequence[int], effort: Effort) -> Iterator[Outcome]:
    from gxu.benchmarks.eager import operators

    # Sizes in turns, so that a small budget still meets all of them.
    sizes = [(count, name) for name in operators() for count in elements]
    items = [
        Item(f"{name}, {count:,} elements", {"task": "eager", "name": name, "elements": count}) for count, name in sizes
    ]
    for (count, name), (_, outcome) in zip(sizes, measured(other, items, effort), strict=True):
        if isinstance(outcome, WorkerError):
            yield outcome
        else:
            bar = LARGE_EAGER_BAR if count >= LARGE_ELEMENTS else SMALL_EAGER_BAR
            gxu, reference = outcome
            yield [_row(f"eager, {count:,} elements", name, gxu["us"], reference["us"], bar)]


def triton(other: str, names: Iterable[str], effort: Effort) -> Iterator[Outcome]:
    """Rows of the same Triton kernels on both."""
    items = [Item(name, {"task": "triton", "name": name}) for name in names]
    yield from _latencies("Triton kernels", KERNEL_BAR, other, items, effort)


def kinds_in_turns(cases: Iterable[Case]) -> list[Case]:
    """One kernel of each group before a second one of any: a small budget still meets all kinds."""
    before: Counter[str] = Counter()
    turns = []
    for case in cases:
        turns.append((before[case.group], case))
        before[case.group] += 1
    return [case for _, case in sorted(turns, key=lambda turn: turn[0])]


def order_of(request: Request) -> tuple[int, int]:
    """Which models are measured first: each once before any a second time, in another dtype."""
    names = [entry.name for entry in MODELS]
    place = 2 * names.index(request.model) + request.training
    turn = (MODEL_DTYPES.index(request.dtype) - place) % len(MODEL_DTYPES)
    return turn, place


def models(other: str, requests: Sequence[Request], effort: Effort) -> Iterator[Outcome]:
    """Latency and peaks of memory of compiled models; none where gxu's numbers are wrong."""
    items = [
        Item(
            request.name,
            {
                "task": "model",
                "name": request.model,
                "dtype": request.dtype,
                "training": request.training,
                "threads": effort.threads,
            },
        )
        for request in requests
    ]
    for request, (_, outcome) in zip(requests, measured(other, items, effort, fresh=True), strict=True):
        yield outcome if isinstance(outcome, WorkerError) else _model_rows(other, request, *outcome)


def _model_rows(other: str, request: Request, gxu: Reply, reference: Reply) -> Outcome:
    title = request.name
    if not gxu["error"] <= max(ERROR_FACTOR * reference["error"], ERROR_FLOOR[request.dtype]):
        return WorkerError(f"{title}: the error is {gxu['error']:.2g}, and {reference['error']:.2g} on {other}")
    latency = _row("compiled models", title, gxu["us"], reference["us"], MODEL_BAR)
    return [latency, *_memory_rows("compiled models", title, gxu, reference)]


def launches(other: str, effort: Effort) -> Iterator[Outcome]:
    titles = {"50 tiny kernels": False, "50 tiny kernels, captured": True}
    items = [Item(title, {"task": "launches", "captured": captured}) for title, captured in titles.items()]
    yield from _latencies("launches", LAUNCH_BAR, other, items, effort)


def memory(other: str, names: Iterable[str], effort: Effort) -> Iterator[Outcome]:
    items = [Item(name, {"task": "memory", "name": name}) for name in names]
    for item, outcome in measured(other, items, effort):
        yield outcome if isinstance(outcome, WorkerError) else _memory_rows("training runs", item.name, *outcome)


def model_mean(rows: Iterable[Row]) -> float | None:
    """Geometric mean of the models' latency ratios."""
    ratios = [row.ratio for row in rows if row.group == "compiled models"]
    return statistics.geometric_mean(ratios) if ratios else None
