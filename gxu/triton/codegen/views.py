"""Where views read their operand: the index of an element in the operand, from its index in the result."""

from __future__ import annotations

from collections.abc import Callable

from ..ir.module import Value
from .values import Val, constant

Index = tuple[Val, ...]
ZERO = constant(0, "i32")
_HALVES = (ZERO, constant(1, "i32"))


def looked_at(value: Value, index: Index) -> Index:
    """An index of ``value`` with 0 for dimensions of size one: a view may be read anywhere along them."""
    return tuple(ZERO if size == 1 else i for i, size in zip(index, value.type.shape, strict=True))


def _expand_dims(value: Value, index: Index) -> Index:
    assert value.op is not None
    axis = value.op.attrs["axis"]
    return index[:axis] + index[axis + 1 :]


def _trans(value: Value, index: Index) -> Index:
    assert value.op is not None
    source = [ZERO] * len(index)
    for position, axis in enumerate(value.op.attrs["order"]):
        source[axis] = index[position]
    return tuple(source)


def _reshape(value: Value, index: Index) -> Index | None:
    """None where elements are numbered anew: then the index has to be computed (``rearrange.reshaped_index``)."""
    assert value.op is not None
    source, target = value.op.operands[0].type.shape, value.type.shape
    if [s for s in source if s != 1] != [s for s in target if s != 1]:
        return None
    remaining = iter([i for i, size in zip(index, target, strict=True) if size != 1])
    return tuple(ZERO if size == 1 else next(remaining) for size in source)


READ_AT: dict[str, Callable[[Value, Index], Index | None]] = {
    "tt.expand_dims": _expand_dims,
    "tt.broadcast": lambda value, index: index,  # dimensions of size one are read at 0
    "tt.trans": _trans,
    "tt.reshape": _reshape,
    "tt.split": lambda value, index: (*index, _HALVES[value.index]),
}
