"""Rows of gxu against another device: the same work in a process of each, and the bars that it has to reach."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gxu._name import DEVICE_TYPE
from gxu.benchmarks.models.catalogue import MODELS
from gxu.benchmarks.models.measure import Request

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


class WorkerError(Exception):
    """A measuring process gave no reply, or wrong numbers."""


def default_device() -> str | None:
    """`cuda` where the runtime's devices are PyTorch's CUDA devices, too; None where gxu is compared with the CPU."""
    import torch

    if os.environ.get("GXU_RUNTIME", "host") in ("", "host") or not torch.cuda.is_available():
        return None
    properties = torch.get_device_module(DEVICE_TYPE).get_device_properties(0)
    return "cuda" if properties.triton_backend == "cuda" else None


def ask(device: str, timeout: float | None = None, *, cache: Path | None = None, **request: Any) -> dict[str, Any]:
    """The reply of a measuring process for `device`, with the compiler caches in `cache`, empty ones where None.

    WorkerError where there is no reply.
    """
    environment = {**os.environ, "GXU_BENCH_DEVICE": device, "HF_HUB_OFFLINE": "1"}
    if device == DEVICE_TYPE:
        environment["TRITON_DEFAULT_BACKEND"] = "gxu"
    else:
        # The other device as it is without gxu.
        environment["GXU_REGISTER"] = "0"
        environment.pop("TRITON_DEFAULT_BACKEND", None)
    what = f"{request['task']} {request.get('name', '')} on {device}".replace("  ", " ")
    with contextlib.ExitStack() as stack:
        folder = cache or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gxu-bench-")))
        environment["TORCHINDUCTOR_CACHE_DIR"] = str(folder / device / "inductor")
        environment["TRITON_CACHE_DIR"] = str(folder / device / "triton")
        command = [sys.executable, "-W", "ignore", "-m", "gxu.benchmarks.versus.worker"]
        try:
            done = subprocess.run(
                command, input=json.dumps({"device": device, **request}), capture_output=True, text=True,
                env=environment, check=False, timeout=timeout,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise WorkerError(f"{what}: not finished after {timeout:.0f} s") from None
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise WorkerError(f"{what}: the measuring process ended with status {done.returncode}: {last}")
    reply: dict[str, Any] = json.loads(done.stdout)
    return reply


def _both(
    other: str, timeout: float | None, cache: Path | None = None, **request: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    return ask(DEVICE_TYPE, timeout, cache=cache, **request), ask(other, timeout, cache=cache, **request)


def _row(group: str, name: str, gxu: float, other: float, bar: float, unit: str = "us") -> Row:
    return Row(group, name, gxu, other, other / gxu if gxu else float(other == gxu), bar, unit)


def eager(other: str, elements: Iterable[int], seconds: float, timeout: float | None = None) -> list[Row]:
    rows = []
    for count in elements:
        gxu, reference = _both(other, timeout, task="eager", elements=count, seconds=seconds)
        bar = LARGE_EAGER_BAR if count >= LARGE_ELEMENTS else SMALL_EAGER_BAR
        rows += [_row(f"eager, {count:,} elements", name, gxu[name], reference[name], bar) for name in gxu]
    return rows


def triton(other: str, names: list[str], seconds: float, timeout: float | None = None) -> tuple[list[Row], list[str]]:
    """Rows of the same Triton kernels on both, and a sentence for each kernel that does not run on one of them."""
    gxu, reference = _both(other, timeout, task="triton", names=names, seconds=seconds)
    rows, failures = [], []
    for name in gxu:
        for device, reply in ((DEVICE_TYPE, gxu), (other, reference)):
            if isinstance(reply[name], str):
                failures.append(f"{name} on {device}: {reply[name]}")
        if not isinstance(gxu[name], str) and not isinstance(reference[name], str):
            rows.append(_row("Triton kernels", name, gxu[name], reference[name], KERNEL_BAR))
    return rows, failures


def compile_ahead(other: str, requests: Sequence[Request], jobs: int, timeout: float, cache: Path) -> None:
    """Fills `cache` with what both devices compile for the models, `jobs` processes at a time, for `timeout` seconds.

    What fails or is not reached here is compiled, or fails, when it is measured.
    """
    end = time.monotonic() + timeout

    def compile_one(request: Request, device: str) -> None:
        left = end - time.monotonic()
        if left > 0:
            with contextlib.suppress(WorkerError):
                ask(device, left, cache=cache, task="model", seconds=0.0, **_of(request))

    with ThreadPoolExecutor(jobs) as pool:
        for request in requests:
            for device in (DEVICE_TYPE, other):
                pool.submit(compile_one, request, device)


def order_of(request: Request) -> tuple[int, int]:
    """Which models are measured first: each once before any a second time, in another dtype."""
    names = [entry.name for entry in MODELS]
    place = 2 * names.index(request.model) + request.training
    turn = (MODEL_DTYPES.index(request.dtype) - place) % len(MODEL_DTYPES)
    return turn, place


def _of(request: Request) -> dict[str, Any]:
    return {"name": request.model, "dtype": request.dtype, "training": request.training}


def model(
    other: str, request: Request, seconds: float, timeout: float | None = None, cache: Path | None = None
) -> list[Row]:
    """Latency and peaks of memory of one compiled model. WorkerError where gxu's numbers are wrong."""
    gxu, reference = _both(other, timeout, cache=cache, task="model", seconds=seconds, **_of(request))
    title, dtype = request.name, request.dtype
    if not gxu["error"] <= max(ERROR_FACTOR * reference["error"], ERROR_FLOOR[dtype]):
        raise WorkerError(f"{title}: the error is {gxu['error']:.2g}, and {reference['error']:.2g} on {other}")
    rows = [_row("compiled models", title, gxu["us"], reference["us"], MODEL_BAR)]
    for key, bar in MEMORY_BARS.items():
        if key in gxu and key in reference:
            rows.append(
                _row(f"compiled models, {key.replace('_', ' ')}", title, gxu[key], reference[key], bar, "bytes")
            )
    return rows


def launches(other: str, seconds: float, timeout: float | None = None) -> list[Row]:
    gxu, reference = _both(other, timeout, task="launches", seconds=seconds)
    titles = {"compiled": "50 tiny kernels", "captured": "50 tiny kernels, captured"}
    return [_row("launches", title, gxu[key], reference[key], LAUNCH_BAR) for key, title in titles.items()]


def memory(other: str, timeout: float | None = None) -> list[Row]:
    gxu, reference = _both(other, timeout, task="memory")
    return [
        _row(f"training runs, {key.replace('_', ' ')}", name, gxu[name][key], reference[name][key], bar, "bytes")
        for key, bar in MEMORY_BARS.items()
        for name in gxu
    ]


def model_mean(rows: Iterable[Row]) -> float | None:
    """Geometric mean of the models' latency ratios."""
    ratios = [row.ratio for row in rows if row.group == "compiled models"]
    return statistics.geometric_mean(ratios) if ratios else None
