"""Flattens tiles of many dimensions, which Triton's own sort, topk and flip work on.

They view a tile as a hypercube of sides of two, and find an element's partner along one side as ``x ^ xor_sum(x,
side)``. Loops over such sides would be two indices long. Here the partner becomes an operation of its own
(``gxu.exchange``: the element at the index with some bits inverted), and every tile of four dimensions or more becomes
one of one dimension.
"""

from __future__ import annotations

import math

from ..codegen.elementwise import ELEMENTWISE
from ..ir.module import Block, Function, Op, Region, Value, walk
from ..ir.types import Type
from .walk import VIEWS

_RANK = 4  # from here on tiles are flattened
_ANY_SHAPE = {"gxu.exchange", "tt.splat", "arith.constant"}


def flatten_hypercubes(function: Function) -> None:
    """Rewrites the function in place, where it has tiles of many dimensions or partners."""
    blocks = [block for region in _regions(function) for block in region.blocks]
    ops = [op for block in blocks for op in block.ops]
    partners = {op: partner for op in ops if (partner := _partner_of(op)) is not None}
    if not partners and not any(len(v.type.shape) >= _RANK for op in ops for v in op.results):
        return
    flattener = _Flattener(partners)
    for block in blocks:
        flattener.block(block)
    _count_uses(function)
    for block in blocks:
        _remove_unused(block)


def _regions(function: Function) -> list[Region]:
    regions = [function.region]
    for block in function.region.blocks:
        regions += [region for op in walk(block) for region in op.regions if op.name.startswith("scf.")]
    return regions


def _partner_of(op: Op) -> tuple[Value, int] | None:
    """(x, side) where ``op`` is ``x ^ xor_sum(x, side)`` along a side of two."""
    if op.name != "arith.xori" or not op.result.type.is_tile:
        return None
    for value, other in (op.operands, op.operands[::-1]):
        total = other.op
        while total is not None and total.name in ("tt.broadcast", "tt.expand_dims", "tt.splat"):
            total = total.operands[0].op
        if total is None or total.name != "tt.reduce" or total.operands != [value]:
            continue
        body = total.body.ops
        axis = total.attrs["axis"]
        kept = other.op is not None and other.op.name == "tt.broadcast" and other.op.operands[0].op is not None
        if kept and other.op.operands[0].op.attrs.get("axis") != axis:  # type: ignore[union-attr]
            continue
        if not kept and len(value.type.shape) != 1:
            continue
        if len(body) == 2 and body[0].name == "arith.xori" and value.type.shape[axis] == 2:
            return value, axis
    return None


class _Flattener:
    def __init__(self, partners: dict[Op, tuple[Value, int]]) -> None:
        self.partners = partners
        self.shapes: dict[Value, tuple[int, ...]] = {}  # of values that are flat now: their shapes before
        self.names = 0

    def block(self, block: Block) -> None:
        self.ops: list[Op] = []
        for op in block.ops:
            self._op(op)
        for op in self.ops:
            op.parent = block
        block.ops = self.ops

    def _op(self, op: Op) -> None:
        partner = self.partners.get(op)
        if partner is not None:
            self._exchange(op, *partner)
            return
        if op.name in (*ELEMENTWISE, *_ANY_SHAPE) and op.results and len(op.result.type.shape) >= _RANK:
            if op.name != "tt.splat":
                op.operands = [self._flat(v) if v.type.is_tile else v for v in op.operands]
            self._becomes_flat(op.result)
        elif op.name == "tt.reduce" and any(v in self.shapes for v in op.operands):
            self._reduce(op)
            return
        elif op.name != "tt.reshape":
            op.operands = [self._original(v) for v in op.operands]
        self.ops.append(op)

    def _exchange(self, op: Op, value: Value, axis: int) -> None:
        shape = op.result.type.shape
        original = self.shapes.get(value, value.type.shape)
        bits = math.prod(original[axis + 1 :])
        source = self._flat(value)
        # The element is what its bits are: what sort compares and what it exchanges are one value in memory.
        cast = source.op if source.op is not None and source.op.name in ("tt.bitcast", "arith.bitcast") else None
        if cast is not None:
            source = cast.operands[0]
        if source.op is not None and source.op.name == "gxu.exchange":
            bits ^= source.op.attrs["bits"]
            source = source.op.operands[0]
        if cast is not None:
            moved = self._value(source.type)
            moved.op = Op("gxu.exchange", [source], [moved], {"bits": bits}, [], op.location)
            self.ops.append(moved.op)
            op.name, op.operands, op.attrs = cast.name, [moved], {}
        else:
            op.name, op.operands, op.attrs = "gxu.exchange", [source], {"bits": bits}
        self.ops.append(op)
        if len(shape) > 1:
            self._becomes_flat(op.result)

    def _reduce(self, op: Op) -> None:
        """Along the middle of three dimensions: what comes before the axis, the axis, what comes after it."""
        shape = self.shapes[next(v for v in op.operands if v in self.shapes)]
        axis = op.attrs["axis"]
        sizes = (math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]))
        op.operands = [self._reshaped(self._flat(v), sizes) for v in op.operands]
        op.attrs = {**op.attrs, "axis": 1}
        self.ops.append(op)
        for number, result in enumerate(op.results):
            # The users' value keeps its identity: it becomes a view of the new result.
            inner = self._value(result.type.with_shape((sizes[0], sizes[2])))
            inner.op, inner.index = op, number
            view = Op("tt.reshape", [inner], [result], {}, [], op.location)
            op.results[number] = inner
            result.op, result.index = view, 0
            if len(result.type.shape) >= _RANK:
                self._becomes_flat(result)
            self.ops.append(view)

    def _becomes_flat(self, value: Value) -> None:
        self.shapes[value] = value.type.shape
        value.type = value.type.with_shape((value.type.numel,))

    def _flat(self, value: Value) -> Value:
        if value in self.shapes:
            return value
        source = value
        while source.op is not None and source.op.name == "tt.reshape":
            source = source.op.operands[0]
        return self._reshaped(source, (value.type.numel,))

    def _original(self, value: Value) -> Value:
        shape = self.shapes.get(value)
        return value if shape is None else self._reshaped(value, shape)

    def _reshaped(self, value: Value, shape: tuple[int, ...]) -> Value:
        if value.type.shape == shape:
            return value
        result = self._value(value.type.with_shape(shape))
        result.op = Op(
            "tt.reshape", [value], [result], {}, [], value.op.location if value.op else self.ops[-1].location
        )
        self.ops.append(result.op)
        return result

    def _value(self, kind: Type) -> Value:
        self.names += 1
        return Value(kind, f"%flat{self.names}")


def _count_uses(function: Function) -> None:
    ops = [op for block in function.region.blocks for op in walk(block)]
    for op in ops:
        for value in (*op.operands, *op.results):
            value.uses = []
    for op in ops:
        for value in op.operands:
            value.uses.append(op)


def _remove_unused(block: Block) -> None:
    for op in reversed(list(block.ops)):
        pure = op.name in ELEMENTWISE or op.name in VIEWS or op.name in ("tt.reduce", "gxu.exchange")
        if pure and not any(v.uses for v in op.results):
            block.ops.remove(op)
            for value in op.operands:
                value.uses.remove(op)
