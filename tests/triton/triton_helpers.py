"""What the tests of the Triton backend share: the conformance suite's guarded launches, references and comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
from torch.torch_version import TorchVersion

from gxu.conformance.triton.execution import GUARD, Guarded, interpret, launch

__all__ = ["GUARD", "TRITON_VERSION", "Guarded", "agree", "assert_same", "interpret", "launch"]


#: Compares by numbers: as strings, 3.10 would come before 3.7.
TRITON_VERSION = TorchVersion(triton.__version__)


def assert_same(actual: torch.Tensor, expected: torch.Tensor, rtol: float = 0.0, atol: float = 0.0) -> None:
    """Equal numbers, NaN at the same places; exactly so unless tolerances are given."""
    assert actual.dtype == expected.dtype
    if actual.dtype.itemsize == 1 and actual.is_floating_point():
        actual, expected = actual.view(torch.uint8), expected.view(torch.uint8)
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=atol, equal_nan=True)


def agree(
    kernel: Any, grid: Sequence[int], *args: Any, rtol: float = 0.0, atol: float = 0.0, **meta: Any
) -> list[torch.Tensor]:
    """Every tensor in ``args`` is the same after gxu ran ``kernel`` as after the interpreter did. Returns gxu's."""
    actual = launch(kernel, grid, *args, **meta)
    for number, (got, wanted) in enumerate(zip(actual, interpret(kernel, grid, *args, **meta), strict=True)):
        try:
            assert_same(got, wanted, rtol, atol)
        except AssertionError as error:
            raise AssertionError(f"tensor argument {number}: {error}") from None
    return actual


def random_bits(count: int, dtype: torch.dtype) -> torch.Tensor:
    """Numbers of every kind that ``dtype`` has, uniform over its bit patterns."""
    if dtype == torch.bool:
        return torch.randint(0, 2, (count,)).bool()
    return torch.randint(0, 256, (count * dtype.itemsize,), dtype=torch.uint8).view(dtype)
