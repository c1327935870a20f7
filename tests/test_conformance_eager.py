"""`python -m gxu conformance eager`: a slice of it, what it notices, and PyTorch's device-generic machinery on gxu."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gxu.conformance.case import SkipCase
from gxu.conformance.eager.check import check_samples
from gxu.conformance.eager.comparison import compare
from gxu.conformance.eager.data import Arguments, Mover


def conformance(*arguments: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: PyTorch's databases change settings of the one that imports them."""
    command = [sys.executable, "-m", "gxu", "conformance", "eager", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_slice_conforms(tmp_path: Path) -> None:
    """A sample over the whole table; the command without --limit is the complete run."""
    file = tmp_path / "counts.json"
    ended = conformance("--limit", "240", "--json", str(file))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    counts = json.loads(file.read_text())
    assert sum(counts["total"].values()) == 240
    assert counts["total"]["passed"] >= 220
    for name, count in counts["total"].items():
        assert count == sum(operator[name] for operator in counts["by_operator"].values())


@pytest.mark.extended
def test_everything_conforms(tmp_path: Path) -> None:
    file = tmp_path / "counts.json"
    ended = conformance("--json", str(file))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert json.loads(file.read_text())["total"]["passed"] > 25000


@pytest.mark.slow
def test_device_generic_tests() -> None:
    """`instantiate_device_type_tests` makes a class for gxu, whose samples are made on the device itself."""
    program = Path(__file__).with_name("device_generic.py")
    ended = subprocess.run([sys.executable, str(program), "-v"], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    for name in ("test_gradients_addmm_gxu_float64", "test_results_stay_on_the_device_sigmoid_gxu"):
        assert name in ended.stderr, ended.stderr


def test_wrong_requests() -> None:
    ended = conformance("--variants", "sideways")
    assert ended.returncode == 2
    assert "no variant sideways" in ended.stderr and "double backward" in ended.stderr


def sample(*tensors: torch.Tensor) -> Arguments:
    return Arguments(tensors[0], tuple(tensors[1:]), {})


def differing(kind: str):
    """A call that is wrong on the device in one way, and right on the CPU."""

    def call(arguments: Arguments) -> object:
        x = arguments.input
        if arguments.device == "cpu":
            return x.view(-1) if kind == "copied" else x + 1
        return {
            "value": lambda: x + 1.01,
            "dtype": lambda: (x + 1).double(),
            "strides": lambda: (x + 1).t().contiguous().t(),
            "device": lambda: (x + 1).cpu(),
            "form": lambda: (x + 1, x),
            "argument": lambda: x.add_(1).clone(),
            "copied": lambda: x.clone().view(-1),
        }[kind]()

    return call


@pytest.mark.parametrize("kind", ["value", "dtype", "strides", "device", "form", "argument", "copied"])
def test_differences_are_noticed(kind: str) -> None:
    with pytest.raises(AssertionError):
        check_samples([sample(torch.randn(3, 4))], differing(kind))


def test_what_the_cpu_refuses_is_not_asked_of_the_device() -> None:
    def call(arguments: Arguments) -> torch.Tensor:
        if arguments.device == "cpu":
            raise ValueError("not on the CPU")
        raise AssertionError("asked")

    with pytest.raises(SkipCase, match="not on the CPU"):
        check_samples([sample(torch.ones(1))], call)


def test_random_results_are_compared_by_their_form() -> None:
    check_samples([sample(torch.empty(3))], lambda arguments: torch.rand(3, device=arguments.device))
    size = {"cpu": 3, "gxu": 4}
    with pytest.raises(AssertionError):
        check_samples([sample(torch.empty(3))], lambda a: torch.rand(size[a.device], device=a.device))


def test_samples_are_moved_as_they_are() -> None:
    base = torch.randn(4, 6, dtype=torch.complex64)
    tree = {"view": base[::2, 1:4].t(), "conjugated": base.conj(), "overlapping": base[0].expand(3, 6), "number": 2}
    moved = Mover("gxu")(tree)
    assert moved["view"].untyped_storage().data_ptr() == moved["conjugated"].untyped_storage().data_ptr()
    assert moved["conjugated"].is_conj() and moved["overlapping"].stride() == (0, 1)
    compare(moved, tree)
    moved["view"].zero_()
    assert base.ne(0).all()
