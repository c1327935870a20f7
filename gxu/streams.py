"""torch.gxu.Stream, torch.gxu.Event and the current stream."""

from __future__ import annotations

from typing import Any, cast

import torch

from gxu import _C
from gxu._device import DeviceLike, get_device_index
from gxu._name import DEVICE_TYPE


class Stream(torch.Stream):
    """A queue of work on one device: work of one stream runs in order, independent of other streams.

    Args:
        device: the device; the current one where None.
        priority: negative for work that goes first: work that nobody waits for starts only while none of a stream of
            higher priority runs. Clamped to `priority_range()`.
    """

    def __new__(cls, device: DeviceLike = None, priority: int = 0, **kwargs: Any) -> Stream:
        if "stream_id" in kwargs:
            return super().__new__(cls, **kwargs)
        return super().__new__(cls, device=torch.device(DEVICE_TYPE, get_device_index(device)), priority=priority)

    @property
    def gxu_stream(self) -> int:
        """The runtime's handle (gxuStream_t); 0 is the default stream."""
        return self.stream_id

    def wait_event(self, event: torch.Event) -> None:
        """Later work of the stream waits for what `event` stands for."""
        event.wait(self)

    def record_event(self, event: torch.Event | None = None) -> torch.Event:
        """Records `event`, or a new one, on the stream, and returns it."""
        event = Event() if event is None else event
        event.record(self)
        return event

    @property
    def priority(self) -> int:
        """The priority that the stream was made with; 0 for streams that somebody else made."""
        return _C.stream_priority(self.stream_id, self.device_index)

    @staticmethod
    def priority_range() -> tuple[int, int]:
        """The least and the greatest priority of the current device; the greatest is numerically the lowest."""
        return _C.stream_priority_range()

    def __repr__(self) -> str:
        return f"torch.{DEVICE_TYPE}.Stream(device={self.device}, gxu_stream={self.gxu_stream:#x})"


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
        interprocess: lets other processes wait for the event, by its `ipc_handle()` or through a queue of
            torch.multiprocessing. It takes no time. Streams wait for such an event by `Event.wait` or
            `torch.gxu.Stream.wait_event`; a generic torch.Stream sees what this process recorded, and no more.
    """

    _shared: _C.SharedEvent | None

    def __new__(cls, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False) -> Event:
        if interprocess and enable_timing:
            raise ValueError("an event that processes share takes no time: leave enable_timing=False")
        event = super().__new__(cls, device=torch.device(DEVICE_TYPE), enable_timing=enable_timing, blocking=blocking)
        event._shared = _C.SharedEvent() if interprocess else None
        return event

    @classmethod
    def from_ipc_handle(cls, device: DeviceLike, handle: bytes) -> Event:
        """The event of another process behind what its `ipc_handle()` gave. That process keeps its event until then.

        RuntimeError where it has ended, or the bytes are no handle.
        """
        get_device_index(device)
        event = cls()
        event._shared = _C.SharedEvent.open(handle)
        return event

    def ipc_handle(self) -> bytes:
        """What another process opens the event with."""
        if self._shared is None:
            raise RuntimeError("only an event made with interprocess=True has a handle for other processes")
        return self._shared.handle()

    def record(self, stream: torch.Stream | None = None) -> None:
        """The event stands for the work of `stream` (the current one) so far. One process at a time records."""
        if self._shared is not None:
            stream = current_stream() if stream is None else stream
            self._shared.record(stream.stream_id, stream.device_index)
        super().record(stream)

    def wait(self, stream: torch.Stream | None = None) -> None:
        """Later work of `stream` (the current one) waits for the event."""
        if self._shared is None:
            super().wait(stream)
        else:
            stream = current_stream() if stream is None else stream
            self._shared.wait(stream.stream_id, stream.device_index)

    def query(self) -> bool:
        """Whether all that the event stands for is done."""
        return super().query() if self._shared is None else self._shared.query()

    def synchronize(self) -> None:
        """Waits until all that the event stands for is done."""
        if self._shared is None:
            super().synchronize()
        else:
            self._shared.synchronize()

    def elapsed_time(self, end_event: torch.Event) -> float:
        """Milliseconds from this event to `end_event`; both were recorded and created with enable_timing."""
        # torch.Event's own accepts no subclass of torch.Event.
        return _C.event_elapsed_time(self.event_id, end_event.event_id)

    @property
    def gxu_event(self) -> int:
        """The runtime's handle (gxuEvent_t), 0 before the first record."""
        return self.event_id

    def __repr__(self) -> str:
        return f"torch.{DEVICE_TYPE}.Event(gxu_event={self.gxu_event:#x})"


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
    if stream.device.type != DEVICE_TYPE:
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
    """Waits until all work on all streams of `device` is done.

    Does not start the runtime to wait for nothing: torch.profiler asks for that, also where there is no device.
    """
    if device is None and not _C.is_initialized() and not _C.is_in_bad_fork():
        return
    _C.synchronize(get_device_index(device))
