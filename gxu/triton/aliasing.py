"""Launches that pass one tensor for two arguments of a kernel, where that matters (``analysis/overlap.py``)."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any


def pairs(signature: str, metadata: Any) -> tuple[tuple[int, int], ...]:
    """Positions among a launch's arguments that must differ, from the kernel's parameters of the same names.

    ``signature`` has one character for each argument of the launch; a constexpr (``-``) is no parameter of the kernel.
    """
    position = [at for at, kind in enumerate(signature) if kind != "-"]
    return tuple((position[a], position[b]) for a, b in getattr(metadata, "conflicts", ()))


def meet(pairs: Sequence[tuple[int, int]], args: Sequence[Any]) -> bool:
    """Whether the two arguments of one of the pairs start at the same address. Views of one tensor that overlap
    otherwise are not told from views that do not, which are common."""
    at = {i: _address(args[i]) for pair in pairs for i in pair}
    return any(at[a] == at[b] != 0 for a, b in pairs)


def checker(pairs: Sequence[tuple[int, int]]) -> Callable[[Sequence[Any]], bool] | None:
    """:func:`meet` for these pairs, made for launches that pass tensors, all of them different; None without pairs."""
    if not pairs:
        return None
    import torch

    positions = sorted({i for pair in pairs for i in pair})
    pick, count, address = operator.itemgetter(*positions), len(positions), torch.Tensor.data_ptr

    def check(args: Sequence[Any]) -> bool:
        try:
            if len(set(map(address, pick(args)))) == count:
                return False
        except TypeError:  # an address, a wrapper, or None
            pass
        return meet(pairs, args)

    return check


def _address(arg: Any) -> int:
    """Of a tensor, or of anything else that has one; or an address itself; 0 for None."""
    address: int = arg.data_ptr() if hasattr(arg, "data_ptr") else arg or 0
    return address


class Version:
    """The version of a kernel for arguments that are one tensor, compiled when it is first needed."""

    def __init__(self, src: Any, metadata: Any) -> None:
        self._src = src
        self._metadata = metadata

    @functools.cached_property
    def function(self) -> int:
        import triton

        from .compiler import GXUOptions

        given = {f.name: getattr(self._metadata, f.name) for f in fields(GXUOptions) if hasattr(self._metadata, f.name)}
        self._kernel = triton.compile(
            self._src, target=self._metadata.target, options={**given, "arguments_alias": True}
        )
        self._kernel._init_handles()
        function: int = self._kernel.function
        return function
