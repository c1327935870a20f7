"""How Inductor measures candidates on gxu: in the process, in another one, and by coordinate descent."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from inductor_helpers import assert_close
from torch._dynamo.utils import counters
from torch._inductor import config as inductor_config
from torch._inductor import select_algorithm
from torch._inductor.runtime.coordinate_descent_tuner import CoordescTuner

from gxu.inductor import block_sizes
from gxu.inductor.autotuner import GXUCoordescTuner

pytestmark = pytest.mark.filterwarnings("ignore:TypedStorage is deprecated", "ignore:dynamo_pgo force disabled")


@pytest.fixture
def timings() -> Iterator[list[dict[Any, float]]]:
    """What every choice that is made in the test was measured to take."""
    recorded: list[dict[Any, float]] = []
    select_algorithm.add_feedback_saver(lambda times, *_: recorded.append(dict(times)))
    yield recorded
    select_algorithm.clear_feedback_savers()


def compile_product(a: torch.Tensor, b: torch.Tensor, **options: Any) -> Any:
    torch._dynamo.reset()
    settings = {"force_disable_caches": True, "max_autotune": True, **options}
    with inductor_config.patch({"test_configs.max_mm_configs": 2, **settings}):
        return torch.compile(torch.mm, fullgraph=True)(a.to("gxu"), b.to("gxu"))


def test_template_competes_with_the_library(timings: list[dict[Any, float]]) -> None:
    a, b = torch.randn(64, 64) / 8, torch.randn(64, 64)
    assert_close(compile_product(a, b), a.double() @ b.double())
    (times,) = timings
    names = {choice.name.rstrip("0123456789") for choice in times}
    assert names == {"mm", "triton_mm_"}
    assert all(0 < time < math.inf for time in times.values())


def test_measuring_draws_no_random_numbers(timings: list[dict[Any, float]]) -> None:
    torch.manual_seed(3)
    expected = torch.rand(5, device="gxu")
    torch.manual_seed(3)
    compile_product(torch.ones(64, 64), torch.ones(64, 64))
    assert len(timings) == 1
    assert torch.equal(torch.rand(5, device="gxu").cpu(), expected.cpu())


@pytest.mark.skipif(torch.__version__ < "2.12", reason="torch 2.11 calls its own function with an argument too few")
def test_log_of_results(tmp_path: Path) -> None:
    folder = {"trace.enabled": True, "trace.debug_dir": str(tmp_path), "trace.log_autotuning_results": True}
    compile_product(torch.ones(64, 64), torch.ones(64, 64), **folder)
    (path,) = tmp_path.rglob("autotuning_result_json_list.txt")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert {row["backend"] for row in rows} == {"extern", "Triton"}
    assert {row["cuda_device_name"] for row in rows} == {torch.gxu.get_device_name()}


def test_subprocess(timings: list[dict[Any, float]]) -> None:
    """Templates are measured in another process, which registers gxu by itself."""
    a, b = torch.randn(64, 64) / 8, torch.randn(64, 64)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Failed to benchmark|Timed out")
        assert_close(compile_product(a, b, autotune_in_subproc=True), a.double() @ b.double())
    (times,) = timings
    assert len(times) >= 2
    assert all(0 < time < math.inf for time in times.values())


def test_results_are_cached(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second compilation of the same product, of a graph that is not cached, measures nothing."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    a, b = torch.randn(32, 48) / 8, torch.randn(48, 32)
    measured = []
    for _ in range(2):
        counters.clear()
        compile_product(a, b, force_disable_caches=False, fx_graph_cache=False)
        measured.append(counters["inductor"]["select_algorithm_autotune"])
    assert measured == [1, 0]


@pytest.mark.parametrize("descend", [False, True])
def test_candidates_of_generated_kernels(descend: bool) -> None:
    """With max_autotune, or by coordinate descent, blocks are measured; the result is the same."""
    torch._dynamo.reset()
    counters.clear()
    x, y = torch.randn(200, 300), torch.randn(200, 300)
    fn = lambda x, y: torch.softmax(x * y + 1, -1).sum(0)  # noqa: E731
    settings = {"coordinate_descent_tuning": descend, "max_autotune": not descend, "force_disable_caches": True}
    with inductor_config.patch(settings):
        assert_close(torch.compile(fn)(x.to("gxu"), y.to("gxu")), fn(x.double(), y.double()))
    measured = sum(count for name, count in counters["inductor"].items() if "benchmark" in name)
    assert measured >= 2
    assert (counters["inductor"]["coordesc_tuning_bench"] > 0) == descend


def test_coordinate_descent_stays_within_gxus_blocks() -> None:
    """Warps and stages are not tuned; blocks go up to what code generation reckons with."""
    torchs = CoordescTuner(size_hints={"x": 1 << 22}, inductor_meta={})
    tuner = GXUCoordescTuner.of(torchs)
    assert not {"num_warps", "num_stages"} & set(tuner.tunable_fields)
    assert tuner.get_config_max("x") == block_sizes.MAX_BLOCK["X"] > torchs.get_config_max("x")
    assert tuner.get_config_max("r0_") == block_sizes.MAX_BLOCK["R0_"]
    assert GXUCoordescTuner.of(CoordescTuner(size_hints={"x": 64})).get_config_max("x") == 64


def test_smaller_blocks() -> None:
    blocks = {"XBLOCK": 64, "R0_BLOCK": 8}
    assert block_sizes.smaller(blocks, {"R0_BLOCK": 4}) == [
        blocks,
        {"XBLOCK": 32, "R0_BLOCK": 8},
        {"XBLOCK": 16, "R0_BLOCK": 8},
        {"XBLOCK": 64, "R0_BLOCK": 4},
    ]
    assert block_sizes.smaller({"XBLOCK": 1}, {}) == [{"XBLOCK": 1}]
