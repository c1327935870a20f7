"""torch.gxu.nvtx: names for stretches of a program, with torch.cuda.nvtx's functions.

They are torch.profiler's ranges (`record_function`): there is no other tool that would show them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.autograd.profiler import record_function

__all__ = ["mark", "range", "range_end", "range_pop", "range_push", "range_start"]

_open = threading.local()
_started: dict[int, Any] = {}
_lock = threading.Lock()


def range_push(msg: str) -> int:
    """Begins a range in this thread, and returns how many others it is in."""
    ranges: list[Any] = _open.__dict__.setdefault("ranges", [])
    ranges.append(record_function(msg))
    ranges[-1].__enter__()
    return len(ranges) - 1


def range_pop() -> int:
    """Ends the range that this thread pushed last. Returns how many others it was in, -1 where there is none."""
    ranges: list[Any] = _open.__dict__.setdefault("ranges", [])
    if not ranges:
        return -1
    ranges.pop().__exit__(None, None, None)
    return len(ranges)


def range_start(msg: str) -> int:
    """Begins a range that `range_end` ends, whatever is pushed or popped meanwhile. Returns its number."""
    entered = record_function(msg)
    entered.__enter__()
    with _lock:
        number = max(_started, default=0) + 1
        _started[number] = entered
    return number


def range_end(range_id: int) -> None:
    """Ends the range that `range_start` gave the number of. KeyError where there is none."""
    with _lock:
        entered = _started.pop(range_id)
    entered.__exit__(None, None, None)


def _device_range_start(msg: str, stream: int = 0) -> int:
    """`range_start`, under the name that compiled code calls with `torch._inductor.config.annotate_training`."""
    return range_start(msg)


def _device_range_end(range_handle: int, stream: int = 0) -> None:
    """`range_end`: see `_device_range_start`."""
    range_end(range_handle)


def mark(msg: str) -> None:
    """A range without length."""
    with record_function(msg):
        pass


@contextmanager
def range(msg: str, *args: Any, **kwargs: Any) -> Iterator[None]:
    """Context manager and decorator: a range around its body, named `msg.format(*args, **kwargs)`."""
    range_push(msg.format(*args, **kwargs))
    try:
        yield
    finally:
        range_pop()
