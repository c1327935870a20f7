"""Compares what a call gave on the device with what it gave on the CPU: values, geometry, and what shares memory."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._pytree import tree_flatten

from gxu.conformance.eager.data import DEVICE, is_plain


def tensors_of(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_flatten(tree)[0] if isinstance(leaf, torch.Tensor)]


def compare(actual: Any, expected: Any, *, strides: bool = True, values: bool = True) -> None:
    """AssertionError unless both trees have the same form, and tensors and numbers in them are equal within the
    tolerance of their dtype. `values=False` compares everything else, for results that are random."""
    actual_leaves, actual_form = tree_flatten(actual)
    expected_leaves, expected_form = tree_flatten(expected)
    if actual_form != expected_form:
        raise AssertionError(f"the result has the form {actual_form}, and on the CPU {expected_form}")
    for index, (left, right) in enumerate(zip(actual_leaves, expected_leaves, strict=True)):
        try:
            _compare_leaf(left, right, strides, values)
        except AssertionError as error:
            text = str(error).replace("\n\n", "\n").replace("\n", "; ")
            raise AssertionError(text if len(expected_leaves) == 1 else f"result {index}: {text}") from None


def _compare_leaf(actual: Any, expected: Any, strides: bool, values: bool) -> None:
    if type(actual) is not type(expected):
        raise AssertionError(f"the result is a {type(actual).__name__}, and on the CPU a {type(expected).__name__}")
    if isinstance(expected, torch.Tensor):
        _compare_tensor(actual, expected, strides, values)
    elif isinstance(expected, torch.UntypedStorage | torch.TypedStorage):
        if actual.tolist() != expected.tolist():
            raise AssertionError("the storages differ")
    elif isinstance(expected, bool | int | float | complex):
        if values:
            torch.testing.assert_close(actual, expected, equal_nan=True)
    elif isinstance(expected, torch.device | str) and str(expected) == "cpu":
        if torch.device(actual).type != DEVICE:
            raise AssertionError(f"the result is the device {actual}")
    elif values and actual != expected:
        raise AssertionError(f"the result is {actual}, and on the CPU {expected}")


def _compare_tensor(actual: torch.Tensor, expected: torch.Tensor, strides: bool, values: bool) -> None:
    if actual.device.type != DEVICE:
        raise AssertionError(f"the result is on {actual.device}")
    for name in ("dtype", "layout", "shape"):
        if getattr(actual, name) != getattr(expected, name):
            raise AssertionError(f"{name} is {getattr(actual, name)}, and on the CPU {getattr(expected, name)}")
    if strides and is_plain(expected):
        _compare_strides(actual, expected)
        for bit in ("is_conj", "is_neg", "_is_zerotensor"):
            if getattr(actual, bit)() != getattr(expected, bit)():
                raise AssertionError(f"{bit} differs")
    if values:
        torch.testing.assert_close(actual.detach().cpu(), expected.detach(), equal_nan=True, check_stride=False)


def _compare_strides(actual: torch.Tensor, expected: torch.Tensor) -> None:
    for size, left, right in zip(actual.shape, actual.stride(), expected.stride(), strict=True):
        if left != right and size > 1 and expected.numel() > 0:
            raise AssertionError(f"strides are {actual.stride()}, and on the CPU {expected.stride()}")


def sharing(result: Any, arguments: Any) -> list[tuple[int, int]]:
    """For each tensor of `result`: the first tensor of `arguments` or before it in `result` that has the same storage
    (-1 for none), and the offset into that storage."""
    seen: dict[int, int] = {}
    rows = []
    for number, tensor in enumerate(tensors_of(arguments) + tensors_of(result)):
        if not is_plain(tensor):
            rows.append((-1, 0))
            continue
        first = seen.setdefault(tensor.untyped_storage()._cdata, number)
        rows.append((first, int(tensor.storage_offset())) if first != number else (-1, 0))
    return rows[len(tensors_of(arguments)) :]


def compare_sharing(actual: list[tuple[int, int]], expected: list[tuple[int, int]]) -> None:
    if actual != expected:
        raise AssertionError(f"results share memory (argument, offset) as {actual}, and on the CPU as {expected}")
