"""How Inductor times candidates on gxu.

Work on gxu is asynchronous: a call that returned has perhaps not started. Each sample is therefore taken between two
events on the current stream, after everything before it has finished. A sample is of several calls, one behind the
other as in compiled code: between the events of a single one, a kernel's launch takes no time and that of a library's
operator, which the host engine runs where it is called, does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

from torch._dispatch.python import no_python_dispatcher
from torch._inductor.runtime import benchmarking

from gxu.inductor import compat
from gxu.inductor.device import DEVICE_TYPE, device_module

#: Samples that a result is made of at least, and at most.
MIN_SAMPLES = 5
MAX_SAMPLES = 1000

#: Milliseconds that the calls of a sample are to take together, and how many they are at most.
SAMPLE_MS = 0.1
MAX_CALLS = 20


def _sample(fn: Callable[[], Any], calls: int = 1) -> float:
    start, end = (device_module().Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(calls):
        fn()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / calls


def benchmark(fn: Callable[[], Any], warmup: float = 25, rep: float = 100) -> float:
    """Median milliseconds of `fn()` on the current stream.

    `warmup` and `rep` are the milliseconds to spend before and while measuring. Errors of `fn` are raised.
    """
    # Inductor compiles with the dispatcher in Python, which would slow operators down and kernels not.
    with no_python_dispatcher():
        device_module().synchronize()
        samples: list[float] = []
        deadline = time.perf_counter() + warmup / 1e3
        shortest = _sample(fn)
        while time.perf_counter() < deadline:
            shortest = min(shortest, _sample(fn))
        calls = max(1, round(SAMPLE_MS / max(shortest, SAMPLE_MS / MAX_CALLS)))
        deadline = time.perf_counter() + rep / 1e3
        while len(samples) < MIN_SAMPLES or (time.perf_counter() < deadline and len(samples) < MAX_SAMPLES):
            samples.append(_sample(fn, calls))
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
