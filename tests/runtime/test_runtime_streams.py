"""Streams and events of the host engine."""

from __future__ import annotations

import ctypes
import struct
import threading
import time
from ctypes import c_float, c_int, c_int32, c_int64, c_void_p

import pytest
import runtime_abi as abi
from runtime_abi import Runtime, RuntimeFailure
from runtime_gate import TIMEOUT, Gate, ints, wait_for


def test_stream_runs_in_order_and_past_the_queue_bound(runtime: Runtime, module: int, stream: int) -> None:
    append = runtime.function(module, "append_digit")
    out = runtime.upload(struct.pack("q", 0))
    expected = 0
    for i in range(3000):  # more than the queue holds
        digit = (i * 7 + 3) % 10
        expected = (10 * expected + digit) % 2**64
        runtime.launch(append, (1, 1, 1), (c_void_p(out), c_int32(digit)), stream)
    assert struct.unpack("Q", runtime.download(out, 8, stream))[0] == expected
    runtime.gxuFree(out)


def test_enqueue_returns_before_the_work_is_done(runtime: Runtime, stream: int) -> None:
    gate = Gate(runtime, stream)
    assert runtime.code("gxuStreamQuery", stream) == abi.NOT_READY
    assert runtime.code("gxuPeekAtLastError") == abi.SUCCESS, "not ready is no error"
    gate.open()
    runtime.gxuStreamSynchronize(stream)
    assert gate.reached.is_set()
    assert not gate.timed_out
    assert runtime.code("gxuStreamQuery", stream) == abi.SUCCESS


def test_work_that_nobody_waits_for_runs_all_the_same(runtime: Runtime, module: int, stream: int) -> None:
    count = runtime.function(module, "count")
    out = runtime.upload(bytes(4 * 100))
    for _ in range(5):
        runtime.launch(count, (100, 1, 1), (c_void_p(out),), stream)
        assert wait_for(lambda: runtime.code("gxuStreamQuery", stream) == abi.SUCCESS)
        time.sleep(0.02)
    time.sleep(0.15)  # longer than the engine's threads stay awake for nothing
    runtime.launch(count, (100, 1, 1), (c_void_p(out),), stream)
    assert wait_for(lambda: runtime.code("gxuStreamQuery", stream) == abi.SUCCESS)
    assert ints(ctypes.string_at(out, 400)) == [6] * 100
    runtime.gxuFree(out)


def test_two_streams_overlap(runtime: Runtime, stream: int) -> None:
    """Each stream's host function waits for the other's: in one thread this would time out."""
    other = runtime.stream()
    meeting = threading.Barrier(2)
    met = []

    def meet(_user_data: int | None) -> None:
        meeting.wait(TIMEOUT)
        met.append(True)

    callback = abi.HostFunction(meet)
    runtime.gxuLaunchHostFunc(stream, callback, None)
    runtime.gxuLaunchHostFunc(other, callback, None)
    runtime.gxuStreamSynchronize(stream)
    runtime.gxuStreamSynchronize(other)
    assert met == [True, True]
    runtime.gxuStreamDestroy(other)


def test_devices_overlap_and_synchronise_apart(runtime: Runtime) -> None:
    gate = Gate(runtime, None)  # default stream of device 0
    runtime.gxuSetDevice(1)
    runtime.gxuDeviceSynchronize()  # does not wait for device 0
    assert not gate.opened.is_set()
    gate.open()


def test_host_function_gets_its_argument_and_may_not_wait_or_enqueue(runtime: Runtime, stream: int) -> None:
    seen: list[object] = []

    def inside(user_data: int | None) -> None:
        seen.append(user_data)
        seen.append(runtime.code("gxuStreamSynchronize", stream))
        seen.append(runtime.message())
        seen.append(runtime.code("gxuMemsetAsync", 4096, 0, 1, stream))
        seen.append(runtime.code("gxuStreamQuery", stream))

    callback = abi.HostFunction(inside)
    runtime.gxuLaunchHostFunc(stream, callback, 1234)
    runtime.gxuStreamSynchronize(stream)
    message = "gxuStreamSynchronize was called from a host function, which must not enqueue work or wait for it"
    assert seen == [1234, abi.NOT_PERMITTED, message, abi.NOT_PERMITTED, abi.NOT_READY]


def test_default_stream_is_ordered_with_blocking_streams_only(runtime: Runtime) -> None:
    blocking = runtime.stream(abi.STREAM_DEFAULT)
    free = runtime.stream(abi.STREAM_NON_BLOCKING)
    pointer = runtime.upload(b"a")
    pinned = runtime.made("gxuMallocHost", 2)
    gate = Gate(runtime, blocking)
    runtime.gxuMemsetAsync(pointer, ord("b"), 1, blocking)
    runtime.gxuMemcpyAsync(pinned, pointer, 1, abi.DEVICE_TO_HOST, free)
    runtime.gxuStreamSynchronize(free)
    runtime.gxuMemcpyAsync(pinned + 1, pointer, 1, abi.DEVICE_TO_HOST, None)
    threading.Timer(0.05, gate.open).start()
    runtime.gxuStreamSynchronize(None)
    assert ctypes.string_at(pinned, 2) == b"ab"

    gate = Gate(runtime, None)
    runtime.gxuMemsetAsync(pointer, ord("c"), 1, blocking)
    threading.Timer(0.05, gate.open).start()
    runtime.gxuStreamSynchronize(blocking)
    assert gate.reached.is_set()
    assert not gate.timed_out
    for handle in (blocking, free):
        runtime.gxuStreamDestroy(handle)
    runtime.gxuFree(pointer)
    runtime.gxuFreeHost(pinned)


def test_stream_arguments_are_checked(runtime: Runtime) -> None:
    assert runtime.code("gxuStreamCreate", None, 0, 0) == abi.INVALID_VALUE
    assert runtime.code("gxuStreamCreate", ctypes.byref(c_void_p()), 2, 0) == abi.INVALID_VALUE
    assert runtime.code("gxuStreamDestroy", None) == abi.INVALID_HANDLE
    least, greatest = c_int(-9), c_int(-9)
    runtime.gxuStreamGetPriorityRange(ctypes.byref(least), ctypes.byref(greatest))
    assert (least.value, greatest.value) == (0, -2)


def test_work_of_lower_priority_waits_until_none_of_a_higher_one_runs(runtime: Runtime) -> None:
    """Nobody waits for either stream, so both are the ticker's."""
    low, high = runtime.stream(priority=0), runtime.stream(priority=-5)  # clamped
    first = Gate(runtime, high)
    assert first.reached.wait(TIMEOUT)
    second = Gate(runtime, low)
    second.open()
    assert not second.reached.wait(0.1)
    first.open()
    assert second.reached.wait(TIMEOUT)
    assert wait_for(lambda: runtime.code("gxuStreamQuery", low) == abi.SUCCESS)
    for stream in (low, high):
        runtime.gxuStreamDestroy(stream)


def test_a_thread_that_waits_executes_a_stream_of_low_priority(runtime: Runtime) -> None:
    low, high = runtime.stream(), runtime.stream(priority=-1)
    gate = Gate(runtime, high)
    assert gate.reached.wait(TIMEOUT)
    behind = Gate(runtime, low)
    behind.open()
    runtime.gxuStreamSynchronize(low)  # while the other still runs
    assert behind.reached.is_set() and not gate.opened.is_set()
    gate.open()
    runtime.gxuStreamSynchronize(high)
    for stream in (low, high):
        runtime.gxuStreamDestroy(stream)


def test_destroyed_and_made_up_handles_are_found(runtime: Runtime, module: int) -> None:
    stream, event = runtime.stream(), runtime.event()
    runtime.gxuStreamDestroy(stream)
    runtime.gxuEventDestroy(event)
    replacement = runtime.stream()  # may use the same place again
    function = runtime.function(module, "count")
    for bad in (stream, event, function, 1, 0x7FFF_DEAD_BEE0, 2**64 - 1):
        for call in ("gxuStreamSynchronize", "gxuStreamQuery", "gxuStreamDestroy"):
            assert runtime.code(call, bad) == abi.INVALID_HANDLE, (call, bad)
        assert "is not a live stream" in runtime.message()
    for bad in (event, replacement, 1, None):
        for call in ("gxuEventSynchronize", "gxuEventQuery", "gxuEventDestroy"):
            assert runtime.code(call, bad) == abi.INVALID_HANDLE, (call, bad)
    for bad in (replacement, None, 3):
        assert runtime.code("gxuLaunchKernel", bad, 1, 1, 1, 1, 1, 1, 0, None, None) == abi.INVALID_HANDLE
        assert runtime.code("gxuModuleUnload", bad) == abi.INVALID_HANDLE
        assert runtime.code("gxuGraphLaunch", bad, None) == abi.INVALID_HANDLE
        assert runtime.code("gxuGraphDestroy", bad) == abi.INVALID_HANDLE
    runtime.gxuStreamDestroy(replacement)


def test_event_that_was_never_recorded_is_complete(runtime: Runtime, stream: int) -> None:
    event = runtime.event()
    runtime.gxuEventSynchronize(event)
    assert runtime.code("gxuEventQuery", event) == abi.SUCCESS
    runtime.gxuStreamWaitEvent(stream, event, 0)
    runtime.gxuStreamSynchronize(stream)
    runtime.gxuEventDestroy(event)


@pytest.mark.parametrize("flags", [abi.EVENT_DEFAULT, abi.EVENT_DISABLE_TIMING | abi.EVENT_BLOCKING_SYNC])
def test_event_completes_with_the_work_before_it_and_not_after(runtime: Runtime, stream: int, flags: int) -> None:
    event = runtime.event(flags)
    first = Gate(runtime, stream)
    runtime.gxuEventRecord(event, stream)
    second = Gate(runtime, stream)
    assert runtime.code("gxuEventQuery", event) == abi.NOT_READY
    first.open()
    runtime.gxuEventSynchronize(event)
    assert runtime.code("gxuEventQuery", event) == abi.SUCCESS
    assert not second.opened.is_set()
    assert runtime.code("gxuStreamQuery", stream) == abi.NOT_READY
    runtime.gxuEventRecord(event, stream)  # recording again moves it behind the second gate
    assert runtime.code("gxuEventQuery", event) == abi.NOT_READY
    second.open()
    runtime.gxuEventSynchronize(event)
    runtime.gxuEventDestroy(event)


def test_wait_event_orders_two_streams(runtime: Runtime, stream: int) -> None:
    other = runtime.stream()
    pointer = runtime.upload(b"a")
    pinned = runtime.made("gxuMallocHost", 1)
    event = runtime.event()
    gate = Gate(runtime, stream)
    runtime.gxuMemsetAsync(pointer, ord("b"), 1, stream)
    runtime.gxuEventRecord(event, stream)
    runtime.gxuStreamWaitEvent(other, event, 0)
    runtime.gxuEventDestroy(event)  # the wait keeps what it needs
    runtime.gxuMemcpyAsync(pinned, pointer, 1, abi.DEVICE_TO_HOST, other)
    assert gate.reached.wait(TIMEOUT), "the engine picks the work up by itself"
    time.sleep(0.02)
    assert runtime.code("gxuStreamQuery", other) == abi.NOT_READY
    gate.open()
    runtime.gxuStreamSynchronize(other)
    assert ctypes.string_at(pinned, 1) == b"b"
    runtime.gxuStreamDestroy(other)
    runtime.gxuFree(pointer)
    runtime.gxuFreeHost(pinned)


def test_wait_event_takes_the_recording_at_the_time_of_the_call(runtime: Runtime, stream: int) -> None:
    other, event = runtime.stream(), runtime.event()
    runtime.gxuEventRecord(event, stream)
    runtime.gxuStreamWaitEvent(other, event, 0)
    gate = Gate(runtime, stream)
    runtime.gxuEventRecord(event, stream)
    runtime.gxuStreamSynchronize(other)  # would time out if it waited for the later recording
    assert not gate.opened.is_set()
    gate.open()
    runtime.gxuEventSynchronize(event)
    assert not gate.timed_out
    runtime.gxuEventDestroy(event)
    runtime.gxuStreamDestroy(other)


def test_elapsed_time_measures_execution(runtime: Runtime, module: int, stream: int) -> None:
    spin = runtime.function(module, "spin")
    flag = runtime.upload(bytes(4))
    start, end = runtime.event(abi.EVENT_DEFAULT), runtime.event(abi.EVENT_DEFAULT)
    runtime.gxuEventRecord(start, stream)
    runtime.launch(spin, (1, 1, 1), (c_int64(20_000_000), c_void_p(flag)), stream)
    runtime.gxuEventRecord(end, stream)
    assert runtime.code("gxuEventElapsedTime", ctypes.byref(c_float()), start, end) == abi.NOT_READY
    time.sleep(0.001)
    runtime.gxuEventSynchronize(end)
    milliseconds = runtime.number("gxuEventElapsedTime", start, end, kind=c_float)
    assert 20.0 <= milliseconds < 2000.0
    assert runtime.number("gxuEventElapsedTime", end, start, kind=c_float) == -milliseconds
    for event in (start, end):
        runtime.gxuEventDestroy(event)
    runtime.gxuFree(flag)


def test_time_belongs_to_the_latest_recording(runtime: Runtime, stream: int) -> None:
    other = runtime.stream()
    event, reference = runtime.event(abi.EVENT_DEFAULT), runtime.event(abi.EVENT_DEFAULT)
    gate = Gate(runtime, stream)
    runtime.gxuEventRecord(event, stream)
    runtime.gxuEventRecord(event, other)
    runtime.gxuEventRecord(reference, other)
    runtime.gxuStreamSynchronize(other)
    milliseconds = runtime.number("gxuEventElapsedTime", event, reference, kind=c_float)
    assert milliseconds >= 0
    gate.open()
    runtime.gxuStreamSynchronize(stream)  # reaches the first recording, which no longer counts
    assert runtime.number("gxuEventElapsedTime", event, reference, kind=c_float) == milliseconds
    for recorded in (event, reference):
        runtime.gxuEventDestroy(recorded)
    runtime.gxuStreamDestroy(other)


def test_elapsed_time_refuses_events_without_time(runtime: Runtime, stream: int) -> None:
    timed, untimed, unrecorded = (runtime.event(flags) for flags in (0, abi.EVENT_DISABLE_TIMING, 0))
    runtime.gxuEventRecord(timed, stream)
    runtime.gxuEventRecord(untimed, stream)
    runtime.gxuStreamSynchronize(stream)
    with pytest.raises(RuntimeFailure, match="created with gxuEventDisableTiming") as failure:
        runtime.number("gxuEventElapsedTime", timed, untimed, kind=c_float)
    assert failure.value.code == abi.INVALID_HANDLE
    with pytest.raises(RuntimeFailure, match="never been recorded"):
        runtime.number("gxuEventElapsedTime", unrecorded, timed, kind=c_float)
    for event in (timed, untimed, unrecorded):
        runtime.gxuEventDestroy(event)
    assert runtime.code("gxuEventCreate", ctypes.byref(c_void_p()), 64) == abi.INVALID_VALUE
    assert runtime.code("gxuEventCreate", ctypes.byref(c_void_p()), abi.EVENT_INTERPROCESS) == abi.NOT_SUPPORTED


def test_event_and_stream_of_two_devices(runtime: Runtime, stream: int) -> None:
    runtime.gxuSetDevice(1)
    event = runtime.event()
    with pytest.raises(RuntimeFailure, match="the event belongs to device 1, the stream to device 0") as failure:
        runtime.gxuEventRecord(event, stream)
    assert failure.value.code == abi.INVALID_HANDLE
    runtime.gxuEventRecord(event, None)
    runtime.gxuStreamWaitEvent(stream, event, 0)  # waiting across devices is allowed
    runtime.gxuStreamSynchronize(stream)
    runtime.gxuEventDestroy(event)
