"""What runs in a process of its own: `python -m gxu.benchmarks.models.process`, a request on stdin, a reply on stdout.

`compile` times the first call of a compiled model, with whatever caches the environment names, and the peak of the
process's memory; `latency` times calls of gxu, Inductor's C++ code and eager CPU in turns, and measures their errors.
"""

from __future__ import annotations

import ctypes
import json
import resource
import sys
import time
from typing import Any

import torch

from gxu._name import DEVICE_TYPE
from gxu.benchmarks.models.catalogue import MODELS
from gxu.benchmarks.models.work import error, make_work


def main() -> None:
    request = json.load(sys.stdin)
    # Whatever a library prints must not stand between the reply and its reader.
    reply, sys.stdout = sys.stdout, sys.stderr
    task = _compile if request.pop("task") == "compile" else _latency
    result: dict[str, Any] = task(**request)
    json.dump(result, reply)


def _compile(model: str, dtype: str, training: bool, device: str) -> dict[str, float]:
    from gxu.cli.measure import warm_up_compiler

    warm_up_compiler([device])
    work = make_work(_model(model), device, getattr(torch, dtype), training=training, compiled=True, update=training)
    _return_unused_memory()
    start = time.perf_counter()
    work.run()
    seconds = time.perf_counter() - start
    work.run()
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "peak_mib": kilobytes / 1024}


def _return_unused_memory() -> None:
    """What making the model has left behind: malloc keeps up to 64 MiB at the end of its heap, or none, by chance."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc
    if trim is not None:
        trim(0)


def _latency(model: str, dtype: str, training: bool, seconds: float) -> dict[str, Any]:
    from gxu.cli.measure import median_latencies
    from gxu.cli.output import make_progress

    found, kind = _model(model), getattr(torch, dtype)
    variants = {"gxu": (DEVICE_TYPE, True), "inductor": ("cpu", True), "eager": ("cpu", False)}
    exact = make_work(found, "cpu", torch.float64, training=training, compiled=False, update=False).run()
    errors, calls = {}, {}
    for name, (device, compiled) in variants.items():
        once = make_work(found, device, kind, training=training, compiled=compiled, update=False)
        errors[name] = error(once.run(), exact)
        work = once
        if training:
            work = make_work(found, device, kind, training=True, compiled=compiled, update=True)
        calls[name] = work.run
    with make_progress() as progress:
        return {"errors": errors, "ms": median_latencies(calls, seconds, progress)}


def _model(name: str) -> Any:
    return next(model for model in MODELS if model.name == name)


if __name__ == "__main__":
    main()
