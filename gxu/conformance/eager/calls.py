"""The ways to call an operator that `torch.testing._internal`'s OpInfo database describes, each a `check.Call`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._pytree import tree_map

from gxu.conformance.eager.check import Call
from gxu.conformance.eager.comparison import tensors_of
from gxu.conformance.eager.data import Arguments

Function = Callable[..., Any]


def plainly(function: Function) -> Call:
    return lambda arguments: function(arguments.input, *arguments.args, **arguments.kwargs)


def in_place(function: Function) -> Call:
    """The call returns its input (True), changed."""

    def call(arguments: Arguments) -> Any:
        result = function(arguments.input, *arguments.args, **arguments.kwargs)
        return result, result is arguments.input

    return call


def with_out(function: Function) -> Call:
    """The call with `out=` in four forms: as the result is, strided, of the wrong size, of the wrong dtype.

    For each: what it returned, and whether that is what was passed, in the same memory; or the error's type.
    """

    def call(arguments: Arguments) -> Any:
        plain = function(arguments.input, *arguments.args, **arguments.kwargs)
        if not isinstance(plain, torch.Tensor | tuple | list) or not all(isinstance(t, torch.Tensor) for t in plain):
            raise TypeError("no tensors to pass as out=")
        report: dict[str, Any] = {}
        for name, make in _OUTS.items():
            out = tree_map(make, plain) if isinstance(plain, torch.Tensor) else tuple(make(t) for t in plain)
            before = [tensor.data_ptr() for tensor in tensors_of(out)]
            try:
                result = function(arguments.input, *arguments.args, **arguments.kwargs, out=out)
            except Exception as error:
                report[name] = type(error).__name__
                continue
            same = [a is b for a, b in zip(tensors_of(result), tensors_of(out), strict=True)]
            kept = [tensor.data_ptr() == pointer for tensor, pointer in zip(tensors_of(out), before, strict=True)]
            report[name] = out, same, kept if name != "resized" else None
        if isinstance(report["exact"], str):
            raise TypeError(f"out= is not accepted: {report['exact']}")
        return report

    return call


def _exact(tensor: torch.Tensor) -> torch.Tensor:
    return _poisoned(torch.empty_like(tensor))


def _strided(tensor: torch.Tensor) -> torch.Tensor:
    shape = [2 * size for size in reversed(tensor.shape)]
    wide = _poisoned(torch.empty(shape, dtype=tensor.dtype, device=tensor.device))
    return wide.permute(*reversed(range(wide.dim())))[(slice(None, None, 2),) * wide.dim()]


def _resized(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty(0 if tensor.numel() else 1, dtype=tensor.dtype, device=tensor.device)


def _wrong_dtype(tensor: torch.Tensor) -> torch.Tensor:
    wrong = torch.long if tensor.dtype != torch.long else torch.float32
    return torch.zeros(tensor.shape, dtype=wrong, device=tensor.device)


_OUTS = {"exact": _exact, "strided": _strided, "resized": _resized, "wrong dtype": _wrong_dtype}


def _poisoned(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.dtype.is_floating_point or tensor.dtype.is_complex:
        return tensor.fill_(float("nan"))
    return tensor.fill_(True if tensor.dtype == torch.bool else 99)
