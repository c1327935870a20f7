"""Matrix products: blocks of the result stay in registers while the whole inner dimension passes by.

Both operands are tiles in memory, row-major. A block is ``rows x (columns x lanes)`` accumulators: each step along the
inner dimension loads one row of vectors of the right operand, and broadcasts one element of the left for each row.
"""

from __future__ import annotations

from ..ir.module import Op
from . import integers, math
from .evaluate import ZERO, Buffer, Evaluator, Index
from .values import Val, constant

# Accumulators, with the vectors of the right operand and one broadcast, fit the 32 vector registers of AVX-512.
_ROWS, _COLUMNS = 8, 2
_I32 = "i32"


def write(e: Evaluator, op: Op, output: Buffer, vector_bytes: int) -> None:
    """``tt.dot``: output = a @ b + c, for 2-D tiles and for batches of them."""
    a, b = e.buffers[op.operands[0]], e.buffers[op.operands[1]]
    shape = op.result.type.shape
    if len(shape) == 2:
        _product(e, op, a, b, output, (), vector_bytes)
        return
    with e.b.loop(_I32, ZERO, constant(shape[0], _I32), constant(1, _I32)) as batch:
        _product(e, op, a, b, output, (batch.iv,), vector_bytes)


def _product(e: Evaluator, op: Op, a: Buffer, b: Buffer, output: Buffer, batch: Index, vector_bytes: int) -> None:
    builder = e.b
    rows_total, columns_total = op.result.type.shape[-2:]
    elem = _accumulator(op)
    lanes = min(vector_bytes * 8 // (64 if elem in ("f64", "i64") else 32), columns_total)
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
            start = [_vector(e, _convert(e, e.at(op.operands[2], place), elem)) for place in places]
            inner = a.shape[-1]
            with builder.loop(_I32, ZERO, constant(inner, _I32), constant(1, _I32), start) as steps:
                steps.next = _step(e, a, b, elem, batch, row_index, column_index, steps.iv, steps.carried)
            for place, total in zip(places, steps.results, strict=True):
                value = _convert(e, total, output.elem)
                e.write_buffer(output, place, value)
        builder.lanes = 1


def _step(
    e: Evaluator,
    a: Buffer,
    b: Buffer,
    elem: str,
    batch: Index,
    rows: list[Val],
    columns: list[Val],
    k: Val,
    state: list[Val],
) -> list[Val]:
    """One step along the inner dimension: state += a[:, k] * b[k, :]."""
    right = [_convert(e, e.read_buffer(b, (*batch, k, column)), elem) for column in columns]
    result = []
    for i, row in enumerate(rows):
        left = _convert(e, e.read_buffer(a, (*batch, row, k)), elem)
        for j, vector in enumerate(right):
            result.append(_multiply_add(e, left, vector, state[i * len(columns) + j]))
    return result


def _multiply_add(e: Evaluator, x: Val, y: Val, z: Val) -> Val:
    if z.elem in ("f32", "f64"):
        return e.b.intrinsic("fma", x, y, z)
    return e.b.binary("add", e.b.binary("mul", x, y), z)


def _accumulator(op: Op) -> str:
    elem = op.result.type.elem
    return elem if elem in ("f32", "f64", "i32", "i64") else "f32"


def _convert(e: Evaluator, value: Val, elem: str) -> Val:
    if value.elem == elem:
        return value
    if elem.startswith("i"):
        return integers.extend(e.b, value, elem, signed=True)
    return math.convert_float(e.b, value, elem)


def _vector(e: Evaluator, value: Val) -> Val:
    """The value as one for each lane, so that a loop can carry it."""
    if value.lanes == e.b.lanes and value.ref is not None:
        return value
    return Val(value.elem, e.b.wide(value), value.depth, e.b.lanes)
