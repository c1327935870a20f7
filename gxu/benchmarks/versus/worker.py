"""Measures one device: `python -m gxu.benchmarks.versus.worker`, a request on stdin, a reply on stdout, both JSON.

Times are microseconds of wall-clock time, medians, from the call in Python until the device has finished.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

#: Calls that the device is waited for once.
CALLS = 10
TINY_KERNELS = 50
#: Triton's products on a GPU round fp32 operands to TF32, and 2-byte types are rounded as on the CPU.
PRODUCT_TOLERANCE = 2e-2

Reply = dict[str, Any]


def main() -> None:
    request = json.load(sys.stdin)
    # Whatever a library prints must not stand between the reply and its reader.
    reply, sys.stdout = sys.stdout, sys.stderr
    result = TASKS[request.pop("task")](**request)
    json.dump(result, reply)


def eager(device: str, elements: int, seconds: float) -> Reply:
    """Operators of `bench eager` on about `elements` elements: microseconds a call."""
    from gxu.benchmarks.eager import WITH_GRADIENT, operators

    reply: Reply = {}
    for name, make in operators().items():
        with torch.set_grad_enabled(name.endswith(WITH_GRADIENT)):
            reply[name] = _median_us(device, make(device, elements), seconds, calls=CALLS)
    return reply


def triton(device: str, names: list[str], seconds: float) -> Reply:
    """Rows of `bench triton` that are one kernel: microseconds a call, or a sentence where it does not run."""
    from gxu.benchmarks.triton.cases import all_cases

    reply: Reply = {}
    with torch.no_grad():
        for case in all_cases():
            if case.name in names and case.make is not None:
                try:
                    reply[case.name] = _kernel_us(device, case.name, case.make, seconds)
                except Exception as error:  # one kernel's failure is its row, not the end of all
                    reply[case.name] = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return reply


def _kernel_us(device: str, name: str, make: Callable[[], Any], seconds: float) -> float:
    from gxu.benchmarks.triton.comparison import check

    torch.manual_seed(0)
    work = make()
    if device != "cpu":
        tolerances = {key: max(getattr(work, key), PRODUCT_TOLERANCE) for key in ("rtol", "atol")}
        check(name, dataclasses.replace(work, **tolerances))
    return _median_us(device, work.kernel, seconds, calls=CALLS)


def model(device: str, name: str, dtype: str, training: bool, seconds: float) -> Reply:
    """A compiled model of `bench models`: `us` a call, `error` relative to float64 on the CPU, first call, memory."""
    from gxu.benchmarks.models.catalogue import MODELS
    from gxu.benchmarks.models.work import error, make_work

    found = next(entry for entry in MODELS if entry.name == name)
    kind = getattr(torch, dtype)
    exact = make_work(found, "cpu", torch.float64, training=training, compiled=False, update=False).run()
    once = make_work(found, device, kind, training=training, compiled=True, update=False)
    start = time.perf_counter()
    results = once.run()
    reply: Reply = {"first_call_s": time.perf_counter() - start, "error": error(results, exact)}
    del results
    work = make_work(found, device, kind, training=True, compiled=True, update=True) if training else once
    work.run()
    module = None if device == "cpu" else torch.get_device_module(device)
    if module is not None:
        module.reset_peak_memory_stats()
    reply["us"] = _median_us(device, work.call, seconds)
    if module is not None:
        reply["allocated_bytes"] = module.max_memory_allocated()
        reply["reserved_bytes"] = module.max_memory_reserved()
    return reply


def launches(device: str, seconds: float) -> Reply:
    """A compiled graph of TINY_KERNELS kernels with nothing to compute: as it is, and captured and replayed."""
    from torch._inductor import metrics

    # Each size has a kernel of its own: nothing is fused.
    inputs = [torch.ones(64 + size, device=device) for size in range(TINY_KERNELS)]

    def tiny(*values: torch.Tensor) -> list[torch.Tensor]:
        return [value * 2 + 1 for value in values]

    reply: Reply = {}
    with torch.no_grad():
        for name, mode in (("compiled", None), ("captured", "reduce-overhead")):
            torch._dynamo.reset()
            metrics.reset()
            compiled = torch.compile(tiny, mode=mode, dynamic=False)
            for _ in range(3):  # the second call captures
                results = compiled(*inputs)
            if any(bool((result != 3).any()) for result in results):
                raise RuntimeError(f"{name}: wrong numbers")
            reply[name] = _median_us(device, functools.partial(compiled, *inputs), seconds)
            reply[f"{name}_kernels"] = metrics.generated_kernel_count
    return reply


def memory(device: str) -> Reply:
    """Peaks of allocated and reserved bytes over the training runs of `bench memory`."""
    from gxu.benchmarks import memory as runs

    reply = {}
    for name in runs.RUNS:
        row = runs.measure(name, device)
        reply[name] = {"allocated_bytes": row.allocated_bytes, "reserved_bytes": row.reserved_bytes}
    return reply


def machine(device: str) -> Reply:
    """What the figures were taken on."""
    import platform

    import triton as triton_package

    reply: Reply = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": triton_package.__version__,
        "device": device,
    }
    if device != "cpu":
        module = torch.get_device_module(device)
        reply["name"] = module.get_device_name(0)
        reply["capability"] = str(module.get_device_capability(0))
    return reply


def _median_us(device: str, call: Callable[[], object], seconds: float, calls: int = 1) -> float:
    """Of one call, where the device is waited for after every `calls`."""
    synchronize = (lambda: None) if device == "cpu" else torch.get_device_module(device).synchronize

    def timed() -> float:
        start = time.perf_counter()
        for _ in range(calls):
            call()
        synchronize()
        return (time.perf_counter() - start) * 1e6 / calls

    for _ in range(3):
        timed()
    samples: list[float] = []
    end = time.perf_counter() + seconds
    while len(samples) < 7 or time.perf_counter() < end:
        samples.append(timed())
    return statistics.median(samples)


TASKS: dict[str, Callable[..., Reply]] = {
    "eager": eager,
    "triton": triton,
    "model": model,
    "launches": launches,
    "memory": memory,
    "machine": machine,
}


if __name__ == "__main__":
    main()
