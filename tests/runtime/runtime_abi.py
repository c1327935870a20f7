"""gxu_runtime.h through ctypes, for tests that call the runtime without PyTorch in between."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable, Sequence
from ctypes import (
    POINTER,
    c_char,
    c_char_p,
    c_float,
    c_int,
    c_size_t,
    c_uint,
    c_uint32,
    c_uint64,
    c_ulonglong,
    c_void_p,
)
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEADER = ROOT / "csrc/runtime/gxu_runtime.h"
KERNEL_INCLUDE = ROOT / "csrc/runtime/host"
LIBRARY = ROOT / "gxu/lib/libgxu_runtime_host.so"

SUCCESS = 0
INVALID_VALUE = 1
OUT_OF_MEMORY = 2
NOT_INITIALIZED = 3
INVALID_DEVICE = 101
INVALID_IMAGE = 200
FILE_NOT_FOUND = 301
INIT_FAILED = 303
INVALID_HANDLE = 400
NOT_FOUND = 500
NOT_READY = 600
LAUNCH_FAILED = 719
FORKED = 720
NOT_PERMITTED = 800
NOT_SUPPORTED = 801
CAPTURE_UNSUPPORTED = 900
CAPTURE_INVALIDATED = 901
CAPTURE_UNMATCHED = 903

HOST_TO_HOST, HOST_TO_DEVICE, DEVICE_TO_HOST, DEVICE_TO_DEVICE, DEFAULT_KIND = range(5)
UNREGISTERED, HOST_MEMORY, DEVICE_MEMORY = range(3)
STREAM_DEFAULT, STREAM_NON_BLOCKING = 0, 1
EVENT_DEFAULT, EVENT_BLOCKING_SYNC, EVENT_DISABLE_TIMING, EVENT_INTERPROCESS = 0, 1, 2, 4
CAPTURE_NONE, CAPTURE_ACTIVE, CAPTURE_INVALID = range(3)

HostFunction = ctypes.CFUNCTYPE(None, c_void_p)


class DeviceProperties(ctypes.Structure):
    _fields_ = (
        ("struct_size", c_uint32),
        ("name", c_char * 128),
        ("uuid", c_char * 40),
        ("triton_backend", c_char * 32),
        ("triton_arch", c_char * 32),
        ("delegate", c_char * 16),
        ("major", c_int),
        ("minor", c_int),
        ("total_memory", c_uint64),
        ("multi_processor_count", c_int),
        ("warp_size", c_int),
        ("max_threads_per_block", c_int),
        ("max_threads_per_multi_processor", c_int),
        ("regs_per_multiprocessor", c_int),
        ("shared_memory_per_block", c_uint64),
        ("shared_memory_per_multiprocessor", c_uint64),
        ("L2_cache_size", c_uint64),
        ("L1_cache_size", c_uint64),
        ("max_grid_size", c_int),
        ("preferred_num_warps", c_int),
        ("vector_bytes", c_int),
        ("host_accessible", c_int),
        ("concurrent_kernels", c_int),
        ("clock_rate_khz", c_int),
    )


class PointerAttributes(ctypes.Structure):
    _fields_ = (("type", c_int), ("device", c_int), ("base", c_void_p), ("size", c_size_t))


class IpcMemHandle(ctypes.Structure):
    _fields_ = (("reserved", c_char * 64),)


OUT = POINTER(c_void_p)
PROTOTYPES: dict[str, tuple[object, ...]] = {
    "gxuGetVersion": (POINTER(c_int),),
    "gxuInit": (c_uint,),
    "gxuGetErrorName": (c_int,),
    "gxuGetErrorString": (c_int,),
    "gxuGetLastError": (),
    "gxuPeekAtLastError": (),
    "gxuGetLastErrorMessage": (),
    "gxuGetDeviceCount": (POINTER(c_int),),
    "gxuGetDevice": (POINTER(c_int),),
    "gxuSetDevice": (c_int,),
    "gxuGetDeviceProperties": (POINTER(DeviceProperties), c_int),
    "gxuDeviceSynchronize": (),
    "gxuDeviceCanAccessPeer": (POINTER(c_int), c_int, c_int),
    "gxuMalloc": (OUT, c_size_t),
    "gxuFree": (c_void_p,),
    "gxuMallocHost": (OUT, c_size_t),
    "gxuFreeHost": (c_void_p,),
    "gxuMemGetInfo": (POINTER(c_size_t), POINTER(c_size_t)),
    "gxuPointerGetAttributes": (POINTER(PointerAttributes), c_void_p),
    "gxuMemcpyAsync": (c_void_p, c_void_p, c_size_t, c_int, c_void_p),
    "gxuMemsetAsync": (c_void_p, c_int, c_size_t, c_void_p),
    "gxuStreamCreate": (OUT, c_uint, c_int),
    "gxuStreamDestroy": (c_void_p,),
    "gxuStreamSynchronize": (c_void_p,),
    "gxuStreamQuery": (c_void_p,),
    "gxuStreamWaitEvent": (c_void_p, c_void_p, c_uint),
    "gxuStreamGetPriorityRange": (POINTER(c_int), POINTER(c_int)),
    "gxuLaunchHostFunc": (c_void_p, HostFunction, c_void_p),
    "gxuEventCreate": (OUT, c_uint),
    "gxuEventDestroy": (c_void_p,),
    "gxuEventRecord": (c_void_p, c_void_p),
    "gxuEventQuery": (c_void_p,),
    "gxuEventSynchronize": (c_void_p,),
    "gxuEventElapsedTime": (POINTER(c_float), c_void_p, c_void_p),
    "gxuModuleLoad": (OUT, c_char_p),
    "gxuModuleLoadData": (OUT, c_char_p, c_size_t),
    "gxuModuleUnload": (c_void_p,),
    "gxuModuleGetFunction": (OUT, c_void_p, c_char_p),
    "gxuFuncSetAttribute": (c_void_p, c_int, c_int),
    "gxuLaunchKernel": (c_void_p, *(c_uint,) * 7, c_void_p, POINTER(c_void_p)),
    "gxuStreamBeginCapture": (c_void_p,),
    "gxuStreamEndCapture": (c_void_p, OUT),
    "gxuStreamIsCapturing": (c_void_p, POINTER(c_int)),
    "gxuStreamGetCaptureInfo": (c_void_p, POINTER(c_int), POINTER(c_ulonglong)),
    "gxuGraphInstantiate": (OUT, c_void_p),
    "gxuGraphLaunch": (c_void_p, c_void_p),
    "gxuGraphExecDestroy": (c_void_p,),
    "gxuGraphDestroy": (c_void_p,),
    "gxuIpcGetMemHandle": (POINTER(IpcMemHandle), c_void_p),
    "gxuIpcOpenMemHandle": (OUT, IpcMemHandle),
    "gxuIpcCloseMemHandle": (c_void_p,),
}


class RuntimeFailure(Exception):
    """A call that returned an error: `code`, and the thread's message as text."""

    def __init__(self, call: str, code: int, message: str) -> None:
        super().__init__(f"{call}: {code}: {message}")
        self.code = code
        self.message = message


class Runtime:
    """The functions of one runtime library. `runtime.gxuFree(p)` raises RuntimeFailure on any error;
    `runtime.code("gxuFree", p)` returns the error code; handles and pointers are plain integers."""

    def __init__(self, library: Path) -> None:
        self.library = ctypes.CDLL(str(library))
        for name, arguments in PROTOTYPES.items():
            function = getattr(self.library, name)
            function.argtypes = arguments
            is_text = name in ("gxuGetErrorName", "gxuGetErrorString", "gxuGetLastErrorMessage")
            function.restype = c_char_p if is_text else c_int

    def __getattr__(self, name: str) -> Callable[..., None]:
        def call(*arguments: object) -> None:
            code = self.code(name, *arguments)
            if code != SUCCESS:
                raise RuntimeFailure(name, code, self.message())

        return call

    def code(self, name: str, *arguments: object) -> int:
        return int(getattr(self.library, name)(*arguments))

    def message(self) -> str:
        return str(self.library.gxuGetLastErrorMessage().decode())

    def made(self, name: str, *arguments: object, first: bool = True) -> int:
        """Calls a function whose first (or last) argument receives a handle or pointer, and returns that."""
        result = c_void_p()
        getattr(self, name)(*((ctypes.byref(result), *arguments) if first else (*arguments, ctypes.byref(result))))
        return result.value or 0

    def number(self, name: str, *arguments: object, kind: type = c_int) -> int | float:
        """Calls a function whose first argument receives a number, and returns that."""
        result = kind()
        getattr(self, name)(ctypes.byref(result), *arguments)
        return result.value

    def memory(self, size: int) -> int:
        return self.made("gxuMalloc", size)

    def stream(self, flags: int = STREAM_NON_BLOCKING, priority: int = 0) -> int:
        return self.made("gxuStreamCreate", flags, priority)

    def event(self, flags: int = EVENT_DISABLE_TIMING) -> int:
        return self.made("gxuEventCreate", flags)

    def function(self, module: int, name: str) -> int:
        return self.made("gxuModuleGetFunction", module, name.encode())

    def upload(self, data: bytes) -> int:
        """New device memory that holds `data`."""
        pointer = self.memory(len(data))
        self.gxuMemcpyAsync(pointer, data, len(data), HOST_TO_DEVICE, None)
        return pointer

    def download(self, pointer: int, size: int, stream: int | None = None) -> bytes:
        """Contents of device memory after all work of `stream`."""
        data = ctypes.create_string_buffer(b"\xa5" * size, size)
        self.gxuMemcpyAsync(data, pointer, size, DEVICE_TO_HOST, stream)
        return data.raw

    def launch(
        self,
        function: int,
        grid: Sequence[int],
        arguments: Sequence[ctypes._SimpleCData],
        stream: int | None = None,
        block: Sequence[int] = (32, 1, 1),
    ) -> None:
        self.gxuLaunchKernel(function, *grid, *block, 0, stream, parameters(arguments))


def parameters(arguments: Sequence[ctypes._SimpleCData]) -> ctypes.Array:
    """The kernel_params array: one address an argument."""
    return (c_void_p * len(arguments))(*(ctypes.addressof(argument) for argument in arguments))


def compile_kernels(source: Path, output: Path) -> Path:
    """Builds a kernel image from C."""
    compiler = shutil.which("cc") or shutil.which("gcc") or "cc"
    command = [compiler, "-std=c99", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared"]
    subprocess.run([*command, f"-I{KERNEL_INCLUDE}", str(source), "-lm", "-o", str(output)], check=True)
    return output
