"""torch.gxu.Stream and Event, and PyTorch's generic ones over the same guard."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
import torch
from blocked_stream import blocked, enqueued
from process_helpers import RunPython


def test_default_and_current_stream() -> None:
    default = torch.gxu.default_stream()
    assert torch.gxu.current_stream() == default
    assert default.gxu_stream == 0
    assert default.device == torch.device("gxu:0")
    assert default.query()


def test_stream_context() -> None:
    stream = torch.gxu.Stream()
    assert isinstance(stream, torch.Stream)
    assert stream.gxu_stream != 0
    with torch.gxu.stream(stream) as entered:
        assert entered is stream
        assert torch.gxu.current_stream() == stream
        assert torch.gxu._C.get_raw_stream(0) == stream.gxu_stream
    assert torch.gxu.current_stream() == torch.gxu.default_stream()
    with torch.gxu.stream(None):
        assert torch.gxu.current_stream() == torch.gxu.default_stream()


def test_stream_context_restores_after_an_exception() -> None:
    with pytest.raises(KeyError), torch.gxu.stream(torch.gxu.Stream()):
        raise KeyError
    assert torch.gxu.current_stream() == torch.gxu.default_stream()


def test_streams_are_different_until_the_pool_is_used_up() -> None:
    streams = {torch.gxu.Stream().stream_id for _ in range(32)}
    assert len(streams) == 32
    assert torch.gxu.Stream().stream_id in streams
    assert torch.gxu.Stream(priority=-1).stream_id not in streams


def test_priorities() -> None:
    least, greatest = torch.gxu.Stream.priority_range()
    assert (least, greatest) == (0, -2)
    for asked, given in ((0, 0), (3, 0), (-1, -1), (-2, -2), (-50, -2)):
        assert torch.gxu.Stream(priority=asked).priority == given
    assert torch.gxu.default_stream().priority == 0
    assert torch.Stream("gxu", priority=-1).stream_id not in {torch.gxu.Stream().stream_id for _ in range(32)}


def test_streams_overlap() -> None:
    """Each stream's work waits for the other's, which one thread could not do."""
    streams = [torch.gxu.Stream(), torch.gxu.Stream()]
    meeting = threading.Barrier(2)
    met = []

    def meet() -> None:
        meeting.wait(20)
        met.append(True)

    with enqueued(streams[0], meet), enqueued(streams[1], meet):
        pass
    assert met == [True, True]


@pytest.mark.parametrize("waits", [True, False])
def test_only_a_wait_orders_two_streams(waits: bool) -> None:
    """What one stream writes is what the other reads if it waits; without the wait, the reader is first."""
    writer, reader = torch.gxu.Stream(), torch.gxu.Stream()
    shared = torch.zeros(1000, device="gxu")
    new, seen = torch.full((1000,), 7.0).pin_memory(), torch.full((1000,), -1.0).pin_memory()
    with blocked(writer) as go_on:
        with torch.gxu.stream(writer):
            shared.copy_(new, non_blocking=True)
            written = writer.record_event()
        if waits:
            reader.wait_event(written)
            threading.Timer(0.05, go_on.set).start()
        with torch.gxu.stream(reader):
            seen.copy_(shared, non_blocking=True)
        reader.synchronize()
        assert seen.unique().tolist() == [7.0 if waits else 0.0]


def test_set_stream_is_per_thread() -> None:
    stream = torch.gxu.Stream()
    seen = []
    torch.gxu.set_stream(stream)
    try:
        thread = threading.Thread(target=lambda: seen.append(torch.gxu.current_stream().stream_id))
        thread.start()
        thread.join()
    finally:
        torch.gxu.set_stream(torch.gxu.default_stream())
    assert seen == [0]


def test_set_stream_of_another_device() -> None:
    with pytest.raises(ValueError, match="expected a gxu stream, but got one of cpu"):
        torch.gxu.set_stream(torch.Stream("cpu"))


def test_external_stream() -> None:
    stream = torch.gxu.Stream()
    external = torch.gxu.ExternalStream(stream.gxu_stream)
    assert external == stream
    assert torch.gxu.get_stream_from_external(stream.gxu_stream, 0) == stream


def test_generic_stream_and_accelerator() -> None:
    stream = torch.Stream("gxu")
    with stream:
        assert torch.accelerator.current_stream() == stream
        assert torch.gxu.current_stream() == stream
        x = torch.ones(4, device="gxu") + 1
    stream.synchronize()
    assert x.tolist() == [2] * 4
    torch.accelerator.set_stream(torch.gxu.default_stream())
    torch.accelerator.synchronize()


def test_queued_work_keeps_the_stream_busy() -> None:
    stream = torch.gxu.Stream()
    with blocked(stream) as go_on:
        event = stream.record_event()
        assert not stream.query()
        assert not event.query()
        go_on.set()
        event.synchronize()
        assert event.query()
        stream.synchronize()
        assert stream.query()


def test_a_stream_waits_for_an_event() -> None:
    first, second = torch.gxu.Stream(), torch.gxu.Stream()
    with blocked(first) as go_on:
        event = torch.gxu.Event()
        event.record(first)
        second.wait_event(event)
        behind = second.record_event()
        assert not behind.query()
        go_on.set()
        behind.synchronize()
        assert event.query()


def test_a_stream_waits_for_a_stream() -> None:
    first, second = torch.gxu.Stream(), torch.gxu.Stream()
    with blocked(first) as go_on:
        second.wait_stream(first)
        assert not second.query()
        go_on.set()
        second.synchronize()
        assert first.query()


def test_device_synchronize_waits_for_every_stream() -> None:
    stream = torch.gxu.Stream()
    with blocked(stream) as go_on:
        threading.Timer(0.05, go_on.set).start()
        torch.gxu.synchronize()
        assert go_on.is_set()
        assert stream.query()


def test_pinned_copy_is_queued() -> None:
    source = torch.arange(1000.0).pin_memory()
    target = torch.zeros(1000, device="gxu")
    stream = torch.gxu.Stream()
    with blocked(stream) as go_on:
        with torch.gxu.stream(stream):
            target.copy_(source, non_blocking=True)
        assert not stream.query()
        assert target.cpu().sum() == 0  # on the default stream
        go_on.set()
        stream.synchronize()
        assert torch.equal(target.cpu(), source)


def test_pinned_memory_outlives_its_tensor() -> None:
    stream = torch.gxu.Stream()
    target = torch.zeros(1000, device="gxu")
    with blocked(stream) as go_on:
        source = torch.full((1000,), 7.0).pin_memory()
        pointer = source.data_ptr()
        with torch.gxu.stream(stream):
            target.copy_(source, non_blocking=True)
        del source
        other = torch.zeros(1000).pin_memory()
        assert other.data_ptr() != pointer
        go_on.set()
        stream.synchronize()
        assert target.tolist() == [7.0] * 1000


def test_elapsed_time() -> None:
    start, end = torch.gxu.Event(enable_timing=True), torch.gxu.Event(enable_timing=True)
    x = torch.randn(400, 400, device="gxu")
    start.record()
    for _ in range(5):
        x @ x
    end.record()
    end.synchronize()
    assert 0 < start.elapsed_time(end) < 10_000
    assert end.elapsed_time(start) < 0


def test_elapsed_time_needs_recorded_events() -> None:
    with pytest.raises(RuntimeError, match="Both events must be recorded"):
        torch.gxu.Event(enable_timing=True).elapsed_time(torch.gxu.Event(enable_timing=True))


def test_elapsed_time_needs_timing() -> None:
    start, end = torch.gxu.Event(), torch.gxu.Event()
    start.record()
    end.record()
    end.synchronize()
    with pytest.raises(RuntimeError, match="gxuEventElapsedTime"):
        start.elapsed_time(end)


def test_an_event_that_was_never_recorded() -> None:
    event = torch.gxu.Event()
    assert event.query()
    event.synchronize()
    torch.gxu.current_stream().wait_event(event)
    assert event.gxu_event == 0


def test_generic_event() -> None:
    start, end = torch.Event("gxu", enable_timing=True), torch.Event("gxu", enable_timing=True)
    start.record()
    end.record()
    end.synchronize()
    assert start.elapsed_time(end) >= 0


def test_interprocess_events_in_one_process() -> None:
    with pytest.raises(ValueError, match="enable_timing=False"):
        torch.gxu.Event(enable_timing=True, interprocess=True)
    with pytest.raises(RuntimeError, match="interprocess=True"):
        torch.gxu.Event().ipc_handle()
    with pytest.raises(RuntimeError, match="not the handle of an event"):
        torch.gxu.Event.from_ipc_handle("gxu", b"nothing")
    event = torch.gxu.Event(interprocess=True)
    other = torch.gxu.Event.from_ipc_handle("gxu", event.ipc_handle())
    assert event.query() and other.query()
    first, second = torch.gxu.Stream(), torch.gxu.Stream()
    with blocked(first) as go_on:
        event.record(first)
        assert not event.query() and not other.query()
        second.wait_event(other)
        behind = second.record_event()
        assert not behind.query()
        go_on.set()
        other.synchronize()
        behind.synchronize()
    assert event.query() and other.query()


def test_an_interprocess_event_whose_process_has_ended() -> None:
    code = """
import sys, torch, ctypes, os
event = torch.gxu.Event(interprocess=True)
stream = torch.gxu.Stream()
wait = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: __import__("time").sleep(60))
ctypes.CDLL(torch.gxu._C.runtime_path()).gxuLaunchHostFunc(ctypes.c_void_p(stream.stream_id), wait, None)
event.record(stream)
print(event.ipc_handle().hex(), flush=True)
sys.stdin.read()
os._exit(0)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    event = torch.gxu.Event.from_ipc_handle("gxu", bytes.fromhex(process.stdout.readline()))
    assert not event.query()
    stream = torch.gxu.Stream()
    stream.wait_event(event)
    process.stdin.close()
    process.wait(20)
    with pytest.raises(RuntimeError, match="the process that recorded it has ended"):
        event.synchronize()
    with pytest.raises(RuntimeError, match="the process that recorded it has ended"):
        stream.synchronize()
    with pytest.raises(RuntimeError, match="cannot be opened: the process has ended"):
        torch.gxu.Event.from_ipc_handle("gxu", gone_handle(process.pid))


def gone_handle(process: int) -> bytes:
    handle = bytearray(torch.gxu.Event(interprocess=True).ipc_handle())
    handle[16:20] = process.to_bytes(4, "little")
    return bytes(handle)


def test_streams_of_two_devices(run_python: RunPython) -> None:
    code = """
import torch
second = torch.gxu.Stream("gxu:1")
assert second.device == torch.device("gxu:1")
with torch.gxu.stream(second):
    assert torch.gxu.current_device() == 1
    assert torch.gxu.current_stream() == second
    assert torch.gxu.current_stream("gxu:0") == torch.gxu.default_stream("gxu:0")
    assert torch.ones(2, device="gxu").device.index == 1
assert torch.gxu.current_device() == 0
assert torch.gxu.current_stream(1) == torch.gxu.default_stream(1)
event = torch.gxu.Event()
event.record(second)
torch.gxu.default_stream(0).wait_event(event)
torch.gxu.synchronize(0)
"""
    result = run_python("-c", code, env={"GXU_DEVICE_COUNT": "2"})
    assert result.returncode == 0, result.stderr


def test_work_of_two_threads() -> None:
    results: dict[int, bool] = {}

    def work(index: int) -> None:
        with torch.gxu.stream(torch.gxu.Stream()):
            x = torch.full((257,), float(index), device="gxu")
            for _ in range(200):
                x = x + 1
            results[index] = x.tolist() == [index + 200.0] * 257

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == dict.fromkeys(range(4), True)


def test_ten_thousand_streams_and_events() -> None:
    x = torch.zeros(1, device="gxu")
    streams = [torch.gxu.Stream() for _ in range(10_000)]
    assert len({stream.stream_id for stream in streams}) <= 64  # they come from a pool
    events = []
    previous = torch.gxu.Event()
    previous.record()
    for stream in streams:
        stream.wait_event(previous)
        previous = torch.gxu.Event(enable_timing=len(events) % 2 == 0)
        previous.record(stream)
        events.append(previous)
    with torch.gxu.stream(streams[-1]):
        x += 1
    torch.gxu.synchronize()
    assert all(event.query() for event in events)
    assert x.item() == 1
    handles = {event.event_id for event in events}
    assert len(handles) == 10_000
    del events, previous
    # Destroyed events are handed out again: a second round needs no more of them.
    again = [torch.gxu.Event() for _ in range(10_000)]
    for event in again:
        event.record()
    assert all(event.query() for event in again)
