"""Operations that only rearrange elements: where their operands are read, and which operands must be in memory for
that.
"""

from __future__ import annotations

from collections.abc import Callable

from ..ir.module import Op, Value
from .loops import COMPLEX, Dim

Dims = tuple[Dim, ...]
Reads = list[tuple[Value, Dims]]


def _join(op: Op, dims: Dims) -> Reads:
    return [(operand, dims[:-1]) for operand in op.operands]


def _split(op: Op, dims: Dims) -> Reads:
    return [(op.operands[0], (*dims, COMPLEX))]


def _cat(op: Op, dims: Dims) -> Reads:
    return [(operand, (COMPLEX, *dims[1:])) for operand in op.operands]


def _gather(op: Op, dims: Dims) -> Reads:
    source, indices = op.operands
    axis = op.attrs["axis"]
    return [(source, (*dims[:axis], COMPLEX, *dims[axis + 1 :])), (indices, dims)]


def _exchange(op: Op, dims: Dims) -> Reads:
    return [(op.operands[0], (COMPLEX,))]


REARRANGES: dict[str, Callable[[Op, Dims], Reads]] = {
    "tt.join": _join,
    "tt.split": _split,
    "tt.cat": _cat,
    "tt.gather": _gather,
    "gxu.exchange": _exchange,
}

# Operands that are read at many indices, each of them often: they are computed once, into memory.
KEPT_OPERANDS: dict[str, tuple[int, ...]] = {"tt.dot": (0, 1), "tt.gather": (0,), "gxu.exchange": (0,)}
