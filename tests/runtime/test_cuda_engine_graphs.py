"""Graph capture and replay of the cuda engine."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from ctypes import c_int, c_int32, c_ulonglong, c_void_p
from pathlib import Path

import runtime_abi as abi
from cuda_engine import CudaRuntime, FakeDriver
from runtime_abi import Runtime
from runtime_gate import Gate


def capture_info(runtime: Runtime, stream: int) -> tuple[int, int]:
    """Status and number, from both functions that tell them."""
    alone, status, number = c_int(-1), c_int(-1), c_ulonglong(99)
    runtime.gxuStreamIsCapturing(stream, ctypes.byref(alone))
    runtime.gxuStreamGetCaptureInfo(stream, ctypes.byref(status), ctypes.byref(number))
    assert alone.value == status.value
    return status.value, number.value


def test_capture_and_replay(cuda: CudaRuntime, fake_driver: FakeDriver, cuda_image: Path, cuda_stream: int) -> None:
    module = cuda.made("gxuModuleLoad", str(cuda_image).encode())
    append = cuda.function(module, "append_digit")
    out, digit, calls = cuda.upload(struct.pack("q", 0)), c_int32(4), []
    callback = abi.HostFunction(lambda data: calls.append(data))
    cuda.gxuStreamBeginCapture(cuda_stream)
    assert capture_info(cuda, cuda_stream)[0] == abi.CAPTURE_ACTIVE
    cuda.launch(append, (1, 1, 1), (c_void_p(out), digit), cuda_stream)
    digit.value = 2
    cuda.gxuLaunchHostFunc(cuda_stream, callback, 3)
    cuda.launch(append, (1, 1, 1), (c_void_p(out), digit), cuda_stream)
    digit.value = 9
    graph = cuda.made("gxuStreamEndCapture", cuda_stream, first=False)
    assert capture_info(cuda, cuda_stream) == (abi.CAPTURE_NONE, 0)
    assert cuda.download(out, 8, cuda_stream) == bytes(8), "capturing runs nothing"
    exec_ = cuda.made("gxuGraphInstantiate", graph)
    cuda.gxuGraphDestroy(graph)
    unloaded = fake_driver.calls("cuModuleUnload")
    cuda.gxuModuleUnload(module)
    gate = Gate(cuda, cuda_stream)
    cuda.gxuGraphLaunch(exec_, cuda_stream)
    cuda.gxuGraphLaunch(exec_, cuda_stream)
    cuda.gxuGraphExecDestroy(exec_)  # launched replays still run
    assert fake_driver.calls("cuModuleUnload") == unloaded, "the graph keeps its kernels"
    gate.open()
    assert struct.unpack("q", cuda.download(out, 8, cuda_stream)) == (4242,)
    assert calls == [3, 3]
    assert cuda.code("gxuGraphLaunch", exec_, cuda_stream) == abi.INVALID_HANDLE
    assert cuda.code("gxuGraphDestroy", graph) == abi.INVALID_HANDLE
    cuda.gxuModuleUnload(cuda.made("gxuModuleLoad", str(cuda_image).encode()))
    assert fake_driver.calls("cuModuleUnload") == unloaded + 2, "what the graph kept is gone now"
    cuda.gxuFree(out)


def test_copies_and_fills_are_captured(cuda: CudaRuntime, cuda_stream: int) -> None:
    source, target = cuda.upload(b"abcdefgh"), cuda.memory(8)
    cuda.gxuStreamBeginCapture(cuda_stream)
    cuda.gxuMemcpyAsync(target, source, 8, abi.DEVICE_TO_DEVICE, cuda_stream)
    cuda.gxuMemsetAsync(target, ord("z"), 3, cuda_stream)
    allocated = cuda.memory(64)  # allowed meanwhile
    cuda.gxuFree(allocated)
    graph = cuda.made("gxuStreamEndCapture", cuda_stream, first=False)
    exec_ = cuda.made("gxuGraphInstantiate", graph)
    cuda.gxuMemcpyAsync(source, b"ABCDEFGH", 8, abi.HOST_TO_DEVICE, None)
    cuda.gxuGraphLaunch(exec_, cuda_stream)
    assert cuda.download(target, 8, cuda_stream) == b"zzzDEFGH"
    cuda.gxuGraphExecDestroy(exec_)
    cuda.gxuGraphDestroy(graph)
    cuda.gxuFree(source)
    cuda.gxuFree(target)


def test_capture_of_two_streams_joined_and_not(cuda: CudaRuntime, cuda_module: int, cuda_stream: int) -> None:
    append = cuda.function(cuda_module, "append_digit")
    other, fork, join, numbers = cuda.stream(), cuda.event(), cuda.event(), set()

    def add(digit: int, out: int, where: int) -> None:
        cuda.launch(append, (1, 1, 1), (c_void_p(out), c_int32(digit)), where)

    for joins in (True, False):
        out, far = cuda.upload(struct.pack("q", 0)), cuda.upload(struct.pack("q", 0))
        cuda.gxuStreamBeginCapture(cuda_stream)
        add(1, out, cuda_stream)
        cuda.gxuEventRecord(fork, cuda_stream)
        cuda.gxuStreamWaitEvent(other, fork, 0)
        assert capture_info(cuda, other) == capture_info(cuda, cuda_stream)
        numbers.add(capture_info(cuda, other)[1])
        add(2, out if joins else far, other)
        if joins:
            cuda.gxuEventRecord(join, other)
            cuda.gxuStreamWaitEvent(cuda_stream, join, 0)
        add(3, out, cuda_stream)
        assert cuda.code("gxuStreamEndCapture", other, ctypes.byref(c_void_p())) == abi.CAPTURE_UNMATCHED
        assert cuda.code("gxuEventQuery", fork) == abi.CAPTURE_UNSUPPORTED
        graph = cuda.made("gxuStreamEndCapture", cuda_stream, first=False)
        assert capture_info(cuda, other) == (abi.CAPTURE_NONE, 0)
        assert cuda.code("gxuStreamWaitEvent", cuda_stream, fork, 0) == abi.INVALID_VALUE
        exec_ = cuda.made("gxuGraphInstantiate", graph)
        cuda.gxuGraphLaunch(exec_, None)
        assert struct.unpack("q", cuda.download(out, 8)) == (123 if joins else 13,)
        assert struct.unpack("q", cuda.download(far, 8)) == (0 if joins else 2,)
        cuda.gxuGraphExecDestroy(exec_)
        cuda.gxuGraphDestroy(graph)
        cuda.gxuFree(out)
        cuda.gxuFree(far)
    assert len(numbers) == 2
    cuda.gxuEventRecord(fork, None)
    cuda.gxuEventSynchronize(fork)  # recorded outside of captures again
    for event in (fork, join):
        cuda.gxuEventDestroy(event)
    cuda.gxuStreamDestroy(other)


def test_what_a_capturing_stream_cannot_do_invalidates_the_capture(cuda: CudaRuntime, cuda_stream: int) -> None:
    outside, device = cuda.event(), cuda.memory(4)
    cuda.gxuEventRecord(outside, None)
    forbidden: list[Callable[[], int]] = [
        lambda: cuda.code("gxuStreamSynchronize", cuda_stream),
        lambda: cuda.code("gxuStreamQuery", cuda_stream),
        lambda: cuda.code("gxuStreamDestroy", cuda_stream),
        lambda: cuda.code("gxuDeviceSynchronize"),
        lambda: cuda.code("gxuStreamWaitEvent", cuda_stream, outside, 0),
        lambda: cuda.code("gxuMemcpyAsync", device, b"abcd", 4, abi.HOST_TO_DEVICE, cuda_stream),
    ]
    for call in forbidden:
        cuda.gxuStreamBeginCapture(cuda_stream)
        assert call() == abi.CAPTURE_UNSUPPORTED
        assert capture_info(cuda, cuda_stream)[0] == abi.CAPTURE_INVALID
        assert cuda.code("gxuMemsetAsync", device, 0, 4, cuda_stream) == abi.CAPTURE_INVALIDATED
        assert cuda.code("gxuEventRecord", outside, cuda_stream) == abi.CAPTURE_INVALIDATED
        assert cuda.code("gxuStreamEndCapture", cuda_stream, ctypes.byref(c_void_p())) == abi.CAPTURE_INVALIDATED
        assert capture_info(cuda, cuda_stream)[0] == abi.CAPTURE_NONE
    cuda.gxuStreamBeginCapture(cuda_stream)
    assert cuda.code("gxuStreamBeginCapture", cuda_stream) == abi.INVALID_VALUE
    cuda.gxuGraphDestroy(cuda.made("gxuStreamEndCapture", cuda_stream, first=False))
    assert cuda.code("gxuStreamBeginCapture", None) == abi.CAPTURE_UNSUPPORTED
    assert cuda.code("gxuStreamEndCapture", cuda_stream, ctypes.byref(c_void_p())) == abi.INVALID_VALUE
    cuda.gxuEventDestroy(outside)
    cuda.gxuFree(device)


def test_two_captures_do_not_mix(cuda: CudaRuntime, cuda_stream: int) -> None:
    other, event = cuda.stream(), cuda.event()
    cuda.gxuStreamBeginCapture(cuda_stream)
    cuda.gxuStreamBeginCapture(other)
    cuda.gxuEventRecord(event, other)
    assert cuda.code("gxuStreamWaitEvent", cuda_stream, event, 0) == abi.CAPTURE_UNSUPPORTED
    for stream in (cuda_stream, other):
        assert cuda.code("gxuStreamEndCapture", stream, ctypes.byref(c_void_p())) == abi.CAPTURE_INVALIDATED
    cuda.gxuEventDestroy(event)
    cuda.gxuStreamDestroy(other)
