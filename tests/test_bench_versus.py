"""`python -m gxu bench ... --against DEVICE`: the processes that measure, and the rows made of what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gxu.benchmarks.models.measure import Request
from gxu.benchmarks.versus import compare, worker
from gxu.cli import bench_versus
from gxu.cli.main import main

BERT = Request("BERT", "float16", training=False)


def replies(monkeypatch: pytest.MonkeyPatch, gxu: dict[str, Any], other: dict[str, Any]) -> list[dict[str, Any]]:
    """Measuring processes that say this; what they were asked."""
    asked: list[dict[str, Any]] = []

    def ask(device: str, timeout: float | None = None, **request: Any) -> dict[str, Any]:
        asked.append({"device": device, **request})
        return gxu if device == "gxu" else other

    monkeypatch.setattr(compare, "ask", ask)
    return asked


def test_ratios_are_the_others_over_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = replies(monkeypatch, {"add": 2.0}, {"add": 3.0})
    small, large = compare.eager("cuda", [1, 1 << 24], 0.0)
    assert (small.gxu, small.other, small.ratio) == (2.0, 3.0, 1.5)
    assert (small.bar, large.bar) == (0.85, 0.99)
    assert [(request["device"], request["elements"]) for request in asked] == [
        ("gxu", 1), ("cuda", 1), ("gxu", 1 << 24), ("cuda", 1 << 24)
    ]  # fmt: skip


def test_memory_has_bars_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = {"allocated_bytes": 103, "reserved_bytes": 210}
    replies(monkeypatch, {"run": figures}, {"run": {"allocated_bytes": 100, "reserved_bytes": 200}})
    allocated, reserved = compare.memory("cuda")
    assert (allocated.group, reserved.group) == ("training runs, allocated bytes", "training runs, reserved bytes")
    assert allocated.ratio >= allocated.bar  # 3 % more is within it
    assert reserved.ratio >= reserved.bar  # and 5 %


def test_kernel_that_fails_on_one_device_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    replies(monkeypatch, {"a": 1.0, "b": 1.0}, {"a": 2.0, "b": "OutOfResources: shared memory"})
    rows, failures = compare.triton("cuda", ["a", "b"], 0.0)
    assert [row.name for row in rows] == ["a"]
    assert failures == ["b on cuda: OutOfResources: shared memory"]


def test_model_with_wrong_numbers_has_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    replies(monkeypatch, {"us": 1.0, "error": 0.1}, {"us": 1.0, "error": 0.001})
    with pytest.raises(compare.WorkerError, match=r"BERT, float16: the error is 0\.1, and 0\.001 on cuda"):
        compare.model("cuda", BERT, 0.0)
    replies(monkeypatch, {"us": 1.0, "error": float("nan")}, {"us": 1.0, "error": 0.001})
    with pytest.raises(compare.WorkerError, match="the error is nan"):
        compare.model("cuda", BERT, 0.0)


def test_budget_lists_what_was_not_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked = replies(monkeypatch, {"us": 1.0, "error": 0.0}, {"us": 2.0, "error": 0.0})
    options = ["bench", "models", "--against", "cuda", "--filter", "GPT-2 decode", "ViT,"]
    assert main(options) == 0
    # Every model once before any a second time, each time in another dtype.
    assert [(r["name"], r["dtype"]) for r in asked if r["device"] == "gxu"] == [
        ("GPT-2 decode", "float16"), ("ViT", "float32"), ("GPT-2 decode", "bfloat16"), ("ViT", "float16"),
        ("GPT-2 decode", "float32"), ("ViT", "bfloat16"),
    ]  # fmt: skip
    assert "geometric mean of the models' latencies: 2.000 of cuda (bar 0.98)" in capsys.readouterr().out
    assert main([*options, "--budget", "0"]) == 1
    assert "ViT, float16: not run, the budget of 0 s was spent" in capsys.readouterr().out


def test_cpu_is_the_default_on_the_host_engine() -> None:
    assert compare.default_device() is None


def test_process_that_fails_says_why() -> None:
    with pytest.raises(compare.WorkerError, match=r"model no such model on cpu: .* status 1: StopIteration"):
        compare.ask("cpu", task="model", name="no such model", dtype="float32", training=False, seconds=0.0)
    with pytest.raises(compare.WorkerError, match="not finished after 0 s"):
        compare.ask("cpu", 0.01, task="machine")


def test_eager_against_the_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both processes for real: the same path that compares with cuda."""
    file = tmp_path / "rows.json"
    assert main(["bench", "eager", "--against", "cpu", "--elements", "4", "--seconds", "0", "--json", str(file)]) == 0
    rows = json.loads(file.read_text())
    assert {"add", "softmax", "mm"} <= {row["name"] for row in rows}
    assert all(row["ratio"] == pytest.approx(row["other"] / row["gxu"]) and row["gxu"] > 0 for row in rows)
    assert "cpu / gxu" in capsys.readouterr().out


def test_tiny_kernels_compiled_and_captured() -> None:
    reply = worker.launches("gxu", 0.0)
    assert reply["compiled"] > 0
    assert reply["captured"] > 0
    assert reply["compiled_kernels"] == worker.TINY_KERNELS


def test_kernels_of_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    reply = worker.triton("gxu", ["mean axis 1", "launch from Python"], 0.0)
    assert list(reply) == ["mean axis 1"]  # the other row is not one kernel
    assert reply["mean axis 1"] > 0


@pytest.mark.parametrize("what", ["triton", "memory"])
def test_what_the_cpu_does_not_have_is_refused(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", what, "--against", "cpu"]) == 2
    captured = capsys.readouterr()
    assert "--against cpu: torch" in captured.out + captured.err


def test_tables_name_their_unit(capsys: pytest.CaptureFixture[str]) -> None:
    bench_versus.print_rows([compare.Row("training runs", "run", 3 << 20, 2 << 20, 2 / 3, 0.97, "bytes")], "cuda")
    out = capsys.readouterr().out
    assert "training runs (MiB)" in out
    assert "below" in out
