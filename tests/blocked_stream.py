"""A stream that stands still until the test lets it go on, to see what is queued and what waits."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

_HOST_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@contextmanager
def enqueued(stream: torch.Stream, body: Callable[[], object]) -> Iterator[None]:
    """Queues a host function on `stream` that calls `body`, and waits for it at the end."""
    runtime = ctypes.CDLL(torch.gxu._C.runtime_path())
    ran = threading.Event()

    def call(_: int | None) -> None:
        body()
        ran.set()

    function = _HOST_FUNCTION(call)
    assert runtime.gxuLaunchHostFunc(ctypes.c_void_p(stream.stream_id), function, None) == 0
    try:
        yield
    finally:
        stream.synchronize()
        assert ran.wait(20)


@contextmanager
def blocked(stream: torch.Stream) -> Iterator[threading.Event]:
    """Queues a host function on `stream` that waits for the event given to the body, or for the body's end."""
    go_on = threading.Event()
    with enqueued(stream, lambda: go_on.wait(20)):
        try:
            yield go_on
        finally:
            go_on.set()
