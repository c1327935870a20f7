"""The combine functions of reductions and scans, on the lanes at hand."""

from __future__ import annotations

from ..ir.module import Block, Op, Value
from . import memory
from .assertions import device_assert
from .evaluate import Evaluator
from .values import Val, constant


def combine(e: Evaluator, op: Op, state: list[Val], inputs: list[Val], counts: Val | None = None) -> list[Val]:
    """The combine region of ``op`` on (accumulated, input). ``counts``: the lanes whose results are used; what the
    others hold may be anything, and is not what an assertion in the region is about. None is all of them.
    """
    return _block(e, op.body, dict(zip(op.body.args, [*state, *inputs], strict=True)), counts)


def _block(e: Evaluator, block: Block, values: dict[Value, Val], counts: Val | None) -> list[Val]:
    def value(operand: Value) -> Val:
        return values[operand] if operand in values else e.scalars[operand]

    for op in block.ops[:-1]:
        if op.name == "arith.constant":
            values[op.result] = constant(op.attrs["value"], op.result.type.elem)
        elif op.name == "tt.assert":
            device_assert(e, op, value(op.operands[0]), counts)
        elif op.name == "scf.if":
            values.update(zip(op.results, _both_sides(e, op, value(op.operands[0]), values, counts), strict=True))
        else:
            values[op.result] = e.elementwise(op, [value(v) for v in op.operands])
    return [value(v) for v in block.terminator.operands]


def _both_sides(e: Evaluator, op: Op, condition: Val, values: dict[Value, Val], counts: Val | None) -> list[Val]:
    """The results of a branch: lanes need not agree on a side, so both are computed and one is selected."""
    conditions = condition, e.b.binary("xor", condition, constant(1, "i1"))
    sides = [
        _block(e, region.blocks[0], dict(values), memory.both(e.b, counts, side))
        for region, side in zip(op.regions, conditions, strict=True)
        if region.blocks
    ]
    return [e.b.select(condition, x, y) for x, y in zip(*sides, strict=True)] if op.results else []
