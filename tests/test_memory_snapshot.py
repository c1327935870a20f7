"""The recorded history: what it holds, from where things were allocated, and who can read it."""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from memory_helpers import check_snapshot
from torch.cuda import _memory_viz

MIB = 1 << 20
memory = torch.gxu.memory


@pytest.fixture(autouse=True)
def no_history() -> Iterator[None]:
    torch.gxu.init()
    torch.gxu.empty_cache()
    yield
    memory._record_memory_history(None, clear_history=True)


def trace(snapshot: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = (snapshot or memory._snapshot())["device_traces"][0]
    return [entry for entry in entries if entry["action"] != "snapshot"]


def make_named_allocation() -> torch.Tensor:
    return torch.empty(30 * MIB, dtype=torch.uint8, device="gxu")


def test_events_and_stacks() -> None:
    memory._record_memory_history(stacks="python", clear_history=True)
    x = make_named_allocation()
    pointer = x.data_ptr()
    del x
    torch.gxu.empty_cache()
    entries = trace()
    actions = [entry["action"] for entry in entries]
    assert actions == ["segment_alloc", "alloc", "free_requested", "free_completed", "segment_free"]
    assert all(entry["addr"] == pointer and entry["size"] == 30 * MIB for entry in entries)
    times = [entry["time_us"] for entry in entries]
    assert times == sorted(times)
    assert times[0] > 1.7e15  # microseconds since 1970
    frame = entries[1]["frames"][0]
    assert frame["filename"] == __file__
    assert frame["name"] == "make_named_allocation"
    assert frame["line"] == make_named_allocation.__code__.co_firstlineno + 1
    assert "test_events_and_stacks" in [frame["name"] for frame in entries[2]["frames"]]


def test_stacks_of_live_blocks() -> None:
    memory._record_memory_history("state", stacks="python", clear_history=True)
    x = make_named_allocation()
    names = [frame["name"] for frame in memory._allocation_traceback(x.data_ptr()) or []]
    assert names[0] == "make_named_allocation"
    snapshot = memory._snapshot()
    check_snapshot(snapshot)
    (block,) = [b for s in snapshot["segments"] for b in s["blocks"] if b["address"] == x.data_ptr()]
    assert [frame["name"] for frame in block["frames"]] == names
    assert trace(snapshot) == []
    assert memory._allocation_traceback(x.data_ptr() + 512) is None


def test_cpp_frames() -> None:
    memory._record_memory_history(stacks="all", clear_history=True)
    x = make_named_allocation()
    names = [frame["name"] for frame in memory._allocation_traceback(x.data_ptr()) or []]
    assert any("CachingAllocator::allocate" in name for name in names)
    assert "make_named_allocation" in names


def test_last_entries_are_kept() -> None:
    memory._record_memory_history(context=None, max_entries=7, clear_history=True)
    for size in range(1, 21):
        torch.empty(size, dtype=torch.uint8, device="gxu")
    events = [(entry["action"], entry["size"]) for entry in trace()]
    whole = [(action, size) for size in range(1, 21) for action in ("alloc", "free_requested", "free_completed")]
    assert events == whole[-6:]  # the seventh is the snapshot itself


def test_skipped_actions_and_metadata() -> None:
    memory._record_memory_history(context=None, clear_history=True, skip_actions=["free_requested", "segment_alloc"])
    memory._set_memory_metadata("first step")
    x = torch.empty(100, device="gxu")
    memory._set_memory_metadata("")
    del x
    events = [(entry["action"], entry["user_metadata"]) for entry in trace()]
    assert events == [("alloc", "first step"), ("free_completed", "")]
    assert memory._get_memory_metadata() == ""


def test_out_of_memory_is_recorded() -> None:
    memory._record_memory_history(stacks="python", clear_history=True)
    total = torch.gxu.mem_get_info()[1]
    with pytest.raises(torch.OutOfMemoryError):
        torch.empty(2 * total, dtype=torch.uint8, device="gxu")
    entry = trace()[-1]
    assert entry["action"] == "oom"
    assert entry["size"] == 2 * total
    assert 0 < entry["device_free"] <= total


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"enabled": "some"}, "enabled must be None, 'state' or 'all', not 'some'"),
        ({"context": "some"}, "context must be None, 'state', 'alloc' or 'all', not 'some'"),
        ({"stacks": "some"}, "stacks must be 'python' or 'all', not 'some'"),
        ({"skip_actions": ["some"]}, "Unknown TraceEntry action: some"),
        ({"compile_context": True}, r"_record_memory_history\(compile_context=True\) is not supported"),
    ],
)
def test_wrong_requests(options: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, RuntimeError, NotImplementedError), match=message):
        memory._record_memory_history(**options)


def test_torch_reads_the_file(tmp_path: Path) -> None:
    memory._record_memory_history(stacks="python", clear_history=True)
    x = make_named_allocation()
    torch.empty(1000, device="gxu")
    path = tmp_path / "snapshot.pickle"
    memory._dump_snapshot(str(path))
    # The page pytorch.org/memory_viz reads plain data alone: nothing of the file may name a class.
    output = io.StringIO()
    pickletools.dis(path.read_bytes(), out=output)
    assert "GLOBAL" not in output.getvalue()
    snapshot = pickle.loads(path.read_bytes())  # noqa: S301 - written above
    assert {"segments", "device_traces", "allocator_settings"} <= set(snapshot)
    assert "30.0MiB" in _memory_viz.trace(snapshot)
    assert "total_allocated" in _memory_viz.segsum(snapshot)
    assert "Active Memory Timeline" in _memory_viz.trace_plot(snapshot)
    assert x.nbytes == 30 * MIB


def test_summary() -> None:
    x = torch.empty(3 * MIB, dtype=torch.uint8, device="gxu")
    text = torch.gxu.memory_summary()
    lines = text.splitlines()
    assert len({len(line) for line in lines}) == 1
    reserved = next(line for line in lines if "GPU reserved memory" in line)
    expected = torch.gxu.memory_reserved()
    assert int(reserved.split("|")[2].split()[0]) * 1024 == expected
    assert "from large pool" in text
    assert "from large pool" not in torch.gxu.memory_summary(abbreviated=True)
    nested = torch.gxu.memory_stats_as_nested_dict()
    assert nested["reserved_bytes"]["all"]["current"] == expected
    assert f"{expected / MIB:.3f} MB" in torch.gxu.list_gpu_processes()
    assert x.nbytes == 3 * MIB
