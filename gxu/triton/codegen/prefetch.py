"""Prefetches in loops that take large steps: each iteration reads a short piece that is a page or more from the last.

A CPU reads ahead of a stream within a page. A tile that walks down a matrix (sums of columns, rows of a right operand)
starts on another page with each row, and waits for memory each time: such loads ask for what they will read some
iterations later.
"""

from __future__ import annotations

import math

from ..analysis.strides import PRESERVING
from ..ir.module import Block, Op, Value, constant_of, post_order
from ..ir.types import byte_size
from ..lowering.walk import VIEWS
from .builder import Builder
from .values import Val, constant

_LINE = 64  # bytes of a cache line
# A CPU follows shorter steps by itself, in bytes.
_SHORTEST_STEP = 1024
# Iterations between what is read and what is asked for, at most, and bytes: a third of an L1 cache.
_MOST_AHEAD = 8
_BYTES_AHEAD = 16 * 1024
# Larger tiles are streams of their own.
_LARGEST_TILE = 4096

_FROM_MEMORY = {"tt.load", "tt.call", "tt.atomic_rmw", "tt.atomic_cas"}
_SUMS = {"arith.addi": 1, "arith.subi": -1, "tt.addptr": 1}


class Steps:
    """By how much values change from one iteration of a ``scf.for`` to the next, where that is a known constant.

    ``carried``: by how much a carried tile moves, for those that do.
    """

    def __init__(self, loop: Op, carried: dict[Value, int]) -> None:
        self._body = loop.body
        self._known: dict[Value, int | None] = dict(carried)
        step = constant_of(loop.operands[2])
        self._known[loop.body.args[0]] = step if isinstance(step, int) else None

    def of(self, value: Value) -> int | None:
        """In units of the value; bytes for pointers. None where it is not known, or not the same each time."""
        for each in post_order(value, self._moves_with, self._known):
            self._known[each] = self._compute(each)
        return self._known[value]

    def _moves_with(self, value: Value) -> list[Value]:
        """What decides how a value moves: operands, if it is computed inside the loop from anything but memory."""
        op = value.op
        if op is None or op.parent is None or not self._inside(op.parent) or op.regions or op.name in _FROM_MEMORY:
            return []
        return op.operands

    def _compute(self, value: Value) -> int | None:
        op = value.op
        if op is None:
            return None if value.block is not None and self._inside(value.block) else 0
        if op.parent is None or not self._inside(op.parent):
            return 0
        if op.regions or op.name in _FROM_MEMORY:
            return None
        steps = []
        for operand in op.operands:
            step = self._known[operand]
            if step is None:
                return None
            steps.append(step)
        if not any(steps):
            return 0
        if op.name in VIEWS or op.name in PRESERVING:
            return steps[0]
        if op.name in _SUMS:
            scale = byte_size(op.result.type.pointee) if op.name == "tt.addptr" else 1
            return steps[0] + _SUMS[op.name] * scale * steps[1]
        if op.name == "arith.muli":
            for step, other in zip(steps, reversed(op.operands), strict=True):
                factor = constant_of(other)
                if isinstance(factor, int):
                    return step * factor
        return None

    def _inside(self, block: Block) -> bool:
        """Whether a block is the loop's body, or within it."""
        while block is not self._body:
            region = block.parent
            if region is None or region.op is None or region.op.parent is None:
                return False
            block = region.op.parent
        return True


def ahead_of(b: Builder, op: Op, address: Val, steps: Steps, depth: int) -> None:
    """Asks for what a load of the kernel will read some iterations of the open loop later, if it takes large steps.

    A prefetch of an address that is not there does nothing.
    """
    pointer, elem = op.operands[0], op.result.type.elem
    size = byte_size(elem)
    tile = math.prod(pointer.type.shape) * size
    if address.base is None or address.stride != size or tile > _LARGEST_TILE:
        return
    step = steps.of(pointer)
    if step is None or abs(step) < _SHORTEST_STEP or abs(step) <= tile:
        return
    iterations = min(_MOST_AHEAD, _BYTES_AHEAD // tile)
    b.declare("llvm.prefetch.p0", "void", ["ptr", "i32", "i32", "i32"])
    for line in range(0, address.lanes * size, _LINE):
        offset = constant(iterations * step + line, "i64")
        at = b.define(f"getelementptr i8, ptr {b.scalar(address.base)}, i64 {offset.ref}", depth)
        b.line(f"call void @llvm.prefetch.p0(ptr {at}, i32 0, i32 3, i32 1)", depth)
