"""Evaluates an expression over tiles at one index (or one vector of indices) of the open loop nest."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

from ..analysis.effects import is_volatile
from ..analysis.strides import StrideAnalysis
from ..errors import UnsupportedError
from ..ir.module import Block, Op, Value
from ..lowering.walk import bound_sides
from . import integers, memory, prefetch
from .builder import Builder
from .elementwise import DIVISION_OPCODES, ELEMENTWISE
from .rearrange import REARRANGED, reshaped_index, table
from .values import Val, constant
from .views import READ_AT, ZERO, Index, looked_at

Reads = list[tuple[Value, Index]]
_MASK_VIEWS = {"tt.broadcast", "tt.expand_dims"}


@dataclass(eq=False, slots=True)
class Buffer:
    """Memory that keeps a tile: where it starts, and the depth of the code that fills it.

    The tile lies there row by row; where ``transposed``, with its last two dimensions exchanged. ``home`` is the depth
    of the block that it belongs to: whoever reads it deeper inside finds the same tile each time.
    """

    pointer: Val
    elem: str
    shape: tuple[int, ...]
    depth: int
    transposed: bool = False
    home: int = field(init=False)

    def __post_init__(self) -> None:
        self.home = self.depth


@dataclass(eq=False, slots=True)
class Progress:
    """A loop-carried tile kept as its first value plus a scalar (an offset in elements for pointers)."""

    initial: Value
    added: Val


@dataclass(eq=False)
class Facts:
    """What is known while a nest is being written: mask atoms that hold, and the lanes of a tail that are in bounds."""

    atoms: dict[tuple[Value, tuple[int, ...]], int] = field(
        default_factory=dict
    )  # -> depth of the loop that ensures it
    lane_mask: Val | None = None
    # Divisions that do not wrap within the piece being written, with the dividend that the piece starts with (None
    # where there are several).
    unwrapped: dict[Op, Val | None] = field(default_factory=dict)


class Evaluator:
    """Emits values. Scalars of the program are bound as they are reached; tiles are evaluated when roots ask."""

    def __init__(
        self,
        builder: Builder,
        strides: StrideAnalysis,
        order: dict[Op, int],
        room: Callable[[str, tuple[int, ...]], Buffer],
    ) -> None:
        self.b = builder
        self.strides = strides
        self.room_for = room  # new memory for elements of a type, in a shape
        self.order = order  # position of each operation in the program
        self.scalars: dict[Value, Val] = {}
        self.buffers: dict[Value, Buffer] = {}
        self.progress: dict[Value, Progress] = {}
        self.depth_of: dict[Block, int] = {}
        self.facts = Facts()
        self.steps: list[prefetch.Steps] = []  # of the loops of the program that are open, the innermost last
        self._sources: dict[str, Callable[[Op, Index], Val]] = {
            "arith.constant": self._constant,
            "tt.make_range": self._make_range,
            "ub.poison": lambda op, index: constant(0, op.result.type.elem),
            "tt.splat": lambda op, index: self.scalars[op.operands[0]],
            "tt.load": self._load,
            "arith.select": self._select,
            "tt.join": self._join,
            **{name: functools.partial(rule, self) for name, rule in REARRANGED.items()},
        }
        # What these read, as far as that is known beforehand; what is elementwise reads all operands at its own index.
        self._operands: dict[str, Callable[[Op, Index], Reads]] = {
            "tt.load": self._load_operands,
            "arith.select": self._select_operands,
            "tt.join": lambda op, index: [(operand, index[:-1]) for operand in op.operands],
            "tt.gather": lambda op, index: [(op.operands[1], index)],
        }

    # -- the memo -----------------------------------------------------------------------------------------------------

    def bind(self, value: Value, index: Index, emitted: Val) -> None:
        """Remembers a value at an index, for as long as the level that defines it is open."""
        level = self.b.levels[max(emitted.depth, *(i.depth for i in index), 0)]
        level.memo[(value, tuple(i.uid for i in index))] = emitted

    def _recall(self, value: Value, index: Index) -> Val | None:
        key = (value, tuple(i.uid for i in index))
        for level in reversed(self.b.levels):
            if (known := level.memo.get(key)) is not None:
                return known
        return None

    # -- evaluation ---------------------------------------------------------------------------------------------------

    def at(self, value: Value, index: Index) -> Val:
        """The value of a tile at ``index`` (one Val for each dimension), or of a scalar."""
        if not value.type.shape:
            return self.scalars[value]
        index = looked_at(value, index)
        known = self._recall(value, index)
        if known is None:
            buffer = self.buffers.get(value)
            if buffer is None:
                return self.fresh(value, index)
            known = self.read_buffer(buffer, index)
            self.bind(value, index, known)
        return known

    def fresh(self, value: Value, index: Index) -> Val:
        """As :meth:`at`, for a tile that may have memory which is still to be written."""
        index = looked_at(value, index)
        known = self._recall(value, index)
        if known is None:
            self._evaluate_operands(value, index)
            known = self._evaluate(value, index)
        return known

    def _evaluate_operands(self, value: Value, index: Index) -> None:
        """Evaluates what a value is computed from, operands of operands first.

        A list of what is pending: chains of operations get longer than calls can nest.
        """
        pending = [(*read, False) for read in reversed(self._reads(value, index))]
        while pending:
            value, index, ready = pending.pop()
            if not value.type.shape:
                continue
            index = looked_at(value, index)
            if ready:
                self._evaluate(value, index)
            elif self._recall(value, index) is None:
                reads = [] if value in self.buffers else self._reads(value, index)
                if reads:
                    pending.append((value, index, True))
                    pending += [(*read, False) for read in reversed(reads)]
                else:
                    self.at(value, index)

    def _reads(self, value: Value, index: Index) -> Reads:
        """What the evaluation of a tile at ``index`` asks for, as far as that is known beforehand."""
        carried = self.progress.get(value)
        if carried is not None:
            return [(carried.initial, index)]
        op = value.op
        if op is None:
            return []
        if op.name in READ_AT:
            at = READ_AT[op.name](value, index)
            return [] if at is None else [(op.operands[0], at)]
        if op.name in self._operands:
            return self._operands[op.name](op, index)
        return [(operand, index) for operand in op.operands] if op.name in ELEMENTWISE else []

    def _evaluate(self, value: Value, index: Index) -> Val:
        """Evaluates a tile that is not known at ``index``, and remembers it."""
        outer = self.b.source.suffix if value.op is None else self.b.source.enter(value.op.location)
        result = self._computed(value, index)
        self.b.source.suffix = outer
        self.bind(value, index, result)
        return result

    def _computed(self, value: Value, index: Index) -> Val:
        carried = self.progress.get(value)
        if carried is not None:
            start = self.at(carried.initial, index)
            if value.type.is_pointer:
                return integers.offset_pointer(self.b, start, carried.added, value.type.pointee)
            return integers.add(self.b, start, carried.added)
        op = value.op
        if op is None:
            raise AssertionError(f"{value} has no buffer")
        if op.name in READ_AT:
            source, at = op.operands[0], READ_AT[op.name](value, index)
            if at is None:
                at = reshaped_index(self, source, self.linear(index, value.type.shape))
            return self.at(source, at)
        rule = self._sources.get(op.name)
        if rule is not None:
            return rule(op, index)
        lowering = ELEMENTWISE.get(op.name)
        if lowering is None:
            raise UnsupportedError.at(f"operation {op.name}", op.location)
        args = [self.at(operand, index) for operand in op.operands]
        if op in self.facts.unwrapped:
            first = self.facts.unwrapped[op]
            return integers.divide_unwrapped(self.b, DIVISION_OPCODES[op.name], args[0], args[1], first)
        return lowering(self.b, op, args)

    def elementwise(self, op: Op, args: list[Val]) -> Val:
        lowering = ELEMENTWISE.get(op.name)
        if lowering is None:
            raise UnsupportedError.at(f"operation {op.name}", op.location)
        return lowering(self.b, op, args)

    def linear(self, index: Index, shape: tuple[int, ...]) -> Val:
        """Row-major position of an index."""
        result = ZERO
        for i, size in zip(index, shape, strict=True):
            result = integers.add(self.b, integers.mul(self.b, result, constant(size, "i32")), i)
        return result

    def _join(self, op: Op, index: Index) -> Val:
        first, second = (self.at(operand, index[:-1]) for operand in op.operands)
        return self.b.select(integers.compare(self.b, 0, index[-1], ZERO), first, second)

    # -- sources ------------------------------------------------------------------------------------------------------

    def _constant(self, op: Op, index: Index) -> Val:
        number = op.attrs["value"]
        if isinstance(number, list):
            return table(self, op, index)
        return constant(number, op.result.type.elem)

    def _make_range(self, op: Op, index: Index) -> Val:
        return integers.add(self.b, index[0], constant(op.attrs["start"], "i32"))

    def _load(self, op: Op, index: Index) -> Val:
        pointer, mask, other = load_operands(op)
        address = self.at(pointer, index)
        at_least = self.depth_of.get(op.parent, 1) if op.parent is not None else 1
        condition: Val | None = None
        if mask is not None:
            condition, ensured = self.mask(mask, index)
            at_least = max(at_least, ensured)
        fill = self.at(other, index) if other is not None else None
        if self.facts.lane_mask is not None and address.lanes > 1:
            condition = memory.both(self.b, condition, self.facts.lane_mask)
        if self.steps:
            prefetch.ahead_of(self.b, op, address, self.steps[-1], max(at_least, address.depth))
        return memory.load(
            self.b, address, op.result.type.elem, condition, fill, at_least=at_least, volatile=is_volatile(op), op=op
        )

    def _load_operands(self, op: Op, index: Index) -> Reads:
        pointer, mask, other = load_operands(op)
        reads = [(pointer, index)]
        if mask is not None and mask.type.shape:
            reads += self._conjuncts(mask, index)[0]
        return reads if other is None else [*reads, (other, index)]

    def _select_operands(self, op: Op, index: Index) -> Reads:
        condition, first, second = op.operands
        if condition.type.shape:
            parts, _ = self._conjuncts(condition, index)
            return [*parts, (first, index), (second, index)] if parts else [(first, index)]
        return [(first, index), (second, index)]

    def _select(self, op: Op, index: Index) -> Val:
        """One side alone where the nest ensures the condition."""
        condition, first, second = op.operands
        chosen: Val | None = self.scalars.get(condition)
        if chosen is None:
            chosen, _ = self.mask(condition, index)
        if chosen is None:
            return self.at(first, index)
        return self.b.select(chosen, self.at(first, index), self.at(second, index))

    def mask(self, mask: Value, index: Index) -> tuple[Val | None, int]:
        """What is left of a mask where the facts of the nest hold, and the depth of the loops that ensure the rest."""
        if not mask.type.shape:
            return self.scalars[mask], 0
        parts, ensured = self._conjuncts(mask, index)
        left: Val | None = None
        for part, at in parts:
            left = memory.both(self.b, left, self.at(part, at))
        return left, ensured

    def _conjuncts(self, mask: Value, index: Index) -> tuple[Reads, int]:
        """What a mask is the conjunction of but for what the nest ensures, and the depth of the loops that do."""
        parts: Reads = []
        ensured = 0
        seen: set[tuple[Value, tuple[int, ...]]] = set()
        pending: Reads = [(mask, index)]
        while pending:
            value, index = pending.pop()
            index = looked_at(value, index)
            key = value, tuple(i.uid for i in index)
            if key in seen:
                continue
            seen.add(key)
            op = value.op if value not in self.buffers else None
            if key in self.facts.atoms:
                ensured = max(ensured, self.facts.atoms[key])
            elif op is not None and op.name == "arith.andi":
                pending += [(operand, index) for operand in reversed(op.operands)]
            elif op is not None and op.name in _MASK_VIEWS and op.operands[0].type.shape:
                pending += self._reads(value, index)
            else:
                parts.append((value, index))
        return parts, ensured

    # -- buffers ------------------------------------------------------------------------------------------------------

    def read_buffer(self, buffer: Buffer, index: Index) -> Val:
        pointer = self.buffer_address(buffer, index)
        # Not outside the loops that the writer shares with this reader: an iteration reads what it has written.
        return memory.load(self.b, pointer, buffer.elem, None, None, at_least=min(buffer.depth, self.b.depth))

    def write_buffer(self, buffer: Buffer, index: Index, value: Val) -> None:
        buffer.depth = max(buffer.depth, self.b.depth)
        memory.store(self.b, self.buffer_address(buffer, index), value, buffer.elem, self.facts.lane_mask)

    def buffer_address(self, buffer: Buffer, index: Index) -> Val:
        elem = "i8" if buffer.elem == "i1" else buffer.elem
        index = tuple(ZERO if size == 1 else i for i, size in zip(index, buffer.shape, strict=True))
        shape = buffer.shape
        if buffer.transposed:
            index, shape = (*index[:-2], index[-1], index[-2]), (*shape[:-2], shape[-1], shape[-2])
        return integers.offset_pointer(self.b, buffer.pointer, self.linear(index, shape), elem)

    # -- bounds -------------------------------------------------------------------------------------------------------

    def room(self, atom: Value, index: Index) -> Val:
        """bound - start of a comparison ``start + step * i < bound`` (bound - start + 1 where it is ``<=``), as i64.

        ``index`` is the position of the comparison's first element along the loop's axis.
        """
        sides = bound_sides(atom.op)
        assert sides is not None
        first, bound, inclusive = sides
        start, end = (integers.extend(self.b, self.at(side, index), "i64", signed=True) for side in (first, bound))
        if inclusive:
            end = integers.add(self.b, end, constant(1, "i64"))
        result = integers.sub(self.b, end, start)
        if isinstance(end.const, int) and start.nonneg and result.const is None:
            # Not `nonneg`: only a trip count, which is at least 0, may rely on it.
            result.bound = end.const
        return result


def load_operands(op: Op) -> tuple[Value, Value | None, Value | None]:
    """(pointer, mask, other) of a ``tt.load``."""
    pointer, mask, other = op.segments()[:3]
    return pointer[0], mask[0] if mask else None, other[0] if other else None
