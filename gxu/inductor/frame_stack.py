"""Room on Python's stack of frames for what calls deep and often: compilation.

CPython keeps the frames of Python functions in chunks of 16 KiB, which it maps and unmaps as calls cross their ends.
A loop just below an end does that with every call, at 7 us each: a fifth of the time that Inductor takes to compile a
transformer (150,000 page faults in 5 s of MiniLM's). Releases since March 2026 of CPython 3.13 and later keep a chunk
(python/cpython#142183).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

#: Bytes of a frame that gets a chunk of its own. Chunks are powers of two and the frame is a little larger than this,
#: so its chunk has the same again for the frames of its calls: some thousands. None of the frame's own is touched.
_FRAME_SIZE = 1 << 20


def call_with_frame_room(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """`function(*args, **kwargs)`, below which the stack of frames has a megabyte before it crosses a chunk's end."""
    return function(*args, **kwargs)


call_with_frame_room.__code__ = call_with_frame_room.__code__.replace(co_stacksize=_FRAME_SIZE // struct.calcsize("P"))
