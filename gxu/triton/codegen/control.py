"""Control flow around tiles: loops that carry values, branches that give them.

Scalars are carried in registers (LLVM phis). A tile that only moves by uniform steps is carried as one scalar. Any
other tile lives in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..ir.module import Block, Op, Value, constant_of
from ..ir.types import byte_size
from . import integers
from .elementwise import ELEMENTWISE
from .evaluate import ZERO, Buffer, Progress
from .prefetch import Steps
from .values import Val, constant

if TYPE_CHECKING:
    from .kernel import KernelWriter


def _for(w: KernelWriter, op: Op) -> None:
    inits, args = op.operands[3:], op.body.args[1:]
    terminator = op.body.terminator
    carried = [
        _carry(w, op, init, arg, value) for init, arg, value in zip(inits, args, terminator.operands, strict=True)
    ]
    w.flush()
    start, end, step = (w.e.scalars[v] for v in op.operands[:3])
    w.note(f"for {op.body.args[0].name} in {op.operands[0].name}..{op.operands[1].name}:")
    with w.indented(), w.b.loop(op.body.args[0].type.elem, start, end, step, _values(w, carried)) as loop:
        w.e.depth_of[op.body] = w.b.depth
        w.e.scalars[op.body.args[0]] = loop.iv
        _bind(w, carried, args, loop.carried, terminator)
        w.e.steps.append(Steps(op, _moves(carried, args)))
        w.block(op.body)
        loop.next = _advance(w, carried, terminator, terminator.operands)
        w.e.steps.pop()
    _bind(w, carried, op.results, loop.results)


def _moves(carried: list[Carried], args: list[Value]) -> dict[Value, int]:
    """By how much tiles move with each iteration, where that is known; in bytes for pointers."""
    moves = {}
    for state, arg in zip(carried, args, strict=True):
        if isinstance(state, CarriedProgress):
            steps = [number for step in state.steps if isinstance(number := constant_of(step), int)]
            if len(steps) == len(state.steps):
                moves[arg] = sum(steps) * (byte_size(arg.type.pointee) if arg.type.is_pointer else 1)
    return moves


def _while(w: KernelWriter, op: Op) -> None:
    before, after = (region.blocks[0] for region in op.regions)
    condition, terminator = before.terminator, after.terminator
    carried = [_carry(w, op, init, arg, None) for init, arg in zip(op.operands, before.args, strict=True)]
    w.flush()
    w.note("while:")
    with w.indented(), w.b.while_loop(_values(w, carried)) as loop:
        w.e.depth_of[before] = w.b.depth
        _bind(w, carried, before.args, loop.carried)
        w.block(before)
        passed = [_passed(w, condition, value) for value in condition.operands[1:]]
        w.flush()
        loop.condition = w.e.scalars[condition.operands[0]]
        for value, buffer in zip(condition.operands[1:], passed, strict=True):
            if buffer is None:
                loop.passed.append(w.e.scalars[value])
        with loop.body():
            w.e.depth_of[after] = w.b.depth
            for arg, value, buffer in zip(after.args, condition.operands[1:], passed, strict=True):
                if buffer is None:
                    w.e.scalars[arg] = w.e.scalars[value]
                else:
                    w.e.buffers[arg] = Buffer(buffer.pointer, buffer.elem, buffer.shape, w.b.depth)
            w.block(after)
            loop.next = _advance(w, carried, terminator, terminator.operands)
    scalars = iter(loop.passed)
    for result, buffer in zip(op.results, passed, strict=True):
        if buffer is None:
            w.e.scalars[result] = next(scalars)
        else:
            w.e.buffers[result] = Buffer(buffer.pointer, buffer.elem, buffer.shape, w.b.depth)


def _passed(w: KernelWriter, condition: Op, value: Value) -> Buffer | None:
    """Memory for a tile that a while loop's condition hands to its body and its results; None for a scalar."""
    if not value.type.is_tile:
        return None
    buffer = w.allocate(value)
    w.pending.append(("buffer", condition, value, buffer))
    return buffer


def _if(w: KernelWriter, op: Op) -> None:
    w.flush()
    condition = w.e.scalars[op.operands[0]]
    buffers = {result: w.allocate(result) for result in op.results if result.type.is_tile}

    def branch(header: str, block: Block | None) -> list[Val]:
        if block is None:
            return []
        w.note(header)
        with w.indented():
            w.e.depth_of[block] = w.b.depth
            w.block(block)
            yielded = list(zip(op.results, block.terminator.operands, strict=True))
            for result, value in yielded:
                if result.type.is_tile:
                    w.pending.append(("buffer", block.terminator, value, buffers[result]))
            w.flush()
            return [w.e.scalars[value] for result, value in yielded if not result.type.is_tile]

    blocks = [region.blocks[0] if region.blocks else None for region in op.regions] + [None]
    scalars = iter(
        w.b.either(
            condition, lambda: branch(f"if {op.operands[0].name}:", blocks[0]), lambda: branch("else:", blocks[1])
        )
    )
    for result in op.results:
        if result.type.is_tile:
            buffer = buffers[result]
            w.e.buffers[result] = Buffer(buffer.pointer, buffer.elem, buffer.shape, w.b.depth)
        else:
            w.e.scalars[result] = next(scalars)


# Operations with regions, by the function that writes them.
CONTROL: dict[str, Callable[[KernelWriter, Op], None]] = {"scf.for": _for, "scf.while": _while, "scf.if": _if}


# -- carried values ----------------------------------------------------------------------------------------------------


def _carry(w: KernelWriter, op: Op, init: Value, arg: Value, yielded: Value | None) -> Carried:
    if not init.type.is_tile:
        return CarriedScalar(init, [])
    steps = _uniform_steps(arg, yielded) if yielded is not None else None
    if steps is not None and (init in w.e.progress or w.segments.is_index_arithmetic(init)):
        elem = "i64" if init.type.is_pointer else init.type.elem
        w.strides.same_as[arg] = w.strides.same_as[op.results[arg.index - 1]] = init
        return CarriedProgress(init, [constant(0, elem)], steps)
    buffers = [w.allocate(init), w.allocate(init)]
    w.pending.append(("buffer", op, init, buffers[0]))
    return CarriedBuffer(init, [buffer.pointer for buffer in buffers])


class Carried:
    """One value that a loop carries: its LLVM values, and how they are bound and advanced."""

    width = 1  # LLVM values

    def __init__(self, init: Value, values: list[Val]) -> None:
        self.init = init
        self.values = values

    def start(self, w: KernelWriter) -> list[Val]:
        """The first values, once what they come from has been written."""
        return self.values

    def bind(self, w: KernelWriter, value: Value, phis: list[Val]) -> None:
        """Lets ``value`` (the argument in the body, the result after the loop) stand for ``phis``."""
        raise NotImplementedError

    def request(self, w: KernelWriter, terminator: Op, value: Value) -> None:
        """Adds the roots that compute the next value."""

    def advance(self, w: KernelWriter, value: Value) -> list[Val]:
        raise NotImplementedError


class CarriedScalar(Carried):
    def start(self, w: KernelWriter) -> list[Val]:
        return [w.e.scalars[self.init]]

    def bind(self, w: KernelWriter, value: Value, phis: list[Val]) -> None:
        w.e.scalars[value] = phis[0]

    def advance(self, w: KernelWriter, value: Value) -> list[Val]:
        return [w.e.scalars[value]]


class CarriedProgress(Carried):
    """A tile that only moves by a uniform step (offsets and pointers in loops): carried as one scalar."""

    def __init__(self, init: Value, values: list[Val], steps: list[Value]) -> None:
        super().__init__(init, values)
        self.steps = steps
        self.phi = values[0]

    def bind(self, w: KernelWriter, value: Value, phis: list[Val]) -> None:
        self.phi = phis[0]
        w.e.progress[value] = Progress(self.init, phis[0])

    def advance(self, w: KernelWriter, value: Value) -> list[Val]:
        total = self.phi
        for step in self.steps:
            amount = w.e.at(step, (ZERO,) * len(step.type.shape))
            if amount.elem != total.elem:
                amount = integers.extend(w.b, amount, total.elem, signed=True)
            total = integers.add(w.b, total, amount)
        return [total]


class CarriedBuffer(Carried):
    """A tile in memory: one iteration reads one buffer and fills the other, and they change places.

    Where nothing reads the old value once its successor is written, one buffer does (:meth:`in_place`).
    """

    width = 2

    def bind(self, w: KernelWriter, value: Value, phis: list[Val]) -> None:
        self.value = value
        self.done = False
        self.current, self.following = phis
        kind = value.type
        self.buffer = Buffer(self.current, kind.elem, kind.shape, w.b.depth)
        w.e.buffers[value] = self.buffer

    def request(self, w: KernelWriter, terminator: Op, value: Value) -> None:
        if self.done:
            return
        target = Buffer(self.following, value.type.elem, value.type.shape, w.b.depth)
        w.carried[target] = self
        w.pending.append(("buffer", terminator, value, target))

    def in_place(self) -> Buffer:
        """Keeps the next value in the memory of the current one."""
        self.current, self.following = self.following, self.current
        self.done = True
        return self.buffer

    def advance(self, w: KernelWriter, value: Value) -> list[Val]:
        return [self.following, self.current]


def _values(w: KernelWriter, carried: list[Carried]) -> list[Val]:
    return [value for state in carried for value in state.start(w)]


def _bind(
    w: KernelWriter, carried: list[Carried], values: list[Value], phis: list[Val], terminator: Op | None = None
) -> None:
    """Lets arguments (or results) stand for what a loop carries; with ``terminator``, lets products accumulate in
    place.
    """
    remaining = iter(phis)
    for number, (state, value) in enumerate(zip(carried, values, strict=True)):
        state.bind(w, value, [next(remaining) for _ in range(state.width)])
        if terminator is not None and isinstance(state, CarriedBuffer):
            w.accumulators[terminator, number] = state


def _advance(w: KernelWriter, carried: list[Carried], terminator: Op, values: list[Value]) -> list[Val]:
    """Writes the next values of what a loop carries, at the end of its body."""
    for state, value in zip(carried, values, strict=True):
        state.request(w, terminator, value)
    w.flush()
    return [v for state, value in zip(carried, values, strict=True) for v in state.advance(w, value)]


def flows_into(value: Value, target: Value) -> bool:
    """Whether ``target`` is ``value`` or computed from it element by element, and nothing else uses ``value``."""
    while value is not target:
        if len(value.uses) != 1 or value.uses[0].name not in ELEMENTWISE:
            return False
        value = value.uses[0].result
    return len(value.uses) == 1


def _uniform_steps(arg: Value, yielded: Value) -> list[Value] | None:
    """The uniform tiles that are added to ``arg`` to give ``yielded``, if that is all that happens to it."""
    steps: list[Value] = []
    value = yielded
    while value is not arg:
        op = value.op
        if op is None or op.name not in ("tt.addptr", "arith.addi"):
            return None
        step = op.operands[1]
        if (
            step.op is None
            or step.op.name not in ("tt.splat", "arith.constant")
            or isinstance(step.op.attrs.get("value"), list)
        ):
            return None
        steps.append(step)
        value = op.operands[0]
    return steps if arg.type.is_pointer or arg.type.is_integer else None
