"""`python -m gxu bench memory`, and what the profiler hears of memory."""

from __future__ import annotations

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


def test_profiler_reports_memory() -> None:
    x = torch.randn(MIB, device="gxu")
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        y = x.exp()
        del y
    usage = {event.key: event.self_device_memory_usage for event in profiler.key_averages()}
    assert usage["aten::exp"] + usage.get("aten::empty", 0) == 4 * MIB
    assert usage["[memory]"] == -4 * MIB
