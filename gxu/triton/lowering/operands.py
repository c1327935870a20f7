"""How the operands of matrix products are kept: a transpose is never written, the product reads what is transposed."""

from __future__ import annotations

from collections.abc import Callable

from ..analysis.strides import StrideAnalysis
from ..ir.module import Op, Value
from ..ir.types import byte_size


def untransposed(value: Value, kept: Callable[[Value], bool]) -> tuple[Value, bool]:
    """What an operand of a product is the transpose of, if it is one and has no memory of its own; and whether its last
    two dimensions are exchanged.
    """
    exchanged = False
    while not kept(value) and value.op is not None and exchanges_last(value.op):
        exchanged = not exchanged
        value = value.op.operands[0]
    return value, exchanged


def exchanges_last(op: Op) -> bool:
    """Whether an operation exchanges the last two dimensions of a tile."""
    if op.name != "tt.trans":
        return False
    rank = len(op.attrs["order"])
    return bool(list(op.attrs["order"]) == [*range(rank - 2), rank - 1, rank - 2])


def only_multiplied(value: Value) -> bool:
    """Whether a tile, or its transpose, is an operand of products and nothing else."""
    return all(
        (use.name == "tt.dot" and value is not use.operands[2]) or (exchanges_last(use) and only_multiplied(use.result))
        for use in value.uses
    )


def lies_transposed(value: Value, strides: StrideAnalysis) -> bool:
    """Whether a tile of two or more dimensions is loaded from memory where its columns lie in one piece, not its
    rows.
    """
    rank = len(value.type.shape)
    found = False
    seen: set[Op] = set()
    stack = [value]
    while stack:
        op = stack.pop().op
        if op is None or op in seen:
            continue
        seen.add(op)
        if op.name == "tt.load":
            steps, size = strides.of(op.operands[0]), byte_size(op.result.type.elem)
            if steps[rank - 1] == size:
                return False
            found = found or steps[rank - 2] == size
        elif not op.regions and op.name.startswith(("arith.", "math.", "tt.fp_to_fp", "tt.bitcast")):
            stack += [operand for operand in op.operands if operand.type.shape == value.type.shape]
    return found
