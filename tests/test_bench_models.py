"""`python -m gxu bench models`: its parts, and one row."""

from __future__ import annotations

import json

import pytest
import torch

from gxu.benchmarks.models import catalogue, measure, work
from gxu.cli import bench_models
from gxu.cli.errors import UsageError
from gxu.cli.main import main


def test_every_model_makes_the_same_numbers_each_time() -> None:
    for model in catalogue.MODELS:
        if model.name not in ("MiniLM", "GPT-2 decode"):
            continue
        (first, inputs), (second, again) = (catalogue.prepare(model, "cpu", torch.float32) for _ in range(2))
        assert all(map(torch.equal, inputs, again))
        assert all(map(torch.equal, first.parameters(), second.parameters()))


def test_error_is_relative_to_all_results() -> None:
    reference = [torch.tensor([3.0], dtype=torch.float64), torch.tensor([4.0], dtype=torch.float64)]
    assert work.error([torch.tensor([3.0]), torch.tensor([4.5])], reference) == pytest.approx(0.1)
    assert work.error([torch.zeros(1)], [torch.zeros(1)]) == 0


def test_means_are_inductors_figures_over_ours() -> None:
    def row(ours: float, theirs: float, cold: float | None) -> measure.Row:
        return measure.Row("m", theirs / ours, 0.85, ours, theirs, 1.0, 0.0, 0.0, cold, None if cold is None else 6.0)

    means = bench_models.means([row(1.0, 2.0, None), row(8.0, 4.0, 2.0)])
    assert means == {"latency": pytest.approx(1.0), "cold compile": pytest.approx(3.0)}


def test_unknown_model_is_named() -> None:
    with pytest.raises(UsageError, match="no row has that in its name; the models are: MiniLM, BERT"):
        bench_models.select(["elephant"])
    assert main(["bench", "models", "--filter", "elephant"]) == 2


def test_a_model_without_its_weights_is_left_out(monkeypatch, capsys) -> None:
    monkeypatch.setattr(catalogue, "MODELS", (catalogue.Model("MiniLM", catalogue._bert, weights="no_such_package"),))
    assert main(["bench", "models", "--filter", "MiniLM", "--against", "cpu"]) == 0
    assert main(["bench", "models", "--filter", "MiniLM"]) == 0
    sentence = "MiniLM: left out, its weights are not installed"
    assert " ".join(capsys.readouterr().out.split()).count(sentence) == 2


def test_a_process_that_fails_says_why(tmp_path) -> None:
    request = measure.Request("no such model", "float32", training=False)
    with pytest.raises(measure.ProcessError, match="no such model, float32: the measuring process ended with status 1"):
        measure._ask(request, str(tmp_path), task="latency", seconds=0.1)


def test_resume_measures_only_what_the_file_lacks(tmp_path, monkeypatch) -> None:
    file = tmp_path / "rows.json"
    asked = []

    def row(request, seconds, *, quick):
        asked.append((request.name, seconds))
        if len(asked) == 2:
            raise measure.ProcessError(f"{request.name}: stopped")
        return measure.Row(request.name, 2.0, 0.85, 1.0, 2.0, 1.0, 0.0, 0.0)

    monkeypatch.setattr(measure, "measure", row)
    command = ["bench", "models", "--filter", "T5", "--json", str(file), "--seconds", "0.5", "--resume"]
    assert main(command) == 1
    assert [entry["name"] for entry in json.loads(file.read_text())] == ["T5, float32"]
    assert main(command) == 0
    assert [entry["name"] for entry in json.loads(file.read_text())] == ["T5, float32", "T5, bfloat16"]
    assert asked == [("T5, float32", 0.5), ("T5, bfloat16", 0.5), ("T5, bfloat16", 0.5)]


@pytest.mark.parametrize(
    ("arguments", "content"), [(["--resume"], None), (["--seconds", "0"], None), (["--resume", "--json"], '[{"a": 1}]')]
)
def test_options_that_do_not_go_together_are_refused(arguments, content, tmp_path) -> None:
    file = tmp_path / "rows.json"
    if content is not None:
        file.write_text(content)
        arguments = [*arguments, str(file)]
    assert main(["bench", "models", "--filter", "T5", *arguments]) == 2


@pytest.mark.extended
def test_one_row(tmp_path, capsys) -> None:
    file = tmp_path / "rows.json"
    assert main(["bench", "models", "--filter", "GPT-2 decode, float32", "--json", str(file)]) == 0
    (row,) = json.loads(file.read_text())
    assert row["name"] == "GPT-2 decode, float32"
    assert row["ratio"] == pytest.approx(row["inductor_ms"] / row["gxu_ms"])
    assert row["error"] < 1e-5
    assert row["cold_s"] > row["warm_s"] > 0
    assert "geometric mean of cold compile" in capsys.readouterr().out
