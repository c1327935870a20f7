"""Modules, kernels and their attributes on the cuda engine."""

from __future__ import annotations

import ctypes
import random
import struct
from ctypes import c_double, c_float, c_int8, c_int16, c_void_p
from pathlib import Path

import pytest
import runtime_abi as abi
from cuda_engine import CudaRuntime, FakeDriver
from runtime_abi import RuntimeFailure
from runtime_gate import Gate, ints

MAX_THREADS, SHARED_SIZE, LOCAL_SIZE, NUM_REGS, DYNAMIC_SHARED = 0, 1, 3, 4, 8
CLUSTER_WIDTH, COOPERATIVE, PROGRAMMATIC = 11, 14, 15


def test_parameters_of_every_size(cuda: CudaRuntime, cuda_module: int, cuda_stream: int) -> None:
    numbers = [random.Random(7).uniform(-9, 9) for _ in range(37)]
    x, out = cuda.upload(struct.pack("37d", *numbers)), cuda.memory(37 * 8)
    kernel = cuda.function(cuda_module, "mixed")
    arguments = (c_void_p(out), c_void_p(x), c_int8(-3), c_int16(300), c_float(0.5), c_double(-2.25))
    cuda.launch(kernel, (37, 1, 1), arguments, cuda_stream)
    for argument in arguments:
        argument.value = 0  # they were copied
    found = struct.unpack("37d", cuda.download(out, 37 * 8, cuda_stream))
    assert found == pytest.approx([297.5 * number - 2.25 for number in numbers])
    cuda.gxuFree(x)
    cuda.gxuFree(out)


def test_launches_reach_the_driver_as_they_are(
    cuda: CudaRuntime, fake_driver: FakeDriver, cuda_module: int, cuda_stream: int
) -> None:
    nothing = cuda.function(cuda_module, "nothing")
    assert cuda.function(cuda_module, "nothing") == nothing
    cuda.gxuLaunchKernel(nothing, 5, 6, 7, 32, 4, 2, 1024, cuda_stream, None)
    cuda.gxuStreamSynchronize(cuda_stream)
    (launch,) = fake_driver.launches()
    assert (launch.name, launch.shared_memory_bytes, launch.cluster_width) == (b"nothing", 1024, 1)
    assert (list(launch.grid), list(launch.block)) == ([5, 6, 7], [32, 4, 2])
    assert (launch.cooperative, launch.programmatic_serialization, launch.device) == (0, 0, 0)
    assert fake_driver.calls("cuLaunchKernel") >= 1


def test_dynamic_shared_memory_above_48_kib(
    cuda: CudaRuntime, fake_driver: FakeDriver, cuda_module: int, cuda_stream: int
) -> None:
    kernel = cuda.function(cuda_module, "nothing")

    def launch(size: int) -> int:
        return cuda.code("gxuLaunchKernel", kernel, 1, 1, 1, 128, 1, 1, size, cuda_stream, None)

    assert launch(48 << 10) == abi.SUCCESS
    assert launch((48 << 10) + 1) == abi.INVALID_VALUE
    assert "above 48 KiB set gxuFuncAttributeMaxDynamicSharedMemorySize first" in cuda.message()
    cuda.gxuFuncSetAttribute(kernel, DYNAMIC_SHARED, 200_000)
    assert fake_driver.calls("cuFuncSetCacheConfig") >= 1
    assert launch(200_000) == abi.SUCCESS
    assert launch(200_001) == abi.INVALID_VALUE
    for wrong in (-1, 232449):
        with pytest.raises(RuntimeFailure, match="a block has 232448, of which the kernel takes 0 by itself"):
            cuda.gxuFuncSetAttribute(kernel, DYNAMIC_SHARED, wrong)
    cuda.gxuStreamSynchronize(cuda_stream)
    assert [launch.shared_memory_bytes for launch in fake_driver.launches()] == [48 << 10, 200_000]


def test_attributes_hold_on_every_device(cuda: CudaRuntime, fake_driver: FakeDriver, cuda_module: int) -> None:
    """Set before the second device has the kernel, and again when it has it."""
    kernel = cuda.function(cuda_module, "nothing")
    for size in (100_000, 150_000):
        cuda.gxuSetDevice(0)
        cuda.gxuFuncSetAttribute(kernel, DYNAMIC_SHARED, size)
        cuda.gxuSetDevice(1)
        cuda.gxuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, size, None, None)
        cuda.gxuDeviceSynchronize()
    assert [(launch.device, launch.shared_memory_bytes) for launch in fake_driver.launches()] == [
        (1, 100_000),
        (1, 150_000),
    ]


def test_clusters_and_cooperative_launches(
    cuda: CudaRuntime, fake_driver: FakeDriver, cuda_module: int, cuda_stream: int
) -> None:
    kernel = cuda.function(cuda_module, "nothing")

    def launch(grid: int) -> int:
        return cuda.code("gxuLaunchKernel", kernel, grid, 1, 1, 128, 1, 1, 64, cuda_stream, None)

    cuda.gxuFuncSetAttribute(kernel, CLUSTER_WIDTH, 4)
    assert launch(12) == abi.SUCCESS
    assert launch(13) == abi.INVALID_VALUE
    cuda.gxuFuncSetAttribute(kernel, CLUSTER_WIDTH, 16)  # more than every device allows without being asked
    assert launch(32) == abi.SUCCESS
    cuda.gxuFuncSetAttribute(kernel, COOPERATIVE, 1)
    cuda.gxuFuncSetAttribute(kernel, PROGRAMMATIC, 1)
    assert launch(16) == abi.SUCCESS
    for attribute, plain in ((CLUSTER_WIDTH, 1), (COOPERATIVE, 0), (PROGRAMMATIC, 0)):
        cuda.gxuFuncSetAttribute(kernel, attribute, plain)
    before = fake_driver.calls("cuLaunchKernelEx")
    assert launch(3) == abi.SUCCESS
    assert fake_driver.calls("cuLaunchKernelEx") == before
    cuda.gxuStreamSynchronize(cuda_stream)
    seen = [
        (launch.grid[0], launch.cluster_width, launch.cooperative, launch.programmatic_serialization)
        for launch in fake_driver.launches()
    ]
    assert seen == [(12, 4, 0, 0), (32, 16, 0, 0), (16, 16, 1, 1), (3, 1, 0, 0)]


@pytest.mark.parametrize(
    ("attribute", "value"), [(CLUSTER_WIDTH, 0), (COOPERATIVE, 2), (PROGRAMMATIC, -1), (12, 1), (0, 1)]
)
def test_wrong_attributes(cuda: CudaRuntime, cuda_module: int, attribute: int, value: int) -> None:
    kernel = cuda.function(cuda_module, "nothing")
    assert cuda.code("gxuFuncSetAttribute", kernel, attribute, value) == abi.INVALID_VALUE


def test_attributes_that_the_compiler_has_set(cuda: CudaRuntime, cuda_module: int) -> None:
    kernel = cuda.function(cuda_module, "nothing")
    wanted = {MAX_THREADS: 1024, SHARED_SIZE: 0, LOCAL_SIZE: 0, NUM_REGS: 40, DYNAMIC_SHARED: 48 << 10}
    assert {name: cuda.number("gxuFuncGetAttribute", name, kernel) for name in wanted} == wanted
    assert cuda.code("gxuFuncGetAttribute", ctypes.byref(ctypes.c_int()), 12, kernel) == abi.INVALID_VALUE


def test_wrong_launches(cuda: CudaRuntime, cuda_module: int, cuda_stream: int) -> None:
    count = cuda.function(cuda_module, "count")
    good = abi.parameters((c_void_p(cuda.upload(bytes(4))),))

    def launch(grid: tuple[int, ...], block: tuple[int, ...], params: object, stream: int | None = cuda_stream) -> None:
        cuda.gxuLaunchKernel(count, *grid, *block, 0, stream, params)

    with pytest.raises(RuntimeFailure, match=r"kernel 'count': the grid \(1, 0, 1\) has a zero dimension"):
        launch((1, 0, 1), (32, 1, 1), good)
    with pytest.raises(RuntimeFailure, match=r"the block \(32, 33, 1\) must have 1 to 1024 threads"):
        launch((1, 1, 1), (32, 33, 1), good)
    with pytest.raises(RuntimeFailure, match="has 1 parameters but kernel_params is NULL"):
        launch((1, 1, 1), (32, 1, 1), None)
    with pytest.raises(RuntimeFailure, match=r"kernel_params\[0\] of 1 is NULL"):
        launch((1, 1, 1), (32, 1, 1), (c_void_p * 1)())
    cuda.gxuSetDevice(1)
    with pytest.raises(RuntimeFailure, match="stream belongs to device 0 but the current device is 1") as failure:
        launch((1, 1, 1), (32, 1, 1), good)
    assert failure.value.code == abi.INVALID_HANDLE


def test_kernel_runs_on_the_device_of_its_stream(cuda: CudaRuntime, fake_driver: FakeDriver, cuda_module: int) -> None:
    count = cuda.function(cuda_module, "count")
    cuda.gxuSetDevice(1)
    out, stream = cuda.upload(bytes(12)), cuda.stream()
    cuda.launch(count, (3, 1, 1), (c_void_p(out),), stream)
    assert ints(cuda.download(out, 12, stream)) == [1, 1, 1]
    assert [launch.device for launch in fake_driver.launches()] == [1]
    cuda.gxuStreamDestroy(stream)
    cuda.gxuFree(out)


def test_images_from_memory_and_from_a_file_that_goes_away(cuda: CudaRuntime, cuda_image: Path, tmp_path: Path) -> None:
    data = cuda_image.read_bytes()
    first = cuda.made("gxuModuleLoadData", data, len(data))
    copy = tmp_path / "copy.so"
    copy.write_bytes(data)
    second = cuda.made("gxuModuleLoad", str(copy).encode())
    copy.unlink()
    assert first != second
    for module in (first, second):
        assert cuda.function(module, "nothing")
        cuda.gxuModuleUnload(module)
        assert cuda.code("gxuModuleUnload", module) == abi.INVALID_HANDLE


def test_damaged_and_missing_images(cuda: CudaRuntime, cuda_image: Path, cuda_module: int, tmp_path: Path) -> None:
    with pytest.raises(RuntimeFailure, match=r"absent\.cubin: No such file") as failure:
        cuda.made("gxuModuleLoad", str(tmp_path / "absent.cubin").encode())
    assert failure.value.code == abi.FILE_NOT_FOUND
    data = cuda_image.read_bytes()
    fat = struct.pack("<IHHQ", 0xBA55ED50, 1, 16, 1000)
    for image, message in (
        (data[: len(data) // 2], f"is a cubin that ends too early, after {len(data) // 2} bytes"),
        (data[:10], "is a cubin that ends too early, after 10 bytes"),
        (fat + b"x" * 999, "is a fat binary that ends too early"),
        (b"no kernel at all", "the image in memory is neither a cubin nor a fat binary nor PTX"),
        (b"", "is neither a cubin nor"),
        (fat + b"x" * 1000, "cuModuleLoadData: CUDA_ERROR_INVALID_IMAGE"),
    ):
        with pytest.raises(RuntimeFailure, match=message) as failure:
            cuda.made("gxuModuleLoadData", image, len(image))
        assert failure.value.code == abi.INVALID_IMAGE
    with pytest.raises(RuntimeFailure, match=r"CUDA_ERROR_NOT_FOUND \(named symbol not found\): .* has no kernel 'x'"):
        cuda.function(cuda_module, "x")


def test_handles_of_an_unloaded_module(cuda: CudaRuntime, cuda_image: Path, cuda_stream: int) -> None:
    module = cuda.made("gxuModuleLoad", str(cuda_image).encode())
    nothing = cuda.function(module, "nothing")
    gate = Gate(cuda, cuda_stream)
    cuda.gxuLaunchKernel(nothing, 1, 1, 1, 1, 1, 1, 0, cuda_stream, None)
    gate.open()
    cuda.gxuModuleUnload(module)  # waits for the launch
    assert cuda.code("gxuStreamQuery", cuda_stream) == abi.SUCCESS
    assert cuda.code("gxuLaunchKernel", nothing, 1, 1, 1, 1, 1, 1, 0, cuda_stream, None) == abi.INVALID_HANDLE
    assert cuda.code("gxuModuleGetFunction", ctypes.byref(c_void_p()), module, b"nothing") == abi.INVALID_HANDLE
