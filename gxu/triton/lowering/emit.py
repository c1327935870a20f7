"""Replacing operations of a block by several simpler ones."""

from __future__ import annotations

from typing import Any

from ..ir.module import Block, Function, Op, Region, Value, walk
from ..ir.types import Type


def blocks_with(function: Function, name: str) -> list[Block]:
    """The blocks of a function, at any depth, that hold operations of this name."""
    return [block for block in _blocks(function.region) if any(op.name == name for op in block.ops)]


def _blocks(region: Region) -> list[Block]:
    found = list(region.blocks)
    for block in region.blocks:
        found += [inner for op in walk(block) for part in op.regions for inner in part.blocks]
    return found


class Emitter:
    """New operations that compute what ``source``, an operation of ``block``, does. They are kept in ``ops``."""

    def __init__(self, block: Block) -> None:
        self.block = block
        self.ops: list[Op] = []
        self.source: Op

    def release(self, op: Op) -> None:
        """Makes ``op`` the source of what is emitted next; it is no longer a use of its operands."""
        self.source = op
        for operand in op.operands:
            operand.uses.remove(op)

    def emit(self, name: str, operands: list[Value], kind: Type, **attrs: Any) -> Value:
        result = Value(kind, f"{self.source.result.name}_{len(self.ops)}")
        return self.emit_as([result], name, operands, **attrs)

    def emit_as(self, results: list[Value], name: str, operands: list[Value], **attrs: Any) -> Value:
        """As :meth:`emit`, for results that are there already; returns the first."""
        op = Op(name, operands, results, attrs, [], self.source.location, self.block)
        for index, result in enumerate(results):
            result.op, result.index = op, index
        for operand in operands:
            operand.uses.append(op)
        self.ops.append(op)
        return results[0]

    def constant(self, number: int | float, kind: Type) -> Value:
        return self.emit("arith.constant", [], kind, value=number)

    def binary(self, name: str, value: Value, other: Value | int | float) -> Value:
        """An operation whose operands and result have one type; a number stands for that constant."""
        if not isinstance(other, Value):
            other = self.constant(other, value.type)
        return self.emit(name, [value, other], value.type)

    def compare(self, value: Value, other: Value | int | float, predicate: int) -> Value:
        """A comparison by MLIR's number of a predicate of ``arith.cmpi``, or ``arith.cmpf`` for floats."""
        if not isinstance(other, Value):
            other = self.constant(other, value.type)
        name = "arith.cmpf" if value.type.is_float else "arith.cmpi"
        return self.emit(name, [value, other], Type("i1", value.type.shape), predicate=predicate)

    def select(self, condition: Value, value: Value, other: Value) -> Value:
        return self.emit("arith.select", [condition, value, other], value.type)
