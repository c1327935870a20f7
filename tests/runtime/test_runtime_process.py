"""Threads, forks and exit with the host engine."""

from __future__ import annotations

import platform
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from ctypes import c_void_p
from pathlib import Path

import pytest
import runtime_abi as abi
from runtime_abi import Runtime
from runtime_gate import ints


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


def run_script(
    run_python: Callable, library: Path, body: str, environment: Mapping[str, str | None] | None = None
) -> str:
    script = SCRIPT.format(tests=str(abi.ROOT / "tests/runtime"), library=str(library)) + body
    result = run_python("-c", script, timeout=60, env=environment)
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


def test_exit_lets_a_running_kernel_finish_and_starts_no_other(
    run_python: Callable, library: Path, image: Path
) -> None:
    body = f"""
module = runtime.made("gxuModuleLoad", {str(image)!r}.encode())
hello, stream = runtime.function(module, "late_hello"), runtime.stream()
for _ in range(2):
    runtime.launch(hello, (1, 1, 1), (ctypes.c_int64(400_000_000),), stream)
time.sleep(0.1)
print("bye", flush=True)
"""
    assert run_script(run_python, library, body) == "bye\nhello from the device\n"


@pytest.mark.parametrize(("kind", "signal"), [(0, "SIGSEGV"), (1, "SIGSEGV"), (2, "SIGFPE"), (3, "SIGILL")])
@pytest.mark.parametrize("threads", [1, 3])
def test_fault_of_a_kernel_stays_with_its_device(
    run_python: Callable, library: Path, image: Path, kind: int, signal: str, threads: int
) -> None:
    if kind >= 2 and platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("what this case does is another signal, or none, on other processors")
    body = f"""
module = runtime.made("gxuModuleLoad", {str(image)!r}.encode())
kernel, out = runtime.function(module, "fault"), runtime.upload(bytes(64))
runtime.launch(kernel, (8, 1, 1), (ctypes.c_int32({kind}), ctypes.c_void_p(out if {kind} else 8)), None)
pinned = runtime.made("gxuMallocHost", 64)
for call in (
    lambda: runtime.code("gxuDeviceSynchronize"),
    lambda: runtime.code("gxuDeviceSynchronize"),
    lambda: runtime.code("gxuStreamSynchronize", None),
    lambda: runtime.code("gxuMalloc", ctypes.byref(ctypes.c_void_p()), 64),
    lambda: runtime.code("gxuMemsetAsync", ctypes.c_void_p(out), 0, ctypes.c_size_t(64), None),
    lambda: runtime.code("gxuMemcpyAsync", ctypes.c_void_p(pinned), ctypes.c_void_p(out), ctypes.c_size_t(64), 2, None),
):
    print(call(), runtime.message())
runtime.gxuFree(out)
runtime.gxuSetDevice(1)
count, out = runtime.function(module, "count"), runtime.upload(bytes(32))
runtime.launch(count, (8, 1, 1), (ctypes.c_void_p(out),), None)
print(runtime.download(out, 32, None) == (1).to_bytes(4, "little") * 8)
"""
    environment = {"GXU_DEVICE_COUNT": "2", "OMP_NUM_THREADS": str(threads)}
    lines = run_script(run_python, library, body, environment).splitlines()
    assert len(set(lines[:6])) == 1
    assert lines[0].startswith(f"{abi.LAUNCH_FAILED} kernel 'fault' failed: it was stopped by ")
    assert signal in lines[0]
    assert ("at address 0x8;" in lines[0]) == (kind == 0)
    assert lines[6:] == ["True"]


@pytest.mark.parametrize(("kind", "message"), [(0, "it was stopped by SIGSEGV"), (1, "program 0 gave up")])
def test_programs_do_not_wait_for_one_that_failed(
    run_python: Callable, library: Path, image: Path, kind: int, message: str
) -> None:
    body = f"""
module = runtime.made("gxuModuleLoad", {str(image)!r}.encode())
kernel, flag = runtime.function(module, "never_comes"), runtime.upload(bytes(64))
for _ in range(20 if {kind} else 1):
    runtime.launch(kernel, (50, 1, 1), (ctypes.c_int32({kind}), ctypes.c_void_p(flag)), None)
    print(runtime.code("gxuDeviceSynchronize"), runtime.message())
"""
    lines = run_script(run_python, library, body, {"OMP_NUM_THREADS": "4"}).splitlines()
    assert len(lines) == (20 if kind else 1)
    for line in lines:
        assert line.startswith(f"{abi.LAUNCH_FAILED} kernel 'never_comes' failed: {message}")


@pytest.mark.parametrize("threads", [1, 2, 3, 70])
def test_every_program_runs_once_on_teams_of_any_size(
    run_python: Callable, library: Path, image: Path, threads: int
) -> None:
    sizes = [1, 2, 3, 7, 47, 63, 64, 65, 1000, 1121, 4099]
    body = f"""
module = runtime.made("gxuModuleLoad", {str(image)!r}.encode())
count = runtime.function(module, "count")
for size in {sizes}:
    out = runtime.upload(bytes(4 * size + 4))
    for _ in range(3):
        runtime.launch(count, (size, 1, 1), (ctypes.c_void_p(out),), None)
    calls = memoryview(runtime.download(out, 4 * size + 4, None)).cast("i").tolist()
    print(size, calls == [3] * size + [0])
"""
    lines = run_script(run_python, library, body, {"OMP_NUM_THREADS": str(threads)}).splitlines()
    assert lines == [f"{size} True" for size in sizes]


@pytest.mark.parametrize(("threads", "alone"), [(1, [1, 1, 1, 0, 0]), (3, [1, 0, 1, 0, 0]), (4, [0, 0, 1, 0, 0])])
def test_kernels_with_atomics_are_alone_where_a_team_would_be_slower(
    run_python: Callable, library: Path, image: Path, threads: int, alone: list[int]
) -> None:
    """In a process of its own: one that has shared memory with another has no kernel alone."""
    body = f"""
module = runtime.made("gxuModuleLoad", {str(image)!r}.encode())
def launch(kernel, programs):
    out = runtime.upload(bytes(8))
    runtime.launch(runtime.function(module, kernel), (programs, 1, 1), (ctypes.c_void_p(out),), None)
    print(programs, *memoryview(runtime.download(out, 8, None)).cast("i"))
launch("add_atomically", 5000)
launch("add_together", 5000)
launch("add_together", 1)
launch("add_in_order", 500)
runtime.gxuIpcGetMemHandle(ctypes.byref(abi.IpcMemHandle()), runtime.memory(64))
launch("add_atomically", 1)
"""
    lines = run_script(run_python, library, body, {"OMP_NUM_THREADS": str(threads)}).splitlines()
    assert lines == [f"{n} {n} {one}" for n, one in zip([5000, 5000, 1, 500, 1], alone, strict=True)]


def test_closing_the_library_leaves_its_threads_alive(run_python: Callable, library: Path) -> None:
    body = """
import _ctypes
other = abi.Runtime(Path({copy!r}))
other.gxuInit(0)
version = other.library.gxuGetVersion
_ctypes.dlclose(other.library._handle)
time.sleep(0.2)  # the ticker looks at the streams meanwhile
number = ctypes.c_int()
print(version(ctypes.byref(number)), number.value)
"""
    copy = Path(shutil.copy(library, library.with_name("closed.so")))
    assert run_script(run_python, library, body.replace("{copy!r}", repr(str(copy)))) == "0 1000\n"
