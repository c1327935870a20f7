"""Waiting in tests: a stream that holds still until told, and conditions that come true in a while."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable

import runtime_abi as abi
from runtime_abi import Runtime

TIMEOUT = 20.0  # seconds after which something that should have happened has not


class Gate:
    """Holds a stream at a host function until open() is called."""

    def __init__(self, runtime: Runtime, stream: int | None) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()
        self.timed_out = False
        self._callback = abi.HostFunction(self._wait)  # kept alive until the stream has called it
        runtime.gxuLaunchHostFunc(stream, self._callback, None)

    def _wait(self, _user_data: int | None) -> None:
        self.reached.set()
        self.timed_out = not self.opened.wait(TIMEOUT)

    def open(self) -> None:
        self.opened.set()


def wait_for(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.0005)
    return True


def ints(data: bytes) -> list[int]:
    return list(struct.unpack(f"{len(data) // 4}i", data))
