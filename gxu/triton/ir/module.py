"""Typed SSA: values, operations, blocks, regions, functions."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from .types import Type


@dataclass(frozen=True)
class Location:
    """Where in the Python source an operation comes from; ``line`` 0 means unknown."""

    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else "an unknown line"


@dataclass(eq=False, slots=True)
class Value:
    """One SSA value: the ``index``-th result of ``op``, or an argument of ``block``."""

    type: Type
    name: str
    op: Op | None = None
    block: Block | None = None
    index: int = 0
    uses: list[Op] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"{self.name}: {self.type}"


@dataclass(eq=False, slots=True)
class Op:
    """One operation, named as MLIR names it (``arith.addf``, ``tt.load``)."""

    name: str
    operands: list[Value]
    results: list[Value]
    attrs: dict[str, Any]
    regions: list[Region]
    location: Location
    parent: Block | None = None
    successors: list[str] = field(default_factory=list)

    @property
    def result(self) -> Value:
        return self.results[0]

    @property
    def body(self) -> Block:
        """The first block of the first region."""
        return self.regions[0].blocks[0]

    def segments(self) -> list[list[Value]]:
        """Operands grouped by ``operandSegmentSizes`` (optional operands are empty groups)."""
        groups, start = [], 0
        for size in self.attrs["operandSegmentSizes"]:
            groups.append(self.operands[start : start + size])
            start += size
        return groups

    def __repr__(self) -> str:
        results = ", ".join(map(repr, self.results))
        operands = ", ".join(v.name for v in self.operands)
        return f"{results} = {self.name}({operands})" if results else f"{self.name}({operands})"


@dataclass(eq=False, slots=True)
class Block:
    label: str
    args: list[Value]
    ops: list[Op]
    parent: Region | None = None

    @property
    def terminator(self) -> Op:
        return self.ops[-1]


@dataclass(eq=False, slots=True)
class Region:
    blocks: list[Block]
    op: Op | None = None


@dataclass(eq=False, slots=True)
class Function:
    """One ``tt.func``. ``arg_attrs`` holds for each argument what the frontend promised (``tt.divisibility``)."""

    name: str
    args: list[Value]
    region: Region
    arg_attrs: list[dict[str, Any]]
    location: Location

    @property
    def entry(self) -> Block:
        return self.region.blocks[0]


@dataclass(eq=False, slots=True)
class Module:
    functions: dict[str, Function]

    def kernel(self, name: str) -> Function:
        return self.functions[name]


def walk(block: Block) -> Iterator[Op]:
    """Every operation of a block and of the regions inside it, in program order."""
    pending: list[Iterator[Op]] = [iter(block.ops)]
    while pending:
        for op in pending[-1]:
            yield op
            if op.regions:
                pending.append(nested for region in op.regions for inner in region.blocks for nested in inner.ops)
                break
        else:
            pending.pop()


def post_order(value: Value, operands: Callable[[Value], Iterable[Value]], known: Container[Value]) -> Iterator[Value]:
    """``value`` and what it follows from, each once and after its ``operands``, but for what is ``known`` already.

    Whoever asks makes each known before it asks for the next. (A list of what is pending: chains of operations get
    longer than calls can nest.)
    """
    pending = [(value, False)]
    while pending:
        value, ready = pending.pop()
        if value in known:
            continue
        if ready:
            yield value
        else:
            pending.append((value, True))
            pending += [(operand, False) for operand in operands(value)]


def constant_of(value: Value) -> int | float | None:
    """The number that a value holds everywhere, if it is a constant, a splat of one, or a view of one."""
    while value.op is not None:
        op = value.op
        if op.name == "arith.constant":
            number = op.attrs["value"]
            return number if isinstance(number, (int, float)) else None
        if op.name not in ("tt.splat", "tt.broadcast", "tt.expand_dims", "tt.reshape", "tt.trans"):
            return None
        value = op.operands[0]
    return None
