"""How a product's operands lie in memory, and what one step along the inner dimension computes.

A packing reads the kept tiles and writes them where the inner loop finds them ready: the right operand row by row,
elements converted to the accumulator's type, or in groups of neighbours along the inner dimension, as an instruction
multiplies them. What is ready already stays where it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..ir.module import Value
from ..ir.types import BITS
from . import integers, math
from .evaluate import ZERO, Buffer, Evaluator, Index
from .target import Target
from .transposes import transpose_block
from .values import LLVM_TYPE, Val, constant

_I32 = "i32"
_PACKED_BYTES = 64  # of what is packed at once: one vector of AVX-512


@dataclass(frozen=True)
class Source:
    """A tile of the kernel in memory: the value that the memory was filled with, and the operand that it holds."""

    value: Value
    buffer: Buffer


@dataclass(frozen=True)
class Operand:
    """An operand that the inner loop reads: a buffer, the index of its matrix, and the steps along its inner
    dimension.
    """

    buffer: Buffer
    batch: Index
    steps: int

    def at(self, e: Evaluator, index: Index) -> Val:
        return e.read_buffer(self.buffer, (*self.batch, *index))


Pack = Callable[[Evaluator, Buffer, Index], Operand]


@dataclass(frozen=True)
class Packing:
    """How the left and the right operand of a matrix product are packed, and ``multiply_add(e, a, b, sum)``, one step.

    Where the steps add too much, ``too_much`` gives how much that is for each column, from the packed right operand.
    """

    name: str
    left: Pack
    right: Pack
    multiply_add: Callable[[Evaluator, Val, Val, Val], Val]
    too_much: Callable[[Evaluator, Operand], Operand] | None = None

    def once(self, e: Evaluator, source: Source, batch: Index, role: str, pack: Pack) -> Operand:
        """The operand as ``pack`` makes it, where the tile's memory was filled: in front of those loops around the
        product that do not change it. Products that read one tile in the same role share it.
        """
        if batch:
            return pack(e, source.buffer, batch)
        depth = min(source.buffer.home, e.b.depth)
        packed = e.b.levels[depth].packed
        key = (source.value, source.buffer.transposed, self.name, role)
        known = packed.get(key)
        if known is None:
            with e.b.outside(depth):
                known = packed[key] = pack(e, source.buffer, ())
        assert isinstance(known, Operand)
        return known


def choose(a: str, b: str, total: str, inner: int, lanes: int, target: Target) -> Packing:
    """The packing for ``inner`` elements of ``a`` and ``b`` that add up in ``total``, in vectors of ``lanes``."""
    whole = lanes * 32 in (128, 256, 512)
    bits = target.vector_bytes * 8
    if a == b == "bf16" and total == "f32" and inner % 2 == 0 and whole and target.has("avx512bf16"):
        return Packing("pairs", _pairs_of_left, lambda e, x, at: _groups_of_right(e, x, at, 2, bits), _multiply_pairs)
    if a == b == "i8" and total == "i32" and inner % 4 == 0 and whole and target.has("avx512vnni"):
        return Packing(
            "fours", _fours_of_left, lambda e, x, at: _groups_of_right(e, x, at, 4, bits), _multiply_fours, _too_much
        )
    return Packing(
        total,
        lambda e, x, at: _converted(e, x, at, total, x.shape[-1]),
        lambda e, x, at: _by_rows(e, _converted(e, x, at, total, x.shape[-2]), bits),
        _multiply_add,
    )


def exchange(x: Buffer) -> Buffer:
    """The same memory as a tile whose last two dimensions are exchanged."""
    other = Buffer(x.pointer, x.elem, (*x.shape[:-2], x.shape[-1], x.shape[-2]), x.depth, not x.transposed)
    other.home = x.home
    return other


def convert(e: Evaluator, value: Val, elem: str) -> Val:
    if value.elem == elem:
        return value
    if elem.startswith("i"):
        return integers.extend(e.b, value, elem, signed=True)
    return math.convert_float(e.b, value, elem)


# -- one element a step ------------------------------------------------------------------------------------------------


def _converted(e: Evaluator, x: Buffer, batch: Index, elem: str, steps: int) -> Operand:
    if x.elem == elem:
        return Operand(x, batch, steps)
    return Operand(_as_it_lies(e, elem, x, batch, lambda value: convert(e, value, elem)), (), steps)


def _multiply_add(e: Evaluator, x: Val, y: Val, total: Val) -> Val:
    if total.elem in ("f32", "f64"):
        return e.b.intrinsic("fma", x, y, total)
    return e.b.binary("add", e.b.binary("mul", x, y), total)


# -- groups in 32 bits -------------------------------------------------------------------------------------------------


def _pairs_of_left(e: Evaluator, a: Buffer, batch: Index) -> Operand:
    """Pairs of bf16."""
    return _groups_of_left(e, a, batch, 2)


def _multiply_pairs(e: Evaluator, x: Val, y: Val, total: Val) -> Val:
    """``vdpbf16ps``: two products in float32, added to the sum; subnormal numbers count as zero."""
    lanes = e.b.lanes
    vector, pairs = f"<{lanes} x float>", f"<{2 * lanes} x bfloat>"
    function = f"llvm.x86.avx512bf16.dpbf16ps.{lanes * 32}"
    e.b.declare(function, vector, [vector, pairs, pairs])
    left, right = (_bitcast(e, value, pairs) for value in (x, y))
    depth = e.b.depth
    text = f"call {vector} @{function}({vector} {e.b.wide(total)}, {pairs} {right}, {pairs} {left})"
    return e.b.emit("f32", text, depth, lanes)


def _fours_of_left(e: Evaluator, a: Buffer, batch: Index) -> Operand:
    """Groups of four int8. The instruction wants the left ones unsigned: they get 128 added, and each column of the
    product is that much too large for every element of the right operand in it.
    """
    moved = _as_it_lies(e, "i8", a, batch, lambda value: e.b.binary("xor", value, constant(-128, "i8")))
    return _groups_of_left(e, moved, (), 4)


def _too_much(e: Evaluator, right: Operand) -> Operand:
    """128 times the sum of each column."""

    def column_sum(_: Val, column: Val) -> Val:
        zero = Val(_I32, e.b.wide(constant(0, _I32)), 0, e.b.lanes)
        with e.b.loop(_I32, ZERO, constant(right.steps, _I32), constant(1, _I32), [zero]) as steps:
            ones = constant(-0x7F7F7F80, _I32)  # the bytes 128, 128, 128, 128
            steps.next = [_multiply_fours(e, ones, right.at(e, (steps.iv, column)), steps.carried[0])]
        return steps.results[0]

    return Operand(_each_row(e, _I32, (1, right.buffer.shape[-1]), column_sum), (), 1)


def _multiply_fours(e: Evaluator, x: Val, y: Val, total: Val) -> Val:
    """``vpdpbusd``: four products of unsigned by signed bytes, added to the sum."""
    lanes = e.b.lanes
    vector = f"<{lanes} x i32>"
    function = f"llvm.x86.avx512.vpdpbusd.{lanes * 32}"
    e.b.declare(function, vector, [vector, vector, vector])
    text = f"call {vector} @{function}({vector} {e.b.wide(total)}, {vector} {e.b.wide(x)}, {vector} {e.b.wide(y)})"
    return e.b.emit(_I32, text, e.b.depth, lanes)


def _groups_of_left(e: Evaluator, a: Buffer, batch: Index, group: int) -> Operand:
    """One i32 a group: the same memory where the group's elements are neighbours in it, else packed as on the right."""
    steps = a.shape[-1] // group
    if not a.transposed:
        return Operand(Buffer(a.pointer, _I32, (*a.shape[:-1], steps), a.depth), batch, steps)
    return Operand(exchange(_interleaved(e, exchange(a), batch, group)), (), steps)


def _groups_of_right(e: Evaluator, b: Buffer, batch: Index, group: int, bits: int) -> Operand:
    """Neighbours along the inner dimension, the first in the low bits: an i32 for each group and column."""
    steps = b.shape[-2] // group
    if not b.transposed:
        return Operand(_interleaved(e, b, batch, group), (), steps)
    groups = Buffer(b.pointer, _I32, (*b.shape[:-2], steps, b.shape[-1]), b.depth, transposed=True)
    return _by_rows(e, Operand(groups, batch, steps), bits)


def _interleaved(e: Evaluator, b: Buffer, batch: Index, group: int) -> Buffer:
    """Groups of neighbouring rows of a tile that lies row by row."""
    rows, columns = b.shape[-2] // group, b.shape[-1]
    bits = 32 // group

    def packed(row: Val, column: Val) -> Val:
        result: Val | None = None
        for number in range(group):
            at = integers.add(e.b, integers.mul(e.b, row, constant(group, _I32)), constant(number, _I32))
            value = _bits(e, e.read_buffer(b, (*batch, at, column)))
            part = e.b.binary("shl", value, constant(number * bits, _I32)) if number else value
            result = part if result is None else e.b.binary("or", result, part)
        assert result is not None
        return result

    return _each_row(e, _I32, (rows, columns), packed)


def _bits(e: Evaluator, value: Val) -> Val:
    """The bits of a narrow value in the low bits of an i32."""
    raw = Val("i16" if LLVM_TYPE[value.elem] == "i16" else "i8", value.ref, value.depth, value.lanes)
    return e.b.cast("zext", raw, _I32)


def _bitcast(e: Evaluator, value: Val, kind: str) -> str:
    return e.b.define(f"bitcast <{e.b.lanes} x i32> {e.b.wide(value)} to {kind}", value.depth)


# -- memory that is filled ---------------------------------------------------------------------------------------------


def _as_it_lies(e: Evaluator, elem: str, x: Buffer, batch: Index, compute: Callable[[Val], Val]) -> Buffer:
    """New memory for a matrix whose elements follow from those of ``x``, in the order of ``x``."""
    rows = exchange(x) if x.transposed else x
    made = _each_row(e, elem, rows.shape[-2:], lambda *at: compute(e.read_buffer(rows, (*batch, *at))))
    return exchange(made) if x.transposed else made


def _each_row(e: Evaluator, elem: str, shape: tuple[int, ...], compute: Callable[[Val, Val], Val]) -> Buffer:
    """New memory of ``shape``, filled by ``compute(row, columns)`` in vectors."""
    rows, columns = shape
    buffer = e.room_for(elem, (rows, columns))
    with e.b.loop(_I32, ZERO, constant(rows, _I32), constant(1, _I32)) as down:
        e.b.lanes = min(_PACKED_BYTES * 8 // BITS[elem], columns)
        with e.b.loop(_I32, ZERO, constant(columns, _I32), constant(e.b.lanes, _I32)) as across:
            at = integers.progression(e.b, across.iv, 1)
            e.write_buffer(buffer, (down.iv, at), compute(down.iv, at))
        e.b.lanes = 1
    return buffer


def _by_rows(e: Evaluator, x: Operand, bits: int) -> Operand:
    """A right operand that lies row by row: transposed in blocks of registers of ``bits`` where it does not."""
    elem, (rows, columns) = x.buffer.elem, x.buffer.shape[-2:]
    if not x.buffer.transposed or 1 in (rows, columns):
        return x
    buffer = e.room_for(elem, (rows, columns))
    size = min(bits // BITS[elem], rows, columns)
    with e.b.loop(_I32, ZERO, constant(columns, _I32), constant(size, _I32)) as across:
        e.b.lanes = size
        with e.b.loop(_I32, ZERO, constant(rows, _I32), constant(size, _I32)) as down:
            numbers = [constant(number, _I32) for number in range(size)]
            row, column = (integers.progression(e.b, loop.iv, 1) for loop in (down, across))
            lines = [x.at(e, (row, integers.add(e.b, across.iv, number))) for number in numbers]
            for number, line in zip(numbers, transpose_block(e.b, lines), strict=True):
                e.write_buffer(buffer, (integers.add(e.b, down.iv, number), column), line)
        e.b.lanes = 1
    return Operand(buffer, (), x.steps)
