"""Atomic read-modify-write, one element at a time."""

from __future__ import annotations

from ..ir.module import Op
from ..ir.types import byte_size
from .evaluate import Evaluator, Index
from .values import LLVM_TYPE, Val, constant

# tt.atomic_rmw's operation numbers as LLVM's atomicrmw names them.
_OPERATIONS = {
    1: "and",
    2: "or",
    3: "xor",
    4: "add",
    5: "fadd",
    6: "max",
    7: "min",
    8: "umax",
    9: "umin",
    10: "xchg",
}
# Memory semantics: relaxed, acquire, release, acquire-release.
_ORDERINGS = {1: "monotonic", 2: "acquire", 3: "release", 4: "acq_rel"}


def write(e: Evaluator, op: Op, index: Index) -> Val | None:
    """``tt.atomic_rmw`` at one index, which must be the same in all lanes; returns the old value where no mask guards it."""
    b = e.b
    pointer, value = e.at(op.operands[0], index), e.at(op.operands[1], index)
    condition = e.mask(op.operands[2], index)[0] if len(op.operands) > 2 else None
    operation = _OPERATIONS[op.attrs["atomic_rmw_op"]]
    ordering = _ORDERINGS.get(op.attrs.get("sem", 4), "acq_rel")
    kind = LLVM_TYPE[value.elem]
    text = (
        f"atomicrmw {operation} ptr {b.scalar(pointer)}, {kind} {b.scalar(value)} {ordering}, "
        f"align {byte_size(value.elem)}"
    )
    if condition is None:
        return b.emit(value.elem, text, b.depth)
    zero = constant(0, value.elem)
    with b.guarded(condition, [zero]) as guard:
        guard.next = [b.emit(value.elem, text, b.depth)]
    return guard.results[0]
