"""`python -m gxu bench ... --against DEVICE`: the processes that measure, and the rows made of what they say."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from gxu.benchmarks.models.measure import Request
from gxu.benchmarks.triton.row import Case
from gxu.benchmarks.versus import compare, processes, worker
from gxu.benchmarks.versus.processes import Deadline, Effort, Item, WorkerError, measured
from gxu.cli import bench_versus
from gxu.cli.main import main

BERT = Request("BERT", "float16", training=False)
QUICK = Effort(seconds=0.0)
FOREVER = Deadline(time.monotonic() + 600, 600)


def replies(monkeypatch: pytest.MonkeyPatch, gxu: dict[str, Any], other: dict[str, Any] | WorkerError) -> list[Item]:
    """Measuring processes that say this; what they were asked."""
    asked: list[Item] = []

    def say(device: str, items: Sequence[Item], effort: Effort, *, fresh: bool = False) -> Iterator[Any]:
        for item in items:
            asked.append(item)
            yield item, other if isinstance(other, WorkerError) else (gxu, other)

    monkeypatch.setattr(compare, "measured", say)
    return asked


def test_ratios_are_the_others_over_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = replies(monkeypatch, {"us": 2.0}, {"us": 3.0})
    rows = [row for outcome in compare.eager("cuda", [1, 1 << 24], QUICK) for row in outcome]
    small, large = rows[:2]
    assert (small.gxu, small.other, small.ratio) == (2.0, 3.0, 1.5)
    assert (small.bar, large.bar) == (0.85, 0.99)
    assert [item.request["elements"] for item in asked] == [1, 1 << 24] * (len(rows) // 2)


def test_memory_has_bars_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    replies(
        monkeypatch,
        {"allocated_bytes": 103, "reserved_bytes": 210},
        {"allocated_bytes": 100, "reserved_bytes": 200},
    )
    ((allocated, reserved),) = compare.memory("cuda", ["run"], QUICK)
    assert (allocated.group, reserved.group) == ("training runs, allocated bytes", "training runs, reserved bytes")
    assert allocated.ratio >= allocated.bar  # 3 % more is within it
    assert reserved.ratio >= reserved.bar  # and 5 %


def test_what_fails_has_a_sentence_and_the_rest_its_rows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    row = compare.Row("Triton kernels", "a", 1.0, 2.0, 2.0, 0.98, "us")
    failure = WorkerError("b on cuda: OutOfResources: shared memory")
    file = tmp_path / "rows.json"

    def outcomes(other: str, names: Sequence[str], effort: Effort) -> Iterator[compare.Outcome]:
        yield failure
        assert json.loads(file.read_text()) == []
        yield [row]
        assert [entry["name"] for entry in json.loads(file.read_text())] == ["a"], "written after each"

    monkeypatch.setattr(compare, "triton", outcomes)
    assert main(["bench", "triton", "--against", "cuda", "--json", str(file)]) == 1
    out = capsys.readouterr().out
    assert "b on cuda: OutOfResources: shared memory" in out
    assert "1 of 1 rows with a bar reach it" in out


def test_model_with_wrong_numbers_has_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    replies(monkeypatch, {"us": 1.0, "error": 0.1}, {"us": 1.0, "error": 0.001})
    (outcome,) = compare.models("cuda", [BERT], QUICK)
    assert str(outcome) == "BERT, float16: the error is 0.1, and 0.001 on cuda"
    replies(monkeypatch, {"us": 1.0, "error": float("nan")}, {"us": 1.0, "error": 0.001})
    (outcome,) = compare.models("cuda", [BERT], QUICK)
    assert isinstance(outcome, WorkerError)
    assert "the error is nan" in str(outcome)


def test_every_model_once_before_any_a_second_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = replies(monkeypatch, {"us": 1.0, "error": 0.0}, {"us": 2.0, "error": 0.0})
    assert main(["bench", "models", "--against", "cuda", "--filter", "GPT-2 decode", "ViT,"]) == 0
    assert [(item.request["name"], item.request["dtype"]) for item in asked] == [
        ("GPT-2 decode", "float16"), ("ViT", "float32"), ("GPT-2 decode", "bfloat16"), ("ViT", "float16"),
        ("GPT-2 decode", "float32"), ("ViT", "bfloat16"),
    ]  # fmt: skip
    assert "geometric mean of the models' latencies: 2.000 of cuda (bar 0.98)" in capsys.readouterr().out


def test_every_kind_of_kernel_once_before_any_a_second_time() -> None:
    def case(name: str) -> Case:
        return Case(name, name[0], lambda settings: pytest.fail("not measured here"))

    ordered = compare.kinds_in_turns(map(case, ("a1", "a2", "a3", "b1", "c1", "c2")))
    assert [each.name for each in ordered] == ["a1", "b1", "c1", "a2", "c2", "a3"]


def eager(name: str) -> Item:
    return Item(name, {"task": "eager", "name": name, "elements": 4})


def test_rows_share_processes_until_one_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[processes.Worker] = []

    class Counted(processes.Worker):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            started.append(self)

    monkeypatch.setattr(processes, "Worker", Counted)
    items = [eager("add"), eager("no such operator"), eager("mul"), eager("relu")]
    outcomes = list(measured("cpu", items, Effort(seconds=0.0, jobs=2)))
    assert [item for item, _ in outcomes] == items
    replies = [outcome for _, outcome in outcomes]
    assert str(replies.pop(1)) == "no such operator on gxu: KeyError: 'no such operator'"
    for outcome in replies:
        assert not isinstance(outcome, WorkerError)
        assert all(reply["us"] > 0 for reply in outcome)
    assert [each.device for each in started] == ["gxu", "cpu"] * 3
    assert all(each._process.poll() is not None for each in started), "they ended with the measurement"


def test_all_are_prepared_before_one_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[str, str]] = []

    class Silent:
        def __init__(self, device: str, *arguments: Any) -> None:
            self.device, self.what, self.last = device, "", ""

        def send(self, **request: Any) -> None:
            self.last = "measured" if "seconds" in request else "prepared"

        def receive(self, deadline: Deadline) -> Mapping[str, Any]:
            done.append((self.last, self.what))
            return {"samples": [1.0, 5.0, 9.0]} if self.last == "measured" else {}

        def close(self) -> None:
            done.append(("closed", self.device))

    monkeypatch.setattr(processes, "Worker", Silent)
    outcomes = list(measured("cpu", [Item(name, {}) for name in "abc"], Effort(0.0, jobs=2), fresh=True))
    assert [outcome for _, outcome in outcomes] == [({"samples": [1.0, 5.0, 9.0], "us": 5.0},) * 2] * 3
    closed = [("closed", "gxu"), ("closed", "cpu")]
    assert done == [
        *[("prepared", "a")] * 2, *[("prepared", "b")] * 2,
        *[("measured", "a")] * 8, *closed, *[("measured", "b")] * 8, *closed,
        *[("prepared", "c")] * 2, *[("measured", "c")] * 8, *closed,
    ]  # fmt: skip


def test_budget_lists_what_was_not_run(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["bench", "models", "--against", "cpu", "--filter", "ViT, float16"]
    assert main([*options, "--budget", "0"]) == 1
    assert "ViT, float16: not run, the budget of 0 s was spent" in capsys.readouterr().out
    begun = time.monotonic()
    assert main([*options, "--budget", "0.5"]) == 1
    assert "ViT, float16 on gxu: not finished within 0 s" in capsys.readouterr().out
    assert time.monotonic() - begun < 60
    assert main([*options, "--jobs", "0"]) == 2


def test_cpu_is_the_default_on_the_host_engine() -> None:
    assert compare.default_device() is None


def test_process_that_fails_says_why(tmp_path: Path) -> None:
    item = Item("no model", {"task": "model", "name": "none", "dtype": "float32", "training": False, "threads": 1})
    ((_, outcome),) = measured("cpu", [item], QUICK)
    assert str(outcome) == "no model on gxu: StopIteration:"
    absent = processes.Worker("cpu", tmp_path, 1)
    absent.what = "a row"
    absent._process.kill()
    absent.send(task="eager")
    with pytest.raises(WorkerError, match="a row on cpu: the measuring process ended with status -9: no message"):
        absent.receive(FOREVER)
    absent.close()


def test_eager_against_the_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both processes for real: the same path that compares with cuda."""
    file = tmp_path / "rows.json"
    assert main(["bench", "eager", "--against", "cpu", "--elements", "4", "--seconds", "0", "--json", str(file)]) == 0
    rows = json.loads(file.read_text())
    assert {"add", "softmax", "mm"} <= {row["name"] for row in rows}
    assert all(row["ratio"] == pytest.approx(row["other"] / row["gxu"]) and row["gxu"] > 0 for row in rows)
    assert "cpu / gxu" in capsys.readouterr().out


def test_tiny_kernels_compiled_and_captured() -> None:
    reply = worker.launches("gxu", captured=False)(0.0)
    assert min(reply["samples"]) > 0
    assert reply["kernels"] == worker.TINY_KERNELS
    assert min(worker.launches("gxu", captured=True)(0.0)["samples"]) > 0


def test_kernels_of_the_benchmark() -> None:
    assert min(worker.triton("gxu", "mean axis 1")(0.0)["samples"]) > 0
    with pytest.raises(ValueError, match="launch from Python is not one kernel"):
        worker.triton("gxu", "launch from Python")


def test_memory_of_results_that_cuda_holds_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from gxu import _C

    assert worker.memory_modules("cpu") == []
    assert worker.memory_modules("gxu") == [torch.gxu]
    monkeypatch.setattr(_C, "delegates_to_cuda", lambda device: True)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 5)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: 7)
    assert worker.memory_modules("gxu") == [torch.gxu, torch.cuda]
    assert worker.peaks("gxu") == {
        "allocated_bytes": torch.gxu.max_memory_allocated() + 5,
        "reserved_bytes": torch.gxu.max_memory_reserved() + 7,
    }


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
