"""Takes out of a module of TTGIR what only says where a GPU keeps a tile.

A layout assigns the elements of a tile to threads and registers, and a piece of shared memory that is written once is
a way to hand a tile from one layout to another. Neither changes a value, so conversions between layouts, and copies
through such memory, become the tile itself. Layouts are gone once the types are read (`ir/types.py`).
"""

from __future__ import annotations

from ..errors import UnsupportedError
from ..ir.module import Function, Op, Value, walk

_COPIES = {"ttg.convert_layout", "ttg.local_alloc", "ttg.local_load"}


def drop_layouts(function: Function) -> None:
    """Rewrites ``function`` in place. UnsupportedError: shared memory that is written more than once."""
    copies = [op for block in function.region.blocks for op in walk(block) if op.name in _COPIES]
    for op in copies:
        if not op.operands:
            raise UnsupportedError.at(
                f"operation {op.name} without a tile (shared memory that is written later)",
                op.location,
                "give the tile to ttg.local_alloc, or load the tile from memory where it is used",
            )
        _replace(op.result, op.operands[0], op)
        if op.parent is not None:
            op.parent.ops.remove(op)


def _replace(old: Value, new: Value, op: Op) -> None:
    """Gives every use of ``old`` to ``new``, which ``op`` no longer uses."""
    new.uses = [use for use in new.uses if use is not op]
    for use in old.uses:
        use.operands = [new if value is old else value for value in use.operands]
    new.uses += old.uses
