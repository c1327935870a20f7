"""`python -m gxu bench memory`, and what the profiler hears of memory."""

from __future__ import annotations

import gc
import json
from pathlib import Path

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from gxu.benchmarks import memory
from gxu.cli.main import main

MIB = 1 << 20


def test_bench_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    name = "vision model, mixed sizes"
    monkeypatch.setattr(memory, "RUNS", {name: memory.RUNS[name]})
    monkeypatch.setattr(memory, "STEPS", 3)
    assert main(["bench", "memory", "--json", str(tmp_path / "memory.json")]) == 0
    (row,) = json.loads((tmp_path / "memory.json").read_text())
    assert row["name"] == name
    assert row["requested_bytes"] <= row["allocated_bytes"] <= row["reserved_bytes"]
    assert row["ratio"] == row["reserved_bytes"] / row["allocated_bytes"]
    # The largest activations are those of the first stage: 8 images of 32 channels, at most 48 x 48 here.
    assert row["allocated_bytes"] > 8 * 32 * 24 * 24 * 4
    assert row["allocations"] > 100
    assert "reserved / allocated" in capsys.readouterr().out
    assert row["size_class_bytes"] >= row["requested_bytes"]


def test_a_recorded_history_is_replayed(tmp_path: Path) -> None:
    gc.collect()
    torch.gxu.memory._record_memory_history("all", clear_history=True)
    x = [torch.empty(size, dtype=torch.uint8, device="gxu") for size in (3 * MIB, 700, 1, 5 * MIB)]
    del x[0]
    x.append(torch.empty(2 * MIB, dtype=torch.uint8, device="gxu"))
    torch.gxu.memory._dump_snapshot(str(tmp_path / "run.pickle"))
    torch.gxu.memory._record_memory_history(None)
    before = torch.gxu.memory_allocated()
    assert main(["bench", "memory", "--trace", str(tmp_path / "run.pickle"), "--json", str(tmp_path / "row.json")]) == 0
    assert torch.gxu.memory_allocated() == before
    (row,) = json.loads((tmp_path / "row.json").read_text())
    assert row["allocations"] == 5
    assert row["requested_bytes"] == 8 * MIB + 701
    assert row["allocated_bytes"] == 8 * MIB + 1024 + 512
    assert row["reserved_bytes"] == 22 * MIB  # a segment of 20 MiB for the large ones, one of 2 MiB for the others
    assert row["segments"] == 2
    # 4 and 8 MiB for the large ones, and 2 MiB, which comes after the first was freed.
    assert row["size_class_bytes"] == 14 * MIB + 1024 + 512


def test_a_file_without_history_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.gxu.memory._record_memory_history(None)
    torch.gxu.memory._record_memory_history("all", clear_history=True)
    torch.gxu.memory._record_memory_history(None)
    torch.gxu.memory._dump_snapshot(str(tmp_path / "none.pickle"))
    assert main(["bench", "memory", "--trace", str(tmp_path / "none.pickle")]) == 2
    assert "has no history" in capsys.readouterr().err
    assert main(["bench", "memory", "--trace", str(tmp_path / "missing.pickle")]) == 2


def test_profiler_reports_memory() -> None:
    x = torch.randn(MIB, device="gxu")
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        y = x.exp()
        del y
    usage = {event.key: event.self_device_memory_usage for event in profiler.key_averages()}
    assert usage["aten::exp"] + usage.get("aten::empty", 0) == 4 * MIB
    assert usage["[memory]"] == -4 * MIB
