"""Computes both sides of a branch and selects, where that is cheap.

A branch ends a segment (``segments.py``): tiles in front of it go to memory, each side has loops of its own, and so has
what follows. Inductor's Welford reductions ask in each iteration whether it is the first; with a select all of one is
one loop.
"""

from __future__ import annotations

from ..codegen.elementwise import COST, ELEMENTWISE
from ..ir.module import Block, Function, Op, Value
from .emit import Emitter, blocks_with
from .walk import VIEWS

# Instructions for each vector, both sides together. With a side of so many, one after another, a select costs about as
# much as the branch where that side is never taken, and three quarters of it where it always is (Zen 5).
_CHEAP = 16
_PURE = {*ELEMENTWISE, *VIEWS, "arith.constant", "tt.make_range"}


def select_branches(function: Function) -> None:
    """Rewrites the blocks of ``function`` in place, inner ones first."""
    for block in reversed(blocks_with(function, "scf.if")):
        emitter = Emitter(block)
        for op in block.ops:
            if op.name == "scf.if" and _is_cheap(op):
                _select(emitter, op)
            else:
                emitter.ops.append(op)
        block.ops = emitter.ops


def _is_cheap(branch: Op) -> bool:
    """Whether the branch gives tiles, and does nothing else than to compute them by few instructions."""
    if not any(result.type.is_tile for result in branch.results):
        return False
    ops = [op for region in branch.regions for block in region.blocks for op in block.ops[:-1]]
    cost = sum(COST.get(op.name, 1) for op in ops if op.name in ELEMENTWISE and op.result.type.is_tile)
    return all(op.name in _PURE for op in ops) and cost <= _CHEAP


def _select(emitter: Emitter, branch: Op) -> None:
    condition = branch.operands[0]
    emitter.release(branch)
    sides = [_unwrap(emitter, region.blocks[0]) for region in branch.regions]
    for result, first, second in zip(branch.results, *sides, strict=True):
        emitter.emit_as([result], "arith.select", [condition, first, second])


def _unwrap(emitter: Emitter, side: Block) -> list[Value]:
    """Moves one side's operations in front of what is emitted next; returns what it gives."""
    *ops, end = side.ops
    for op in ops:
        op.parent = emitter.block
        emitter.ops.append(op)
    for value in end.operands:
        value.uses.remove(end)
    return end.operands
