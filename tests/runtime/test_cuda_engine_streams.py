"""Streams, events and host functions of the cuda engine."""

from __future__ import annotations

import ctypes
import struct
import threading
import time
from ctypes import c_float, c_int, c_int32, c_int64, c_size_t, c_void_p

import pytest
import runtime_abi as abi
from cuda_engine import CudaRuntime, FakeDriver
from runtime_abi import RuntimeFailure
from runtime_gate import TIMEOUT, Gate, wait_for


class Digits:
    """A number in device memory, to which kernels append digits."""

    def __init__(self, cuda: CudaRuntime, module: int) -> None:
        self.cuda = cuda
        self.kernel = cuda.function(module, "append_digit")
        self.out = cuda.upload(struct.pack("q", 0))

    def append(self, digit: int, stream: int | None) -> None:
        self.cuda.launch(self.kernel, (1, 1, 1), (c_void_p(self.out), c_int32(digit)), stream)

    def read(self, stream: int | None) -> int:
        return int(struct.unpack("q", self.cuda.download(self.out, 8, stream))[0])


@pytest.fixture
def digits(cuda: CudaRuntime, cuda_module: int) -> Digits:
    return Digits(cuda, cuda_module)


def test_streams_overlap_unless_an_event_orders_them(cuda: CudaRuntime, digits: Digits, cuda_stream: int) -> None:
    other, event = cuda.stream(), cuda.event()
    gate = Gate(cuda, cuda_stream)
    digits.append(1, cuda_stream)
    cuda.gxuEventRecord(event, cuda_stream)
    digits.append(7, other)
    assert digits.read(other) == 7, "a stream that waits for nothing goes on"
    cuda.gxuStreamWaitEvent(other, event, 0)
    cuda.gxuEventDestroy(event)  # the wait stays valid
    digits.append(2, other)
    assert cuda.code("gxuStreamQuery", other) == abi.NOT_READY
    gate.open()
    assert digits.read(other) == 712
    cuda.gxuStreamDestroy(other)


def test_blocking_streams_are_ordered_with_the_default_stream(cuda: CudaRuntime, digits: Digits) -> None:
    blocking = cuda.stream(abi.STREAM_DEFAULT)
    gate = Gate(cuda, None)
    digits.append(1, blocking)
    digits.append(2, None)
    assert cuda.code("gxuStreamQuery", blocking) == abi.NOT_READY
    gate.open()
    assert digits.read(blocking) in (1, 12)
    assert digits.read(None) == 12
    cuda.gxuStreamDestroy(blocking)


def test_events_tell_time_and_order(cuda: CudaRuntime, cuda_module: int, cuda_stream: int) -> None:
    nap = cuda.function(cuda_module, "nap")
    start, end, plain = cuda.event(abi.EVENT_DEFAULT), cuda.event(abi.EVENT_BLOCKING_SYNC), cuda.event()
    milliseconds = c_float()
    assert cuda.code("gxuEventQuery", start) == abi.SUCCESS
    assert cuda.code("gxuEventElapsedTime", ctypes.byref(milliseconds), start, end) == abi.INVALID_HANDLE
    cuda.gxuEventRecord(start, cuda_stream)
    cuda.launch(nap, (1, 1, 1), (c_int64(30_000_000),), cuda_stream)
    cuda.gxuEventRecord(end, cuda_stream)
    assert cuda.code("gxuEventQuery", end) == abi.NOT_READY
    assert cuda.code("gxuEventElapsedTime", ctypes.byref(milliseconds), start, end) == abi.NOT_READY
    assert cuda.code("gxuPeekAtLastError") == abi.INVALID_HANDLE, "not ready is an answer"
    cuda.gxuEventSynchronize(end)
    cuda.gxuEventElapsedTime(ctypes.byref(milliseconds), start, end)
    assert 30 <= milliseconds.value < 5000
    forth = milliseconds.value
    cuda.gxuEventElapsedTime(ctypes.byref(milliseconds), end, start)
    assert milliseconds.value == -forth
    cuda.gxuEventRecord(plain, cuda_stream)
    with pytest.raises(RuntimeFailure, match="created with gxuEventDisableTiming"):
        cuda.gxuEventElapsedTime(ctypes.byref(milliseconds), start, plain)
    for event in (start, end, plain):
        cuda.gxuEventDestroy(event)


def test_late_events_hold_only_what_waits_for_them(
    cuda: CudaRuntime, fake_driver: FakeDriver, digits: Digits, cuda_stream: int
) -> None:
    other, event = cuda.stream(), cuda.event()
    fake_driver.delay_events(100_000)
    digits.append(1, cuda_stream)
    cuda.gxuEventRecord(event, cuda_stream)
    cuda.gxuStreamWaitEvent(other, event, 0)
    digits.append(2, other)
    assert cuda.code("gxuEventQuery", event) == abi.NOT_READY
    start = time.monotonic()
    cuda.gxuEventSynchronize(event)
    assert time.monotonic() - start > 0.02
    assert digits.read(other) == 12
    cuda.gxuEventDestroy(event)
    cuda.gxuStreamDestroy(other)


def test_event_flags_and_devices(cuda: CudaRuntime) -> None:
    handle = c_void_p()
    assert cuda.code("gxuEventCreate", ctypes.byref(handle), 8) == abi.INVALID_VALUE
    assert cuda.code("gxuEventCreate", ctypes.byref(handle), abi.EVENT_INTERPROCESS) == abi.INVALID_VALUE
    shared = cuda.event(abi.EVENT_INTERPROCESS | abi.EVENT_DISABLE_TIMING)
    cuda.gxuSetDevice(1)
    with pytest.raises(RuntimeFailure, match="event belongs to device 0, the stream to device 1") as failure:
        cuda.gxuEventRecord(shared, None)
    assert failure.value.code == abi.INVALID_HANDLE
    own, milliseconds = cuda.event(abi.EVENT_DEFAULT), c_float()
    with pytest.raises(RuntimeFailure, match="the events belong to the devices 1 and 0"):
        cuda.gxuEventElapsedTime(ctypes.byref(milliseconds), own, shared)
    cuda.gxuEventDestroy(own)
    cuda.gxuEventDestroy(shared)


def test_events_order_streams_of_two_devices(cuda: CudaRuntime, digits: Digits, cuda_stream: int) -> None:
    event = cuda.event()
    gate = Gate(cuda, cuda_stream)
    digits.append(4, cuda_stream)
    cuda.gxuEventRecord(event, cuda_stream)
    cuda.gxuSetDevice(1)
    far, pinned = cuda.stream(), cuda.made("gxuMallocHost", 8)
    cuda.gxuStreamWaitEvent(far, event, 0)
    cuda.gxuMemcpyAsync(pinned, digits.out, 8, abi.DEVICE_TO_HOST, far)
    assert cuda.code("gxuStreamQuery", far) == abi.NOT_READY
    gate.open()
    cuda.gxuStreamSynchronize(far)
    assert struct.unpack("q", ctypes.string_at(pinned, 8)) == (4,)
    cuda.gxuFreeHost(pinned)
    cuda.gxuStreamDestroy(far)
    cuda.gxuEventDestroy(event)


def test_priorities(cuda: CudaRuntime) -> None:
    least, greatest = c_int(99), c_int(99)
    cuda.gxuStreamGetPriorityRange(ctypes.byref(least), ctypes.byref(greatest))
    assert (least.value, greatest.value) == (0, -5)
    for priority in (-100, -3, 0, 100):
        cuda.gxuStreamDestroy(cuda.made("gxuStreamCreate", abi.STREAM_NON_BLOCKING, priority))
    assert cuda.code("gxuStreamCreate", ctypes.byref(c_void_p()), 2, 0) == abi.INVALID_VALUE


def test_host_functions_run_in_order_and_may_only_ask(cuda: CudaRuntime, digits: Digits, cuda_stream: int) -> None:
    pointer, codes = cuda.memory(4), []
    event = cuda.event()

    def inside(user_data: int | None) -> None:
        codes.append(user_data)
        for call in (
            lambda: cuda.code("gxuStreamSynchronize", None),
            lambda: cuda.code("gxuDeviceSynchronize"),
            lambda: cuda.code("gxuEventSynchronize", event),
            lambda: cuda.code("gxuEventRecord", event, None),
            lambda: cuda.code("gxuStreamWaitEvent", None, event, 0),
            lambda: cuda.code("gxuFree", pointer),
            lambda: cuda.code("gxuMemsetAsync", pointer, 0, 4, None),
            lambda: cuda.code("gxuMemcpyAsync", pointer, b"abcd", 4, abi.HOST_TO_DEVICE, None),
            lambda: cuda.code("gxuLaunchHostFunc", None, callback, None),
            lambda: cuda.code("gxuStreamBeginCapture", cuda_stream),
        ):
            codes.append(call())
        codes.append(cuda.code("gxuStreamQuery", cuda_stream))
        codes.append(cuda.code("gxuEventQuery", event))
        codes.append(cuda.code("gxuMemGetInfo", ctypes.byref(c_size_t()), ctypes.byref(c_size_t())))
        codes.append(cuda.number("gxuGetDeviceCount"))

    callback = abi.HostFunction(inside)
    digits.append(1, cuda_stream)
    cuda.gxuLaunchHostFunc(cuda_stream, callback, 4711)
    digits.append(2, cuda_stream)
    assert digits.read(cuda_stream) == 12
    assert codes == [4711, *[abi.NOT_PERMITTED] * 10, abi.NOT_READY, abi.SUCCESS, abi.SUCCESS, 2]
    assert cuda.code("gxuLaunchHostFunc", cuda_stream, abi.HostFunction(0), None) == abi.INVALID_VALUE
    cuda.gxuEventDestroy(event)
    cuda.gxuFree(pointer)


def test_destroyed_and_made_up_handles(cuda: CudaRuntime) -> None:
    stream, event, pointer = cuda.stream(), cuda.event(), cuda.memory(4)
    cuda.gxuStreamDestroy(stream)
    cuda.gxuEventDestroy(event)
    for bad in (stream, event, 0x1234567):
        assert cuda.code("gxuStreamSynchronize", bad) == abi.INVALID_HANDLE
        assert cuda.code("gxuStreamDestroy", bad) == abi.INVALID_HANDLE
        assert cuda.code("gxuEventRecord", bad, None) == abi.INVALID_HANDLE
        assert cuda.code("gxuEventDestroy", bad) == abi.INVALID_HANDLE
        assert cuda.code("gxuMemsetAsync", pointer, 0, 4, bad) == abi.INVALID_HANDLE
        assert cuda.code("gxuStreamIsCapturing", bad, ctypes.byref(c_int())) == abi.INVALID_HANDLE
    assert cuda.code("gxuStreamDestroy", None) == abi.INVALID_HANDLE
    cuda.gxuFree(pointer)


def test_destroying_a_stream_waits_for_its_work(cuda: CudaRuntime) -> None:
    stream = cuda.stream()
    gate = Gate(cuda, stream)
    assert gate.reached.wait(TIMEOUT)
    done = threading.Event()
    thread = threading.Thread(target=lambda: (cuda.gxuStreamDestroy(stream), done.set()))
    thread.start()
    assert not done.wait(0.05)
    gate.open()
    assert done.wait(TIMEOUT)
    thread.join()


def test_work_runs_without_anybody_waiting(cuda: CudaRuntime, cuda_stream: int) -> None:
    pinned, device = cuda.made("gxuMallocHost", 4), cuda.upload(b"done")
    cuda.gxuMemcpyAsync(pinned, device, 4, abi.DEVICE_TO_HOST, cuda_stream)
    assert wait_for(lambda: ctypes.string_at(pinned, 4) == b"done")
    cuda.gxuFree(device)
    cuda.gxuFreeHost(pinned)


def test_native_stream_is_the_drivers(cuda: CudaRuntime, fake_driver: FakeDriver, cuda_stream: int) -> None:
    native = cuda.made("gxuStreamGetNative", cuda_stream)
    gate = Gate(cuda, cuda_stream)
    query = fake_driver.library.cuStreamQuery
    query.argtypes = (c_void_p,)
    context = c_void_p()
    fake_driver.library.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0)
    fake_driver.library.cuCtxSetCurrent(context)
    assert query(native) == abi.NOT_READY
    gate.open()
    cuda.gxuStreamSynchronize(cuda_stream)
    assert query(native) == 0
    assert cuda.made("gxuStreamGetNative", None) == 0
