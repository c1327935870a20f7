"""Two cores against one, for kernels that are bound by computing."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable

import torch
import triton

from gxu.benchmarks.device import DEVICE
from gxu.benchmarks.triton import attention, products, streaming
from gxu.benchmarks.triton.row import Case, Row, Settings, Work

GROUP = "two cores"
BAR = 1.9
ROUNDS = 5


def cases() -> list[Case]:
    makes: dict[str, Callable[[], Work]] = {
        "two cores, gelu tanh": gelu,
        "two cores, matmul": lambda: products.matmul(1024, torch.float32),
        "two cores, attention": lambda: attention.forward(1024, 64),
    }
    return [Case(name, GROUP, functools.partial(_measure, name, make)) for name, make in makes.items()]


def gelu() -> Work:
    """On tensors that stay in the last cache, long enough that Triton's dispatch in Python (10 us) does not count."""
    n = 1 << 20
    x, y = torch.randn(n, device=DEVICE), torch.empty(n, device=DEVICE)
    kernel = streaming.tanh_gelu_kernel[(triton.cdiv(n, 4096),)]
    return Work(lambda: kernel(x, y, n, BLOCK=4096), lambda: None)


def _measure(name: str, make: Callable[[], Work], settings: Settings) -> Row:
    synchronize = torch.get_device_module(DEVICE).synchronize
    work = make()
    threads = torch.get_num_threads()
    samples: dict[int, list[float]] = {1: [], 2: []}
    try:
        for _ in range(ROUNDS):
            for count, times in samples.items():
                torch.set_num_threads(count)
                work.kernel()  # a team of the new size starts
                synchronize()
                stop = time.perf_counter() + settings.seconds / (2 * ROUNDS)
                while not times or time.perf_counter() < stop:
                    start = time.perf_counter()
                    work.kernel()
                    synchronize()
                    times.append((time.perf_counter() - start) * 1e6)
    finally:
        torch.set_num_threads(threads)
    one, two = (statistics.median(times) for times in samples.values())
    return Row(name, GROUP, two, None, None, None, one, "one core", one / two, BAR)
