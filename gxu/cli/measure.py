"""Cold compile times and latencies of several variants of one model, taken in one process on the same cores."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.progress import Progress
from torch import Tensor, nn

WARM_UP_CALLS = 3
# Calls of one variant are timed in turns of about this long before the next variant's: long enough for its code and
# data to be in the caches as they would be in use, short enough that noise of the machine meets every variant.
TURN_SECONDS = 0.01
MIN_TURNS = 7


@dataclass(frozen=True)
class Compiled:
    """A compiled module, and what its first call did."""

    module: Callable[..., Tensor]
    seconds: float
    kernels_generated: int


def warm_up_compiler(devices: Sequence[str]) -> None:
    """Compiles one line for each device, so that no compile time includes the start of the compiler itself.

    Among that: Inductor's modules, its worker processes, and its precompiled C++ header, which outlives every cache.
    """
    for device in devices:
        torch.compile(lambda x: x + 1, dynamic=False)(torch.ones(8, device=device))


def compile_cold(
    module: nn.Module, inputs: Sequence[Tensor], synchronize: Callable[[], None], progress: Progress, label: str
) -> Compiled:
    """Compiles `module` by its first call, under `fresh_cache`. A graph break is an error."""
    from torch._inductor import metrics

    folder = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])

    def kernels() -> str:
        """How many kernels have been compiled so far: Triton leaves a .ttir each, the C++ backend a library."""
        return f"{sum(1 for pattern in ('*.ttir', '*.main.so') for _ in folder.rglob(pattern))} kernels"

    task = progress.add_task(f"compiling for {label}", total=None, count=kernels)
    metrics.reset()
    compiled = torch.compile(module, fullgraph=True, dynamic=False)
    start = time.perf_counter()
    compiled(*inputs)
    synchronize()
    seconds = time.perf_counter() - start
    count = kernels()
    progress.update(task, total=1, completed=1, count=lambda: count)
    return Compiled(compiled, seconds, metrics.generated_kernel_count)


def median_latencies(calls: Mapping[str, Callable[[], object]], seconds: float, progress: Progress) -> dict[str, float]:
    """The median time of one call of each variant, in milliseconds; a call returns when its results are there.

    After a warm-up, the variants take turns until `seconds` have passed, and at least MIN_TURNS turns each.
    """
    repeats = {}
    for name, call in calls.items():
        estimates = [timed(call) for _ in range(WARM_UP_CALLS)]
        repeats[name] = max(1, int(TURN_SECONDS / estimates[-1]))
    samples: dict[str, list[float]] = {name: [] for name in calls}
    task = progress.add_task("measuring latency", total=seconds)
    start = time.perf_counter()
    turns = 0
    while turns < MIN_TURNS or time.perf_counter() - start < seconds:
        for name, call in calls.items():
            samples[name] += [timed(call) for _ in range(repeats[name])]
        turns += 1
        progress.update(task, completed=min(seconds, time.perf_counter() - start))
    progress.remove_task(task)
    return {name: statistics.median(values) * 1e3 for name, values in samples.items()}


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
