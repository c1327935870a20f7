"""`python -m gxu demo` from the command line, both models: the schema of its figures, and what they must satisfy."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from process_helpers import ROOT, RunPython

VARIANTS = {"cpu_eager", "cpu_compiled", "gxu_eager", "gxu_compiled"}
KEYS = {"max_abs_diff", "kernels_generated", "kernels_launched", "compile_s", "latency_ms"}


def check_figures(figures: dict[str, Any]) -> None:
    assert set(figures["latency_ms"]) == VARIANTS
    assert set(figures["compile_s"]) == {"gxu", "cpu"}
    assert all(value > 0 for value in [*figures["latency_ms"].values(), *figures["compile_s"].values()])
    assert 0 <= figures["max_abs_diff"] < 1e-4
    assert figures["kernels_generated"] > 0
    assert figures["kernels_launched"] > 0


@pytest.mark.slow
def test_mlp(run_python: RunPython, tmp_path: Path) -> None:
    result = run_python("-m", "gxu", "demo", "--model", "mlp", "--seconds", "0.2", "--json", "mlp.json")
    assert result.returncode == 0, result.stderr
    figures = json.loads((tmp_path / "mlp.json").read_text())
    assert set(figures) == {*KEYS, "max_abs_diff_gradients"}
    check_figures(figures)
    assert figures["max_abs_diff_gradients"] < 1e-4
    for title in ("CPU eager", "gxu compiled", "median latency (ms)", "speed-up over its own eager"):
        assert title in result.stdout
    # Without a terminal there are no control sequences and no progress display.
    assert "\x1b" not in result.stdout + result.stderr
    assert "compiling for" not in result.stderr


@pytest.mark.slow
def test_minilm_finds_the_nearest_sentence(run_python: RunPython, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(
        "The cat sleeps on the sofa.\n"
        "Interest rates were raised again by the central bank.\n"
        "A kitten is dozing on the couch.\n"
        "Banks now charge more for loans.\n"
        "The bicycle has a flat tyre.\n"
    )
    (tmp_path / "queries.txt").write_text("My bike's wheel has lost its air.\nA sleeping cat.\n")
    arguments = ["--text", "text.txt", "--queries", "queries.txt", "--seconds", "0.2", "--json", "minilm.json"]
    result = run_python("-m", "gxu", "demo", *arguments, timeout=280)
    assert result.returncode == 0, result.stderr
    figures = json.loads((tmp_path / "minilm.json").read_text())
    assert set(figures) == KEYS
    check_figures(figures)
    assert figures["kernels_generated"] >= 6, "six layers need more than one kernel each"
    assert re.search(r"My bike's wheel has lost its air\.\s+The bicycle has a flat tyre\.", result.stdout)
    assert re.search(r"A sleeping cat\.\s+The cat sleeps on the sofa\.", result.stdout)


@pytest.mark.slow
def test_mlp_example_learns(run_python: RunPython) -> None:
    result = run_python(str(ROOT / "examples" / "mlp.py"))
    assert result.returncode == 0, result.stderr
    losses = [float(value) for value in re.findall(r"loss ([0-9.]+)", result.stdout)]
    assert len(losses) == 4
    assert losses[-1] < 0.8 * losses[0]
