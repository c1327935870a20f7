"""Many threads, many streams and ends of the process at bad moments: values stay right and everything is given back."""

from __future__ import annotations

import gc
import os
import random
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import runtime_shims
import torch
from process_helpers import RunPython

pytestmark = pytest.mark.counts_memory
C = torch.gxu._C
MIB = 1 << 20

#: Adds a number to n others, in as many pieces as the grid has programs.
SOURCE = """
#include <string.h>
#include "gxu_host_kernel.h"
GXU_HOST_KERNEL(add, 0, 0, 0, 8, 4, 4)
GXU_HOST_KERNEL_EXPORT void add(const uint64_t *params, const gxuHostGrid *grid, int64_t begin, int64_t end,
                                void *scratch, const gxuHostServices *services) {
  float *x = (float *)params[0], value;
  memcpy(&value, params + 1, sizeof(value));
  int32_t n = (int32_t)params[2], programs = grid->x;
  for (int64_t p = begin; p < end; ++p)
    for (int64_t i = n * p / programs; i < n * (p + 1) / programs; ++i) x[i] += value;
}
"""


def compile_kernel(folder: Path) -> Path:
    code, image = folder / "add.c", folder / "add.so"
    code.write_text(SOURCE)
    command = ["cc", "-O1", "-shared", "-fPIC", f"-I{runtime_shims.HEADER_FOLDER}", str(code), "-o", str(image)]
    subprocess.run(command, check=True)
    return image


@pytest.fixture(scope="module")
def add(tmp_path_factory: pytest.TempPathFactory) -> int:
    image = compile_kernel(tmp_path_factory.mktemp("kernels"))
    return int(C.module_get_function(C.module_load_data(image.read_bytes(), "add"), "add"))


def held() -> tuple[int, int]:
    """Bytes of device memory and open files of this process, after everything has come to its end."""
    torch.gxu.synchronize()
    gc.collect()
    torch.gxu.empty_cache()
    return torch.gxu.memory_reserved(), len(list(Path("/proc/self/fd").iterdir()))


def has_few_threads() -> bool:
    """Whether there are no more threads than the streams of the pool and PyTorch's own need: they are started where
    work waits for nobody, and kept. Those that a test has joined may take a moment to go."""
    end = time.monotonic() + 20
    while len(list(Path("/proc/self/task").iterdir())) > 100 and time.monotonic() < end:
        time.sleep(0.01)
    return len(list(Path("/proc/self/task").iterdir())) <= 100


def resident() -> int:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def in_threads(work: Callable[[int], None], count: int = 8) -> None:
    """Calls `work(i)` in `count` threads at once, and raises what the first of them raised."""
    errors: list[BaseException] = []

    def call(index: int) -> None:
        try:
            work(index)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=call, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def allocate_launch_free(add: int, shared: torch.gxu.Stream, seed: int, end: float) -> None:
    """Launches on tensors of random sizes, on an own and on a shared stream, and frees them with work in flight."""
    choose = random.Random(seed)
    own = torch.gxu.Stream()
    while time.monotonic() < end:
        size = choose.choice([choose.randint(1, 4000), choose.randint(1, MIB)])
        value = float(choose.randrange(100))
        with torch.gxu.stream(own):
            x = torch.full((size,), value, device="gxu")
            C.launch(add, choose.randint(1, 5), 1, 1, own.gxu_stream, "pfi", (x, 1.0, size))
            written = own.record_event()
        shared.wait_event(written)
        with torch.gxu.stream(shared):
            y = x.clone()
            x.record_stream(shared)
            C.launch(add, 2, 1, 1, shared.gxu_stream, "pfi", (y, 2.0, size))
            done = shared.record_event()
        if choose.random() < 0.3:
            del x  # its copy may not have been made yet
        if choose.random() < 0.5:
            own.wait_event(done)
            with torch.gxu.stream(own):
                assert y.min().item() == y.max().item() == value + 3
            y.record_stream(own)
        if choose.random() < 0.02:
            torch.gxu.empty_cache()


@pytest.mark.parametrize("seconds", [2, pytest.param(60, marks=pytest.mark.extended)])
def test_threads_allocate_launch_and_free(add: int, seconds: float) -> None:
    shared = torch.gxu.Stream()

    def work(duration: float) -> None:
        end = time.monotonic() + duration
        in_threads(lambda seed: allocate_launch_free(add, shared, seed, end))

    work(0.3)  # what is made once
    before = held()
    work(seconds)
    assert held() == before
    assert has_few_threads()


def test_streams_and_events_are_given_back() -> None:
    def work() -> None:
        events = []
        for _ in range(10_000):
            stream, event = torch.gxu.Stream(), torch.gxu.Event()
            event.record(stream)
            torch.gxu.current_stream().wait_event(event)
            events.append(event)
        torch.gxu.synchronize()
        assert all(event.query() for event in events)

    work()
    before, memory = held(), resident()
    for _ in range(3):
        work()
    assert held() == before
    assert has_few_threads()
    assert resident() - memory < 16 * MIB  # 30,000 events of 600 bytes would be more


@pytest.mark.parametrize(
    "last",
    [
        "",
        "sys.exit(0)",
        "threading.Thread(target=work).start()",
        "torch.gxu.current_stream().record_event()",
        "atexit.register(work)",
        "del x, pinned",
        "globals().update(kept=[work, x, graph]); kept.append(kept)",
    ],
)
def test_exit_while_work_is_queued(run_python: RunPython, tmp_path: Path, last: str) -> None:
    """Also from a thread, at exit, with memory that queued work uses freed, and with garbage that nobody collects."""
    code = f"""
import atexit, sys, threading
import torch
C = torch.gxu._C
with open({str(compile_kernel(tmp_path))!r}, "rb") as image:
    add = C.module_get_function(C.module_load_data(image.read(), "add"), "add")
x = torch.zeros(1 << 20, device="gxu")
pinned = torch.ones(1 << 20).pin_memory()
stream, graph = torch.gxu.Stream(), torch.gxu.Graph()
with torch.gxu.graph(graph):
    x.add_(1).mul_(0.5)

def work():
    for _ in range(100):
        C.launch(add, 4, 1, 1, stream.gxu_stream, "pfi", (x, 1.0, 1 << 20))
        with torch.gxu.stream(stream):
            x.copy_(pinned, non_blocking=True)
        graph.replay()

work()
print("queued", flush=True)
{last}
"""
    result = run_python("-c", code, timeout=120)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "queued\n"
    assert result.stderr == ""


def test_spawned_and_forked_processes_give_back_what_they_got(run_python: RunPython, tmp_path: Path) -> None:
    """The parent's work goes on while children come and go."""
    script = tmp_path / "children.py"
    script.write_text(
        """
import os
import torch
import torch.multiprocessing as mp

def child(x):
    x += 3
    torch.gxu.synchronize()

def held():
    torch.gxu.synchronize()
    torch.gxu.ipc_collect()
    return torch.gxu.memory_allocated(), len(os.listdir("/proc/self/fd"))

if __name__ == "__main__":
    x = torch.zeros(1000, device="gxu")
    for step in range(3):
        x += 1
        if (pid := os.fork()) == 0:
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        process = mp.get_context("spawn").Process(target=child, args=(x,))
        process.start()
        process.join()
        assert process.exitcode == 0
        process.close()
        assert x.tolist() == [4.0 * (step + 1)] * 1000
        if step == 0:
            before = held()  # the first process starts a tracker of multiprocessing's, and moves x to shared memory
    assert held() == before, (held(), before)
"""
    )
    result = run_python(str(script), timeout=200)
    assert result.returncode == 0, result.stderr
