"""Memory and copies of the host engine."""

from __future__ import annotations

import ctypes
import threading
from ctypes import c_size_t, c_void_p

import pytest
import runtime_abi as abi
from runtime_abi import Runtime, RuntimeFailure
from runtime_gate import TIMEOUT, Gate

MEMORY_LIMIT = 64 << 20  # bytes, as the fixture sets it


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
