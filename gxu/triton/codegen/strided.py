"""Loads of every k-th element, or of elements in reverse, as whole vectors that are shuffled.

A gather costs about a cycle an element on today's CPUs, and a vector of neighbours not more than one gathered element.
"""

from __future__ import annotations

from ..ir.types import byte_size
from .builder import Builder
from .values import LLVM_TYPE, Val

# Up to here a vector for each element of the stride, and its shuffle, cost less than a gather.
_WIDEST = 8


def applies(pointer: Val, elem: str) -> bool:
    """Whether the addresses are a progression of a few whole elements a step, other than one."""
    size = byte_size(elem)
    if pointer.base is None or pointer.lanes < 2 or pointer.stride % size:
        return False
    step = pointer.stride // size
    return step != 1 and 1 <= abs(step) <= _WIDEST


def load(b: Builder, pointer: Val, elem: str, depth: int) -> str:
    """The vector of all lanes' elements. Reads nothing outside the range from the first lane's to the last lane's."""
    size, lanes = byte_size(elem), pointer.lanes
    kind = "i8" if elem == "i1" else LLVM_TYPE[elem]
    assert pointer.base is not None
    base = b.scalar(pointer.base)
    step = pointer.stride // size
    positions = [lane * step for lane in range(lanes)]
    lowest = min(positions)
    span = max(positions) - lowest + 1
    vector, result, chosen = f"<{lanes} x {kind}>", "poison", [False] * lanes
    for part in range(abs(step)):
        # The last vector ends with the last lane's element, so it overlaps the one before.
        start = min(part * lanes, span - lanes)
        address = b.define(f"getelementptr {kind}, ptr {base}, i64 {lowest + start}", depth)
        read = b.define(f"load {vector}, ptr {address}, align {size}", depth)
        picks = []
        for lane, position in enumerate(positions):
            offset = position - lowest - start
            if not chosen[lane] and 0 <= offset < lanes:
                picks.append(lanes + offset)
                chosen[lane] = True
            else:
                picks.append(lane)
        indices = ", ".join(f"i32 {pick}" for pick in picks)
        result = b.define(f"shufflevector {vector} {result}, {vector} {read}, <{lanes} x i32> <{indices}>", depth)
    return result
