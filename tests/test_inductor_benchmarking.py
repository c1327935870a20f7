"""Inductor's benchmarker on gxu measures what ran, not how quickly it was queued."""

from __future__ import annotations

import time

import pytest
import torch
from torch._dispatch.python import enable_python_dispatcher
from torch._inductor.runtime.benchmarking import benchmarker

from gxu.inductor.benchmarking import benchmark


def test_registered() -> None:
    x = torch.randn(256, 256, device="gxu")
    calls = []

    def fn() -> None:
        calls.append(1)
        torch.mm(x, x)

    for milliseconds in (
        benchmarker.benchmark(fn, device="gxu", warmup=1, rep=5, is_vetted_benchmarking=True),
        benchmarker.benchmark(torch.mm, (x, x), {}, warmup=1, rep=5, is_vetted_benchmarking=True),
    ):
        assert 0 < milliseconds < 1000
    assert len(calls) >= 6


def test_time_of_asynchronous_work() -> None:
    """A compiled kernel over much memory takes as long as a synchronised call, however soon the call returns."""
    torch._dynamo.reset()
    x = torch.randn(1 << 23, device="gxu")
    out = torch.empty_like(x)
    compiled = torch.compile(lambda x, out: torch.add(torch.exp(x), 1, out=out))
    compiled(x, out)

    def synchronised() -> float:
        torch.gxu.synchronize()
        start = time.perf_counter()
        compiled(x, out)
        torch.gxu.synchronize()
        return (time.perf_counter() - start) * 1e3

    before = [synchronised() for _ in range(20)]
    measured = benchmark(lambda: compiled(x, out), warmup=5, rep=50)
    after = [synchronised() for _ in range(20)]
    # Other processes may slow each of them for a while, but nothing makes the median quicker than the fastest call.
    assert measured > min(before + after) * 0.7


def test_operators_are_dispatched_as_in_compiled_code() -> None:
    """Inductor asks for measurements while the dispatcher is in Python."""
    seen = set()
    with enable_python_dispatcher():
        benchmark(
            lambda: seen.add(torch._C._dispatch_tls_is_dispatch_key_included("PythonDispatcher")), warmup=1, rep=1
        )
        assert torch._C._dispatch_tls_is_dispatch_key_included("PythonDispatcher")
    assert seen == {False}


def test_errors_are_raised() -> None:
    def fail() -> None:
        raise RuntimeError("no such kernel")

    with pytest.raises(RuntimeError, match="no such kernel"):
        benchmark(fail)


def test_deterministic_mode_bans_unvetted_benchmarks() -> None:
    with (
        torch._inductor.config.patch(deterministic=True),
        pytest.raises(RuntimeError, match="deterministic mode"),
    ):
        benchmarker.benchmark(lambda: None, device="gxu")
