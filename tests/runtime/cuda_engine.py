"""The cuda engine on the stand-in driver of tests/runtime/fake_cuda: building it, and what it has beside the ABI."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from ctypes import c_char, c_char_p, c_int, c_int32, c_uint32, c_uint64, c_void_p
from pathlib import Path

import runtime_abi as abi
from runtime_abi import Runtime

ENGINE = abi.ROOT / "gxu/lib/libgxu_runtime_cuda.so"
FAKE_CUDA = abi.ROOT / "tests/runtime/fake_cuda"
DEVICE_MEMORY = 64 << 20  # bytes of each device of the stand-in

ILLEGAL_ADDRESS = 700  # a CUresult that stays with the process
MAX_PARAMS = 32


class Launch(ctypes.Structure):
    """FakeCudaLaunch of control.h."""

    _fields_ = (
        ("name", c_char * 128),
        ("grid", c_uint32 * 3),
        ("block", c_uint32 * 3),
        ("shared_memory_bytes", c_uint32),
        ("cluster_width", c_uint32),
        ("cooperative", c_uint32),
        ("programmatic_serialization", c_uint32),
        ("device", c_int32),
        ("num_params", c_uint32),
        ("param_sizes", c_uint32 * MAX_PARAMS),
        ("params", c_uint64 * MAX_PARAMS),
        ("fail", c_void_p),
    )


class FakeDriver:
    """The stand-in's controls."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.library = ctypes.CDLL(str(path))
        self.library.fakeCudaFail.argtypes = (c_char_p, c_int, c_int, c_int)
        self.library.fakeCudaCalls.argtypes = (c_char_p,)
        self.library.fakeCudaDelayEvents.argtypes = (c_int,)

    def fail(self, function: str, result: int, skip: int = 0, count: int = 1) -> None:
        self.library.fakeCudaFail(function.encode(), result, skip, count)

    def calls(self, function: str) -> int:
        return int(self.library.fakeCudaCalls(function.encode()))

    def delay_events(self, microseconds: int) -> None:
        self.library.fakeCudaDelayEvents(microseconds)

    def reset(self) -> None:
        self.library.fakeCudaReset()

    def launches(self) -> list[Launch]:
        """What has run since reset()."""
        found = [Launch() for _ in range(self.library.fakeCudaLaunchCount())]
        for index, launch in enumerate(found):
            assert self.library.fakeCudaGetLaunch(index, ctypes.byref(launch))
        return found


class CudaRuntime(Runtime):
    """The ABI with the optional functions of this engine."""

    def __init__(self, library: Path) -> None:
        super().__init__(library)
        self.library.gxuStreamGetNative.argtypes = (abi.OUT, c_void_p)
        self.library.gxuFuncGetAttribute.argtypes = (ctypes.POINTER(c_int), c_int, c_void_p)


def compile_objects(sources: Sequence[Path], folder: Path, flags: Sequence[str]) -> list[str]:
    """Objects of C++ sources, compiled on all cores; the folder tells those of one name apart."""
    compiler = os.environ.get("CXX") or shutil.which("g++") or "c++"

    def compile_one(source: Path) -> str:
        target = folder / f"{source.parent.name}_{source.stem}.o"
        warnings = ("-Wall", "-Wextra", "-Wno-missing-field-initializers")
        command = [compiler, "-std=c++20", *warnings, "-pthread", "-fPIC", "-fvisibility=hidden", *flags]
        subprocess.run([*command, f"-I{abi.HEADER.parent}", "-c", str(source), "-o", str(target)], check=True)
        return str(target)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(compile_one, sources))


def link(objects: Sequence[str], output: Path, flags: Sequence[str]) -> Path:
    compiler = os.environ.get("CXX") or shutil.which("g++") or "c++"
    subprocess.run([compiler, "-pthread", *objects, *flags, "-ldl", "-o", str(output)], check=True)
    return output


def build_fake_driver(folder: Path, flags: Sequence[str] = ()) -> Path:
    """The stand-in, as libcuda.so.1 in `folder`."""
    objects = compile_objects(sorted(FAKE_CUDA.glob("*.cpp")), folder, flags)
    return link(objects, folder / "libcuda.so.1", ["-shared", "-Wl,-soname,libcuda.so.1", *flags])


def build_kernels(folder: Path) -> Path:
    """The image of fake_cuda/kernels.c."""
    compiler = shutil.which("cc") or shutil.which("gcc") or "cc"
    output = folder / "kernels.so"
    command = [compiler, "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared"]
    subprocess.run([*command, str(FAKE_CUDA / "kernels.c"), "-o", str(output)], check=True)
    return output


def start(library: Path, driver: Path, **environment: str) -> CudaRuntime:
    """A copy of the engine, started on the stand-in with two devices."""
    runtime = CudaRuntime(library)
    with variables(GXU_CUDA_DRIVER=str(driver), **environment):
        runtime.gxuInit(0)
    return runtime


@contextmanager
def variables(**environment: str) -> Iterator[None]:
    saved = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        yield
    finally:
        for name, value in saved.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


#: A child process: `runtime` is the engine on the stand-in, `driver` the stand-in.
SCRIPT = """
import ctypes, os, sys, threading, time
sys.path.insert(0, {tests!r})
import cuda_engine, runtime_abi as abi
from ctypes import byref, c_int, c_int32, c_int64, c_size_t, c_void_p
from pathlib import Path
driver = cuda_engine.FakeDriver(Path({driver!r}))
runtime = cuda_engine.start(Path({library!r}), driver.path)
module = runtime.made("gxuModuleLoad", {image!r}.encode())
"""


def script(paths: dict[str, Path]) -> str:
    return SCRIPT.format(tests=str(abi.ROOT / "tests/runtime"), **{name: str(path) for name, path in paths.items()})


def run_script(run_python: Callable[..., subprocess.CompletedProcess[str]], paths: dict[str, Path], body: str) -> str:
    """Output of `body` in a process of its own."""
    result = run_python("-c", script(paths) + body, timeout=60)
    assert result.returncode == 0, result.stderr
    return str(result.stdout)
