"""torch.gxu.Stream, torch.gxu.Event and the current stream."""

from __future__ import annotations

from typing import Any, cast

import torch

from gxu import _C
from gxu._device import DeviceLike, get_device_index


class Stream(torch.Stream):
    """A queue of work on one device: work of one stream runs in order, independent of other streams.

    Args:
        device: the device; the current one where None.
        priority: negative for a high-priority stream.
    """

    def __new__(cls, device: DeviceLike = None, priority: int = 0, **kwargs: Any) -> Stream:
        if "stream_id" in kwargs:
            return super().__new__(cls, **kwargs)
        return super().__new__(cls, device=torch.device("gxu", get_device_index(device)), priority=priority)

    @property
    def gxu_stream(self) -> int:
        """The runtime's handle (gxuStream_t); 0 is the default stream."""
        return self.stream_id

    def __repr__(self) -> str:
        return f"torch.gxu.Stream(device={self.device}, gxu_stream={self.gxu_stream:#x})"


class ExternalStream(Stream):
    """A stream that was created by a caller of the runtime, who keeps it alive.

    Args:
        stream_ptr: its gxuStream_t as an integer.
    """

    def __new__(cls, stream_ptr: int, device: DeviceLike = None, **kwargs: Any) -> ExternalStream:
        return cast(ExternalStream, super().__new__(cls, **_stream_data(stream_ptr, get_device_index(device))))


class Event(torch.Event):
    """A point in a stream's work, to wait for or to measure the time from.

    Args:
        enable_timing: lets `elapsed_time` measure.
        blocking: lets `synchronize` sleep instead of spinning; the waiting thread never spins on gxu.
        interprocess: not supported yet.
    """

    def __new__(cls, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False) -> Event:
        if interprocess:
            raise NotImplementedError("gxu events cannot be shared between processes yet: leave interprocess=False")
        return super().__new__(cls, device=torch.device("gxu"), enable_timing=enable_timing, blocking=blocking)

    def elapsed_time(self, end_event: torch.Event) -> float:
        """Milliseconds from this event to `end_event`; both were recorded and created with enable_timing."""
        # torch.Event's own accepts no subclass of torch.Event.
        return _C.event_elapsed_time(self.event_id, end_event.event_id)

    @property
    def gxu_event(self) -> int:
        """The runtime's handle (gxuEvent_t), 0 before the first record."""
        return self.event_id

    def __repr__(self) -> str:
        return f"torch.gxu.Event(gxu_event={self.gxu_event:#x})"


def _stream_data(stream_id: int, device_index: int) -> dict[str, int]:
    device_type = torch._C._autograd.DeviceType.PrivateUse1.value
    return {"stream_id": stream_id, "device_index": device_index, "device_type": device_type}


def current_stream(device: DeviceLike = None) -> Stream:
    """This thread's current stream on `device`."""
    index = get_device_index(device)
    return Stream(**_stream_data(_C.current_stream_id(index), index))


def default_stream(device: DeviceLike = None) -> Stream:
    """The stream of `device` that is current where no other was set."""
    return Stream(**_stream_data(0, get_device_index(device)))


def set_stream(stream: torch.Stream | None) -> None:
    """Makes `stream` this thread's current stream on its device, and leaves the current device as it is."""
    if stream is None:
        return
    if stream.device.type != "gxu":
        raise ValueError(f"expected a gxu stream, but got one of {stream.device}")
    _C.set_stream(stream.stream_id, stream.device_index)


class StreamContext:
    """Context manager that makes a stream and its device current; does nothing where the stream is None."""

    def __init__(self, stream: torch.Stream | None) -> None:
        self.stream = stream
        self._previous_device = -1
        self._previous_stream = 0

    def __enter__(self) -> torch.Stream | None:
        if self.stream is not None:
            index = self.stream.device_index
            self._previous_device = _C.exchange_device(index)
            self._previous_stream = _C.current_stream_id(index)
            set_stream(self.stream)
        return self.stream

    def __exit__(self, *exception: Any) -> None:
        if self.stream is not None:
            _C.set_stream(self._previous_stream, self.stream.device_index)
            _C.exchange_device(self._previous_device)


def stream(stream: torch.Stream | None) -> StreamContext:
    """Context manager: work inside is queued on `stream`."""
    return StreamContext(stream)


def synchronize(device: DeviceLike = None) -> None:
    """Waits until all work on all streams of `device` is done."""
    _C.synchronize(get_device_index(device))
