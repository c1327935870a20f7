"""Memory, copies and interprocess memory of the cuda engine."""

from __future__ import annotations

import ctypes
import random
import subprocess
import threading
from collections.abc import Callable
from ctypes import c_size_t, c_void_p
from pathlib import Path

import cuda_engine
import pytest
import runtime_abi as abi
from cuda_engine import CudaRuntime, FakeDriver
from runtime_abi import RuntimeFailure
from runtime_gate import TIMEOUT, Gate


def memory_info(cuda: CudaRuntime) -> tuple[int, int]:
    free, total = c_size_t(), c_size_t()
    cuda.gxuMemGetInfo(ctypes.byref(free), ctypes.byref(total))
    return free.value, total.value


def test_empty_allocation_and_null_free(cuda: CudaRuntime) -> None:
    assert cuda.memory(0) == 0
    assert cuda.made("gxuMallocHost", 0) == 0
    cuda.gxuFree(None)
    cuda.gxuFreeHost(None)


def test_out_of_memory_names_the_numbers_and_the_drivers_error(cuda: CudaRuntime) -> None:
    held = cuda.memory(40 << 20)
    free, total = memory_info(cuda)
    assert total == cuda_engine.DEVICE_MEMORY
    with pytest.raises(RuntimeFailure) as failure:
        cuda.memory((24 << 20) + 1)
    assert failure.value.code == abi.OUT_OF_MEMORY
    assert failure.value.message == (
        f"tried to allocate {(24 << 20) + 1} bytes on device 0: {free} bytes are free, the limit is {total} bytes: "
        "cuMemAlloc_v2: CUDA_ERROR_OUT_OF_MEMORY (out of memory)"
    )
    assert memory_info(cuda)[0] == free
    cuda.gxuSetDevice(1)
    cuda.gxuFree(cuda.memory(40 << 20))
    cuda.gxuFree(held)  # of a device that is not the current one
    cuda.gxuSetDevice(0)
    assert memory_info(cuda) == (free + (40 << 20), total)


def test_pinned_memory(cuda: CudaRuntime, fake_driver: FakeDriver) -> None:
    before = memory_info(cuda)
    pinned = cuda.made("gxuMallocHost", 8 << 20)
    assert memory_info(cuda) == before
    ctypes.memset(pinned, 0x11, 8 << 20)
    with pytest.raises(RuntimeFailure, match="is pinned host memory: free it with gxuFreeHost"):
        cuda.gxuFree(pinned)
    cuda.gxuFreeHost(pinned)
    fake_driver.fail("cuMemHostAlloc", abi.OUT_OF_MEMORY)
    with pytest.raises(RuntimeFailure, match=r"tried to allocate 64 bytes of pinned host memory: .*OUT_OF_MEMORY"):
        cuda.made("gxuMallocHost", 64)


def test_wrong_frees_are_found(cuda: CudaRuntime) -> None:
    pointer = cuda.memory(100)
    with pytest.raises(RuntimeFailure, match=r"lies inside the allocation of 100 bytes") as failure:
        cuda.gxuFree(pointer + 4)
    assert failure.value.code == abi.INVALID_VALUE
    with pytest.raises(RuntimeFailure, match=r"is device memory: free it with gxuFree"):
        cuda.gxuFreeHost(pointer)
    cuda.gxuFree(pointer)
    with pytest.raises(RuntimeFailure, match=r"freed twice"):
        cuda.gxuFree(pointer)


def test_pointer_attributes(cuda: CudaRuntime) -> None:
    attributes = abi.PointerAttributes()

    def look(pointer: int) -> tuple[int, int, int | None, int]:
        cuda.gxuPointerGetAttributes(ctypes.byref(attributes), pointer)
        return attributes.type, attributes.device, attributes.base, attributes.size

    cuda.gxuSetDevice(1)
    pointer, pinned = cuda.memory(1001), cuda.made("gxuMallocHost", 77)
    cuda.gxuSetDevice(0)
    assert look(pointer + 1000) == (abi.DEVICE_MEMORY, 1, pointer, 1001)
    assert look(pointer + 1001)[0] == abi.UNREGISTERED
    assert look(pinned + 5) == (abi.HOST_MEMORY, 1, pinned, 77)
    assert look(ctypes.addressof(attributes)) == (abi.UNREGISTERED, -1, None, 0)
    cuda.gxuFree(pointer)
    cuda.gxuFreeHost(pinned)
    assert look(pointer)[0] == abi.UNREGISTERED


def test_free_waits_for_work_of_every_stream_but_those_that_capture(cuda: CudaRuntime, cuda_stream: int) -> None:
    capturing, pointer, other = cuda.stream(abi.STREAM_DEFAULT), cuda.memory(64), cuda.memory(64)
    cuda.gxuStreamBeginCapture(capturing)
    gate = Gate(cuda, cuda_stream)
    freed = threading.Event()
    thread = threading.Thread(target=lambda: (cuda.gxuFree(pointer), freed.set()))
    thread.start()
    assert gate.reached.wait(TIMEOUT)
    assert not freed.wait(0.05)
    gate.open()
    assert freed.wait(TIMEOUT)
    thread.join()
    cuda.gxuMemsetAsync(other, 0, 64, capturing)
    cuda.gxuGraphDestroy(cuda.made("gxuStreamEndCapture", capturing, first=False))  # the capture is intact
    cuda.gxuStreamDestroy(capturing)
    cuda.gxuFree(other)


@pytest.mark.parametrize("size", [1, 1000, (1 << 20) + 13])
def test_copies_in_every_direction(cuda: CudaRuntime, cuda_stream: int, size: int) -> None:
    data = random.Random(size).randbytes(size)
    source = cuda.upload(data)
    target = cuda.memory(size)
    cuda.gxuMemsetAsync(target, 0x1EE, size, cuda_stream)  # the low byte counts
    assert cuda.download(target, size, cuda_stream) == b"\xee" * size
    cuda.gxuMemcpyAsync(target, source, size, abi.DEVICE_TO_DEVICE, cuda_stream)
    assert cuda.download(target, size, cuda_stream) == data
    pinned = cuda.made("gxuMallocHost", size)
    cuda.gxuMemcpyAsync(pinned, target, size, abi.DEFAULT_KIND, cuda_stream)
    cuda.gxuStreamSynchronize(cuda_stream)
    assert ctypes.string_at(pinned, size) == data
    pageable = ctypes.create_string_buffer(size)
    cuda.gxuMemcpyAsync(pageable, pinned, size, abi.HOST_TO_HOST, cuda_stream)
    assert pageable.raw == data
    cuda.gxuSetDevice(1)
    peer = cuda.memory(size)
    cuda.gxuMemcpyAsync(peer, source, size, abi.DEVICE_TO_DEVICE, None)
    assert cuda.download(peer, size) == data
    for pointer in (source, target, peer):
        cuda.gxuFree(pointer)
    cuda.gxuFreeHost(pinned)


def test_pinned_copies_are_queued_and_pageable_copies_are_done_on_return(cuda: CudaRuntime, cuda_stream: int) -> None:
    device = cuda.upload(b"old!")
    pinned = cuda.made("gxuMallocHost", 4)
    ctypes.memmove(pinned, b"new1", 4)
    gate = Gate(cuda, cuda_stream)
    cuda.gxuMemcpyAsync(device, pinned, 4, abi.HOST_TO_DEVICE, cuda_stream)
    assert cuda.code("gxuStreamQuery", cuda_stream) == abi.NOT_READY
    gate.open()
    assert cuda.download(device, 4, cuda_stream) == b"new1"
    cuda.gxuFree(device)
    cuda.gxuFreeHost(pinned)


def test_memory_that_others_have_from_the_driver_can_be_copied(cuda: CudaRuntime, fake_driver: FakeDriver) -> None:
    """PyTorch's own cuda tensors, for one: not pageable, though this runtime did not allocate them."""
    foreign, context = c_void_p(), c_void_p()
    fake_driver.library.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0)
    fake_driver.library.cuCtxSetCurrent(context)
    assert fake_driver.library.cuMemAlloc_v2(ctypes.byref(foreign), c_size_t(8)) == 0
    own, waits = cuda.upload(b"abcdefgh"), fake_driver.calls("cuStreamSynchronize")
    cuda.gxuMemcpyAsync(foreign, own, 8, abi.DEVICE_TO_DEVICE, None)
    cuda.gxuMemsetAsync(foreign, ord("-"), 3, None)
    assert fake_driver.calls("cuStreamSynchronize") == waits
    assert cuda.download(foreign.value or 0, 8) == b"---defgh"
    assert cuda.code("gxuFree", foreign) == abi.INVALID_VALUE
    fake_driver.library.cuMemFree_v2(foreign)
    cuda.gxuFree(own)


def test_copies_out_of_bounds_or_in_the_wrong_direction_are_refused(cuda: CudaRuntime) -> None:
    device = cuda.memory(100)
    host = ctypes.create_string_buffer(200)
    with pytest.raises(RuntimeFailure, match=r"dst: 101 bytes at offset 0 leave the allocation of 100 bytes"):
        cuda.gxuMemcpyAsync(device, host, 101, abi.HOST_TO_DEVICE, None)
    with pytest.raises(RuntimeFailure, match=r"dst: .* is not in live device memory"):
        cuda.gxuMemcpyAsync(host, device, 4, abi.HOST_TO_DEVICE, None)
    with pytest.raises(RuntimeFailure, match=r"leave the allocation"):
        cuda.gxuMemsetAsync(device + 50, 0, 51, None)
    with pytest.raises(RuntimeFailure, match=r"in no live device or pinned allocation"):
        cuda.gxuMemsetAsync(host, 0, 4, None)
    assert cuda.code("gxuMemcpyAsync", device, host, 4, 9, None) == abi.INVALID_VALUE
    assert cuda.code("gxuMemcpyAsync", None, host, 4, abi.DEFAULT_KIND, None) == abi.INVALID_VALUE
    cuda.gxuMemcpyAsync(None, None, 0, abi.DEFAULT_KIND, None)
    cuda.gxuFree(device)


def test_memory_of_another_process(
    run_python: Callable[..., subprocess.CompletedProcess[str]], cuda_paths: dict[str, Path]
) -> None:
    body = f"""
import subprocess
handle, pointer = abi.IpcMemHandle(), runtime.upload(b"hello from the owner")
runtime.gxuIpcGetMemHandle(byref(handle), pointer)
print(runtime.code("gxuIpcOpenMemHandle", byref(c_void_p()), handle), runtime.message())
child = {cuda_engine.script(cuda_paths)!r} + '''
handle = abi.IpcMemHandle.from_buffer_copy(bytes.fromhex(sys.argv[1]))
opened = runtime.made("gxuIpcOpenMemHandle", handle)
attributes = abi.PointerAttributes()
runtime.gxuPointerGetAttributes(byref(attributes), opened + 5)
print(runtime.download(opened, 20).decode(), attributes.type, attributes.base == opened, attributes.size)
runtime.gxuMemsetAsync(opened, ord("x"), 5, None)
print(runtime.code("gxuFree", opened), runtime.message())
runtime.gxuIpcCloseMemHandle(opened)
print(runtime.code("gxuIpcCloseMemHandle", opened))
'''
print(subprocess.run([sys.executable, "-c", child, bytes(handle).hex()], check=True, text=True,
                     stdout=subprocess.PIPE).stdout, end="")
print(runtime.download(pointer, 20).decode())
print(runtime.code("gxuIpcGetMemHandle", byref(handle), pointer + 1), runtime.code("gxuIpcCloseMemHandle", pointer))
"""
    lines = cuda_engine.run_script(run_python, cuda_paths, body).splitlines()
    assert lines[0].startswith("1 gxuIpcOpenMemHandle: cuIpcOpenMemHandle_v2: CUDA_ERROR_INVALID_CONTEXT")
    assert lines[1] == "hello from the owner 2 True 20"
    assert lines[2].startswith("1 gxuFree: ")
    assert lines[2].endswith("of another process: free it with gxuIpcCloseMemHandle")
    assert lines[3:] == ["1", "xxxxx from the owner", "1 1"]
