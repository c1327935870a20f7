"""How Inductor times candidates on gxu.

Work on gxu is asynchronous: a call that returned has perhaps not started. Each sample is therefore taken between two
events on the current stream, after everything before it has finished.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

from torch._inductor.runtime import benchmarking

from gxu.inductor import compat
from gxu.inductor.device import DEVICE_TYPE, device_module

#: Samples that a result is made of at least, and at most.
MIN_SAMPLES = 5
MAX_SAMPLES = 1000


def _sample(fn: Callable[[], Any]) -> float:
    start, end = (device_module().Event(enable_timing=True) for _ in range(2))
    start.record()
    fn()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)


def benchmark(fn: Callable[[], Any], warmup: float = 25, rep: float = 100) -> float:
    """Median milliseconds of `fn()` on the current stream.

    `warmup` and `rep` are the milliseconds to spend before and while measuring. Errors of `fn` are raised.
    """
    device_module().synchronize()
    samples: list[float] = []
    deadline = time.perf_counter() + warmup / 1e3
    _sample(fn)
    while time.perf_counter() < deadline:
        _sample(fn)
    deadline = time.perf_counter() + rep / 1e3
    while len(samples) < MIN_SAMPLES or (time.perf_counter() < deadline and len(samples) < MAX_SAMPLES):
        samples.append(_sample(fn))
    return median(samples)


def _inductor_benchmark(_: Any, fn: Callable[[], Any], *, warmup: float, rep: float, **kwargs: Any) -> float:
    if not kwargs.get("is_vetted_benchmarking", False):
        from torch._inductor.runtime.benchmarking import may_ban_benchmarking

        may_ban_benchmarking()
    return benchmark(fn, warmup, rep)


def register() -> None:
    """Makes `benchmark` Inductor's benchmarker for gxu. Idempotent."""
    if hasattr(benchmarking, "register_benchmarker"):
        benchmarking.register_benchmarker(DEVICE_TYPE, _inductor_benchmark, override=True)
    else:
        compat.patch_benchmarker(_inductor_benchmark)
