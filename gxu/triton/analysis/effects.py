"""Which memory operations may touch the same memory, and which operations have effects at all."""

from __future__ import annotations

from ..ir.module import Function, Op, Value, walk

TRANSPARENT = {"tt.addptr", "tt.splat", "tt.broadcast", "tt.expand_dims", "tt.reshape", "tt.trans", "tt.bitcast"}

_ATOMICS = {"tt.atomic_rmw", "tt.atomic_cas"}
STORES = {"tt.store", *_ATOMICS}
# On a kernel's tt.func: arguments may be one tensor (see overlap.py).
ALIASING = "gxu.arguments_alias"


def base_pointer(value: Value) -> Value | None:
    """The kernel argument that a pointer is computed from; None where that cannot be told."""
    while value.op is not None:
        if value.op.name not in TRANSPARENT:
            return None
        value = value.op.operands[0]
    region = value.block.parent if value.block is not None else None
    if region is not None and region.op is not None and region.op.name == "tt.func":
        return value
    return None


def same_memory(a: Value, b: Value) -> bool:
    """Whether two pointers may meet.

    Different pointer arguments are taken to point to different memory, or to the same at the same index
    (:func:`in_place`), unless the kernel is compiled for arguments that are one tensor (``overlap.py``).
    """
    first, second = base_pointer(a), base_pointer(b)
    if first is None or second is None or first is second:
        return True
    region = first.block.parent if first.block is not None else None
    return region is not None and region.op is not None and ALIASING in region.op.attrs


def in_place(load: Op, store: Op) -> bool:
    """Whether a store may overwrite what a load of another argument reads: the kernel may have been given one tensor
    for both, and reads a tile and writes one of the same type at the same index."""
    return store.name == "tt.store" and load.result.type.is_tile and load.result.type == store.operands[1].type


def is_volatile(op: Op) -> bool:
    return op.name == "tt.load" and bool(op.attrs.get("isVolatile"))


def has_atomics(function: Function) -> bool:
    return any(op.name in _ATOMICS for block in function.region.blocks for op in walk(block))


def waits_for_others(function: Function) -> bool:
    """Whether programs may wait for one another: a while loop looks at memory that other programs may change meanwhile.

    Locks, decoupled look-back and the like. Programs that wait for lower program numbers finish; a program that waits
    for a higher one may wait forever, as on a GPU that is too small for the grid.
    """
    whiles = (op for block in function.region.blocks for op in walk(block) if op.name == "scf.while")
    return any(
        is_volatile(op) or (op.name in _ATOMICS and any(v.uses for v in op.results))
        for loop in whiles
        for region in loop.regions
        for block in region.blocks
        for op in walk(block)
    )
