"""One operator, one dtype, one way to call it: the same calls on the CPU and on the device, sample by sample."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from unittest import mock

import torch
from torch.utils._pytree import tree_leaves

from gxu.conformance.case import SkipCase
from gxu.conformance.eager.comparison import compare, compare_sharing, sharing, tensors_of
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
    if not tensors_of(arguments.all()) and "device" not in arguments.kwargs:
        raise Rejected("neither a tensor nor a device among the arguments")
    on_device = arguments.on(DEVICE)
    torch.manual_seed(SEED)
    actual = call(on_device)
    compare_sharing(sharing(actual, on_device.all()), sharing(expected, on_cpu.all()))
    try:
        compare(actual, expected, strides=strides, values=values)
        compare(on_device.moved(), on_cpu.moved(), strides=strides)
    except AssertionError:
        if not is_random(call, arguments):
            raise
        compare(actual, expected, strides=strides, values=False)


def on_the_cpu(call: Call, arguments: Arguments) -> Any:
    torch.manual_seed(SEED)
    try:
        return call(arguments)
    except Exception as error:
        raise Rejected(f"{type(error).__name__}: {error}") from error


def is_random(call: Call, arguments: Arguments) -> bool:
    """True where the CPU's own result depends on the seed, or on memory that nobody wrote.

    Calls of the database may set a seed of their own (`wrapper_set_seed`), which the other runs change too. In those,
    PyTorch fills memory that it does not initialise.
    """
    first = arguments.on("cpu")
    expected = on_the_cpu(call, first)
    for number in range(1, 4):
        again = arguments.on("cpu")
        with _other_conditions(number):
            result = on_the_cpu(call, again)
        try:
            compare_on_cpu(result, expected)
            compare_on_cpu(again.all(), first.all())
        except AssertionError:
            return True
    return False


@contextlib.contextmanager
def _other_conditions(number: int) -> Iterator[None]:
    """Other seeds, and uninitialised memory filled."""
    manual_seed = torch.manual_seed
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with mock.patch("torch.manual_seed", lambda seed: manual_seed(seed + number)):
            yield
    finally:
        torch.use_deterministic_algorithms(False)


def compare_on_cpu(first: Any, second: Any) -> None:
    for left, right in zip(tree_leaves(first), tree_leaves(second), strict=True):
        if isinstance(left, torch.Tensor | bool | int | float | complex):
            torch.testing.assert_close(left, right, equal_nan=True, rtol=0, atol=0)
