"""Which memory operations may touch the same memory, and which operations have effects at all."""

from __future__ import annotations

from ..ir.module import Op, Value

_TRANSPARENT = {"tt.addptr", "tt.splat", "tt.broadcast", "tt.expand_dims", "tt.reshape", "tt.trans", "tt.bitcast"}

STORES = {"tt.store", "tt.atomic_rmw", "tt.atomic_cas"}


def base_pointer(value: Value) -> Value | None:
    """The kernel argument that a pointer is computed from; None where that cannot be told."""
    while value.op is not None:
        if value.op.name not in _TRANSPARENT:
            return None
        value = value.op.operands[0]
    region = value.block.parent if value.block is not None else None
    if region is not None and region.op is not None and region.op.name == "tt.func":
        return value
    return None


def same_memory(a: Value, b: Value) -> bool:
    """Whether two pointers may meet.

    Different pointer arguments are taken to point to different memory, or to the same at the same index, as Triton's own
    scheduling on GPUs assumes for one program.
    """
    first, second = base_pointer(a), base_pointer(b)
    return first is None or second is None or first is second


def is_volatile(op: Op) -> bool:
    return op.name == "tt.load" and bool(op.attrs.get("isVolatile"))
