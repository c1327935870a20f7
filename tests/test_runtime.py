"""The host engine against the promises of gxu_runtime.h, one call at a time."""

from __future__ import annotations

import ctypes
import math
import re
import shutil
import struct
import threading
import time
from collections.abc import Callable, Iterator
from ctypes import c_double, c_float, c_int, c_int32, c_int64, c_size_t, c_void_p
from pathlib import Path

import pytest
import runtime_abi as abi
from runtime_abi import Runtime, RuntimeFailure

MEMORY_LIMIT = 64 << 20
TIMEOUT = 20.0  # seconds after which something that should have happened has not


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the engine: the loader takes it for another library, so its state is apart from gxu's own."""
    return Path(shutil.copy(abi.LIBRARY, tmp_path_factory.mktemp("engine") / abi.LIBRARY.name))


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return abi.compile_kernels(abi.ROOT / "tests/cpp/kernels.c", tmp_path_factory.mktemp("image") / "kernels.so")


@pytest.fixture(scope="module")
def initialized(library: Path) -> Runtime:
    """The engine with two devices of 64 MiB each."""
    runtime = Runtime(library)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("GXU_DEVICE_COUNT", "2")
        environment.setenv("GXU_MEMORY_LIMIT", "64M")
        runtime.gxuInit(0)
    return runtime


@pytest.fixture
def runtime(initialized: Runtime) -> Iterator[Runtime]:
    """The engine, on device 0, without a pending error; every test leaves it with nothing in flight."""
    initialized.gxuSetDevice(0)
    initialized.code("gxuGetLastError")
    yield initialized
    for device in (1, 0):
        initialized.gxuSetDevice(device)
        initialized.gxuDeviceSynchronize()


@pytest.fixture
def module(runtime: Runtime, image: Path) -> Iterator[int]:
    handle = runtime.made("gxuModuleLoad", str(image).encode())
    yield handle
    runtime.gxuModuleUnload(handle)


@pytest.fixture
def stream(runtime: Runtime) -> Iterator[int]:
    handle = runtime.stream()
    yield handle
    runtime.gxuStreamDestroy(handle)


class Gate:
    """Holds a stream at a host function until open() is called."""

    def __init__(self, runtime: Runtime, stream: int | None) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()
        self.timed_out = False
        self._callback = abi.HostFunction(self._wait)  # kept alive until the stream has called it
        runtime.gxuLaunchHostFunc(stream, self._callback, None)

    def _wait(self, _user_data: int | None) -> None:
        self.reached.set()
        self.timed_out = not self.opened.wait(TIMEOUT)

    def open(self) -> None:
        self.opened.set()


def wait_for(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.0005)
    return True


def ints(data: bytes) -> list[int]:
    return list(struct.unpack(f"{len(data) // 4}i", data))


# --- version, start, errors -------------------------------------------------------------------------------------------


def test_library_exports_exactly_the_header(library: Path) -> None:
    declared = re.findall(r"^GXU_API [^(]*?\b(gxu\w+)\(", abi.HEADER.read_text(), re.MULTILINE)
    assert sorted(declared) == sorted(abi.PROTOTYPES)
    loaded = ctypes.CDLL(str(library))
    for name in declared:
        assert hasattr(loaded, name), name
    assert not hasattr(loaded, "_ZN3gxu4host12device_countEv"), "the engine's own symbols must stay hidden"


def test_version_and_error_texts_work_before_init(library: Path, tmp_path: Path) -> None:
    fresh = Runtime(Path(shutil.copy(library, tmp_path / "fresh.so")))
    assert fresh.number("gxuGetVersion") == 1000
    assert fresh.library.gxuGetErrorName(abi.OUT_OF_MEMORY) == b"gxuErrorOutOfMemory"
    assert fresh.library.gxuGetErrorString(abi.OUT_OF_MEMORY) == b"out of memory"
    assert fresh.library.gxuGetErrorName(12345) == b"unrecognized error code"
    with pytest.raises(RuntimeFailure, match="gxuInit has not been called") as failure:
        fresh.gxuSetDevice(0)
    assert failure.value.code == abi.NOT_INITIALIZED


def test_every_error_code_has_a_name(runtime: Runtime) -> None:
    codes = dict(re.findall(r"\b(gxu(?:Success|Error)\w*) = (\d+)", abi.HEADER.read_text()))
    assert len(codes) > 20
    for name, code in codes.items():
        assert runtime.library.gxuGetErrorName(int(code)).decode() == name
        assert runtime.library.gxuGetErrorString(int(code)) != b"unrecognized error code"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("GXU_DEVICE_COUNT", "0"),
        ("GXU_DEVICE_COUNT", "65"),
        ("GXU_DEVICE_COUNT", "two"),
        ("GXU_DEVICE_COUNT", "2x"),
        ("GXU_MEMORY_LIMIT", "0"),
        ("GXU_MEMORY_LIMIT", "-1"),
        ("GXU_MEMORY_LIMIT", "12Q"),
        ("GXU_MEMORY_LIMIT", "1MM"),
        ("GXU_MEMORY_LIMIT", "99999999999999T"),
    ],
)
def test_init_refuses_bad_environment(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    fresh = Runtime(Path(shutil.copy(library, tmp_path / "fresh.so")))
    monkeypatch.setenv(variable, value)
    with pytest.raises(RuntimeFailure, match=f"{variable} is '{value}': want") as failure:
        fresh.gxuInit(0)
    assert failure.value.code == abi.INVALID_VALUE
    monkeypatch.delenv(variable)
    fresh.gxuInit(0)  # a failed start can be repeated


@pytest.mark.parametrize(
    ("text", "expected"), [("1048576", 1 << 20), ("512k", 512 << 10), ("3M", 3 << 20), ("2G", 2 << 30), ("1T", 1 << 40)]
)
def test_memory_limit_suffixes(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: int
) -> None:
    fresh = Runtime(Path(shutil.copy(library, tmp_path / "fresh.so")))
    monkeypatch.setenv("GXU_MEMORY_LIMIT", text)
    fresh.gxuInit(0)
    free, total = c_size_t(), c_size_t()
    fresh.gxuMemGetInfo(ctypes.byref(free), ctypes.byref(total))
    assert total.value == expected
    assert 0 < free.value <= expected


def test_init_is_repeatable_and_takes_no_flags(runtime: Runtime) -> None:
    runtime.gxuInit(0)
    assert runtime.code("gxuInit", 1) == abi.INVALID_VALUE


def test_last_error_is_cleared_by_reading_and_belongs_to_the_thread(runtime: Runtime) -> None:
    assert runtime.code("gxuSetDevice", 7) == abi.INVALID_DEVICE
    assert runtime.message() == "device 7 does not exist: there are 2, numbered from 0"
    seen_by_other = []
    thread = threading.Thread(target=lambda: seen_by_other.append(runtime.code("gxuPeekAtLastError")))
    thread.start()
    thread.join()
    assert seen_by_other == [abi.SUCCESS]
    runtime.gxuSetDevice(0)  # success does not clear it
    assert runtime.code("gxuPeekAtLastError") == abi.INVALID_DEVICE
    assert runtime.code("gxuGetLastError") == abi.INVALID_DEVICE
    assert runtime.code("gxuGetLastError") == abi.SUCCESS


# --- devices ----------------------------------------------------------------------------------------------------------


def test_devices_and_current_device_per_thread(runtime: Runtime) -> None:
    assert runtime.number("gxuGetDeviceCount") == 2
    runtime.gxuSetDevice(1)
    assert runtime.number("gxuGetDevice") == 1
    seen = []
    thread = threading.Thread(target=lambda: seen.append(runtime.number("gxuGetDevice")))
    thread.start()
    thread.join()
    assert seen == [0]
    for bad in (-1, 2):
        assert runtime.code("gxuSetDevice", bad) == abi.INVALID_DEVICE
    assert runtime.number("gxuGetDevice") == 1


def test_device_properties(runtime: Runtime) -> None:
    properties = abi.DeviceProperties(struct_size=ctypes.sizeof(abi.DeviceProperties))
    runtime.gxuGetDeviceProperties(ctypes.byref(properties), 1)
    assert re.fullmatch(rb"GXU \(host engine, \d+ threads\)", properties.name)
    assert re.fullmatch(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", properties.uuid)
    assert properties.uuid.endswith(b"1")
    assert (properties.triton_backend, properties.triton_arch, properties.delegate) == (b"gxu", b"1", b"cpu")
    assert (properties.major, properties.minor) == (1, 0)
    assert properties.total_memory == MEMORY_LIMIT
    assert (properties.multi_processor_count, properties.max_grid_size) == (48, 48)
    assert (properties.warp_size, properties.preferred_num_warps) == (32, 1)
    assert (properties.host_accessible, properties.concurrent_kernels) == (1, 1)
    assert properties.vector_bytes in (16, 32, 64)
    assert properties.L2_cache_size >= properties.L1_cache_size > 0
    assert runtime.code("gxuGetDeviceProperties", ctypes.byref(properties), 2) == abi.INVALID_DEVICE


def test_device_properties_of_a_longer_and_a_shorter_struct(runtime: Runtime) -> None:
    size = ctypes.sizeof(abi.DeviceProperties)

    class Longer(abi.DeviceProperties):
        _fields_ = (("future", ctypes.c_uint64),)

    longer = Longer(struct_size=ctypes.sizeof(Longer), future=77)
    runtime.gxuGetDeviceProperties(ctypes.byref(longer), 0)
    assert longer.multi_processor_count == 48
    assert longer.future == 0, "what this version does not know is zero"
    short = abi.DeviceProperties(struct_size=size - 8)
    with pytest.raises(RuntimeFailure, match=f"struct_size is {size - 8}: want at least {size}"):
        runtime.gxuGetDeviceProperties(ctypes.byref(short), 0)


def test_peers(runtime: Runtime) -> None:
    assert runtime.number("gxuDeviceCanAccessPeer", 0, 1) == 1
    assert runtime.number("gxuDeviceCanAccessPeer", 1, 1) == 0
    assert runtime.code("gxuDeviceCanAccessPeer", ctypes.byref(c_int()), 0, 2) == abi.INVALID_DEVICE


# --- memory -----------------------------------------------------------------------------------------------------------


def memory_info(runtime: Runtime) -> tuple[int, int]:
    free, total = c_size_t(), c_size_t()
    runtime.gxuMemGetInfo(ctypes.byref(free), ctypes.byref(total))
    return free.value, total.value


@pytest.mark.parametrize("size", [1, 63, 4097, (2 << 20) - 1, 2 << 20, (5 << 20) + 3])
def test_allocations_are_aligned_accounted_and_usable(runtime: Runtime, size: int) -> None:
    before, total = memory_info(runtime)
    assert total == MEMORY_LIMIT
    pointer = runtime.memory(size)
    assert pointer % (4096 if size >= 2 << 20 else 64) == 0
    after, _ = memory_info(runtime)
    assert size <= before - after < size + 4096 + 256
    runtime.gxuMemsetAsync(pointer, 0x5A, size, None)
    assert runtime.download(pointer, size) == b"\x5a" * size
    runtime.gxuFree(pointer)
    assert memory_info(runtime) == (before, total)


def test_empty_allocation_and_null_free(runtime: Runtime) -> None:
    assert runtime.memory(0) == 0
    assert runtime.made("gxuMallocHost", 0) == 0
    runtime.gxuFree(None)
    runtime.gxuFreeHost(None)


def test_out_of_memory_names_the_numbers_and_leaves_the_device_usable(runtime: Runtime) -> None:
    held = runtime.memory(40 << 20)
    free, _ = memory_info(runtime)
    with pytest.raises(RuntimeFailure) as failure:
        runtime.memory((24 << 20) + 1)
    assert failure.value.code == abi.OUT_OF_MEMORY
    assert failure.value.message == (
        f"tried to allocate {(24 << 20) + 1} bytes on device 0: {free} bytes are free, the limit is {MEMORY_LIMIT} "
        "bytes (GXU_MEMORY_LIMIT)"
    )
    assert runtime.code("gxuMalloc", ctypes.byref(c_void_p()), 2**64 - 1) == abi.OUT_OF_MEMORY
    assert memory_info(runtime)[0] == free
    runtime.gxuSetDevice(1)
    other = runtime.memory(40 << 20)  # each device has its own budget
    runtime.gxuFree(other)
    runtime.gxuFree(held)
    runtime.gxuSetDevice(0)
    runtime.gxuFree(runtime.memory(60 << 20))


def test_wrong_frees_are_found(runtime: Runtime) -> None:
    pointer = runtime.memory(100)
    with pytest.raises(RuntimeFailure, match=r"lies inside the allocation of 100 bytes") as failure:
        runtime.gxuFree(pointer + 4)
    assert failure.value.code == abi.INVALID_VALUE
    with pytest.raises(RuntimeFailure, match=r"is device memory: free it with gxuFree"):
        runtime.gxuFreeHost(pointer)
    runtime.gxuFree(pointer)
    with pytest.raises(RuntimeFailure, match=r"freed twice"):
        runtime.gxuFree(pointer)
    with pytest.raises(RuntimeFailure, match=r"not from this runtime"):
        runtime.gxuFree(ctypes.addressof(ctypes.c_int()))


def test_pinned_memory_is_not_charged_to_the_device(runtime: Runtime) -> None:
    before = memory_info(runtime)
    pinned = runtime.made("gxuMallocHost", 8 << 20)
    assert before[0] - memory_info(runtime)[0] == 0
    ctypes.memset(pinned, 0x11, 8 << 20)
    with pytest.raises(RuntimeFailure, match="is pinned host memory: free it with gxuFreeHost"):
        runtime.gxuFree(pinned)
    runtime.gxuFreeHost(pinned)


def test_pointer_attributes(runtime: Runtime) -> None:
    attributes = abi.PointerAttributes()

    def look(pointer: int) -> tuple[int, int, int | None, int]:
        runtime.gxuPointerGetAttributes(ctypes.byref(attributes), pointer)
        return attributes.type, attributes.device, attributes.base, attributes.size

    runtime.gxuSetDevice(1)
    pointer = runtime.memory(1001)
    pinned = runtime.made("gxuMallocHost", 77)
    runtime.gxuSetDevice(0)
    assert look(pointer) == (abi.DEVICE_MEMORY, 1, pointer, 1001)
    assert look(pointer + 1000) == (abi.DEVICE_MEMORY, 1, pointer, 1001)
    assert look(pointer + 1001)[0] == abi.UNREGISTERED
    assert look(pinned + 5) == (abi.HOST_MEMORY, 1, pinned, 77)
    assert look(ctypes.addressof(attributes)) == (abi.UNREGISTERED, -1, None, 0)
    runtime.gxuFree(pointer)
    runtime.gxuFreeHost(pinned)
    assert look(pointer)[0] == abi.UNREGISTERED


def test_free_waits_for_work_that_uses_the_memory(runtime: Runtime, stream: int) -> None:
    pointer = runtime.memory(64)
    gate = Gate(runtime, stream)
    freed = threading.Event()

    def free() -> None:
        runtime.gxuFree(pointer)
        freed.set()

    thread = threading.Thread(target=free)
    thread.start()
    assert gate.reached.wait(TIMEOUT)
    assert not freed.wait(0.05)
    gate.open()
    assert freed.wait(TIMEOUT)
    thread.join()


# --- copies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 1000, (1 << 20) + 13])
def test_copies_in_every_direction(runtime: Runtime, stream: int, size: int) -> None:
    data = bytes((7 * i + i // 251) & 0xFF for i in range(size))
    source = runtime.upload(data)
    target = runtime.memory(size)
    runtime.gxuMemsetAsync(target, 0xEE, size, stream)
    runtime.gxuMemcpyAsync(target, source, size, abi.DEVICE_TO_DEVICE, stream)
    assert runtime.download(target, size, stream) == data

    pinned = runtime.made("gxuMallocHost", size)
    ctypes.memset(pinned, 0xEE, size)
    runtime.gxuMemcpyAsync(pinned, target, size, abi.DEFAULT_KIND, stream)
    runtime.gxuStreamSynchronize(stream)
    assert ctypes.string_at(pinned, size) == data

    pageable = ctypes.create_string_buffer(size)
    runtime.gxuMemcpyAsync(pageable, pinned, size, abi.HOST_TO_HOST, stream)
    assert pageable.raw == data
    runtime.gxuSetDevice(1)
    peer = runtime.memory(size)
    runtime.gxuMemcpyAsync(peer, source, size, abi.DEVICE_TO_DEVICE, None)
    assert runtime.download(peer, size) == data
    for pointer in (source, target, peer):
        runtime.gxuFree(pointer)
    runtime.gxuFreeHost(pinned)


def test_pinned_copies_are_queued_and_pageable_copies_are_done_on_return(runtime: Runtime, stream: int) -> None:
    device = runtime.upload(b"old!")
    pinned = runtime.made("gxuMallocHost", 4)
    ctypes.memmove(pinned, b"new1", 4)
    gate = Gate(runtime, stream)
    runtime.gxuMemcpyAsync(device, pinned, 4, abi.HOST_TO_DEVICE, stream)
    assert runtime.code("gxuStreamQuery", stream) == abi.NOT_READY
    assert ctypes.string_at(device, 4) == b"old!"
    gate.open()
    result = ctypes.create_string_buffer(4)
    runtime.gxuMemcpyAsync(result, device, 4, abi.DEVICE_TO_HOST, stream)
    assert result.raw == b"new1"
    runtime.gxuFree(device)
    runtime.gxuFreeHost(pinned)


def test_copies_out_of_bounds_or_in_the_wrong_direction_are_refused(runtime: Runtime) -> None:
    device = runtime.memory(100)
    host = ctypes.create_string_buffer(200)
    with pytest.raises(RuntimeFailure, match=r"dst: 101 bytes at offset 0 leave the allocation of 100 bytes"):
        runtime.gxuMemcpyAsync(device, host, 101, abi.HOST_TO_DEVICE, None)
    with pytest.raises(RuntimeFailure, match=r"src: 2 bytes at offset 99 leave"):
        runtime.gxuMemcpyAsync(host, device + 99, 2, abi.DEVICE_TO_HOST, None)
    with pytest.raises(RuntimeFailure, match=r"dst: .* is not in live device memory"):
        runtime.gxuMemcpyAsync(host, device, 4, abi.HOST_TO_DEVICE, None)
    with pytest.raises(RuntimeFailure, match=r"leave the allocation"):
        runtime.gxuMemsetAsync(device + 50, 0, 51, None)
    with pytest.raises(RuntimeFailure, match=r"in no live device or pinned allocation"):
        runtime.gxuMemsetAsync(host, 0, 4, None)
    assert runtime.code("gxuMemcpyAsync", device, host, 4, 9, None) == abi.INVALID_VALUE
    assert runtime.code("gxuMemcpyAsync", None, host, 4, abi.DEFAULT_KIND, None) == abi.INVALID_VALUE
    runtime.gxuMemcpyAsync(None, None, 0, abi.DEFAULT_KIND, None)  # nothing to copy
    runtime.gxuFree(device)
    with pytest.raises(RuntimeFailure, match=r"in no live"):
        runtime.gxuMemsetAsync(device, 0, 4, None)


def test_overlapping_copy_behaves_like_memmove(runtime: Runtime) -> None:
    size = (1 << 20) + 5
    data = bytes(i * 31 & 0xFF for i in range(size))
    pointer = runtime.upload(data)
    runtime.gxuMemcpyAsync(pointer + 3, pointer, size - 3, abi.DEVICE_TO_DEVICE, None)
    assert runtime.download(pointer, size) == data[:3] + data[: size - 3]
    runtime.gxuFree(pointer)


# --- streams ----------------------------------------------------------------------------------------------------------


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
    assert (least.value, greatest.value) == (0, 0)


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


# --- events -----------------------------------------------------------------------------------------------------------


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
    assert 20.0 <= milliseconds < 200.0
    assert runtime.number("gxuEventElapsedTime", end, start, kind=c_float) == -milliseconds
    for event in (start, end):
        runtime.gxuEventDestroy(event)
    runtime.gxuFree(flag)


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


# --- modules and launches ---------------------------------------------------------------------------------------------


def test_module_from_memory_and_from_file(runtime: Runtime, image: Path) -> None:
    data = image.read_bytes()
    handles = [runtime.made("gxuModuleLoadData", data, len(data)) for _ in range(3)]
    handles += [runtime.made("gxuModuleLoad", str(image).encode()) for _ in range(2)]
    out = runtime.upload(bytes(4 * 7))
    for handle in handles:
        function = runtime.function(handle, "count")
        assert runtime.function(handle, "count") == function
        runtime.launch(function, (7, 1, 1), (c_void_p(out),))
    runtime.gxuModuleUnload(handles.pop())  # waits for the launch; the same file stays loaded for the other
    for handle in handles:
        runtime.launch(runtime.function(handle, "count"), (7, 1, 1), (c_void_p(out),))
        runtime.gxuModuleUnload(handle)
    assert ints(runtime.download(out, 28)) == [9] * 7
    assert runtime.code("gxuModuleUnload", handles[0]) == abi.INVALID_HANDLE
    assert runtime.code("gxuLaunchKernel", function, 1, 1, 1, 1, 1, 1, 0, None, None) == abi.INVALID_HANDLE
    runtime.gxuFree(out)


@pytest.mark.parametrize("from_file", [True, False])
def test_two_images_in_the_same_place_are_two_modules(runtime: Runtime, tmp_path: Path, from_file: bool) -> None:
    """The dynamic loader takes equal names for equal libraries; a recompiled kernel must not run the old code."""
    path = tmp_path / "kernel.so"
    out = runtime.upload(bytes(4))
    handles = []
    for number in (11, 22):
        source = tmp_path / f"kernel{number}.c"
        source.write_text(
            '#include "gxu_host_kernel.h"\n'
            "GXU_HOST_KERNEL(store, 0, 0, 0, 8)\n"
            "GXU_HOST_KERNEL_EXPORT void store(const uint64_t *params, const gxuHostGrid *grid, int64_t begin,\n"
            "    int64_t end, void *scratch, const gxuHostServices *services) {\n"
            "  (void)grid, (void)begin, (void)end, (void)scratch, (void)services;\n"
            f"  *(int32_t *)(uintptr_t)params[0] = {number};\n"
            "}\n"
        )
        path.unlink(missing_ok=True)
        abi.compile_kernels(source, path)
        data = path.read_bytes()
        if from_file:
            handles.append(runtime.made("gxuModuleLoad", str(path).encode()))
        else:
            handles.append(runtime.made("gxuModuleLoadData", data, len(data)))
        runtime.launch(runtime.function(handles[-1], "store"), (1, 1, 1), (c_void_p(out),))
        assert ints(runtime.download(out, 4)) == [number]
    for handle in handles:
        runtime.gxuModuleUnload(handle)
    runtime.gxuFree(out)


def test_loading_many_modules_keeps_no_descriptors(runtime: Runtime, image: Path) -> None:
    data = image.read_bytes()
    before = len(list(Path("/proc/self/fd").iterdir()))
    handles = [runtime.made("gxuModuleLoadData", data, len(data)) for _ in range(64)]
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2
    for handle in handles:
        runtime.gxuModuleUnload(handle)


def test_bad_images_are_refused(runtime: Runtime, image: Path, tmp_path: Path) -> None:
    data = image.read_bytes()
    other_cpu = bytearray(data)
    other_cpu[18] ^= 0x40  # e_machine
    for bad, reason in (
        (b"not an image", "is not an ELF shared object"),
        (b"\x7fELF", "is not an ELF shared object"),
        (data[:100], "cut off"),
        (data[: len(data) // 3], "cut off"),
        (bytes(other_cpu), "is for ELF machine"),
    ):
        with pytest.raises(RuntimeFailure, match=reason) as failure:
            runtime.made("gxuModuleLoadData", bad, len(bad))
        assert failure.value.code == abi.INVALID_IMAGE
        path = tmp_path / "bad.so"
        path.write_bytes(bad)
        with pytest.raises(RuntimeFailure, match=reason) as failure:
            runtime.made("gxuModuleLoad", str(path).encode())
        assert failure.value.code == abi.INVALID_IMAGE
        assert str(path) in failure.value.message
    with pytest.raises(RuntimeFailure, match="No such file") as failure:
        runtime.made("gxuModuleLoad", str(tmp_path / "missing.so").encode())
    assert failure.value.code == abi.FILE_NOT_FOUND
    with pytest.raises(RuntimeFailure, match="not a regular file"):
        runtime.made("gxuModuleLoad", str(tmp_path).encode())


def test_image_with_an_unresolved_symbol_names_it(runtime: Runtime, tmp_path: Path) -> None:
    source = tmp_path / "unresolved.c"
    source.write_text("extern int no_such_function(void);\nint caller(void) { return no_such_function(); }\n")
    path = abi.compile_kernels(source, tmp_path / "unresolved.so")
    with pytest.raises(RuntimeFailure, match="no_such_function") as failure:
        runtime.made("gxuModuleLoad", str(path).encode())
    assert failure.value.code == abi.INVALID_IMAGE


@pytest.mark.parametrize(
    ("kernel", "code", "message"),
    [
        ("absent", abi.NOT_FOUND, "no symbol 'absent'"),
        ("no_info", abi.NOT_FOUND, "no symbol 'no_info_gxu_info'"),
        ("only_info", abi.NOT_FOUND, "no symbol 'only_info'"),
        ("old_version", abi.INVALID_IMAGE, "kernel 'old_version' has kernel format version 42: this engine wants 1"),
        ("bad_size", abi.INVALID_IMAGE, "kernel 'bad_size': parameter 1 has 3 bytes, want 1, 2, 4 or 8"),
        ("bad_flags", abi.INVALID_IMAGE, "kernel 'bad_flags' has unknown flags 0x40"),
        ("huge_scratch", abi.INVALID_IMAGE, "scratch memory"),
    ],
)
def test_wrong_kernel_descriptions_are_refused(
    runtime: Runtime, module: int, kernel: str, code: int, message: str
) -> None:
    with pytest.raises(RuntimeFailure, match=re.escape(message)) as failure:
        runtime.function(module, kernel)
    assert failure.value.code == code


@pytest.mark.parametrize("grid", [(1, 1, 1), (48, 1, 1), (1, 1, 13), (7, 5, 3), (1021, 1, 1), (65537, 2, 1)])
def test_every_program_runs_once_with_its_coordinates(
    runtime: Runtime, module: int, stream: int, grid: tuple[int, int, int]
) -> None:
    programs = math.prod(grid)
    counts = runtime.upload(bytes(4 * (programs + 1)))
    runtime.launch(runtime.function(module, "count"), grid, (c_void_p(counts),), stream)
    assert ints(runtime.download(counts, 4 * (programs + 1), stream)) == [1] * programs + [0]
    runtime.gxuFree(counts)

    out = runtime.memory(12 * programs)
    runtime.gxuMemsetAsync(out, 0xFF, 12 * programs, stream)
    runtime.launch(runtime.function(module, "coordinates"), grid, (c_void_p(out),), stream)
    found = ints(runtime.download(out, 12 * programs, stream))
    x, y, z = grid
    assert found == [v for k in range(z) for j in range(y) for i in range(x) for v in (i, j, k)]
    runtime.gxuFree(out)


def test_parameters_of_every_size_are_copied_at_the_launch(runtime: Runtime, module: int, stream: int) -> None:
    out = runtime.memory(41 * 8)
    kinds = (ctypes.c_int8, ctypes.c_int16, ctypes.c_int32, ctypes.c_int64)
    values = [kinds[i % 4](-1 - i) for i in range(40)]
    gate = Gate(runtime, stream)
    runtime.launch(runtime.function(module, "show_params"), (1, 1, 1), (c_void_p(out), *values), stream)
    expected = [out] + [value.value % 256 ** ctypes.sizeof(value) for value in values]
    for value in values:
        value.value = 0  # the launch took its copy
    gate.open()
    assert list(struct.unpack("41Q", runtime.download(out, 41 * 8, stream))) == expected
    runtime.gxuFree(out)


def test_launch_arguments_are_checked(runtime: Runtime, module: int, stream: int) -> None:
    function = runtime.function(module, "count")
    out = runtime.memory(4)
    arguments = (c_void_p(out),)
    for grid in ((0, 1, 1), (1, 0, 1), (1, 1, 0)):
        with pytest.raises(RuntimeFailure, match=r"kernel 'count': the grid .* has a zero dimension") as failure:
            runtime.launch(function, grid, arguments)
        assert failure.value.code == abi.INVALID_VALUE
    with pytest.raises(RuntimeFailure, match=r"more than 2\^62 programs"):
        runtime.launch(function, (2**32 - 1,) * 3, arguments)
    for block in ((0, 1, 1), (2048, 1, 1), (32, 33, 1)):
        with pytest.raises(RuntimeFailure, match=r"must have 1 to 1024 threads"):
            runtime.launch(function, (1, 1, 1), arguments, block=block)
    with pytest.raises(RuntimeFailure, match="1 parameters but kernel_params is NULL"):
        runtime.gxuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, None, None)
    with pytest.raises(RuntimeFailure, match=r"kernel_params\[0\] of 1 is NULL"):
        runtime.gxuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, None, (c_void_p * 1)())
    runtime.gxuSetDevice(1)
    with pytest.raises(RuntimeFailure, match="belongs to device 0 but the current device is 1") as failure:
        runtime.launch(function, (1, 1, 1), arguments, stream)
    assert failure.value.code == abi.INVALID_HANDLE
    runtime.gxuFree(out)


def test_dynamic_shared_memory_attribute(runtime: Runtime, module: int) -> None:
    function = runtime.function(module, "count")
    runtime.gxuFuncSetAttribute(function, 8, 1024)
    assert runtime.code("gxuFuncSetAttribute", function, 8, -1) == abi.INVALID_VALUE
    assert runtime.code("gxuFuncSetAttribute", function, 8, 2**31 - 1) == abi.INVALID_VALUE
    assert runtime.code("gxuFuncSetAttribute", function, 9, 1) == abi.INVALID_VALUE


def test_small_launches_stay_on_one_thread(runtime: Runtime, module: int, stream: int) -> None:
    out = runtime.upload(bytes(4 * 101))
    runtime.launch(runtime.function(module, "count_calls"), (100, 1, 1), (c_void_p(out), c_int64(100)), stream)
    found = ints(runtime.download(out, 404, stream))
    assert found == [1] * 100 + [1], "all programs in one call of the kernel"
    runtime.gxuFree(out)


def test_ordered_kernels_get_their_programs_in_order(runtime: Runtime, module: int, stream: int) -> None:
    turn = runtime.upload(struct.pack("q", 0))
    runtime.launch(runtime.function(module, "chain"), (500, 2, 1), (c_void_p(turn),), stream)
    assert struct.unpack("q", runtime.download(turn, 8, stream)) == (1000,)
    runtime.gxuFree(turn)


def test_scratch_belongs_to_the_worker_and_is_aligned(runtime: Runtime, module: int, stream: int) -> None:
    out = runtime.upload(bytes(4 * 301))
    runtime.launch(runtime.function(module, "use_scratch"), (301, 1, 1), (c_void_p(out),), stream)
    assert ints(runtime.download(out, 4 * 301, stream)) == [1] * 301
    runtime.gxuFree(out)


def test_images_may_use_libm(runtime: Runtime, module: int, stream: int) -> None:
    out = runtime.upload(struct.pack("33d", *[math.nan] * 33))
    runtime.launch(runtime.function(module, "sines"), (33, 1, 1), (c_void_p(out),), stream)
    found = struct.unpack("33d", runtime.download(out, 33 * 8, stream))
    assert found == pytest.approx([math.sin(i) for i in range(33)], abs=1e-15)
    assert ctypes.sizeof(c_double) == 8
    runtime.gxuFree(out)


def test_device_print_writes_whole_lines(runtime: Runtime, module: int, capfd: pytest.CaptureFixture[str]) -> None:
    runtime.launch(runtime.function(module, "hello"), (1, 1, 1), (c_void_p(0),))
    runtime.gxuStreamSynchronize(None)
    assert capfd.readouterr().out == "hello from the device\n"


@pytest.mark.parametrize(
    "synchronise",
    [
        lambda runtime, stream, event: runtime.gxuStreamSynchronize(stream),
        lambda runtime, stream, event: runtime.gxuDeviceSynchronize(),
        lambda runtime, stream, event: runtime.gxuEventSynchronize(event),
        lambda runtime, stream, event: runtime.download(runtime.memory(4), 4, stream),
    ],
    ids=["stream", "device", "event", "copy"],
)
def test_failed_assertion_is_reported_once_by_the_next_synchronising_call(
    runtime: Runtime, module: int, stream: int, synchronise: Callable[[Runtime, int, int], object]
) -> None:
    out = runtime.upload(bytes(4 * 50))
    event = runtime.event()
    runtime.launch(runtime.function(module, "assert_at"), (50, 1, 1), (c_void_p(out), c_int64(17)), stream)
    runtime.gxuEventRecord(event, stream)
    assert wait_for(lambda: runtime.code("gxuStreamQuery", stream) == abi.SUCCESS), "a query does not report it"
    runtime.gxuSetDevice(1)
    runtime.gxuDeviceSynchronize()  # another device does not report it
    runtime.gxuSetDevice(0)
    with pytest.raises(RuntimeFailure) as failure:
        synchronise(runtime, stream, event)
    assert failure.value.code == abi.LAUNCH_FAILED
    assert failure.value.message == "kernel 'assert_at' failed: index out of bounds: 0 <= tmp4 < 7"
    runtime.gxuStreamSynchronize(stream)
    runtime.gxuDeviceSynchronize()
    runtime.launch(runtime.function(module, "count"), (50, 1, 1), (c_void_p(out),), stream)
    assert ints(runtime.download(out, 200, stream)) == [2] * 50, "the device works on"
    runtime.gxuEventDestroy(event)
    runtime.gxuFree(out)


# --- graphs -----------------------------------------------------------------------------------------------------------


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


def test_interprocess_memory_is_refused_clearly(runtime: Runtime) -> None:
    pointer = runtime.memory(64)
    with pytest.raises(RuntimeFailure, match="cannot share device memory between processes") as failure:
        runtime.gxuIpcGetMemHandle(ctypes.byref(abi.IpcMemHandle()), pointer)
    assert failure.value.code == abi.NOT_SUPPORTED
    runtime.gxuFree(pointer)


# --- threads, forks, exit ---------------------------------------------------------------------------------------------


def test_many_threads_share_the_engine(runtime: Runtime, module: int) -> None:
    count = runtime.function(module, "count")
    shared = runtime.stream()
    problems: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            own, event = runtime.stream(), runtime.event()
            out = runtime.upload(bytes(4 * 33))
            for i in range(60):
                runtime.launch(count, (33, 1, 1), (c_void_p(out),), own)
                runtime.gxuEventRecord(event, own)
                runtime.gxuStreamWaitEvent(shared, event, 0)
                runtime.launch(count, (33, 1, 1), (c_void_p(out),), shared)
                if i % 7 == seed % 7:
                    runtime.gxuStreamSynchronize(shared)
                runtime.gxuEventRecord(event, shared)
                runtime.gxuStreamWaitEvent(own, event, 0)
            assert ints(runtime.download(out, 4 * 33, own)) == [120] * 33
            runtime.gxuEventDestroy(event)
            runtime.gxuFree(out)
            runtime.gxuStreamDestroy(own)
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    assert problems == []
    runtime.gxuStreamDestroy(shared)


SCRIPT = """
import ctypes, os, sys, threading, time
sys.path.insert(0, {tests!r})
import runtime_abi as abi
from pathlib import Path
runtime = abi.Runtime(Path({library!r}))
runtime.gxuInit(0)
"""


def run_script(run_python: Callable, library: Path, body: str) -> str:
    script = SCRIPT.format(tests=str(abi.ROOT / "tests"), library=str(library)) + body
    result = run_python("-c", script, timeout=60)
    assert result.returncode == 0, result.stderr
    return str(result.stdout)


def test_forked_child_gets_one_clear_error(run_python: Callable, library: Path) -> None:
    body = """
stream = runtime.stream()
pid = os.fork()
if pid == 0:
    codes = [runtime.code("gxuInit", 0), runtime.code("gxuSetDevice", 0), runtime.code("gxuStreamSynchronize", stream),
             runtime.code("gxuMalloc", ctypes.byref(ctypes.c_void_p()), 64), runtime.code("gxuDeviceSynchronize")]
    print(codes, runtime.number("gxuGetVersion"), runtime.library.gxuGetErrorName(abi.FORKED).decode())
    print(runtime.message(), flush=True)
    os._exit(0)
_, status = os.waitpid(pid, 0)
runtime.gxuStreamSynchronize(stream)
print("parent", status)
"""
    lines = run_script(run_python, library, body).splitlines()
    assert lines[0] == f"{[abi.FORKED] * 5} 1000 gxuErrorForked"
    assert "forked after gxuInit" in lines[1]
    assert "'spawn'" in lines[1]
    assert lines[2] == "parent 0"


def test_fork_before_init_is_fine(run_python: Callable, library: Path) -> None:
    body = """
other = abi.Runtime(Path({copy!r}))
pid = os.fork()
if pid == 0:
    other.gxuInit(0)
    other.gxuFree(other.memory(64))
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    copy = Path(shutil.copy(library, library.with_name("second.so")))
    assert run_script(run_python, library, body.replace("{copy!r}", repr(str(copy)))).strip() == "7"


def test_exit_with_work_in_flight_is_quick_and_clean(run_python: Callable, library: Path, image: Path) -> None:
    body = f"""
module = runtime.made("gxuModuleLoad", {str(image)!r}.encode())
spin, flag = runtime.function(module, "spin"), runtime.upload(bytes(4))
for stream in (runtime.stream(), runtime.stream(), None):
    for _ in range(200):
        runtime.launch(spin, (1, 1, 1), (ctypes.c_int64(20_000_000), ctypes.c_void_p(flag)), stream)
time.sleep(0.05)  # by now the engine's own threads are at work
print("bye", flush=True)
"""
    start = time.monotonic()
    assert run_script(run_python, library, body) == "bye\n"
    assert time.monotonic() - start < 8, "the 12 seconds of queued work must not hold the exit up"
