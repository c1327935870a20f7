"""Graph capture and replay, and interprocess memory, of the host engine."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from ctypes import c_int, c_int32, c_ulonglong, c_void_p
from pathlib import Path

import runtime_abi as abi
from runtime_abi import Runtime


def capture_status(runtime: Runtime, stream: int) -> int:
    status = c_int(-1)
    runtime.gxuStreamIsCapturing(stream, ctypes.byref(status))
    return status.value


def test_capture_and_replay(runtime: Runtime, image: Path, stream: int) -> None:
    module = runtime.made("gxuModuleLoad", str(image).encode())
    append = runtime.function(module, "append_digit")
    out = runtime.upload(struct.pack("q", 0))
    digit = c_int32(4)
    runtime.gxuStreamBeginCapture(stream)
    assert capture_status(runtime, stream) == abi.CAPTURE_ACTIVE
    runtime.launch(append, (1, 1, 1), (c_void_p(out), digit), stream)
    digit.value = 2
    runtime.launch(append, (1, 1, 1), (c_void_p(out), digit), stream)
    digit.value = 9
    graph = runtime.made("gxuStreamEndCapture", stream, first=False)
    assert capture_status(runtime, stream) == abi.CAPTURE_NONE
    assert runtime.download(out, 8, stream) == bytes(8), "capturing runs nothing"

    exec_ = runtime.made("gxuGraphInstantiate", graph)
    runtime.gxuGraphDestroy(graph)
    runtime.gxuModuleUnload(module)  # the graph keeps its kernels
    runtime.gxuGraphLaunch(exec_, stream)
    runtime.gxuGraphLaunch(exec_, stream)
    runtime.gxuGraphExecDestroy(exec_)  # launched replays still run
    assert struct.unpack("q", runtime.download(out, 8, stream)) == (4242,)
    assert runtime.code("gxuGraphLaunch", exec_, stream) == abi.INVALID_HANDLE
    assert runtime.code("gxuGraphDestroy", graph) == abi.INVALID_HANDLE
    runtime.gxuFree(out)


def capture_id(runtime: Runtime, stream: int) -> int:
    status, number = c_int(-1), c_ulonglong(99)
    runtime.gxuStreamGetCaptureInfo(stream, ctypes.byref(status), ctypes.byref(number))
    assert status.value == capture_status(runtime, stream)
    return number.value


def test_every_capture_has_its_number(runtime: Runtime, stream: int) -> None:
    other, fork = runtime.stream(), runtime.event()
    numbers = set()
    for _ in range(2):
        assert capture_id(runtime, stream) == capture_id(runtime, other) == 0
        runtime.gxuStreamBeginCapture(stream)
        runtime.gxuEventRecord(fork, stream)
        runtime.gxuStreamWaitEvent(other, fork, 0)
        assert capture_id(runtime, stream) == capture_id(runtime, other) != 0
        numbers.add(capture_id(runtime, stream))
        runtime.gxuGraphDestroy(runtime.made("gxuStreamEndCapture", stream, first=False))
    assert len(numbers) == 2
    runtime.gxuEventDestroy(fork)
    runtime.gxuStreamDestroy(other)


def test_capture_of_two_streams_through_events(runtime: Runtime, module: int, stream: int) -> None:
    append = runtime.function(module, "append_digit")
    out = runtime.upload(struct.pack("q", 0))
    other, fork, join = runtime.stream(), runtime.event(), runtime.event()

    def add(digit: int, where: int) -> None:
        runtime.launch(append, (1, 1, 1), (c_void_p(out), c_int32(digit)), where)

    runtime.gxuStreamBeginCapture(stream)
    add(1, stream)
    runtime.gxuEventRecord(fork, stream)
    runtime.gxuStreamWaitEvent(other, fork, 0)
    assert capture_status(runtime, other) == abi.CAPTURE_ACTIVE
    add(2, other)
    runtime.gxuEventRecord(join, other)
    runtime.gxuStreamWaitEvent(stream, join, 0)
    add(3, stream)
    assert runtime.code("gxuStreamEndCapture", other, ctypes.byref(c_void_p())) == abi.CAPTURE_UNMATCHED
    graph = runtime.made("gxuStreamEndCapture", stream, first=False)
    assert capture_status(runtime, other) == abi.CAPTURE_NONE
    exec_ = runtime.made("gxuGraphInstantiate", graph)
    runtime.gxuGraphLaunch(exec_, None)
    assert struct.unpack("q", runtime.download(out, 8)) == (123,)
    runtime.gxuGraphExecDestroy(exec_)
    runtime.gxuGraphDestroy(graph)
    for event in (fork, join):
        runtime.gxuEventDestroy(event)
    runtime.gxuStreamDestroy(other)
    runtime.gxuFree(out)


def test_what_a_capturing_stream_cannot_do_invalidates_the_capture(runtime: Runtime, stream: int) -> None:
    outside = runtime.event()
    runtime.gxuEventRecord(outside, None)
    device = runtime.memory(4)
    forbidden: list[Callable[[], int]] = [
        lambda: runtime.code("gxuStreamSynchronize", stream),
        lambda: runtime.code("gxuStreamQuery", stream),
        lambda: runtime.code("gxuDeviceSynchronize"),
        lambda: runtime.code("gxuStreamWaitEvent", stream, outside, 0),
        lambda: runtime.code("gxuMemcpyAsync", device, b"abcd", 4, abi.HOST_TO_DEVICE, stream),
    ]
    for call in forbidden:
        runtime.gxuStreamBeginCapture(stream)
        assert call() == abi.CAPTURE_UNSUPPORTED
        assert capture_status(runtime, stream) == abi.CAPTURE_INVALID
        assert runtime.code("gxuMemsetAsync", device, 0, 4, stream) == abi.CAPTURE_INVALIDATED
        assert runtime.code("gxuStreamEndCapture", stream, ctypes.byref(c_void_p())) == abi.CAPTURE_INVALIDATED
        assert capture_status(runtime, stream) == abi.CAPTURE_NONE
    runtime.gxuStreamBeginCapture(stream)
    assert runtime.code("gxuStreamBeginCapture", stream) == abi.INVALID_VALUE
    runtime.gxuGraphDestroy(runtime.made("gxuStreamEndCapture", stream, first=False))
    assert runtime.code("gxuStreamBeginCapture", None) == abi.CAPTURE_UNSUPPORTED
    assert runtime.code("gxuStreamEndCapture", stream, ctypes.byref(c_void_p())) == abi.INVALID_VALUE
    runtime.gxuEventDestroy(outside)
    runtime.gxuFree(device)
