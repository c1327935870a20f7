"""Measures one model: cold and warm compile times and memory in fresh processes, latencies in turns in one process."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import Any

from gxu._name import DEVICE_TYPE

#: A model's numbers may be so many times as far from float64's as Inductor's C++ code's are: rounding differs.
ERROR_FACTOR = 2.0
#: Errors below this are rounding of the results themselves, whatever the other's.
ERROR_FLOOR = {"float32": 1e-6, "bfloat16": 4e-3}
LATENCY_BAR = 0.85
#: How often a first call with filled caches is measured, in a new process each: one varies by a fifth.
WARM_STARTS = 5
#: The sides that compile: how their fields in `Row` begin, and their devices.
COMPILED = {"": DEVICE_TYPE, "inductor_": "cpu"}


@dataclass(frozen=True)
class Request:
    """One row: a model of the catalogue, for inference or as a training step with AdamW."""

    model: str
    dtype: str
    training: bool

    @property
    def name(self) -> str:
        return f"{self.model}{' training' if self.training else ''}, {self.dtype}"


@dataclass(frozen=True)
class Row:
    """`ratio` is Inductor's C++ latency over gxu's (higher is better). Times in ms and s, memory in MiB.

    `cold_s` is a first call with empty caches, `warm_s` the median of five with those of an earlier process.
    `error` is relative to float64, in the 2-norm of all results, or of all gradients. None where it was not measured
    (`--quick`).
    """

    name: str
    ratio: float
    bar: float
    gxu_ms: float
    inductor_ms: float
    eager_ms: float
    error: float
    inductor_error: float
    cold_s: float | None = None
    inductor_cold_s: float | None = None
    warm_s: float | None = None
    inductor_warm_s: float | None = None
    peak_mib: float | None = None
    inductor_peak_mib: float | None = None


class WrongResultError(Exception):
    """A compiled model's numbers are too far from float64's: it gets no row."""


class ProcessError(Exception):
    """A measuring process ended without a reply."""


def measure(request: Request, seconds: float, *, quick: bool) -> Row:
    """One row; `quick` leaves out compile times and memory, which take twelve processes more.

    All processes share one folder of compiler caches: the first of each side finds it empty, the others what that left.
    """
    with tempfile.TemporaryDirectory(prefix="gxu-bench-") as folder:
        figures = {} if quick else _first_calls(request, folder)
        latency = _ask(request, folder, task="latency", seconds=seconds)
    errors, ms = latency["errors"], latency["ms"]
    if errors["gxu"] > max(ERROR_FACTOR * errors["inductor"], ERROR_FLOOR[request.dtype]):
        theirs, ours = errors["inductor"], errors["gxu"]
        raise WrongResultError(f"{request.name}: the error is {ours:.2g}, and {theirs:.2g} with Inductor's C++ code")
    return Row(
        name=request.name,
        ratio=ms["inductor"] / ms["gxu"],
        bar=LATENCY_BAR,
        gxu_ms=ms["gxu"],
        inductor_ms=ms["inductor"],
        eager_ms=ms["eager"],
        error=errors["gxu"],
        inductor_error=errors["inductor"],
        **figures,
    )


def _first_calls(request: Request, cache: str) -> dict[str, float]:
    """A cold start of each side, then WARM_STARTS warm ones, each in a process of its own; who comes first changes."""
    figures: dict[str, float] = {}
    warm: dict[str, list[dict[str, float]]] = {prefix: [] for prefix in COMPILED}
    for prefix, device in COMPILED.items():
        figures[f"{prefix}cold_s"] = _ask(request, cache, task="compile", device=device)["seconds"]
    for turn in range(WARM_STARTS):
        for prefix, device in sorted(COMPILED.items(), reverse=turn % 2 == 1):
            warm[prefix].append(_ask(request, cache, task="compile", device=device))
    for prefix, starts in warm.items():
        figures[f"{prefix}warm_s"] = statistics.median(start["seconds"] for start in starts)
        figures[f"{prefix}peak_mib"] = statistics.median(start["peak_mib"] for start in starts)
    return figures


def _ask(request: Request, cache: str, **task: Any) -> dict[str, Any]:
    """The reply of a measuring process, with all compiler caches in the folder `cache`."""
    environment = {
        **os.environ,
        "TORCHINDUCTOR_CACHE_DIR": f"{cache}/inductor",
        "TRITON_CACHE_DIR": f"{cache}/triton",
        "HF_HUB_OFFLINE": "1",
    }
    text = json.dumps({"model": request.model, "dtype": request.dtype, "training": request.training, **task})
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "gxu.benchmarks.models.process"],
        input=text, capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ProcessError(f"{request.name}: the measuring process ended with status {done.returncode}: {last}")
    reply: dict[str, Any] = json.loads(done.stdout)
    return reply
