"""The training examples: losses as on the CPU, and runs that go on in a new process as if they had not been cut."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from process_helpers import ROOT, RunPython

SMALL = {
    "train_gpt.py": ("--batch", "4", "--length", "32", "--width", "32", "--layers", "1"),
    "train_resnet.py": ("--batch", "4", "--width", "4", "--samples", "100"),
}
EXAMPLES = list(SMALL)


def train(run_python: RunPython, example: str, *options: str) -> str:
    result = run_python(str(ROOT / "examples" / example), *options, env={"OMP_NUM_THREADS": "1"}, timeout=1500)
    assert result.returncode == 0, result.stderr
    return str(result.stdout)


def losses_of(run_python: RunPython, folder: Path, example: str, *options: str) -> torch.Tensor:
    file = folder / "losses.json"
    train(run_python, example, "--losses", str(file), *options)
    return torch.tensor(json.loads(file.read_text()), dtype=torch.float64)


def same(left: Any, right: Any) -> bool:
    """Whether two checkpoints are equal, tensors bit for bit."""
    if isinstance(left, torch.Tensor):
        bits = [tensor.reshape(-1).view(torch.uint8) for tensor in (left, right)]
        return left.dtype == right.dtype and left.shape == right.shape and torch.equal(*bits)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES)
def test_losses_are_those_of_the_cpu(example: str, run_python: RunPython, tmp_path: Path) -> None:
    options = (*SMALL[example], "--steps", "5", "--precision", "bf16", "--dropout", "0", "--workers", "1")
    gxu = losses_of(run_python, tmp_path, example, "--device", "gxu", *options)
    cpu = losses_of(run_python, tmp_path, example, "--device", "cpu", *options)
    assert len(gxu) == 5
    torch.testing.assert_close(gxu, cpu, rtol=0, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("example", "precision"), [("train_gpt.py", "fp16"), ("train_resnet.py", "bf16")])
def test_resumed_run_is_bit_equal(example: str, precision: str, run_python: RunPython, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole.pt", tmp_path / "parts.pt"
    options = (*SMALL[example], "--steps", "4", "--precision", precision, "--dropout", "0.2", "--workers", "1")
    train(run_python, example, "--checkpoint", str(whole), *options)
    train(run_python, example, "--checkpoint", str(parts), "--save-at", "2", *options)
    cut = torch.load(parts)
    assert len(cut["losses"]) == 2
    train(run_python, example, "--checkpoint", str(parts), "--resume", *options)
    expected, resumed = torch.load(whole), torch.load(parts)
    assert len(expected["losses"]) == 4
    assert next(iter(expected["model"].values())).device.type == "gxu"
    for part in expected:
        assert same(resumed[part], expected[part]), part
    assert not same(cut["model"], expected["model"])


@pytest.mark.extended
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("example", EXAMPLES)
def test_200_steps_as_on_the_cpu(example: str, precision: str, run_python: RunPython, tmp_path: Path) -> None:
    options = ("--steps", "200", "--precision", precision, "--dropout", "0")
    gxu = losses_of(run_python, tmp_path, example, "--device", "gxu", *options)
    cpu = losses_of(run_python, tmp_path, example, "--device", "cpu", *options)
    assert len(gxu) == 200
    assert gxu[-20:].mean() < 0.7 * gxu[:20].mean(), "it learns"
    torch.testing.assert_close(gxu, cpu, rtol=0, atol=1e-3)


@pytest.mark.extended
def test_200_steps_in_fp16(run_python: RunPython, tmp_path: Path) -> None:
    """With GradScaler. A small model: products in fp16 are emulated on most processors."""
    options = (*SMALL["train_gpt.py"], "--steps", "200", "--precision", "fp16", "--dropout", "0", "--workers", "1")
    gxu = losses_of(run_python, tmp_path, "train_gpt.py", "--device", "gxu", *options)
    cpu = losses_of(run_python, tmp_path, "train_gpt.py", "--device", "cpu", *options)
    assert len(gxu) == 200
    assert gxu[-20:].mean() < 0.7 * gxu[:20].mean(), "it learns"
    torch.testing.assert_close(gxu, cpu, rtol=0, atol=1e-3)


@pytest.mark.extended
@pytest.mark.parametrize("example", EXAMPLES)
def test_200_steps_cut_in_two(example: str, run_python: RunPython, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole.pt", tmp_path / "parts.pt"
    train(run_python, example, "--checkpoint", str(whole))
    train(run_python, example, "--checkpoint", str(parts), "--save-at", "100")
    train(run_python, example, "--checkpoint", str(parts), "--resume")
    expected, resumed = torch.load(whole), torch.load(parts)
    for part in expected:
        assert same(resumed[part], expected[part]), part
