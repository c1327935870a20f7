"""Engines of their own for the tests of the C ABI, with two devices of 64 MiB each."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import cuda_engine
import pytest
import runtime_abi as abi
from cuda_engine import CudaRuntime, FakeDriver
from runtime_abi import Runtime


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the engine: the loader takes it for another library, so its state is apart from gxu's own."""
    return Path(shutil.copy(abi.LIBRARY, tmp_path_factory.mktemp("engine") / abi.LIBRARY.name))


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return abi.compile_kernels(abi.ROOT / "tests/cpp/kernels.c", tmp_path_factory.mktemp("image") / "kernels.so")


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
def fake_driver(tmp_path_factory: pytest.TempPathFactory) -> FakeDriver:
    """The stand-in for NVIDIA's driver."""
    return FakeDriver(cuda_engine.build_fake_driver(tmp_path_factory.mktemp("fake_cuda")))


@pytest.fixture(scope="session")
def cuda_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cuda_engine.build_kernels(tmp_path_factory.mktemp("cuda_image"))


@pytest.fixture(scope="session")
def cuda_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the cuda engine, apart from gxu's own."""
    return Path(shutil.copy(cuda_engine.ENGINE, tmp_path_factory.mktemp("cuda_engine") / cuda_engine.ENGINE.name))


@pytest.fixture(scope="session")
def cuda_initialized(cuda_library: Path, fake_driver: FakeDriver) -> CudaRuntime:
    """The cuda engine with two devices of 64 MiB each."""
    return cuda_engine.start(cuda_library, fake_driver.path)


@pytest.fixture
def cuda(cuda_initialized: CudaRuntime, fake_driver: FakeDriver) -> Iterator[CudaRuntime]:
    """The cuda engine, on device 0, without a pending error; every test leaves it with nothing in flight."""
    cuda_initialized.gxuSetDevice(0)
    cuda_initialized.code("gxuGetLastError")
    fake_driver.reset()
    yield cuda_initialized
    fake_driver.reset()
    for device in (1, 0):
        cuda_initialized.gxuSetDevice(device)
        cuda_initialized.gxuDeviceSynchronize()


@pytest.fixture
def cuda_module(cuda: CudaRuntime, cuda_image: Path) -> Iterator[int]:
    handle = cuda.made("gxuModuleLoad", str(cuda_image).encode())
    yield handle
    cuda.gxuModuleUnload(handle)


@pytest.fixture
def cuda_stream(cuda: CudaRuntime) -> Iterator[int]:
    handle = cuda.stream()
    yield handle
    cuda.gxuStreamDestroy(handle)


@pytest.fixture
def cuda_paths(cuda_library: Path, fake_driver: FakeDriver, cuda_image: Path) -> dict[str, Path]:
    """What a child process needs for an engine of its own."""
    return {"library": cuda_library, "driver": fake_driver.path, "image": cuda_image}
