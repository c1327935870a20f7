"""How a product's operands lie in memory, and what one step along the inner dimension computes.

A packing reads the kept tiles once a product and writes them where the inner loop finds them ready: converted to the
accumulator's type, or in groups of neighbours along the inner dimension, as an instruction multiplies them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from . import integers, math
from .evaluate import ZERO, Buffer, Evaluator, Index
from .target import Target
from .values import LLVM_TYPE, Val, constant

_I32 = "i32"
_PACKED_LANES = 16  # of a group's i32: one vector of AVX-512


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


@dataclass(frozen=True)
class Packing:
    """``pack(e, a, b, batch)`` gives the operands of one matrix product, and where ``multiply_add(e, a, b, sum)``, one
    step, adds too much, how much that is for each column.
    """

    pack: Callable[[Evaluator, Buffer, Buffer, Index], tuple[Operand, Operand, Buffer | None]]
    multiply_add: Callable[[Evaluator, Val, Val, Val], Val]


def choose(a: str, b: str, total: str, inner: int, lanes: int, target: Target) -> Packing:
    """The packing for ``inner`` elements of ``a`` and ``b`` that add up in ``total``, in vectors of ``lanes``."""
    whole = lanes * 32 in (128, 256, 512)
    if a == b == "bf16" and total == "f32" and inner % 2 == 0 and whole and target.has("avx512bf16"):
        return Packing(_pack_pairs, _multiply_pairs)
    if a == b == "i8" and total == "i32" and inner % 4 == 0 and whole and target.has("avx512vnni"):
        return Packing(_pack_fours, _multiply_fours)
    if a == b == total:
        return Packing(_as_they_are, _multiply_add)
    return Packing(lambda e, x, y, batch: _converted(e, x, y, batch, total), _multiply_add)


def convert(e: Evaluator, value: Val, elem: str) -> Val:
    if value.elem == elem:
        return value
    if elem.startswith("i"):
        return integers.extend(e.b, value, elem, signed=True)
    return math.convert_float(e.b, value, elem)


# -- one element a step ------------------------------------------------------------------------------------------------


def _as_they_are(e: Evaluator, a: Buffer, b: Buffer, batch: Index) -> tuple[Operand, Operand, None]:
    steps = a.shape[-1]
    return Operand(a, batch, steps), Operand(b, batch, steps), None


def _converted(e: Evaluator, a: Buffer, b: Buffer, batch: Index, elem: str) -> tuple[Operand, Operand, None]:
    def packed(x: Buffer) -> Operand:
        def element(row: Val, column: Val) -> Val:
            return convert(e, e.read_buffer(x, (*batch, row, column)), elem)

        return Operand(_each_row(e, elem, x.shape[-2:], element), (), a.shape[-1])

    return packed(a), packed(b), None


def _multiply_add(e: Evaluator, x: Val, y: Val, total: Val) -> Val:
    if total.elem in ("f32", "f64"):
        return e.b.intrinsic("fma", x, y, total)
    return e.b.binary("add", e.b.binary("mul", x, y), total)


# -- groups in 32 bits -------------------------------------------------------------------------------------------------


def _pack_pairs(e: Evaluator, a: Buffer, b: Buffer, batch: Index) -> tuple[Operand, Operand, None]:
    """Pairs of bf16. The left operand's pairs are neighbours in memory already."""
    return _groups_of_left(a, batch, 2), _groups_of_right(e, b, batch, 2), None


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


def _pack_fours(e: Evaluator, a: Buffer, b: Buffer, batch: Index) -> tuple[Operand, Operand, Buffer]:
    """Groups of four int8. The instruction wants the left ones unsigned: they get 128 added, and each column of the
    product is that much too large for every element of the right operand in it.
    """

    def moved(row: Val, column: Val) -> Val:
        return e.b.binary("xor", e.read_buffer(a, (*batch, row, column)), constant(-128, "i8"))

    left = _each_row(e, "i8", a.shape[-2:], moved)
    right = _groups_of_right(e, b, batch, 4)
    return _groups_of_left(left, (), 4), right, _too_much(e, right)


def _too_much(e: Evaluator, right: Operand) -> Buffer:
    """128 times the sum of each column."""

    def column_sum(_: Val, column: Val) -> Val:
        zero = Val(_I32, e.b.wide(constant(0, _I32)), 0, e.b.lanes)
        with e.b.loop(_I32, ZERO, constant(right.steps, _I32), constant(1, _I32), [zero]) as steps:
            ones = constant(-0x7F7F7F80, _I32)  # the bytes 128, 128, 128, 128
            steps.next = [_multiply_fours(e, ones, right.at(e, (steps.iv, column)), steps.carried[0])]
        return steps.results[0]

    return _each_row(e, _I32, (1, right.buffer.shape[-1]), column_sum)


def _multiply_fours(e: Evaluator, x: Val, y: Val, total: Val) -> Val:
    """``vpdpbusd``: four products of unsigned by signed bytes, added to the sum."""
    lanes = e.b.lanes
    vector = f"<{lanes} x i32>"
    function = f"llvm.x86.avx512.vpdpbusd.{lanes * 32}"
    e.b.declare(function, vector, [vector, vector, vector])
    text = f"call {vector} @{function}({vector} {e.b.wide(total)}, {vector} {e.b.wide(x)}, {vector} {e.b.wide(y)})"
    return e.b.emit(_I32, text, e.b.depth, lanes)


def _groups_of_left(a: Buffer, batch: Index, group: int) -> Operand:
    """The same memory, read as one i32 a group."""
    steps = a.shape[-1] // group
    return Operand(Buffer(a.pointer, _I32, (*a.shape[:-1], steps), a.depth), batch, steps)


def _groups_of_right(e: Evaluator, b: Buffer, batch: Index, group: int) -> Operand:
    """Neighbours along the inner dimension, the first in the low bits: an i32 for each group and column."""
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

    return Operand(_each_row(e, _I32, (rows, columns), packed), (), rows)


def _bits(e: Evaluator, value: Val) -> Val:
    """The bits of a narrow value in the low bits of an i32."""
    raw = Val("i16" if LLVM_TYPE[value.elem] == "i16" else "i8", value.ref, value.depth, value.lanes)
    return e.b.cast("zext", raw, _I32)


def _bitcast(e: Evaluator, value: Val, kind: str) -> str:
    return e.b.define(f"bitcast <{e.b.lanes} x i32> {e.b.wide(value)} to {kind}", value.depth)


def _each_row(e: Evaluator, elem: str, shape: tuple[int, ...], compute: Callable[[Val, Val], Val]) -> Buffer:
    """New memory of ``shape``, filled by ``compute(row, columns)`` in vectors."""
    rows, columns = shape
    buffer = e.room_for(elem, (rows, columns))
    with e.b.loop(_I32, ZERO, constant(rows, _I32), constant(1, _I32)) as down:
        e.b.lanes = min(_PACKED_LANES, columns)
        with e.b.loop(_I32, ZERO, constant(columns, _I32), constant(e.b.lanes, _I32)) as across:
            at = integers.progression(e.b, across.iv, 1)
            e.write_buffer(buffer, (down.iv, at), compute(down.iv, at))
        e.b.lanes = 1
    return buffer
