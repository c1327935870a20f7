"""The compile suite: a few of its cases, and that it sees wrong results."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.testing._internal.opinfo.core import SampleInput

from gxu.cli.main import main
from gxu.conformance.case import SkipCase
from gxu.conformance.compile.check import check_samples


def sample() -> SampleInput:
    return SampleInput(torch.arange(5.0))


def test_some_operators_conform(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["conformance", "compile", "--operators", "cumsum,bernoulli", "--dtypes", "float32", "--jobs", "1"]) == 0
    )
    assert "total" in capsys.readouterr().out


def on_the_wrong_device(arguments: Any) -> Any:
    return (arguments.input + 1).cpu()


def one_more_on_gxu(arguments: Any) -> Any:
    return arguments.input + (1 if arguments.input.device.type == "cpu" else 2)


def refused(arguments: Any) -> Any:
    raise TypeError("no")


def test_wrong_results_are_seen() -> None:
    with pytest.raises(AssertionError, match="the result is on cpu"):
        check_samples([(sample(), on_the_wrong_device)], dynamic=False, values=True)
    with pytest.raises(AssertionError, match="not close"):
        check_samples([(sample(), one_more_on_gxu)], dynamic=False, values=True)


def test_what_the_cpu_refuses_is_skipped() -> None:
    with pytest.raises(SkipCase, match="no"):
        check_samples([(sample(), refused)], dynamic=False, values=True)
