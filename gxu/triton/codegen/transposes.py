"""Writes a nest of two loops block by block, with some of its loads transposed in registers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ..lowering.loops import Loop
from . import integers
from .builder import Builder
from .evaluate import ZERO, Buffer
from .values import LLVM_TYPE, Val, constant

if TYPE_CHECKING:
    from .nests import NestWriter

_I32 = "i32"


def write(nest: NestWriter, rows: Loop, trip: Val) -> None:
    """The nest of ``rows`` and the vector loop in it. Whole blocks go through registers; what is left at the ends of
    both axes is written as any other loop.
    """
    b = nest.b
    columns = rows.body[0]
    assert isinstance(columns, Loop)
    size = columns.lanes
    width = nest.trip(columns)
    whole_rows, whole_columns = _whole(nest, trip, size), _whole(nest, width, size)
    left = integers.sub(b, width, whole_columns)
    # Down the columns first: there what is transposed lies in one piece, which the CPU reads ahead.
    with b.loop(_I32, ZERO, whole_columns, constant(size, _I32)) as across:
        b.lanes = size
        with b.loop(_I32, ZERO, whole_rows, constant(size, _I32)) as down:
            blocks = _read_blocks(nest, rows, columns, down.iv, across.iv)
            with _each_row(nest, rows, down.iv, constant(size, _I32)) as row:
                column = integers.progression(b, across.iv, 1)
                nest.position[columns.axis] = column
                for (load, dims), block in zip(rows.transposed, blocks, strict=True):
                    value = nest.e.read_buffer(block, (row, integers.progression(b, ZERO, 1)))
                    nest.e.bind(load.result, nest.index(dims), value)
                nest.body(columns, column, [], None)
        b.lanes = 1
    if left.const != 0:
        b.lanes = size
        with _each_row(nest, rows, ZERO, whole_rows):
            nest.tail(columns, whole_columns, left, [])
        b.lanes = 1
    if not isinstance(trip.const, int) or trip.const != whole_rows.const:
        with b.loop(_I32, whole_rows, trip, constant(1, _I32)) as rest:
            nest.enter(rows, rest.iv)
            nest.vector_loop(columns, width)
            del nest.position[rows.axis]


def _whole(nest: NestWriter, count: Val, size: int) -> Val:
    """``count`` rounded down to whole blocks."""
    result = integers.bitwise(nest.b, "and", count, constant(-size, _I32))
    if result.const is None:
        result.multiple, result.nonneg, result.bound = size, True, count.bound
    return result


@contextlib.contextmanager
def _each_row(nest: NestWriter, rows: Loop, start: Val, count: Val) -> Iterator[Val]:
    """A loop over ``count`` rows from ``start`` on, written once: gives the row's number from there."""
    with nest.b.loop(_I32, ZERO, count, constant(1, _I32)) as row:
        nest.enter(rows, integers.add(nest.b, start, row.iv))
        yield row.iv
        del nest.position[rows.axis]


def _read_blocks(nest: NestWriter, rows: Loop, columns: Loop, down: Val, across: Val) -> list[Buffer]:
    """Reads a block of each load along the rows' axis, and keeps it transposed in memory that stays in the cache."""
    b, size = nest.b, columns.lanes
    nest.enter(rows, integers.progression(b, down, 1))
    lines: list[list[Val]] = []
    for number in range(size):
        nest.enter(columns, integers.add(b, across, constant(number, _I32)))
        # Not `at`: the nest may be what fills the memory of the load's result.
        lines.append([nest.e.fresh(load.result, nest.index(dims)) for load, dims in rows.transposed])
    del nest.position[rows.axis], nest.position[columns.axis]
    for number, block in enumerate(rows.blocks):
        assert isinstance(block, Buffer)
        for row, value in enumerate(transpose_block(b, [line[number] for line in lines])):
            nest.e.write_buffer(block, (constant(row, _I32), integers.progression(b, ZERO, 1)), value)
    return [block for block in rows.blocks if isinstance(block, Buffer)]


def transpose_block(b: Builder, vectors: list[Val]) -> list[Val]:
    """Transposes a square block: in step s, lanes whose numbers differ in bit s change places between the vectors
    whose numbers differ in it.
    """
    size, elem = len(vectors), vectors[0].elem
    kind = f"<{size} x {LLVM_TYPE[elem]}>"
    refs = [b.wide(vector) for vector in vectors]
    step = 1
    while step < size:
        low = _mask(lane if not lane & step else size + (lane ^ step) for lane in range(size))
        high = _mask(lane ^ step if not lane & step else size + lane for lane in range(size))
        for first in range(size):
            if not first & step:
                x, y = refs[first], refs[first | step]
                refs[first] = b.define(f"shufflevector {kind} {x}, {kind} {y}, <{size} x i32> <{low}>", b.depth)
                refs[first | step] = b.define(f"shufflevector {kind} {x}, {kind} {y}, <{size} x i32> <{high}>", b.depth)
        step *= 2
    return [Val(elem, ref, b.depth, size) for ref in refs]


def _mask(lanes: Iterable[int]) -> str:
    return ", ".join(f"i32 {lane}" for lane in lanes)
