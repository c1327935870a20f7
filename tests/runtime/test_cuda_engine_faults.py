"""Failing calls of the driver, failed kernels, forks and threads with the cuda engine."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import threading
from collections.abc import Callable
from ctypes import c_float, c_int, c_size_t, c_void_p
from pathlib import Path

import cuda_engine
import pytest
import runtime_abi as abi
from cuda_engine import CudaRuntime, FakeDriver
from runtime_abi import RuntimeFailure
from runtime_gate import ints

UNKNOWN = 999
COOPERATIVE = 14  # gxuFuncAttributeCooperative
NOTHING = abi.HostFunction(lambda _: None)  # kept alive: a stream calls it after the call that hands it over


class Objects:
    """One of everything, for calls that fail."""

    def __init__(self, cuda: CudaRuntime, image: Path) -> None:
        self.cuda = cuda
        self.image = str(image).encode()
        self.module = cuda.made("gxuModuleLoad", self.image)
        self.kernel = cuda.function(self.module, "nothing")
        self.stream, self.event = cuda.stream(), cuda.event(abi.EVENT_DEFAULT)
        self.pointer, self.pinned = cuda.memory(64), cuda.made("gxuMallocHost", 64)
        self.handle, self.out = abi.IpcMemHandle(), c_void_p()
        cuda.gxuEventRecord(self.event, self.stream)
        cuda.gxuStreamSynchronize(self.stream)

    def launch(self) -> int:
        return self.cuda.code("gxuLaunchKernel", self.kernel, 1, 1, 1, 1, 1, 1, 0, self.stream, None)

    def launch_together(self) -> int:
        """A cooperative launch: one with attributes."""
        self.cuda.gxuFuncSetAttribute(self.kernel, COOPERATIVE, 1)
        code = self.launch()
        self.cuda.gxuFuncSetAttribute(self.kernel, COOPERATIVE, 0)
        return code

    def allocate_elsewhere(self) -> int:
        """On a device whose context is not the thread's."""
        self.cuda.gxuSetDevice(1)
        code = self.make("gxuMalloc", 64)
        self.cuda.gxuSetDevice(0)
        return code

    def make(self, function: str, *arguments: object) -> int:
        return self.cuda.code(function, ctypes.byref(self.out), *arguments)

    def call(self, function: str, *arguments: object) -> int:
        return self.cuda.code(function, *arguments)

    def end(self) -> None:
        self.cuda.gxuFree(self.pointer)
        self.cuda.gxuFreeHost(self.pinned)
        self.cuda.gxuEventDestroy(self.event)
        self.cuda.gxuStreamDestroy(self.stream)
        self.cuda.gxuModuleUnload(self.module)


#: The driver's function that fails, and a call that uses it.
CALLS: dict[str, Callable[[Objects], int]] = {
    "cuCtxGetCurrent": lambda o: o.make("gxuMalloc", 64),
    "cuCtxSynchronize": lambda o: o.call("gxuDeviceSynchronize"),
    "cuCtxGetStreamPriorityRange": lambda o: o.make("gxuStreamCreate", 0, 0),
    "cuDeviceCanAccessPeer": lambda o: o.call("gxuDeviceCanAccessPeer", ctypes.byref(c_int()), 0, 1),
    "cuMemAlloc_v2": lambda o: o.make("gxuMalloc", 64),
    "cuMemHostAlloc": lambda o: o.make("gxuMallocHost", 64),
    "cuMemGetInfo_v2": lambda o: o.call("gxuMemGetInfo", ctypes.byref(c_size_t()), ctypes.byref(c_size_t())),
    "cuMemcpyAsync": lambda o: o.call("gxuMemcpyAsync", o.pinned, o.pointer, 8, abi.DEVICE_TO_HOST, o.stream),
    "cuMemsetD8Async": lambda o: o.call("gxuMemsetAsync", o.pointer, 0, 8, o.stream),
    "cuIpcGetMemHandle": lambda o: o.call("gxuIpcGetMemHandle", ctypes.byref(o.handle), o.pointer),
    "cuIpcOpenMemHandle_v2": lambda o: o.make("gxuIpcOpenMemHandle", o.handle),
    "cuStreamCreateWithPriority": lambda o: o.make("gxuStreamCreate", 0, 0),
    "cuStreamSynchronize": lambda o: o.call("gxuStreamSynchronize", o.stream),
    "cuStreamQuery": lambda o: o.call("gxuStreamQuery", o.stream),
    "cuStreamWaitEvent": lambda o: o.call("gxuStreamWaitEvent", o.stream, o.event, 0),
    "cuLaunchHostFunc": lambda o: o.call("gxuLaunchHostFunc", o.stream, NOTHING, None),
    "cuEventCreate": lambda o: o.make("gxuEventCreate", 0),
    "cuEventRecord": lambda o: o.call("gxuEventRecord", o.event, o.stream),
    "cuEventQuery": lambda o: o.call("gxuEventQuery", o.event),
    "cuEventSynchronize": lambda o: o.call("gxuEventSynchronize", o.event),
    "cuEventElapsedTime": lambda o: o.call("gxuEventElapsedTime", ctypes.byref(c_float()), o.event, o.event),
    "cuModuleLoadData": lambda o: o.make("gxuModuleLoad", o.image),
    "cuModuleGetFunction": lambda o: o.make("gxuModuleGetFunction", o.module, b"count"),
    "cuFuncGetAttribute": lambda o: o.call("gxuFuncGetAttribute", ctypes.byref(c_int()), 4, o.kernel),
    "cuFuncSetAttribute": lambda o: o.call("gxuFuncSetAttribute", o.kernel, 8, 1000),
    "cuFuncSetCacheConfig": lambda o: o.call("gxuFuncSetAttribute", o.kernel, 8, 100_000),
    "cuLaunchKernel": Objects.launch,
    "cuStreamBeginCapture_v2": lambda o: o.call("gxuStreamBeginCapture", o.stream),
    "cuCtxSetCurrent": Objects.allocate_elsewhere,
    "cuCtxEnablePeerAccess": lambda o: o.call("gxuDeviceCanAccessPeer", ctypes.byref(c_int()), 0, 1),
    "cuLaunchKernelEx": Objects.launch_together,
}


@pytest.mark.parametrize("function", CALLS)
def test_failing_calls_keep_the_drivers_name_and_text(
    cuda: CudaRuntime, fake_driver: FakeDriver, cuda_image: Path, function: str
) -> None:
    objects = Objects(cuda, cuda_image)
    fake_driver.fail(function, UNKNOWN)
    assert CALLS[function](objects) == UNKNOWN
    assert f"{function}: CUDA_ERROR_UNKNOWN (unknown error)" in cuda.message()
    assert CALLS[function](objects) in (abi.SUCCESS, abi.INVALID_VALUE), "nothing else has changed"
    if function == "cuStreamBeginCapture_v2":
        cuda.gxuGraphDestroy(cuda.made("gxuStreamEndCapture", objects.stream, first=False))
    objects.end()


def test_failing_calls_of_a_capture(
    cuda: CudaRuntime, fake_driver: FakeDriver, cuda_module: int, cuda_stream: int
) -> None:
    kernel, out = cuda.function(cuda_module, "nothing"), c_void_p()

    def capture() -> int:
        cuda.gxuStreamBeginCapture(cuda_stream)
        code = cuda.code("gxuLaunchKernel", kernel, 1, 1, 1, 1, 1, 1, 0, cuda_stream, None)
        return code or cuda.code("gxuStreamEndCapture", cuda_stream, ctypes.byref(out))

    # This one follows a failed cuGraphRetainUserObject, whose error it is then.
    fake_driver.fail("cuUserObjectRelease", UNKNOWN)
    for function in ("cuStreamGetCaptureInfo_v2", "cuUserObjectCreate", "cuGraphRetainUserObject"):
        fake_driver.fail(function, UNKNOWN)
        assert capture() == UNKNOWN
        assert f"{function}: CUDA_ERROR_UNKNOWN" in cuda.message()
        cuda.gxuGraphDestroy(cuda.made("gxuStreamEndCapture", cuda_stream, first=False))
    cuda.gxuStreamBeginCapture(cuda_stream)
    for function, call in (
        ("cuStreamIsCapturing", lambda: cuda.code("gxuStreamIsCapturing", cuda_stream, ctypes.byref(c_int()))),
        ("cuStreamEndCapture", lambda: cuda.code("gxuStreamEndCapture", cuda_stream, ctypes.byref(out))),
    ):
        fake_driver.fail(function, UNKNOWN)
        assert call() == UNKNOWN
        assert f"{function}: CUDA_ERROR_UNKNOWN" in cuda.message()
        assert call() == abi.SUCCESS, "the capture went on"
    cuda.gxuGraphDestroy(out.value)
    assert capture() == abi.SUCCESS
    graph, executable = out.value, cuda.made("gxuGraphInstantiate", out.value)
    for function, call in (
        ("cuGraphInstantiateWithFlags", lambda: cuda.code("gxuGraphInstantiate", ctypes.byref(out), graph)),
        ("cuGraphLaunch", lambda: cuda.code("gxuGraphLaunch", executable, cuda_stream)),
        ("cuGraphExecDestroy", lambda: cuda.code("gxuGraphExecDestroy", executable)),
        ("cuGraphDestroy", lambda: cuda.code("gxuGraphDestroy", graph)),
    ):
        fake_driver.fail(function, UNKNOWN)
        assert call() == UNKNOWN
        assert f"{function}: CUDA_ERROR_UNKNOWN" in cuda.message()


def test_memory_that_could_not_be_freed_is_still_there(cuda: CudaRuntime, fake_driver: FakeDriver) -> None:
    for allocate, free, function in (
        ("gxuMalloc", "gxuFree", "cuMemFree_v2"),
        ("gxuMallocHost", "gxuFreeHost", "cuMemFreeHost"),
    ):
        pointer = cuda.made(allocate, 64)
        # Without the wait that gxuFree promises nothing may be freed.
        for failing in (function, "cuEventCreate", "cuEventRecord", "cuEventSynchronize"):
            fake_driver.fail(failing, UNKNOWN)
            assert cuda.code(free, pointer) == UNKNOWN
            assert f"{failing}: CUDA_ERROR_UNKNOWN (unknown error)" in cuda.message()
            cuda.gxuMemsetAsync(pointer, 1, 64, None)
        assert cuda.code(free, pointer) == abi.SUCCESS
        assert cuda.code(free, pointer) == abi.INVALID_VALUE


def test_failing_ends_of_streams_and_events_keep_the_drivers_name(cuda: CudaRuntime, fake_driver: FakeDriver) -> None:
    for handle, destroy, function in (
        (cuda.stream(), "gxuStreamDestroy", "cuStreamDestroy_v2"),
        (cuda.event(), "gxuEventDestroy", "cuEventDestroy_v2"),
    ):
        fake_driver.fail(function, UNKNOWN)
        assert cuda.code(destroy, handle) == UNKNOWN
        assert f"{function}: CUDA_ERROR_UNKNOWN (unknown error)" in cuda.message()


def test_failures_that_cost_a_check_and_no_more(cuda: CudaRuntime, fake_driver: FakeDriver, cuda_image: Path) -> None:
    """Questions without which a call is slower or less is checked."""
    pinned = cuda.made("gxuMallocHost", 64)
    source = ctypes.create_string_buffer(b"abc", 64)
    fake_driver.fail("cuPointerGetAttribute", UNKNOWN)
    cuda.gxuMemcpyAsync(pinned, source, 64, abi.HOST_TO_HOST, None)
    assert ctypes.string_at(pinned, 3) == b"abc"
    cuda.gxuFreeHost(pinned)
    fake_driver.fail("cuFuncGetParamInfo", UNKNOWN)
    module = cuda.made("gxuModuleLoad", str(cuda_image).encode())
    cuda.launch(cuda.function(module, "nothing"), (1, 1, 1), (), None)
    fake_driver.fail("cuModuleUnload", UNKNOWN)
    cuda.gxuModuleUnload(module)


def test_an_attribute_that_the_driver_refuses_is_not_set(
    cuda: CudaRuntime, fake_driver: FakeDriver, cuda_module: int
) -> None:
    kernel, value = cuda.function(cuda_module, "nothing"), c_int()
    fake_driver.fail("cuFuncSetAttribute", UNKNOWN)
    assert cuda.code("gxuFuncSetAttribute", kernel, 8, 100_000) == UNKNOWN
    fake_driver.fail("cuFuncSetAttribute", UNKNOWN)  # not called: there is nothing to set
    cuda.gxuFuncSetAttribute(kernel, COOPERATIVE, 0)
    cuda.gxuFuncGetAttribute(ctypes.byref(value), 8, kernel)
    assert value.value == 48 << 10


def test_errors_without_a_name_or_a_text_have_their_number(cuda: CudaRuntime, fake_driver: FakeDriver) -> None:
    for function, words in (("cuGetErrorName", "CUDA error 999"), ("cuGetErrorString", "CUDA_ERROR_UNKNOWN")):
        fake_driver.fail("cuMemAlloc_v2", UNKNOWN)
        fake_driver.fail(function, 1)
        assert cuda.code("gxuMalloc", ctypes.byref(c_void_p()), 64) == UNKNOWN
        assert cuda.message().endswith(f"cuMemAlloc_v2: {words}")


def test_a_context_that_cannot_be_made_may_be_tried_again(
    cuda_library: Path, fake_driver: FakeDriver, tmp_path: Path
) -> None:
    fake_driver.reset()
    fresh = cuda_engine.start(Path(shutil.copy(cuda_library, tmp_path / "fresh.so")), fake_driver.path)
    fake_driver.fail("cuDevicePrimaryCtxRetain", abi.OUT_OF_MEMORY)
    with pytest.raises(RuntimeFailure, match=r"cuDevicePrimaryCtxRetain: CUDA_ERROR_OUT_OF_MEMORY \(out of memory\)"):
        fresh.memory(64)
    fresh.gxuFree(fresh.memory(64))


def test_failures_with_memory_of_another_process(
    run_python: Callable[..., subprocess.CompletedProcess[str]], cuda_paths: dict[str, Path]
) -> None:
    body = f"""
import subprocess
handle, pointer = abi.IpcMemHandle(), runtime.upload(b"hello from the owner")
runtime.gxuIpcGetMemHandle(byref(handle), pointer)
child = {cuda_engine.script(cuda_paths)!r} + '''
handle, opened = abi.IpcMemHandle.from_buffer_copy(bytes.fromhex(sys.argv[1])), c_void_p()
driver.fail("cuMemGetAddressRange_v2", {UNKNOWN})
print(runtime.code("gxuIpcOpenMemHandle", byref(opened), handle), runtime.message())
runtime.gxuIpcOpenMemHandle(byref(opened), handle)
driver.fail("cuIpcCloseMemHandle", {UNKNOWN})
print(runtime.code("gxuIpcCloseMemHandle", opened), runtime.message())
print(runtime.download(opened.value, 20).decode(), runtime.code("gxuIpcCloseMemHandle", opened))
'''
print(subprocess.run([sys.executable, "-c", child, bytes(handle).hex()], check=True, text=True,
                     stdout=subprocess.PIPE).stdout, end="")
"""
    lines = cuda_engine.run_script(run_python, cuda_paths, body).splitlines()
    unknown = "CUDA_ERROR_UNKNOWN (unknown error)"
    assert lines[0] == f"{UNKNOWN} cuMemGetAddressRange_v2: {unknown}"
    assert lines[1] == f"{UNKNOWN} cuIpcCloseMemHandle: {unknown}"
    assert lines[2] == "hello from the owner 0"


def test_every_function_of_the_driver_is_made_to_fail() -> None:
    """Here, or at the start of the engine (test_cuda_engine.py)."""
    declared = re.findall(r"_\((cu\w+), ", (abi.ROOT / "csrc/runtime/cuda/driver_functions.h").read_text())
    folder = Path(__file__).parent
    tests = "".join((folder / name).read_text() for name in ("test_cuda_engine.py", "test_cuda_engine_faults.py"))
    assert set(declared) - set(re.findall(r'"(cu[A-Z]\w+)"', tests)) == set()


def test_frees_do_not_report_and_do_not_fail_after_a_failed_kernel(
    run_python: Callable[..., subprocess.CompletedProcess[str]], cuda_paths: dict[str, Path]
) -> None:
    """A kernel that the hardware stops takes the context along: every later use of the device says so."""
    body = f"""
pointer, pinned, stream = runtime.memory(64), runtime.made("gxuMallocHost", 64), runtime.stream()
event, kernel = runtime.event(), runtime.function(module, "fail")
runtime.launch(kernel, (1, 1, 1), (c_int({cuda_engine.ILLEGAL_ADDRESS}),), stream)
for call in (
    lambda: runtime.code("gxuStreamSynchronize", stream),
    lambda: runtime.code("gxuDeviceSynchronize"),
    lambda: runtime.code("gxuMalloc", byref(c_void_p()), 64),
    lambda: runtime.code("gxuMemsetAsync", pointer, 0, 64, stream),
    lambda: runtime.code("gxuMemcpyAsync", pinned, pointer, 64, 2, stream),
    lambda: runtime.code("gxuLaunchKernel", kernel, 1, 1, 1, 1, 1, 1, 0, stream, abi.parameters((c_int(0),))),
):
    print(call(), runtime.message())
print([runtime.code("gxuStreamQuery", stream), runtime.code("gxuEventQuery", event), runtime.code("gxuFree", pointer),
       runtime.code("gxuFreeHost", pinned), runtime.code("gxuEventDestroy", event),
       runtime.code("gxuStreamDestroy", stream), runtime.code("gxuModuleUnload", module)])
runtime.gxuSetDevice(1)
print(runtime.download(runtime.upload(b"other device"), 12).decode())
"""
    lines = cuda_engine.run_script(run_python, cuda_paths, body).splitlines()
    for line in lines[:6]:
        assert line.startswith(f"{abi.LAUNCH_FAILED} cu")
        assert ": a kernel failed: CUDA_ERROR_ILLEGAL_ADDRESS (an illegal memory access was encountered); " in line
        assert "the last one launched was 'fail'" in line
    assert lines[6:] == [str([0] * 7), "other device"]


def test_forked_child_gets_one_clear_error(
    run_python: Callable[..., subprocess.CompletedProcess[str]], cuda_paths: dict[str, Path]
) -> None:
    body = """
stream = runtime.stream()
pid = os.fork()
if pid == 0:
    codes = [runtime.code("gxuInit", 0), runtime.code("gxuSetDevice", 0), runtime.code("gxuStreamSynchronize", stream),
             runtime.code("gxuMalloc", byref(c_void_p()), 64), runtime.code("gxuDeviceSynchronize")]
    print(codes, runtime.number("gxuGetVersion"), runtime.message(), flush=True)
    os._exit(0)
_, status = os.waitpid(pid, 0)
runtime.gxuStreamSynchronize(stream)
print("parent", status)
"""
    lines = cuda_engine.run_script(run_python, cuda_paths, body).splitlines()
    assert lines[0].startswith(f"{[abi.FORKED] * 5} 1000 this process was forked after gxuInit")
    assert lines[1] == "parent 0"


def test_many_threads_share_the_engine(cuda: CudaRuntime, cuda_module: int, cuda_image: Path) -> None:
    count, shared, problems = cuda.function(cuda_module, "count"), cuda.stream(), []

    def work(seed: int) -> None:
        try:
            cuda.gxuSetDevice(0)
            own, event = cuda.stream(abi.STREAM_NON_BLOCKING if seed % 2 else abi.STREAM_DEFAULT), cuda.event()
            out = cuda.upload(bytes(4 * 33))
            for i in range(30):
                cuda.launch(count, (33, 1, 1), (c_void_p(out),), own)
                cuda.gxuEventRecord(event, own)
                cuda.gxuStreamWaitEvent(shared, event, 0)
                cuda.launch(count, (33, 1, 1), (c_void_p(out),), shared)
                if i % 7 == seed % 7:
                    cuda.gxuModuleUnload(cuda.made("gxuModuleLoad", str(cuda_image).encode()))
                cuda.gxuEventRecord(event, shared)
                cuda.gxuStreamWaitEvent(own, event, 0)
            assert ints(cuda.download(out, 4 * 33, own)) == [60] * 33
            cuda.gxuEventDestroy(event)
            cuda.gxuFree(out)
            cuda.gxuStreamDestroy(own)
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert problems == []
    cuda.gxuStreamDestroy(shared)


def test_last_error_belongs_to_the_thread(cuda: CudaRuntime) -> None:
    with pytest.raises(RuntimeFailure, match="device 7 does not exist: there are 2, numbered from 0"):
        cuda.gxuSetDevice(7)
    seen = []
    thread = threading.Thread(target=lambda: seen.append(cuda.code("gxuPeekAtLastError")))
    thread.start()
    thread.join()
    assert seen == [abi.SUCCESS]
    assert cuda.code("gxuGetLastError") == abi.INVALID_DEVICE
    assert cuda.code("gxuGetLastError") == abi.SUCCESS
