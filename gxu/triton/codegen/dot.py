"""Matrix products: blocks of the result stay in registers while the whole inner dimension passes by.

Both operands are tiles in memory. A block is ``rows x (columns x lanes)`` accumulators: each step along the
inner dimension loads one row of vectors of the right operand, and broadcasts one element of the left for each row.

What does not lie as that wants it is packed first (:mod:`dot_packing`): a right operand whose columns lie in one piece,
and narrow elements, into groups where the CPU multiplies groups of them in one instruction, else into the
accumulator's type. A tile that does not change in the loop around the product is packed in front of the loop.
"""

from __future__ import annotations

from ..ir.module import Op, Value
from ..lowering.operands import untransposed
from . import dot_packing, integers
from .evaluate import ZERO, Buffer, Evaluator, Index
from .target import Target
from .values import Val, constant

# Accumulators, with the vectors of the right operand and one broadcast, fit the 32 vector registers of AVX-512.
_ROWS, _COLUMNS = 8, 2
_I32 = "i32"


def write(e: Evaluator, op: Op, output: Buffer, target: Target) -> None:
    """``tt.dot``: output = a @ b + c, for 2-D tiles and for batches of them."""
    a, b = (_operand(e, value) for value in op.operands[:2])
    shape = op.result.type.shape
    elem = _accumulator(op)
    lanes = min(target.vector_bytes * 8 // (64 if elem in ("f64", "i64") else 32), shape[-1])
    packing = dot_packing.choose(a.buffer.elem, b.buffer.elem, elem, a.buffer.shape[-1], lanes, target)
    if len(shape) == 2:
        _product(e, op, a, b, output, (), lanes, packing)
        return
    with e.b.loop(_I32, ZERO, constant(shape[0], _I32), constant(1, _I32)) as batch:
        _product(e, op, a, b, output, (batch.iv,), lanes, packing)


def _operand(e: Evaluator, value: Value) -> dot_packing.Source:
    """The tile in memory that an operand is, or is the transpose of."""
    source, exchanged = untransposed(value, lambda tile: tile in e.buffers)
    kept = e.buffers[source]
    return dot_packing.Source(source, dot_packing.exchange(kept) if exchanged else kept)


def _product(
    e: Evaluator,
    op: Op,
    a: dot_packing.Source,
    b: dot_packing.Source,
    output: Buffer,
    batch: Index,
    lanes: int,
    packing: dot_packing.Packing,
) -> None:
    builder = e.b
    left = packing.once(e, a, batch, "left", packing.left)
    right = packing.once(e, b, batch, "right", packing.right)
    too_much = None
    if (column_sums := packing.too_much) is not None:
        too_much = packing.once(e, b, batch, "too much", lambda *_: column_sums(e, right))
    rows_total, columns_total = op.result.type.shape[-2:]
    elem = _accumulator(op)
    columns = min(_COLUMNS, columns_total // lanes)
    rows = min(_ROWS * _COLUMNS // columns, rows_total)
    with builder.loop(_I32, ZERO, constant(rows_total, _I32), constant(rows, _I32)) as down:
        builder.lanes = lanes
        with builder.loop(_I32, ZERO, constant(columns_total, _I32), constant(lanes * columns, _I32)) as across:
            row_index = [integers.add(builder, down.iv, constant(i, _I32)) for i in range(rows)]
            column_index = [
                integers.progression(builder, integers.add(builder, across.iv, constant(j * lanes, _I32)), 1)
                for j in range(columns)
            ]
            places = [(*batch, i, j) for i in row_index for j in column_index]
            start = [dot_packing.convert(e, e.at(op.operands[2], place), elem) for place in places]
            if too_much is not None:
                corrections = [too_much.at(e, (ZERO, place[-1])) for place in places]
                start = [builder.binary("sub", x, y) for x, y in zip(start, corrections, strict=True)]
            start = [_vector(e, x) for x in start]
            with builder.loop(_I32, ZERO, constant(right.steps, _I32), constant(1, _I32), start) as steps:
                vectors = [right.at(e, (steps.iv, column)) for column in column_index]
                elements = [left.at(e, (row, steps.iv)) for row in row_index]
                pairs = [(x, y) for x in elements for y in vectors]
                steps.next = [
                    packing.multiply_add(e, x, y, total) for (x, y), total in zip(pairs, steps.carried, strict=True)
                ]
            for place, total in zip(places, steps.results, strict=True):
                e.write_buffer(output, place, dot_packing.convert(e, total, output.elem))
        builder.lanes = 1


def _accumulator(op: Op) -> str:
    elem = op.result.type.elem
    return elem if elem in ("f32", "f64", "i32", "i64") else "f32"


def _vector(e: Evaluator, value: Val) -> Val:
    """The value as one for each lane, so that a loop can carry it."""
    if value.lanes == e.b.lanes and value.ref is not None:
        return value
    return Val(value.elem, e.b.wide(value), value.depth, e.b.lanes)
