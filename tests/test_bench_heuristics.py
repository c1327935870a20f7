"""`python -m gxu bench heuristics`: its parts, and one row."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from triton import Config

from gxu.benchmarks import heuristics
from gxu.benchmarks.plot import draw
from gxu.cli import bench_heuristics
from gxu.cli.errors import UsageError
from gxu.cli.main import main
from gxu.inductor import choices, config


def test_candidates_are_combinations_of_blocks() -> None:
    start = Config({"XBLOCK": 8, "R0_BLOCK": 64}, num_warps=1, num_stages=1)
    found = [tuple(candidate.kwargs.values()) for candidate in heuristics.candidates(start)]
    assert len(set(found)) == len(found)
    assert (16, 16) in found
    assert (1, 256) in found
    assert (4, 16) not in found  # too small
    assert all(256 <= x * r <= 1 << 20 for x, r in found)
    assert start.kwargs == {"XBLOCK": 8, "R0_BLOCK": 64}


def test_torchs_choice_is_a_device_without_a_grid_rule() -> None:
    device = torch.device("gxu", 0)
    assert choices.device_limits(device).has_grid_rule
    with config.patch(use_grid_rule=False):
        assert not choices.device_limits(device).has_grid_rule


def test_search_is_undone() -> None:
    from torch._inductor.runtime.coordinate_descent_tuner import CoordescTuner

    from gxu.inductor.autotuner import GXUCoordescTuner

    with heuristics.exhaustive_search():
        assert GXUCoordescTuner.autotune is not CoordescTuner.autotune
    assert GXUCoordescTuner.autotune is CoordescTuner.autotune


def test_dynamo_keeps_variants_of_a_workload_apart() -> None:
    from torch._dynamo import trace_rules

    function = heuristics.WORKLOADS[0].function
    copies = [heuristics._copy(function) for _ in range(2)]
    assert copies[0].__code__ is not copies[1].__code__
    assert not any(trace_rules.check(copy) for copy in copies), "Dynamo would wrap them in a function that they share"
    x, y = torch.randn(2, 10)
    assert torch.equal(copies[0](x, y), function(x, y))


def test_wrong_numbers_are_an_error() -> None:
    workload = heuristics.Workload("sum", lambda x: x + 1, ((100,),))
    operands = [torch.zeros(100, device="gxu")]
    with pytest.raises(heuristics.WrongResultError, match="sum with gxu blocks: numbers differ"):
        heuristics._compile(workload, operands, torch.zeros(100, dtype=torch.float64))


def test_unknown_row_is_named() -> None:
    with pytest.raises(UsageError, match="no row has that in its name; the rows are: pointwise, 4 K;"):
        bench_heuristics.select(["elephant"])
    assert main(["bench", "heuristics", "--filter", "elephant"]) == 2


def test_the_plot_compares_with_torchs_blocks_and_with_the_best(tmp_path: Path) -> None:
    row = heuristics.Row("sum", 2.0, 3.0, 1.0, 1.5, 0.5, 7, "X=1", "X=2")
    assert bench_heuristics.bars([row]) == [
        ("sum", 1.5, 1.0, "torch's blocks"),
        ("sum", 0.5, heuristics.BAR, "the best blocks"),
    ]
    draw(bench_heuristics.bars([row]), tmp_path / "rows.svg")
    assert "torch's blocks" in (tmp_path / "rows.svg").read_text()


def test_one_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rows.json"
    assert main(["bench", "heuristics", "--filter", "softmax", "--seconds", "0.01", "--json", str(file)]) == 0
    (row,) = json.loads(file.read_text())
    assert row["ratio"] == pytest.approx(row["best_us"] / row["gxu_us"])
    assert row["against_torch"] == pytest.approx(row["torch_us"] / row["gxu_us"])
    assert row["tried"] >= 4
    assert row["blocks"].startswith("X=")
    assert row["best_blocks"].startswith("X=")
    assert "geometric means" in capsys.readouterr().out
