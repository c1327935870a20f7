"""Which arguments of a kernel must not be one tensor, unless the kernel is compiled for that.

Different pointer arguments are taken to point to different memory (``effects.same_memory``): nearly always they do, and
loops that need not expect otherwise are faster. A launch that passes one tensor for two arguments where it would make
a difference takes a second version of the kernel, in which any two arguments may meet.
"""

from __future__ import annotations

from itertools import product

from ..ir.module import Function, Op, Value, walk
from ..ir.types import byte_size
from .effects import ALIASING, STORES, TRANSPARENT, base_pointer

# Elements of a result come from elsewhere in an operand. (What folds a tile reads all of it before it goes on.)
_REARRANGE = {"tt.trans", "tt.reshape", "tt.join", "tt.split", "tt.cat", "tt.gather", "tt.dot"}


def conflicts(function: Function) -> list[tuple[int, int]]:
    """Pairs of parameter numbers, smaller first: what is stored through one may be what is accessed through the other
    at another index or at another time, so that their order matters where both are one tensor."""
    number = {arg: i for i, arg in enumerate(function.args)}
    ops = [op for block in function.region.blocks for op in walk(block)]
    accesses = [op for op in ops if op.name == "tt.load" or op.name in STORES]
    order = {op: i for i, op in enumerate(accesses)}
    rearranges = any(op.name in _REARRANGE for op in ops)
    found: dict[tuple[int, int], None] = {}
    bases = {op: base_pointer(op.operands[0]) for op in accesses}
    for store, other in product((op for op in accesses if op.name in STORES), accesses):
        first, second = bases[store], bases[other]
        if first is None or second is None or first is second:
            continue  # expected to meet in any case
        low, high = sorted((number[first], number[second]))
        if (low, high) not in found and (rearranges or not _read_in_place(other, store, order)):
            found[low, high] = None
    return list(found)


def _read_in_place(other: Op, store: Op, order: dict[Op, int]) -> bool:
    """Whether an operation loads just the elements that ``store`` overwrites later, as elementwise kernels do."""
    before = other.name == "tt.load" and store.name == "tt.store" and order[other] < order[store]
    return before and same_index(other.operands[0], store.operands[0])


def same_index(a: Value, b: Value) -> bool:
    """Whether two pointers go to the same elements of their arguments."""
    if byte_size(a.type.pointee) != byte_size(b.type.pointee):
        return False
    while a is not b and a.op is not None and b.op is not None:
        if a.op.name not in TRANSPARENT or a.op.name != b.op.name or a.type.shape != b.type.shape:
            return False
        if a.op.operands[1:] != b.op.operands[1:] or a.op.attrs != b.op.attrs:
            return False
        a, b = a.op.operands[0], b.op.operands[0]
    return a.op is None and b.op is None


def let_arguments_meet(function: Function) -> None:
    """From now on :func:`effects.same_memory` takes any two pointers of this kernel as pointers that may meet."""
    assert function.region.op is not None
    function.region.op.attrs[ALIASING] = True
