"""Loads that are contiguous along another axis than the one that vectors run along.

Such a load is read in square blocks, along the axis where it is contiguous, and transposed in registers: every cache
line is read once and in one piece. Without that each element is gathered.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..analysis.effects import is_volatile
from ..ir.module import Op
from ..ir.types import byte_size
from .loops import Atom, Axis, Loop, Root

# Rows of a block are registers: more than these do not fit AVX-512's 32 beside their transposes.
_LARGEST_BLOCK = 16
_SMALLEST_BLOCK = 4


def find_transposes(items: Sequence[Loop | Root], vector_bytes: int) -> None:
    """Marks the loops around a vector loop that are to go block by block, with the loads to transpose there."""
    for item in items:
        if isinstance(item, Root):
            continue
        inner = item.body[0]
        if len(item.body) == 1 and isinstance(inner, Loop) and (block := _block_size(item, inner, vector_bytes)):
            item.transposed = _transposable(item, inner)
            if item.transposed:
                inner.lanes = block
        find_transposes(item.body, vector_bytes)


def _block_size(rows: Loop, columns: Loop, vector_bytes: int) -> int:
    """Rows and columns of a block; 0 where the loops are not a plain nest of stores."""
    if rows.lanes > 1 or columns.lanes <= 1:
        return 0
    if any(not isinstance(root, Root) or root.kind not in ("store", "buffer") for root in columns.body):
        return 0
    if any(_depends(atom, rows.axis) for atom in columns.clamps):
        return 0
    widest = max(root.widest for root in columns.body if isinstance(root, Root))
    block = min(_LARGEST_BLOCK, columns.lanes, vector_bytes * 8 // widest)
    for wrap in (*rows.wraps, *columns.wraps):
        if not isinstance(wrap.period, int) or (wrap.period < wrap.axis.size and wrap.period % block):
            return 0
    return block if block >= _SMALLEST_BLOCK and rows.axis.size >= block else 0


def _depends(atom: Atom, axis: Axis) -> bool:
    return any(isinstance(dim, Axis) and dim.find() is axis for dim in atom.dims)


def _transposable(rows: Loop, columns: Loop) -> list[tuple[Op, tuple[Axis | str | None, ...]]]:
    """Loads of the nest, each with the dimensions it is read at, that are contiguous along the outer loop only."""
    found: dict[Op, tuple[Axis | str | None, ...]] = {}
    for root in columns.body:
        assert isinstance(root, Root)
        for access in root.accesses:
            reads = root.loads.get(access.op)
            if reads is None or len(reads) != 1 or access.elem == "i1" or is_volatile(access.op):
                continue
            strides = {axis.find(): stride for axis, stride in access.strides.items()}
            contiguous = strides.get(rows.axis) == byte_size(access.elem)
            if contiguous and strides.get(columns.axis, 0) not in (0, byte_size(access.elem)):
                axes = [dim.find() for dim in reads[0] if isinstance(dim, Axis)]
                if axes.count(rows.axis) == 1 and axes.count(columns.axis) == 1:
                    found[access.op] = reads[0]
    return list(found.items())
