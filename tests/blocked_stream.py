"""A stream that stands still until the test lets it go on, to see what is queued and what waits."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_HOST_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@contextmanager
def blocked(stream: torch.Stream) -> Iterator[threading.Event]:
    """Queues a host function on `stream` that waits for the event given to the body, or for the body's end."""
    runtime = ctypes.CDLL(torch.gxu._C.runtime_path())
    go_on = threading.Event()
    ran = threading.Event()

    def wait(_: int | None) -> None:
        go_on.wait(20)
        ran.set()

    function = _HOST_FUNCTION(wait)
    assert runtime.gxuLaunchHostFunc(ctypes.c_void_p(stream.stream_id), function, None) == 0
    try:
        yield go_on
    finally:
        go_on.set()
        stream.synchronize()
        assert ran.wait(20)
