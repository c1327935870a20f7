"""Cuts blocks into segments, and decides which tiles live in memory between them.

A segment is a stretch of a block whose roots are planned together. It ends before and after an operation with regions,
before a scalar operation that needs a reduction's scalar, and before a scalar memory effect.
"""

from __future__ import annotations

from ..analysis.effects import STORES, is_volatile
from ..codegen.elementwise import COST, EXPENSIVE
from ..ir.module import Block, Function, Op, Value, post_order
from .again import Again
from .operands import only_multiplied, untransposed
from .sinking import sink
from .walk import ROOT_RESULTS

Segment = tuple[Block, int]


def is_root(op: Op) -> bool:
    if op.name in (*STORES, "tt.assert"):
        return op.operands[0].type.is_tile
    return op.name in ROOT_RESULTS


class Segments:
    """Segment numbers of a function's operations, and the values kept in memory across segments."""

    def __init__(self, function: Function) -> None:
        self.of: dict[Op, Segment] = {}
        self.kept: set[Value] = set()
        self.escaping: set[Value] = set()
        self.order: dict[Op, int] = {}
        self._index: dict[Value, bool] = {}
        self._loads: dict[Value, bool] = {}
        self._costs: dict[Value, int] = {}
        sink(function)
        for block in function.region.blocks:
            self._number(block)
        self._again = Again(function, self.order, self.is_index_arithmetic)
        starts: dict[Segment, int] = {}
        for op, segment in self.of.items():
            starts.setdefault(segment, self.order[op])
        crossing: list[Value] = []
        for op, segment in self.of.items():
            if op.name in ("scf.for", "scf.if", "scf.while", "tt.return", "scf.yield"):
                continue
            for value in op.results:
                if not value.type.is_tile:
                    continue
                elsewhere = {self._segment_of_use(use) for use in value.uses} - {segment}
                if elsewhere:
                    costly = self._has_load(value) or self._cost(value) >= EXPENSIVE
                    again = all(block is op.parent for block, _ in elsewhere)
                    again = again and self._again.is_cheap(value, [starts[other] for other in elsewhere])
                    if op.name not in ROOT_RESULTS and costly and not again:
                        self.kept.add(_read_by_products(value))
                    else:
                        crossing.append(value)
        for value in crossing:
            self._escape(value)

    def _escape(self, value: Value) -> None:
        """A value that another segment computes again: what roots contribute to it must be in memory by then."""
        stack, seen = [value], {value}
        while stack:
            value = stack.pop()
            op = value.op
            if op is None or value in self.kept or not value.type.is_tile:
                continue
            if op.name in ROOT_RESULTS:
                self.escaping.add(value)
            elif not op.regions:
                stack += [v for v in op.operands if v not in seen]
                seen.update(op.operands)

    def _segment_of_use(self, op: Op) -> Segment:
        """The combine region of a reduction belongs to the segment of the reduction."""
        while op not in self.of:
            region = op.parent.parent if op.parent is not None else None
            assert region is not None and region.op is not None
            op = region.op
        return self.of[op]

    def _number(self, block: Block) -> None:
        number = 0
        pending: set[Value] = set()  # scalars that roots of this segment will give
        stores = False
        for op in block.ops:
            self.order[op] = len(self.order)
            scalar = op.name in ("tt.unsplat", "tt.print") or op.name.startswith("scf.")
            scalar = scalar or not any(v.type.is_tile for v in op.operands)
            if scalar and self._must_follow(op, pending, stores):
                number, pending, stores = number + 1, set(), False
            self.of[op] = (block, number)
            if op.name in STORES:
                stores = stores or op.operands[0].type.is_tile
            elif op.name in ROOT_RESULTS:
                pending.update(v for v in op.results if not v.type.is_tile)
            elif op.name.startswith("scf."):
                for region in op.regions:
                    for inner in region.blocks:
                        self._number(inner)
                number, pending, stores = number + 1, set(), False

    def _must_follow(self, op: Op, pending: set[Value], stores: bool) -> bool:
        if op.name == "tt.splat":
            return False  # read where a root of this segment needs it, after the reduction
        if any(v in pending for v in op.operands) or op.name in (*STORES, "tt.unsplat", "tt.print", "tt.assert"):
            return True
        return op.name == "tt.load" and (stores or is_volatile(op))

    def reads_again(self, load: Op, root: Op) -> bool:
        """Whether ``root`` may read again what ``load`` has read for an earlier segment."""
        return load in self._again.loads and self.of.get(load) != self.of.get(root)

    def is_index_arithmetic(self, value: Value) -> bool:
        """Whether a tile follows from scalars and ranges alone, so that it can be computed again at any time."""
        for each in post_order(value, _computed_from, self._index):
            self._index[each] = not each.type.is_tile or (
                _is_computed(each.op) and all(self._index[operand] for operand in _computed_from(each))
            )
        return self._index[value]

    def _has_load(self, value: Value) -> bool:
        for each in post_order(value, _computed_from, self._loads):
            # Scalars are computed once, at their place.
            self._loads[each] = (each.op is not None and each.type.is_tile) and (
                each.op.name == "tt.load" or any(self._loads[operand] for operand in _computed_from(each))
            )
        return self._loads[value]

    def _cost(self, value: Value) -> int:
        for each in post_order(value, _counted, self._costs):
            # Index arithmetic is free (it folds into addresses): only costly operations count.
            own = COST.get(each.op.name, 0) if each.op is not None and each.type.is_tile else 0
            self._costs[each] = min(own + sum(self._costs[operand] for operand in _counted(each)), 1000)
        return self._costs[value]


def _is_computed(op: Op | None) -> bool:
    return op is not None and not op.regions and op.name not in ROOT_RESULTS and op.name != "tt.load"


def _computed_from(value: Value) -> list[Value]:
    """Operands of a tile, if it is not read from memory or a root's result."""
    return value.op.operands if value.op is not None and value.type.is_tile and _is_computed(value.op) else []


def _counted(value: Value) -> list[Value]:
    return value.op.operands if value.op is not None and value.type.is_tile and not value.op.regions else []


def _read_by_products(value: Value) -> Value:
    """Where products read a value: a transpose from the memory of what is transposed."""
    if not only_multiplied(value):
        return value
    source, _ = untransposed(value, lambda _: False)
    return value if source.op is None or source.op.name in ROOT_RESULTS else source
