"""Measures one device: `python -m gxu.benchmarks.versus.worker DEVICE`, requests on stdin, a reply to each on stdout.

Requests and replies are lines of JSON. A request with a `task` prepares it, one with `seconds` measures what was
prepared last. Times are microseconds of wall-clock time, from the call in Python until the device has finished.
A reply with `failure` says in a sentence why there is nothing else in it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import torch

from gxu._name import DEVICE_TYPE

#: Calls that the device is waited for once.
CALLS = 10
WARM_UP_SAMPLES, LEAST_SAMPLES = 2, 3
TINY_KERNELS = 50
#: Triton's products on a GPU round fp32 operands to TF32, and 2-byte types are rounded as on the CPU.
PRODUCT_TOLERANCE = 2e-2

Reply = dict[str, Any]
#: What preparing a task leaves: to be called with the seconds to measure for.
Prepared = Callable[[float], Reply]


def main() -> None:
    device = sys.argv[1]
    # Whatever a library prints must not stand between a reply and its reader.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    prepared: Prepared | None = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "task" in request:
                prepared = None  # what it held is free for the next
                prepared = TASKS[request.pop("task")](device, **request)
                reply: Reply = {}
            else:
                assert prepared is not None, "nothing was prepared"
                reply = prepared(request["seconds"])
        except Exception as error:  # one row's failure is not the end of all
            reply = {"failure": " ".join(f"{type(error).__name__}: {error}".split())[:300]}
        print(json.dumps(reply), file=replies, flush=True)


def eager(device: str, name: str, elements: int) -> Prepared:
    """An operator of `bench eager` on about `elements` elements."""
    from gxu.benchmarks.eager import WITH_GRADIENT, operators

    with_gradient = name.endswith(WITH_GRADIENT)
    with torch.set_grad_enabled(with_gradient):
        call = operators()[name](device, elements)

    def measure(seconds: float) -> Reply:
        with torch.set_grad_enabled(with_gradient):
            return {"samples": _samples(device, call, seconds, calls=CALLS)}

    return measure


def triton(device: str, name: str) -> Prepared:
    """A row of `bench triton` that is one kernel, once its results are right."""
    from gxu.benchmarks.triton.cases import all_cases
    from gxu.benchmarks.triton.comparison import check

    case = next(case for case in all_cases() if case.name == name)
    if case.make is None:
        raise ValueError(f"{name} is not one kernel")
    torch.manual_seed(0)
    with torch.no_grad():
        work = case.make()
        tolerances = {key: max(getattr(work, key), PRODUCT_TOLERANCE) for key in ("rtol", "atol")}
        check(name, dataclasses.replace(work, **tolerances))

    def measure(seconds: float) -> Reply:
        with torch.no_grad():
            return {"samples": _samples(device, work.kernel, seconds, calls=CALLS)}

    return measure


def model(device: str, name: str, dtype: str, training: bool, threads: int) -> Prepared:
    """A compiled model of `bench models`: its `error` relative to float64 on the CPU, and peaks of device memory.

    `threads`: as many as float64 takes; what is measured takes all.
    """
    from gxu.benchmarks.models.catalogue import MODELS
    from gxu.benchmarks.models.work import error, make_work

    found = next(entry for entry in MODELS if entry.name == name)
    kind = getattr(torch, dtype)
    with _cpu_threads(threads):
        exact = make_work(found, "cpu", torch.float64, training=training, compiled=False, update=False).run()
    work = make_work(found, device, kind, training=training, compiled=True, update=False)
    start = time.perf_counter()
    results = work.run()
    reply: Reply = {"first_call_s": time.perf_counter() - start, "error": error(results, exact)}
    del results, exact
    if training:
        work = make_work(found, device, kind, training=True, compiled=True, update=True)
    work.run()

    def measure(seconds: float) -> Reply:
        for module in memory_modules(device):
            module.reset_peak_memory_stats()
        return {**reply, "samples": _samples(device, work.call, seconds), **peaks(device)}

    return measure


def launches(device: str, captured: bool) -> Prepared:
    """A compiled graph of TINY_KERNELS kernels with nothing to compute: as it is, or captured and replayed."""
    from torch._inductor import metrics

    # Each size has a kernel of its own: nothing is fused.
    inputs = [torch.ones(64 + size, device=device) for size in range(TINY_KERNELS)]

    def tiny(*values: torch.Tensor) -> list[torch.Tensor]:
        return [value * 2 + 1 for value in values]

    torch._dynamo.reset()
    metrics.reset()
    compiled = torch.compile(tiny, mode="reduce-overhead" if captured else None, dynamic=False)
    with torch.no_grad():
        for _ in range(3):  # the second call captures
            results = compiled(*inputs)
    if any(bool((result != 3).any()) for result in results):
        raise RuntimeError("wrong numbers")
    kernels = metrics.generated_kernel_count

    def measure(seconds: float) -> Reply:
        with torch.no_grad():
            return {"samples": _samples(device, functools.partial(compiled, *inputs), seconds), "kernels": kernels}

    return measure


def memory(device: str, name: str) -> Prepared:
    """Peaks of allocated and reserved bytes over a training run of `bench memory`."""
    from gxu.benchmarks import memory as runs

    for module in memory_modules(device):
        module.empty_cache()
        module.reset_peak_memory_stats()
    runs.measure(name, device)
    reply = peaks(device)
    return lambda seconds: reply


def memory_modules(device: str) -> list[ModuleType]:
    """Those that count the memory of the device's tensors: as gxu's delegate, CUDA's allocator holds results."""
    if device == "cpu":
        return []
    modules = [torch.get_device_module(device)]
    if device == DEVICE_TYPE and modules[0]._C.delegates_to_cuda(0):
        modules.append(torch.cuda)
    return modules


def peaks(device: str) -> Reply:
    """`allocated_bytes` and `reserved_bytes`; of two allocators the sum: no less than both held at one time."""
    modules = memory_modules(device)
    if not modules:
        return {}
    return {
        "allocated_bytes": sum(module.max_memory_allocated() for module in modules),
        "reserved_bytes": sum(module.max_memory_reserved() for module in modules),
    }


@contextlib.contextmanager
def _cpu_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(min(count, before))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _samples(device: str, call: Callable[[], object], seconds: float, calls: int = 1) -> list[float]:
    """Times of one call, where the device is waited for after every `calls`."""
    synchronize = (lambda: None) if device == "cpu" else torch.get_device_module(device).synchronize

    def timed() -> float:
        start = time.perf_counter()
        for _ in range(calls):
            call()
        synchronize()
        return (time.perf_counter() - start) * 1e6 / calls

    for _ in range(WARM_UP_SAMPLES):
        timed()
    samples: list[float] = []
    end = time.perf_counter() + seconds
    while len(samples) < LEAST_SAMPLES or time.perf_counter() < end:
        samples.append(timed())
    return samples


TASKS: dict[str, Callable[..., Prepared]] = {
    "eager": eager,
    "triton": triton,
    "model": model,
    "launches": launches,
    "memory": memory,
}


if __name__ == "__main__":
    main()
