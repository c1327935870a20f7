"""One operator, one dtype, one way to call it: the same calls on the CPU and on the device, sample by sample."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from gxu.conformance.case import SkipCase
from gxu.conformance.eager.comparison import compare, compare_sharing, sharing
from gxu.conformance.eager.data import DEVICE, Arguments

SEED = 20

#: What one call gives for arguments that are all on one device.
Call = Callable[[Arguments], Any]


class Rejected(Exception):  # noqa: N818
    """The CPU does not accept the call, so nothing is asked of the device."""


def check_samples(samples: Iterable[Any], call: Call, *, strides: bool = True, values: bool = True) -> None:
    """`call` on every sample. SkipCase if the CPU takes none of them, AssertionError for the first that differs."""
    compared, rejection = 0, "no samples"
    iterator = enumerate(samples)
    while True:
        try:
            number, sample = next(iterator)
        except StopIteration:
            break
        except Exception as error:  # the CPU cannot make the next sample
            rejection = f"{type(error).__name__}: {error}"
            break
        try:
            check(Arguments.of(sample), call, strides=strides, values=values)
        except Rejected as rejected:
            rejection = str(rejected)
            continue
        except Exception as error:
            raise AssertionError(f"sample {number}: {type(error).__name__}: {error}") from error
        compared += 1
    if compared == 0:
        raise SkipCase(f"the CPU takes none of the samples: {rejection}")


def check(arguments: Arguments, call: Call, *, strides: bool = True, values: bool = True) -> None:
    """Compares results, arguments after the call, and shared memory."""
    on_cpu = arguments.on("cpu")
    expected = on_the_cpu(call, on_cpu)
    on_device = arguments.on(DEVICE)
    torch.manual_seed(SEED)
    actual = call(on_device)
    compare_sharing(sharing(actual, on_device.all()), sharing(expected, on_cpu.all()))
    try:
        compare(actual, expected, strides=strides, values=values)
        compare(on_device.all(), on_cpu.all(), strides=strides)
    except AssertionError:
        if not is_random(call, arguments):
            raise
        compare(actual, expected, strides=strides, values=False)


def on_the_cpu(call: Call, arguments: Arguments, seed: int = SEED) -> Any:
    torch.manual_seed(seed)
    try:
        return call(arguments)
    except Exception as error:
        raise Rejected(f"{type(error).__name__}: {error}") from error


def is_random(call: Call, arguments: Arguments) -> bool:
    """True where the CPU's own result depends on the seed, or on memory that nobody wrote."""
    first, second = arguments.on("cpu"), arguments.on("cpu")
    results = on_the_cpu(call, first, SEED), on_the_cpu(call, second, SEED + 1)
    try:
        compare_on_cpu(results[0], results[1])
        compare_on_cpu(first.all(), second.all())
    except AssertionError:
        return True
    return False


def compare_on_cpu(first: Any, second: Any) -> None:
    from torch.utils._pytree import tree_leaves

    for left, right in zip(tree_leaves(first), tree_leaves(second), strict=True):
        if isinstance(left, torch.Tensor | bool | int | float | complex):
            torch.testing.assert_close(left, right, equal_nan=True, rtol=0, atol=0)
