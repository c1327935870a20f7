"""Atomic read-modify-write and compare-and-swap.

One locked instruction an element; but tiles are updated by plain loads and stores, contiguous ones by whole vectors,
where the engine says that no other kernel with atomics runs (:mod:`gxu.triton.codegen.alone`).
"""

from __future__ import annotations

from ..ir.module import Op
from ..ir.types import BITS, byte_size
from . import math, memory
from .builder import Builder
from .evaluate import ZERO, Evaluator, Index
from .values import LLVM_TYPE, Val, constant

# tt.atomic_rmw's operation numbers as LLVM's atomicrmw names them.
_OPERATIONS = {
    1: "and",
    2: "or",
    3: "xor",
    4: "add",
    5: "fadd",
    6: "max",
    7: "min",
    8: "umax",
    9: "umin",
    10: "xchg",
}
# Memory semantics: relaxed, acquire, release, acquire-release. Of the scopes only the system's differs: it is the one
# that counts threads of the host in.
_ORDERINGS = {1: "monotonic", 2: "acquire", 3: "release", 4: "acq_rel"}
_SYSTEM = 3
_INTRINSICS = {"max": "smax", "min": "smin", "umax": "umax", "umin": "umin"}


def write(e: Evaluator, op: Op, index: Index) -> Val | None:
    """``tt.atomic_rmw`` or ``tt.atomic_cas`` at one index or at a vector of them, lane after lane.

    Returns the old values, zero where the mask leaves an element out; None where nobody uses them.
    """
    b = e.b
    operands = op.operands
    condition: Val | None = None
    if op.name == "tt.atomic_rmw" and len(operands) > 2:
        operands = operands[:2]
        condition, _ = e.mask(op.operands[2], index)
    args = [e.at(v, index) for v in operands]
    lanes = b.lanes if any(i.lanes > 1 for i in index) else 1
    if lanes > 1:
        condition = memory.both(b, condition, e.facts.lane_mask)
    zero = constant(0, args[1].elem)
    if lanes == 1:
        return _guarded(b, op, args, condition, zero if op.result.uses else None)
    results = _InMemory(b, Val(zero.elem, b.wide(zero), 0, lanes), lanes) if op.result.uses else None
    if b.sanitizer is None and may_be_alone(op):

        def alone() -> list[Val]:
            _alone(b, op, args, condition, results)
            return []

        def together() -> list[Val]:
            _by_lanes(b, op, args, condition, results)
            return []

        b.either(b.alone(), alone, together)
    else:
        _by_lanes(b, op, args, condition, results)
    return None if results is None else results.vector()


def may_be_alone(op: Op) -> bool:
    """Whether an atomic on a tile need not be one where no other kernel runs."""
    return op.name == "tt.atomic_rmw" and op.attrs["scope"] != _SYSTEM


def _by_lanes(b: Builder, op: Op, args: list[Val], condition: Val | None, results: _InMemory | None) -> None:
    """Locked instructions, lane after lane."""
    lanes = b.lanes
    vectors = [_InMemory(b, arg, lanes) if arg.lanes > 1 else None for arg in args]
    chosen = _InMemory(b, condition, lanes) if condition is not None and condition.lanes > 1 else None
    zero = constant(0, args[1].elem) if results is not None else None
    with b.loop("i32", ZERO, constant(lanes, "i32"), constant(1, "i32")) as each:
        one = [arg if vector is None else vector.lane(each.iv) for arg, vector in zip(args, vectors, strict=True)]
        old = _guarded(b, op, one, condition if chosen is None else chosen.lane(each.iv), zero)
        if results is not None and old is not None:
            results.set_lane(each.iv, old)


def _alone(b: Builder, op: Op, args: list[Val], condition: Val | None, results: _InMemory | None) -> None:
    """The same by plain loads and stores. Threads that look at the memory meanwhile see them in the order that
    ``sem`` asks for: the fences cost nothing on x86, but keep the compiler from moving accesses over them.
    """
    pointer, value = args
    fence = None if (ordering := _ORDERINGS[op.attrs["sem"]]) == "monotonic" else f"fence {ordering}"
    if fence is not None:
        b.line(fence, b.depth)
    if pointer.base is not None and pointer.stride == byte_size(value.elem):
        if condition is not None and condition.lanes == 1:
            condition = Val("i1", b.wide(condition), condition.depth, b.lanes)
        old = memory.load(b, pointer, value.elem, condition, None, at_least=b.depth)
        memory.store(b, pointer, _updated(b, op, old, value), value.elem, condition)
        if results is not None:
            results.set(old)
    else:
        olds = _each_alone(b, op, pointer, value, condition)
        if results is not None:
            results.set(olds if condition is None else b.select(condition, olds, constant(0, value.elem)))
    if fence is not None:
        b.line(fence, b.depth)


def _each_alone(b: Builder, op: Op, pointer: Val, value: Val, condition: Val | None) -> Val:
    """Lane after lane, out of registers; lanes that ``condition`` leaves out update a place on the stack instead."""
    lanes, kind = b.lanes, LLVM_TYPE[value.elem]
    if condition is not None:
        nowhere = Val("ptr", b.define(f"alloca {kind}", 0), 0)
        pointer = b.select(condition, pointer, nowhere)
    vector = f"<{lanes} x {kind}>"
    olds = "poison"
    for lane in range(lanes):
        address, one = (
            v if v.lanes == 1 else b.emit(v.elem, f"extractelement {v.type} {b.wide(v)}, i32 {lane}", b.depth)
            for v in (pointer, value)
        )
        old = memory.load(b, address, value.elem, None, None, at_least=b.depth)
        b.lanes = 1
        memory.store(b, address, _updated(b, op, old, one), value.elem, None)
        b.lanes = lanes
        if op.result.uses:
            olds = b.define(f"insertelement {vector} {olds}, {kind} {b.scalar(old)}, i32 {lane}", b.depth)
    return Val(value.elem, olds, b.depth, lanes)


def _updated(b: Builder, op: Op, old: Val, value: Val) -> Val:
    """What an atomic leaves in memory, of one element or of a vector."""
    operation = _OPERATIONS[op.attrs["atomic_rmw_op"]]
    if operation == "xchg":
        return value
    if operation in _INTRINSICS:
        return b.intrinsic(_INTRINSICS[operation], old, value)
    if operation == "fadd" and value.elem in ("f16", "bf16"):
        total = b.binary("fadd", math.convert_float(b, old, "f32"), math.convert_float(b, value, "f32"))
        return math.convert_float(b, total, value.elem)
    return b.binary(operation, old, value)


class _InMemory:
    """A vector on the stack, for a loop over its lanes: a register would be written there for each lane anew."""

    def __init__(self, b: Builder, value: Val, lanes: int) -> None:
        self.b, self.elem, self.lanes = b, value.elem, lanes
        # Booleans by the byte.
        self.kind = "i8" if value.elem == "i1" else LLVM_TYPE[value.elem]
        self.slot = b.define(f"alloca <{lanes} x {self.kind}>, align 64", 0)
        whole = b.cast("zext", value, "i8") if value.elem == "i1" else value
        b.line(f"store <{lanes} x {self.kind}> {b.wide(whole)}, ptr {self.slot}, align 64", b.depth)

    def _address(self, lane: Val) -> str:
        return self.b.define(f"getelementptr {self.kind}, ptr {self.slot}, i32 {lane.ref}", self.b.depth)

    def lane(self, lane: Val) -> Val:
        b = self.b
        raw = b.emit("i8" if self.elem == "i1" else self.elem, f"load {self.kind}, ptr {self._address(lane)}", b.depth)
        return b.cast("trunc", raw, "i1") if self.elem == "i1" else raw

    def set_lane(self, lane: Val, value: Val) -> None:
        self.b.line(f"store {self.kind} {self.b.scalar(value)}, ptr {self._address(lane)}", self.b.depth)

    def set(self, value: Val) -> None:
        self.b.line(f"store <{self.lanes} x {self.kind}> {self.b.wide(value)}, ptr {self.slot}, align 64", self.b.depth)

    def vector(self) -> Val:
        text = f"load <{self.lanes} x {self.kind}>, ptr {self.slot}, align 64"
        return self.b.emit(self.elem, text, self.b.depth, self.lanes)


def _guarded(b: Builder, op: Op, args: list[Val], condition: Val | None, otherwise: Val | None) -> Val | None:
    """One atomic operation where ``condition`` holds; ``otherwise`` is its result where it does not."""
    if b.sanitizer is not None:
        condition = b.sanitizer.allowed(op, args[0], condition, args[1].elem)
    if condition is None:
        return _one(b, op, args)
    with b.guarded(condition, [] if otherwise is None else [otherwise]) as guard:
        old = _one(b, op, args)
        guard.next = [] if otherwise is None else [old]
    return guard.results[0] if otherwise is not None else None


def _one(b: Builder, op: Op, args: list[Val]) -> Val:
    ordering = _ORDERINGS[op.attrs["sem"]]
    if op.name == "tt.atomic_cas":
        pointer, expected, value = args
        old, _ = _exchange(b, pointer, expected, value, ordering)
        return old
    pointer, value = args
    operation = _OPERATIONS[op.attrs["atomic_rmw_op"]]
    if operation == "fadd" and value.elem in ("f16", "bf16"):
        return _add_narrow(b, pointer, value, ordering)
    text = (
        f"atomicrmw {operation} ptr {b.scalar(pointer)}, {LLVM_TYPE[value.elem]} {b.scalar(value)} {ordering}, "
        f"align {byte_size(value.elem)}"
    )
    return b.emit(value.elem, text, b.depth)


def _exchange(b: Builder, pointer: Val, expected: Val, value: Val, ordering: str) -> tuple[Val, Val]:
    """Compares the bits in memory with ``expected`` and stores ``value`` if they agree: (old value, whether it did)."""
    elem, kind = value.elem, f"i{BITS[value.elem]}"
    failure = "acquire" if ordering in ("acquire", "acq_rel") else "monotonic"
    bits = [v if LLVM_TYPE[elem] == kind else _at_level(b, v, kind) for v in (expected, value)]
    pair = b.define(
        f"cmpxchg ptr {b.scalar(pointer)}, {kind} {b.scalar(bits[0])}, {kind} {b.scalar(bits[1])} {ordering} "
        f"{failure}, align {byte_size(elem)}",
        b.depth,
    )
    old = b.emit(kind, f"extractvalue {{ {kind}, i1 }} {pair}, 0", b.depth)
    swapped = b.emit("i1", f"extractvalue {{ {kind}, i1 }} {pair}, 1", b.depth)
    return (old if LLVM_TYPE[elem] == kind else _at_level(b, old, elem)), swapped


def _at_level(b: Builder, value: Val, elem: str) -> Val:
    """The same bits as ``elem``."""
    opcode = {"ptr": "inttoptr"}.get(elem, "ptrtoint" if value.elem == "ptr" else "bitcast")
    return b.cast(opcode, value, elem)


def _add_narrow(b: Builder, pointer: Val, value: Val, ordering: str) -> Val:
    """f16 and bf16: no CPU adds them in memory, so compare and swap until nobody was in between."""
    start = memory.load(b, pointer, value.elem, None, None, at_least=b.depth, volatile=True)
    added = math.convert_float(b, value, "f32")
    with b.while_loop([start]) as attempt:
        old = attempt.carried[0]
        total = b.binary("fadd", math.convert_float(b, old, "f32"), added)
        seen, swapped = _exchange(b, pointer, old, math.convert_float(b, total, value.elem), ordering)
        attempt.condition = b.binary("xor", swapped, constant(1, "i1"))
        attempt.passed = [seen]
        with attempt.body():
            attempt.next = [seen]
    return seen
