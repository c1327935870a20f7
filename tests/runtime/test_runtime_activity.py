"""gxu_activity.h: reports of what the device did."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Iterator
from ctypes import c_char_p, c_int, c_int32, c_uint32, c_uint64, c_void_p

import pytest
import runtime_abi as abi
from runtime_abi import Runtime
from runtime_gate import Gate

KERNEL, MEMCPY, MEMSET = 1, 2, 3


class ActivityStruct(ctypes.Structure):
    _fields_ = (
        ("struct_size", c_uint32),
        ("kind", c_int),
        ("device", c_int32),
        ("stream", c_uint64),
        ("start", c_uint64),
        ("end", c_uint64),
        ("correlation", c_uint64),
        ("name", c_char_p),
        ("grid", c_uint32 * 3),
        ("bytes", c_uint64),
        ("copy_kind", c_int),
    )


Callback = ctypes.CFUNCTYPE(None, ctypes.POINTER(ActivityStruct), c_void_p)
Seen = list[dict[str, object]]


def activity_function(runtime: Runtime, name: str, *types: object) -> ctypes._NamedFuncPointer:
    function = getattr(runtime.library, name)
    function.argtypes = types
    return function


@pytest.fixture
def seen(runtime: Runtime) -> Iterator[Seen]:
    """What is reported during the test, in the order of the reports."""
    reports: Seen = []

    @Callback
    def listen(activity: object, _: int) -> None:
        fields = activity.contents  # type: ignore[attr-defined]
        entry = {name: getattr(fields, name) for name, _ in ActivityStruct._fields_}
        reports.append(entry | {"grid": tuple(fields.grid)})

    enable = activity_function(runtime, "gxuActivityEnable", Callback, c_void_p)
    assert enable(listen, None) == 0
    assert enable(listen, None) == abi.INVALID_VALUE, "there is one listener"
    yield reports
    assert runtime.library.gxuActivityDisable() == 0


def correlate(runtime: Runtime, number: int) -> None:
    assert activity_function(runtime, "gxuActivitySetCorrelation", c_uint64)(number) == 0


def test_kernels_copies_and_fills_are_reported_with_times(
    runtime: Runtime, module: int, stream: int, seen: Seen
) -> None:
    count = runtime.function(module, "count")
    before = time.time_ns()
    correlate(runtime, 2**40 + 7)
    out = runtime.memory(4 * 33)
    other = runtime.memory(4 * 33)
    runtime.gxuMemsetAsync(out, 0, 4 * 33, None)
    correlate(runtime, 5)
    runtime.launch(count, (11, 3, 1), (c_void_p(out),), None)
    runtime.gxuMemcpyAsync(other, out, 100, abi.DEVICE_TO_DEVICE, None)
    correlate(runtime, 0)
    runtime.gxuMemcpyAsync(other, bytes(64), 64, abi.HOST_TO_DEVICE, stream)
    runtime.download(out, 12)
    runtime.gxuDeviceSynchronize()
    after = time.time_ns()

    assert [entry["kind"] for entry in seen if entry["stream"] == 0] == [MEMSET, KERNEL, MEMCPY, MEMCPY]
    fill, kernel, copy, download = (entry for entry in seen if entry["stream"] == 0)
    (upload,) = (entry for entry in seen if entry["stream"] != 0)
    assert (fill["bytes"], fill["correlation"]) == (4 * 33, 2**40 + 7)
    assert (kernel["name"], kernel["grid"], kernel["correlation"]) == (b"count", (11, 3, 1), 5)
    assert (copy["bytes"], copy["copy_kind"], copy["correlation"]) == (100, abi.DEVICE_TO_DEVICE, 5)
    assert (download["bytes"], download["copy_kind"], download["correlation"]) == (12, abi.DEVICE_TO_HOST, 0)
    assert (upload["bytes"], upload["copy_kind"]) == (64, abi.HOST_TO_DEVICE)
    for entry in seen:
        assert entry["struct_size"] == ctypes.sizeof(ActivityStruct)
        assert entry["device"] == 0
        assert before <= entry["start"] <= entry["end"] <= after  # type: ignore[operator]
    assert fill["end"] <= kernel["start"] <= kernel["end"] <= copy["start"]  # type: ignore[operator]
    runtime.gxuFree(out)
    runtime.gxuFree(other)


def test_work_of_a_replay_carries_the_number_of_its_launch(
    runtime: Runtime, module: int, stream: int, seen: Seen
) -> None:
    count = runtime.function(module, "count")
    out = runtime.upload(bytes(4 * 8))
    seen.clear()
    correlate(runtime, 1)
    runtime.gxuStreamBeginCapture(stream)
    runtime.launch(count, (8, 1, 1), (c_void_p(out),), stream)
    runtime.gxuMemsetAsync(out, 0, 4, stream)
    graph = runtime.made("gxuStreamEndCapture", stream, first=False)
    instance = runtime.made("gxuGraphInstantiate", graph)
    for number in (3, 4):
        correlate(runtime, number)
        runtime.gxuGraphLaunch(instance, stream)
    correlate(runtime, 0)
    runtime.gxuStreamSynchronize(stream)
    assert [(entry["kind"], entry["correlation"]) for entry in seen] == [
        (KERNEL, 3),
        (MEMSET, 3),
        (KERNEL, 4),
        (MEMSET, 4),
    ]
    runtime.gxuGraphExecDestroy(instance)
    runtime.gxuGraphDestroy(graph)
    runtime.gxuFree(out)


def test_correlation_belongs_to_the_thread_that_enqueues(runtime: Runtime, stream: int, seen: Seen) -> None:
    out = runtime.memory(16)
    gate = Gate(runtime, stream)

    def enqueue(number: int) -> None:
        correlate(runtime, number)
        runtime.gxuMemsetAsync(out, number, 16, stream)

    for number in (8, 9):
        thread = threading.Thread(target=enqueue, args=(number,))
        thread.start()
        thread.join()
    gate.open()
    runtime.gxuStreamSynchronize(stream)  # this thread executes the work of the others
    assert [entry["correlation"] for entry in seen] == [8, 9]
    runtime.gxuFree(out)


def test_nothing_is_reported_after_disable(runtime: Runtime) -> None:
    calls: list[int] = []
    listen = Callback(lambda activity, _: calls.append(1))
    enable = activity_function(runtime, "gxuActivityEnable", Callback, c_void_p)
    pointer = runtime.memory(64)
    assert enable(listen, None) == 0
    runtime.gxuMemsetAsync(pointer, 1, 64, None)
    runtime.gxuDeviceSynchronize()
    assert calls == [1]
    assert runtime.library.gxuActivityDisable() == 0
    runtime.gxuMemsetAsync(pointer, 1, 64, None)
    runtime.gxuDeviceSynchronize()
    assert calls == [1]
    assert enable(Callback(), None) == abi.INVALID_VALUE
    assert "'callback' is NULL" in runtime.message()
    runtime.gxuFree(pointer)
