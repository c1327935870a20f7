"""Python's recursion limit while kernels compile.

Only nested regions are followed by recursion, with some six calls a level: a chain of ``elif`` nests a level with each,
and so does a sequence of early returns.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator

# About 800 levels. Under Dynamo's hook of frames calls take C's stack, too: 15,000 of them ended a process.
_LIMIT = 5000

_lock = threading.Lock()
_inside = 0
_outside = 0  # the limit to go back to


@contextlib.contextmanager
def deep_nesting() -> Iterator[None]:
    """Raises the limit, which is the process's, until the last thread inside has left."""
    global _inside, _outside
    with _lock:
        if not _inside:
            _outside = sys.getrecursionlimit()
            sys.setrecursionlimit(max(_outside, _LIMIT))
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                sys.setrecursionlimit(_outside)
