"""Device memory that several processes map."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import c_size_t, c_void_p
from pathlib import Path

import pytest
import runtime_abi as abi
from runtime_abi import Runtime, RuntimeFailure

MIB = 1 << 20


def handle_of(runtime: Runtime, pointer: int) -> bytes:
    handle = abi.IpcMemHandle()
    runtime.gxuIpcGetMemHandle(ctypes.byref(handle), pointer)
    return bytes(handle)


def open_handle(runtime: Runtime, handle: bytes) -> int:
    return runtime.made("gxuIpcOpenMemHandle", abi.IpcMemHandle.from_buffer_copy(handle))


PEER = """
import ctypes, sys
sys.path.insert(0, {tests!r})
import runtime_abi as abi
from pathlib import Path
runtime = abi.Runtime(Path({library!r}))
runtime.gxuInit(0)
def handle_of(pointer):
    handle = abi.IpcMemHandle()
    runtime.gxuIpcGetMemHandle(ctypes.byref(handle), pointer)
    return bytes(handle)
def open_handle(text):
    return runtime.made("gxuIpcOpenMemHandle", abi.IpcMemHandle.from_buffer_copy(bytes.fromhex(text)))
for line in sys.stdin:
    print(eval(line), flush=True)
"""


class Peer:
    """Another process with an engine of its own, which evaluates expressions."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def __call__(self, expression: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(expression + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().rstrip("\n")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@contextmanager
def new_peer(library: Path) -> Iterator[Peer]:
    script = PEER.format(tests=str(abi.ROOT / "tests/runtime"), library=str(library))
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Peer(process)
        process.kill()


@pytest.fixture
def peer(library: Path) -> Iterator[Peer]:
    with new_peer(library) as process:
        yield process


@pytest.mark.parametrize("size", [1, 4097, 3 * MIB + 5])
def test_both_processes_see_what_either_writes(runtime: Runtime, peer: Peer, size: int) -> None:
    contents = random.Random(size).randbytes(size)
    same = f"__import__('random').Random({size}).randbytes({size})"
    pointer = runtime.upload(contents)
    handle = handle_of(runtime, pointer)
    assert runtime.download(pointer, size) == contents, "the contents move along, and the address stays"
    assert handle_of(runtime, pointer) == handle

    other = int(peer(f"open_handle('{handle.hex()}')"))
    assert peer(f"runtime.download({other}, {size}) == {same}") == "True"
    changed = contents[::-1]
    peer(f"runtime.gxuMemcpyAsync({other}, {same}[::-1], {size}, abi.HOST_TO_DEVICE, None)")
    assert runtime.download(pointer, size) == changed
    runtime.gxuMemsetAsync(pointer, 0x3C, size, None)
    runtime.gxuDeviceSynchronize()
    assert peer(f"runtime.download({other}, {size}) == bytes([0x3C]) * {size}") == "True"

    runtime.gxuFree(pointer)  # the other process keeps the memory
    assert peer(f"runtime.download({other}, 1)") == repr(b"\x3c")
    assert peer(f"runtime.gxuIpcCloseMemHandle({other})") == "None"


def test_memory_of_a_killed_owner_stays_with_those_who_opened_it(runtime: Runtime, peer: Peer) -> None:
    text = peer("handle_of(runtime.upload(bytes(range(200)))).hex()")
    pointer = open_handle(runtime, bytes.fromhex(text))
    peer.kill()
    assert runtime.download(pointer, 200) == bytes(range(200))
    runtime.gxuIpcCloseMemHandle(pointer)
    with pytest.raises(RuntimeFailure, match="has freed the memory or ended") as failure:
        open_handle(runtime, bytes.fromhex(text))
    assert failure.value.code == abi.INVALID_VALUE


def test_freed_memory_cannot_be_opened(runtime: Runtime, peer: Peer) -> None:
    text = peer("handle_of((memory := runtime.upload(bytes(10)))).hex()")
    peer("runtime.gxuFree(memory)")
    peer("[handle_of(runtime.memory(10)) for _ in range(3)]")  # others take the numbers of its files
    with pytest.raises(RuntimeFailure, match="has freed the memory or ended"):
        open_handle(runtime, bytes.fromhex(text))


def test_files_are_private_to_the_user_and_closed_with_the_memory(runtime: Runtime) -> None:
    def files() -> set[Path]:
        return {path for path in Path("/proc/self/fd").iterdir() if "memfd:gxu" in link(path)}

    def link(path: Path) -> str:
        try:
            return str(path.readlink())
        except FileNotFoundError:  # the one that lists the folder
            return ""

    before = files()
    pointer = runtime.memory(100)
    assert files() == before, "only memory whose handle was asked for is shared"
    handle_of(runtime, pointer)
    (made,) = files() - before
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    with pytest.raises(PermissionError):
        os.truncate(made, 0)
    runtime.gxuFree(pointer)
    assert files() == before


def test_opened_memory_is_device_memory_but_not_charged(runtime: Runtime, peer: Peer) -> None:
    free, total, after = c_size_t(), c_size_t(), c_size_t()
    text = peer("handle_of(runtime.upload(b'xyz' * 1000)).hex()")
    runtime.gxuSetDevice(1)
    runtime.gxuMemGetInfo(ctypes.byref(free), ctypes.byref(total))
    pointer = open_handle(runtime, bytes.fromhex(text))
    runtime.gxuMemGetInfo(ctypes.byref(after), ctypes.byref(total))
    assert after.value == free.value
    attributes = abi.PointerAttributes()
    runtime.gxuPointerGetAttributes(ctypes.byref(attributes), pointer + 7)
    assert (attributes.type, attributes.device, attributes.base, attributes.size) == (
        abi.DEVICE_MEMORY,
        1,
        pointer,
        3000,
    )
    with pytest.raises(RuntimeFailure, match="of another process: free it with gxuIpcCloseMemHandle"):
        runtime.gxuFree(pointer)
    with pytest.raises(RuntimeFailure, match="of another process: free it with gxuIpcCloseMemHandle"):
        handle_of(runtime, pointer)
    runtime.gxuIpcCloseMemHandle(pointer)
    with pytest.raises(RuntimeFailure, match="freed twice"):
        runtime.gxuIpcCloseMemHandle(pointer)


def test_wrong_handles_and_pointers_are_refused(runtime: Runtime) -> None:
    pointer = runtime.memory(64)
    with pytest.raises(RuntimeFailure, match="are not a handle from gxuIpcGetMemHandle"):
        open_handle(runtime, bytes(64))
    damaged = bytearray(handle_of(runtime, pointer))
    damaged[8] ^= 1
    with pytest.raises(RuntimeFailure, match="has freed the memory or ended"):
        open_handle(runtime, bytes(damaged))
    with pytest.raises(RuntimeFailure, match="lies inside the allocation of 64 bytes"):
        handle_of(runtime, pointer + 4)
    with pytest.raises(RuntimeFailure, match="free it with gxuFree"):
        runtime.gxuIpcCloseMemHandle(pointer)
    pinned = runtime.made("gxuMallocHost", 64)
    with pytest.raises(RuntimeFailure, match="pinned host memory"):
        handle_of(runtime, pinned)
    runtime.gxuFreeHost(pinned)
    runtime.gxuFree(pointer)


def test_too_many_shared_allocations_say_so(library: Path) -> None:
    with new_peer(library) as limited:
        limited("__import__('resource').setrlimit(__import__('resource').RLIMIT_NOFILE, (20, 20))")
        limited("(kept := [runtime.memory(64) for _ in range(40)])")
        limited("(code := [runtime.code('gxuIpcGetMemHandle', ctypes.byref(abi.IpcMemHandle()), p) for p in kept])")
        assert limited("(code[0], code[-1] != 0)") == "(0, True)"
        assert "ulimit -n" in limited("runtime.message()")
        assert limited("runtime.download(kept[-1], 64) == runtime.download(kept[-1], 64)") == "True"


def test_handles_after_the_queued_work(runtime: Runtime, peer: Peer, stream: int) -> None:
    pointer = runtime.upload(bytes(64))
    runtime.gxuMemsetAsync(pointer, 0x77, 64, stream)
    handle = handle_of(runtime, pointer)
    assert peer(f"runtime.download(open_handle('{handle.hex()}'), 64) == b'w' * 64") == "True"
    runtime.gxuFree(c_void_p(pointer))
