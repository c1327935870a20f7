"""Views that read their operand at an index of their own: gather, cat, exchange; and tables of constants."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..ir.module import Op, Value
from ..ir.types import BITS
from . import integers, memory
from .values import LLVM_TYPE, Val, constant

if TYPE_CHECKING:
    from .evaluate import Evaluator, Index

_I32 = "i32"


def gather(e: Evaluator, op: Op, index: Index) -> Val:
    """``tt.gather``: the source at the index that the indices give along one axis."""
    source, indices = op.operands
    axis = op.attrs["axis"]
    place = e.at(indices, index)
    if place.elem != _I32:
        narrow = BITS[place.elem] < 32
        place = integers.extend(e.b, place, _I32, signed=True) if narrow else integers.truncate(e.b, place, _I32)
    if e.b.sanitizer is not None:
        mask = e.facts.lane_mask if place.lanes > 1 else None
        inside = e.b.sanitizer.in_bounds(op, place, mask, source.type.shape[axis])
        place = e.b.select(inside, place, constant(0, _I32))
    return e.at(source, (*index[:axis], place, *index[axis + 1 :]))


def cat(e: Evaluator, op: Op, index: Index) -> Val:
    """``tt.cat``: the first operand, then the second."""
    first, second = op.operands
    size = constant(first.type.shape[0], _I32)
    place = integers.divide(e.b, "urem", index[0], size)
    values = [e.at(operand, (place, *index[1:])) for operand in (first, second)]
    return e.b.select(integers.compare(e.b, 2, index[0], size), *values)


def exchange(e: Evaluator, op: Op, index: Index) -> Val:
    """``gxu.exchange``: the element at the index with some of its bits inverted.

    Lanes that start at a multiple of their number come from one vector of the source, in another order.
    """
    b, source, bits = e.b, op.operands[0], op.attrs["bits"]
    (place,) = index
    lanes = b.lanes
    aligned = place.base is not None and place.stride == 1 and place.base.multiple % lanes == 0
    if not aligned or place.base is None or e.facts.lane_mask is not None or lanes & (lanes - 1):
        return e.at(source, (_invert(e, place, bits),))
    base = _invert(e, place.base, bits & -lanes)
    value = e.at(source, (integers.progression(b, base, 1) if bits >= lanes else place,))
    within = bits & (lanes - 1)
    if value.lanes == 1 or not within:
        return value
    kind, refs = LLVM_TYPE[value.elem], b.wide(value)
    order = ", ".join(f"i32 {lane ^ within}" for lane in range(lanes))
    vector = f"<{lanes} x {kind}>"
    text = f"shufflevector {vector} {refs}, {vector} poison, <{lanes} x i32> <{order}>"
    return b.emit(value.elem, text, value.depth, lanes)


def _invert(e: Evaluator, place: Val, bits: int) -> Val:
    inverted = integers.bitwise(e.b, "xor", place, constant(bits, _I32))
    if inverted.const is None:
        inverted.nonneg, inverted.bound = place.nonneg, None
        if inverted.lanes == 1:
            inverted.multiple = min(place.multiple, bits & -bits) if bits else place.multiple
    return inverted


def table(e: Evaluator, op: Op, index: Index) -> Val:
    """A constant tile of different numbers: read from memory of the image."""
    b, kind = e.b, op.result.type
    elem = "i8" if kind.elem == "i1" else kind.elem
    entries = ", ".join(f"{LLVM_TYPE[elem]} {constant(number, elem).ref}" for number in op.attrs["value"])
    digest = hashlib.sha256(entries.encode()).hexdigest()[:16]
    name = f"gxu_table_{digest}"
    b.globals[name] = f"@{name} = internal constant [{kind.numel} x {LLVM_TYPE[elem]}] [{entries}], align 64"
    place = e.linear(index, kind.shape)
    address = integers.offset_pointer(b, Val("ptr", f"@{name}", 0, multiple=64), place, elem)
    return memory.load(b, address, kind.elem, None, None, at_least=0)


def reshaped_index(e: Evaluator, source: Value, linear: Val) -> Index:
    """The index of ``source`` at a row-major position; 0 where nobody looks at it."""
    looked_at = source.type.shape
    if source.op is not None and source.op.name == "tt.broadcast" and source not in e.buffers:
        looked_at = source.op.operands[0].type.shape
    place: list[Val] = []
    stride = 1
    for size, looked in zip(reversed(source.type.shape), reversed(looked_at), strict=True):
        at = constant(0, _I32)
        if looked != 1:
            above = integers.divide(e.b, "udiv", linear, constant(stride, _I32))
            at = integers.divide(e.b, "urem", above, constant(size, _I32))
        place.append(at)
        stride *= size
    return tuple(reversed(place))


REARRANGED: dict[str, Callable[[Evaluator, Op, Index], Val]] = {
    "tt.gather": gather,
    "tt.cat": cat,
    "gxu.exchange": exchange,
}
