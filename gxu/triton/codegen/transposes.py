"""Writes a nest of two loops block by block, with some of its loads transposed in registers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ..analysis.strides import SHORTEST_PERIOD
from ..lowering.loops import Axis, Loop, Root
from . import integers
from .builder import Builder
from .evaluate import ZERO, Buffer
from .values import LLVM_TYPE, Val, constant

if TYPE_CHECKING:
    from .nests import NestWriter

_I32 = "i32"
# Axes of fewer blocks go through registers to their end, the last block under a mask.
_SHORT = 4


def pays(nest: NestWriter, rows: Loop) -> bool:
    """Whether no remainder or quotient changes course within a block, by which its lines would not be contiguous."""
    columns = rows.body[0]
    assert isinstance(columns, Loop)
    axes = (rows.axis, columns.axis)
    for root in columns.body:
        assert isinstance(root, Root)
        for wrap in root.wraps:
            if wrap.axis.find() not in axes or not isinstance(wrap.period, int) or wrap.period < SHORTEST_PERIOD:
                continue  # was never taken for contiguous
            start = nest.e.at(wrap.op.operands[0], nest.index(wrap.dims))
            if start.lanes > 1 or not start.nonneg:
                return False
            if not integers.stays_between(start, wrap.period, columns.lanes):
                return False
    return True


def write(nest: NestWriter, rows: Loop, trip: Val) -> None:
    """The nest of ``rows`` and the vector loop in it. Whole blocks go through registers; what is left at the ends of
    both axes is written as any other loop, or, where there are few blocks, as a block under a mask.
    """
    b = nest.b
    columns = rows.body[0]
    assert isinstance(columns, Loop)
    size = columns.lanes
    width = nest.trip(columns)
    end_rows = trip if _short(nest, rows.axis, trip, size) else _whole(nest, trip, size)
    end_columns = width if _short(nest, columns.axis, width, size) else _whole(nest, width, size)
    left = integers.sub(b, width, end_columns)
    # Down the columns first: there what is transposed lies in one piece, which the CPU reads ahead.
    with b.loop(_I32, ZERO, end_columns, constant(size, _I32)) as across:
        wide = _within_block(nest, across.iv, width, size) if end_columns is width else None
        b.lanes = size
        with b.loop(_I32, ZERO, end_rows, constant(size, _I32)) as down:
            high = _within_block(nest, down.iv, trip, size) if end_rows is trip else None
            blocks = _read_blocks(nest, rows, columns, (down.iv, high), (across.iv, wide))
            with _each_row(nest, rows, down.iv, constant(size, _I32) if high is None else high) as row:
                column = integers.progression(b, across.iv, 1)
                nest.position[columns.axis] = column
                for (load, dims), block in zip(rows.transposed, blocks, strict=True):
                    value = nest.e.read_buffer(block, (row, integers.progression(b, ZERO, 1)))
                    nest.e.bind(load.result, nest.index(dims), value)
                with _first_lanes(nest, wide):
                    nest.body(columns, column, [], None)
        b.lanes = 1
    if left.const != 0 and end_columns is not width:
        b.lanes = size
        with _each_row(nest, rows, ZERO, end_rows):
            nest.tail(columns, end_columns, left, [])
        b.lanes = 1
    if end_rows is not trip and (not isinstance(trip.const, int) or trip.const != end_rows.const):
        with b.loop(_I32, end_rows, trip, constant(1, _I32)) as rest:
            nest.enter(rows, rest.iv)
            nest.vector_loop(columns, width)
            del nest.position[rows.axis]


def _short(nest: NestWriter, axis: Axis, trip: Val, size: int) -> bool:
    """Whether the last, incomplete block of an axis is a large part of it. Only AVX-512 has masks for all elements."""
    divides = trip.const % size == 0 if isinstance(trip.const, int) else trip.multiple % size == 0
    return nest.b.avx512 and axis.size <= _SHORT * size and not divides


def _within_block(nest: NestWriter, start: Val, end: Val, size: int) -> Val:
    """How many indices of the block from ``start`` on are in front of ``end``: at least one."""
    b, whole = nest.b, constant(size, _I32)
    left = integers.sub(b, end, start)
    result = b.select(integers.compare(b, 2, left, whole), left, whole)
    if result.const is None:
        result.nonneg, result.bound = True, size if end.bound is None else min(size, end.bound)
    return result


@contextlib.contextmanager
def _first_lanes(nest: NestWriter, count: Val | None) -> Iterator[None]:
    """Code in which lanes from ``count`` on, if it is given, neither load nor store."""
    if count is not None:
        nest.e.facts.lane_mask = nest.b.compare("icmp slt", integers.progression(nest.b, ZERO, 1), count)
    yield
    nest.e.facts.lane_mask = None


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


def _read_blocks(
    nest: NestWriter, rows: Loop, columns: Loop, down: tuple[Val, Val | None], across: tuple[Val, Val | None]
) -> list[Buffer]:
    """Reads a block of each load along the rows' axis, and keeps it transposed in memory that stays in the cache.

    ``down`` and ``across``: where the block starts, and how many rows and columns it has, if not all. What is kept of
    columns behind the last is the last.
    """
    b, size = nest.b, columns.lanes
    nest.enter(rows, integers.progression(b, down[0], 1))
    lines: list[list[Val]] = []
    start, count = across
    for number in range(size):
        if count is not None and number >= (size if count.bound is None else count.bound):
            lines.append(lines[-1])
            continue
        offset = constant(number, _I32)
        if count is not None and number:
            last = integers.sub(b, count, constant(1, _I32))
            offset = b.select(integers.compare(b, 2, offset, count), offset, last)
        nest.enter(columns, integers.add(b, start, offset))
        with _first_lanes(nest, down[1]):
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
