"""Measures a kernel in turns with torch eager, Inductor's C++ code and a copy in memory."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gxu.benchmarks.device import DEVICE
from gxu.benchmarks.triton.row import Case, Row, Settings, Work, WrongResultError, median_us

COPY_BYTES = 64 << 20


def bound_by_copy(name: str, group: str, bar: float, make: Callable[[], Work]) -> Case:
    """A kernel that moves bytes: the time that a copy of as many takes, over its own."""
    return Case(name, group, functools.partial(_measure, name, group, bar, make, "copy"), make)


def at_least_torch(name: str, group: str, make: Callable[[], Work], bar: float = 1.0) -> Case:
    """The better of eager and Inductor's C++ code, over the kernel."""
    return Case(name, group, functools.partial(_measure, name, group, bar, make, "torch"), make)


def against_library(name: str, group: str, bar: float, library: str, make: Callable[[], Work]) -> Case:
    """The library's product that eager calls, over the kernel."""
    return Case(name, group, functools.partial(_measure, name, group, bar, make, library), make)


def _measure(name: str, group: str, bar: float, make: Callable[[], Work], against: str, settings: Settings) -> Row:
    torch.manual_seed(0)
    work = make()
    synchronize = torch.get_device_module(DEVICE).synchronize

    def kernel() -> None:
        work.kernel()
        synchronize()

    device_ms: list[float] = []
    start, end = (torch.Event(DEVICE, enable_timing=True) for _ in range(2))

    def kernel_between_events() -> None:
        start.record()
        work.kernel()
        end.record()
        end.synchronize()
        device_ms.append(start.elapsed_time(end))

    calls: dict[str, Callable[[], object]] = {"gxu": kernel, "device": kernel_between_events, "eager": work.eager}
    check(name, work)
    if work.compiled is not None:
        function, operands = work.compiled
        torch._dynamo.reset()
        calls["inductor"] = functools.partial(torch.compile(function, dynamic=False), *operands)
    if work.moved_bytes is not None:
        calls["copy"] = _copy()
    times = median_us(calls, settings)
    bound = None
    if work.moved_bytes is not None:
        bound = times["copy"] * work.moved_bytes / (2 * COPY_BYTES)
    elif against != "torch":
        bound = times["eager"]
    torch_us = min(times["eager"], times.get("inductor", times["eager"]))
    reference = torch_us if against == "torch" else bound
    if reference is None:
        raise ValueError(f"{name}: a kernel bound by copies says how many bytes it moves")
    return Row(
        name,
        group,
        times["gxu"],
        statistics.median(device_ms) * 1e3,
        times["eager"],
        times.get("inductor"),
        bound,
        against,
        reference / times["gxu"],
        bar,
    )


def check(name: str, work: Work) -> None:
    for number, (ours, reference) in enumerate(zip(_tensors(work.kernel()), _tensors(work.eager()), strict=True)):
        actual = ours.cpu()
        expected = reference.to(actual.dtype)
        try:
            torch.testing.assert_close(actual, expected, rtol=work.rtol, atol=work.atol)
        except AssertionError as error:
            reason = " ".join(str(error).split())
            raise WrongResultError(f"{name}: result {number} is not torch's: {reason}") from None


def _tensors(value: Any) -> tuple[Tensor, ...]:
    return value if isinstance(value, tuple) else (value,)


def _copy() -> Callable[[], object]:
    source = torch.rand(COPY_BYTES // 4)
    target = torch.empty_like(source)
    return lambda: target.copy_(source)
