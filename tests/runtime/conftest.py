"""An engine of its own for the tests of the C ABI, with two devices of 64 MiB each."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import runtime_abi as abi
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
