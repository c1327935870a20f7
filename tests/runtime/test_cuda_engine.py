"""Start, errors, devices and driver of the cuda engine."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Callable
from ctypes import c_int
from pathlib import Path

import cuda_engine
import pytest
import runtime_abi as abi
from cuda_engine import CudaRuntime, FakeDriver
from runtime_abi import RuntimeFailure


def test_library_exports_the_header_and_nothing_of_its_own(cuda_library: Path) -> None:
    loaded = ctypes.CDLL(str(cuda_library))
    for name in (*abi.PROTOTYPES, "gxuStreamGetNative", "gxuFuncGetAttribute"):
        assert hasattr(loaded, name), name
    listing = subprocess.run(["nm", "-D", "--defined-only", cuda_library], check=True, capture_output=True, text=True)
    exported = {line.split()[-1] for line in listing.stdout.splitlines() if " T " in line}
    assert {name for name in exported if not name.startswith(("gxu", "_init", "_fini"))} == set()


def test_library_needs_neither_cuda_nor_torch(cuda_library: Path) -> None:
    listing = subprocess.run(["readelf", "-d", cuda_library], check=True, capture_output=True, text=True)
    needed = set(re.findall(r"NEEDED.*\[(\w+)", listing.stdout))
    assert needed <= {"libstdc", "libm", "libgcc_s", "libc", "libdl", "libpthread", "ld"}


def nvidia_headers() -> list[Path]:
    """The driver's header, where Triton's wheel or a toolkit has brought it."""
    candidates = [
        Path(sysconfig.get_path("purelib"), "triton/backends/nvidia/include/cuda.h"),
        Path("/usr/local/cuda/include/cuda.h"),
    ]
    return [path for path in candidates if path.is_file()]


@pytest.mark.skipif(not nvidia_headers(), reason="this machine has no cuda.h to compare with")
@pytest.mark.parametrize("header", nvidia_headers(), ids=str)
def test_declarations_agree_with_nvidias_header(tmp_path: Path, header: Path) -> None:
    """Constants by value, structs by size, functions by the sizes of their parameters; compiled, not run."""
    own = abi.ROOT / "csrc/runtime/cuda"
    constants = re.findall(r"\b(CUD?A?_[A-Z0-9_]+) = \d+", (own / "driver_types.h").read_text())
    functions = re.findall(r"_\((cu\w+), ", (own / "driver_functions.h").read_text())
    structs = {"CUuuid": "CUuuid", "CUipcMemHandle": "CUipcMemHandle"}
    structs |= {name: name for name in ("CUlaunchAttributeValue", "CUlaunchAttribute", "CUlaunchConfig")}
    assert len(constants) > 80
    assert len(functions) > 55
    lines = [
        f'#include "{own}/driver_functions.h"',
        # Some of NVIDIA's constants are macros.
        *(f"constexpr int own_{name} = gxu::cuda::{name};" for name in constants),
        f'#define __CUDA_API_VERSION_INTERNAL\n#include "{header}"',
        "template <typename... P> struct Sizes {};",
        "template <typename F> struct Of;",
        "template <typename R, typename... P> struct Of<R(P...)> {",
        "  static constexpr size_t count = sizeof...(P);",
        "  static constexpr size_t sizes[sizeof...(P) + 1] = {sizeof(P)..., sizeof(R)};",
        "};",
        "template <typename A, typename B> constexpr bool same() {",
        "  if (Of<A>::count != Of<B>::count) return false;",
        "  for (size_t i = 0; i <= Of<A>::count; ++i) if (Of<A>::sizes[i] != Of<B>::sizes[i]) return false;",
        "  return true;",
        "}",
        "namespace gxu::cuda::table {",
        "#define DECLARE(name, parameters) CUresult own_##name parameters;",
        "GXU_CUDA_DRIVER_FUNCTIONS(DECLARE) GXU_CUDA_OPTIONAL_DRIVER_FUNCTIONS(DECLARE) }",
        *(f"static_assert(own_{name} == int({name}));" for name in constants),
        *(f"static_assert(sizeof(gxu::cuda::{name}) == sizeof(::{name}));" for name in structs),
        "static_assert(offsetof(gxu::cuda::CUlaunchAttribute, value) == offsetof(::CUlaunchAttribute, value));",
        "static_assert(offsetof(gxu::cuda::CUlaunchConfig, attrs) == offsetof(::CUlaunchConfig, attrs));",
        *(
            f'static_assert(same<decltype(gxu::cuda::table::own_{name}), decltype(::{name})>(), "{name}");'
            for name in functions
        ),
    ]
    source = tmp_path / "compare.cpp"
    source.write_text("#include <cstddef>\n" + "\n".join(lines) + "\n")
    compiler = shutil.which("g++") or "c++"
    result = subprocess.run(
        [compiler, "-std=c++20", "-fsyntax-only", str(source)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[:4000]


def test_everything_before_init_says_so(cuda_library: Path, tmp_path: Path) -> None:
    fresh = CudaRuntime(Path(shutil.copy(cuda_library, tmp_path / "fresh.so")))
    assert fresh.number("gxuGetVersion") == 1000
    assert fresh.library.gxuGetErrorName(abi.OUT_OF_MEMORY) == b"gxuErrorOutOfMemory"
    with pytest.raises(RuntimeFailure, match="gxuInit has not been called") as failure:
        fresh.gxuSetDevice(0)
    assert failure.value.code == abi.NOT_INITIALIZED


def test_machine_without_a_driver(cuda_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = CudaRuntime(Path(shutil.copy(cuda_library, tmp_path / "fresh.so")))
    monkeypatch.setenv("GXU_CUDA_DRIVER", str(tmp_path / "libcuda.so.1"))
    with pytest.raises(
        RuntimeFailure, match=r"needs NVIDIA's driver: .*libcuda.so.1.*: install|GXU_RUNTIME"
    ) as failure:
        fresh.gxuInit(0)
    assert failure.value.code == abi.INIT_FAILED
    assert "GXU_CUDA_DRIVER" in failure.value.message


def test_driver_that_is_too_old_is_named(
    cuda_library: Path, fake_driver: FakeDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver with all functions but one."""
    source = tmp_path / "old.c"
    names = re.findall(r"_\((cu\w+), ", (abi.ROOT / "csrc/runtime/cuda/driver_functions.h").read_text())
    kept = [name for name in names if name != "cuLaunchKernelEx"]
    version = "int cuDriverGetVersion(int* version) { *version = 11040; return 0; }"
    source.write_text("\n".join([version, *(f"void {n}(void) {{}}" for n in kept if n != "cuDriverGetVersion")]))
    library = tmp_path / "libold.so"
    subprocess.run([shutil.which("cc") or "cc", "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
    fresh = CudaRuntime(Path(shutil.copy(cuda_library, tmp_path / "fresh.so")))
    monkeypatch.setenv("GXU_CUDA_DRIVER", str(library))
    with pytest.raises(RuntimeFailure, match=r"driver for CUDA 11\.4 and has no cuLaunchKernelEx") as failure:
        fresh.gxuInit(0)
    assert failure.value.code == abi.INIT_FAILED
    nameless = tmp_path / "libnameless.so"
    source.write_text(source.read_text().replace("return 0;", "return 999;"))
    subprocess.run([shutil.which("cc") or "cc", "-shared", "-fPIC", str(source), "-o", str(nameless)], check=True)
    monkeypatch.setenv("GXU_CUDA_DRIVER", str(nameless))
    with pytest.raises(RuntimeFailure, match=r"driver for CUDA unknown and has no cuLaunchKernelEx"):
        fresh.gxuInit(0)
    monkeypatch.setenv("GXU_CUDA_DRIVER", str(fake_driver.path))
    fresh.gxuInit(0)  # a failed start can be repeated


@pytest.mark.parametrize(
    ("function", "result", "code", "message"),
    [
        ("cuInit", 100, 100, r"cuInit: CUDA_ERROR_NO_DEVICE \(no CUDA-capable device is detected\)"),
        ("cuInit", 3, 303, r"cuInit: CUDA_ERROR_NOT_INITIALIZED \(initialization error\)"),
        ("cuDeviceGetCount", 999, 999, r"cuDeviceGetCount: CUDA_ERROR_UNKNOWN \(unknown error\)"),
        ("cuDeviceGet", 101, 101, "cuDeviceGet: CUDA_ERROR_INVALID_DEVICE"),
        ("cuDeviceGetName", 1, 1, "cuDeviceGetName: CUDA_ERROR_INVALID_VALUE"),
        ("cuDeviceGetUuid_v2", 801, 801, "cuDeviceGetUuid_v2: CUDA_ERROR_NOT_SUPPORTED"),
        ("cuDeviceTotalMem_v2", 4, 4, r"cuDeviceTotalMem_v2: CUDA_ERROR_DEINITIALIZED \(driver shutting down\)"),
        ("cuDeviceGetAttribute", 12345, 999, "cuDeviceGetAttribute: CUDA error 12345"),
    ],
)
def test_errors_of_the_start_keep_the_drivers_name(
    cuda_library: Path, fake_driver: FakeDriver, tmp_path: Path, function: str, result: int, code: int, message: str
) -> None:
    fake_driver.reset()
    fresh = CudaRuntime(Path(shutil.copy(cuda_library, tmp_path / "fresh.so")))
    fake_driver.fail(function, result)
    with (
        cuda_engine.variables(GXU_CUDA_DRIVER=str(fake_driver.path)),
        pytest.raises(RuntimeFailure, match=message) as failure,
    ):
        fresh.gxuInit(0)
    assert failure.value.code == code
    with cuda_engine.variables(GXU_CUDA_DRIVER=str(fake_driver.path)):
        fresh.gxuInit(0)
    assert fresh.number("gxuGetDeviceCount") == 2


def test_init_is_repeatable_and_takes_no_flags(cuda: CudaRuntime) -> None:
    cuda.gxuInit(0)
    assert cuda.code("gxuInit", 1) == abi.INVALID_VALUE


def test_device_properties(cuda: CudaRuntime) -> None:
    properties = abi.DeviceProperties(struct_size=ctypes.sizeof(abi.DeviceProperties))
    cuda.gxuGetDeviceProperties(ctypes.byref(properties), 1)
    assert properties.name == b"Stand-in H100 1"
    assert properties.uuid == b"f0f1f2f3-f4f5-f6f7-f8f9-fafbfcfdfe01"
    assert (properties.triton_backend, properties.triton_arch, properties.delegate) == (b"cuda", b"90", b"cuda")
    assert (properties.major, properties.minor, properties.warp_size) == (9, 0, 32)
    assert properties.total_memory == cuda_engine.DEVICE_MEMORY
    assert properties.multi_processor_count == 132
    assert (properties.max_grid_size, properties.preferred_num_warps, properties.vector_bytes) == (0, 0, 0)
    assert (properties.host_accessible, properties.concurrent_kernels) == (0, 1)
    assert (properties.max_threads_per_block, properties.max_threads_per_multi_processor) == (1024, 2048)
    assert (properties.shared_memory_per_block, properties.shared_memory_per_multiprocessor) == (232448, 233472)
    assert (properties.L2_cache_size, properties.regs_per_multiprocessor) == (52428800, 65536)
    assert properties.clock_rate_khz == 1980000
    assert cuda.code("gxuGetDeviceProperties", ctypes.byref(properties), 2) == abi.INVALID_DEVICE
    properties.struct_size -= 8
    assert cuda.code("gxuGetDeviceProperties", ctypes.byref(properties), 0) == abi.INVALID_VALUE


def test_looking_at_devices_makes_no_context(
    run_python: Callable[..., subprocess.CompletedProcess[str]], cuda_paths: dict[str, Path]
) -> None:
    """A context costs hundreds of megabytes on each device: only work on a device may make it."""
    body = """
runtime.gxuModuleUnload(module)
runtime.gxuSetDevice(1)
properties = abi.DeviceProperties(struct_size=ctypes.sizeof(abi.DeviceProperties))
runtime.gxuGetDeviceProperties(byref(properties), 1)
print(driver.calls("cuDevicePrimaryCtxRetain"))
runtime.gxuFree(runtime.memory(64))
print(driver.calls("cuDevicePrimaryCtxRetain"))
"""
    # Loading the module has made the one of device 0.
    assert cuda_engine.run_script(run_python, cuda_paths, body).split() == ["1", "2"]


def test_current_context_of_the_thread_is_left_alone(cuda: CudaRuntime, fake_driver: FakeDriver) -> None:
    """PyTorch's cuda device and CUDA's libraries take the current context for the current device."""
    context = ctypes.c_void_p()
    get, put = fake_driver.library.cuCtxGetCurrent, fake_driver.library.cuCtxSetCurrent
    put.argtypes = (ctypes.c_void_p,)
    fake_driver.library.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0)
    first = context.value
    put(first)
    cuda.gxuSetDevice(1)
    pointer, stream, event = cuda.memory(64), cuda.stream(), cuda.event()
    cuda.gxuMemsetAsync(pointer, 1, 64, stream)
    cuda.gxuEventRecord(event, stream)
    cuda.gxuStreamSynchronize(stream)
    assert cuda.code("gxuMalloc", ctypes.byref(ctypes.c_void_p()), 1 << 40) == abi.OUT_OF_MEMORY
    get(ctypes.byref(context))
    assert context.value == first
    cuda.gxuEventDestroy(event)
    cuda.gxuStreamDestroy(stream)
    cuda.gxuFree(pointer)
    get(ctypes.byref(context))
    assert context.value == first


def test_peers(cuda: CudaRuntime, fake_driver: FakeDriver) -> None:
    assert cuda.number("gxuDeviceCanAccessPeer", 0, 1) == 1
    assert cuda.number("gxuDeviceCanAccessPeer", 0, 1) == 1, "access that is enabled already is no error"
    assert cuda.number("gxuDeviceCanAccessPeer", 1, 1) == 0
    assert fake_driver.calls("cuCtxEnablePeerAccess") >= 1
    assert cuda.code("gxuDeviceCanAccessPeer", ctypes.byref(c_int()), 0, 2) == abi.INVALID_DEVICE
    fake_driver.fail("cuCtxEnablePeerAccess", 801)
    assert cuda.code("gxuDeviceCanAccessPeer", ctypes.byref(c_int()), 1, 0) == abi.NOT_SUPPORTED
