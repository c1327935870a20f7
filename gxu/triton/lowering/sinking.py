"""Moves what follows from a reduction's scalar behind the reductions after it.

``mean = sum(x) / n`` in front of another reduction would end the segment there (``segments.py``), so that two
reductions over the same values could not share a loop. Only operations without effects move, up to the first one that
needs them.
"""

from __future__ import annotations

from ..codegen.elementwise import ELEMENTWISE
from ..ir.module import Block, Function, Op, Value, post_order, walk
from .walk import VIEWS


def sink(function: Function) -> None:
    """Rewrites the blocks of ``function`` in place."""
    for block in function.region.blocks:
        _sink(block)
        for op in walk(block):
            for region in op.regions:
                for inner in region.blocks:
                    if op.name.startswith("scf."):
                        _sink(inner)


def _sink(block: Block) -> None:
    follows: set[Value] = set()  # from scalars that reductions of this block give
    waiting: dict[Op, None] = {}
    ops: list[Op] = []
    released: set[Value] = set()

    def waiting_operands(value: Value) -> list[Value]:
        return [] if value.op is None else [operand for operand in value.op.operands if operand.op in waiting]

    def release(op: Op) -> None:
        for value in op.operands:
            if value.op not in waiting:
                continue
            for each in post_order(value, waiting_operands, released):
                assert each.op is not None
                del waiting[each.op]
                released.add(each)
                ops.append(each.op)

    for op in block.ops:
        if op.name == "tt.reduce":
            follows.update(v for v in op.results if not v.type.is_tile)
        elif (op.name in ELEMENTWISE or op.name in VIEWS) and any(v in follows for v in op.operands):
            follows.update(op.results)
            waiting[op] = None
            continue
        release(op)
        for region in op.regions:
            for inner in region.blocks:
                for nested in walk(inner):
                    release(nested)
        ops.append(op)
    # What nobody needs stays in front of the terminator.
    block.ops = [*ops[:-1], *waiting, *ops[-1:]]
