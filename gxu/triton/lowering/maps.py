"""Writes ``tt.map_elementwise`` as operations on tiles: both sides of a branch are computed, one is selected."""

from __future__ import annotations

from ..codegen.elementwise import ELEMENTWISE
from ..errors import UnsupportedError
from ..ir.module import Block, Function, Op, Region, Value, walk
from .structure import meeting_points

_DIVISIONS = {"arith.divsi", "arith.divui", "arith.remsi", "arith.remui"}
_REMEDY = "use operations on whole tiles, such as tl.where"

Values = dict[Value, Value]


def expand_maps(function: Function) -> None:
    """Rewrites the function in place, where it maps a scalar function over tiles."""
    for block in list(_blocks(function.region)):
        if any(op.name == "tt.map_elementwise" for op in block.ops):
            _Expander(block).expand()


def _blocks(region: Region) -> list[Block]:
    found = list(region.blocks)
    for block in region.blocks:
        for op in walk(block):
            if op.name.startswith("scf."):
                found += [inner for part in op.regions for inner in part.blocks]
    return found


class _Expander:
    def __init__(self, block: Block) -> None:
        self.block = block
        self.ops: list[Op] = []

    def expand(self) -> None:
        for op in self.block.ops:
            if op.name == "tt.map_elementwise":
                self._map(op)
            else:
                self.ops.append(op)
        self.block.ops = self.ops

    def _map(self, op: Op) -> None:
        pack = op.attrs.get("pack", 1)
        whole, numel = op.results[0].type.shape, op.results[0].type.numel
        if pack & (pack - 1) or numel % pack:
            what = f"map_elementwise of {pack} elements at once, over a tile of {numel}"
            raise UnsupportedError.at(what, op.location, "use a power of two that the tile has room for")
        self.shape = whole if pack == 1 else (numel // pack,)
        self.meeting = meeting_points(op.regions[0].blocks)
        self.targets = {block.label: block for block in self.meeting}
        entry = op.body
        for operand in op.operands:
            operand.uses.remove(op)
        for inner in (inner for block in self.meeting for inner in walk(block)):
            for operand in inner.operands:
                operand.uses = [use for use in operand.uses if use is not inner]
        arguments = [part for operand in op.operands for part in self._unpacked(operand, pack, op)]
        values = self._follow(entry, dict(zip(entry.args, arguments, strict=True)), None, False)
        for number, result in enumerate(op.results):
            value = self._packed(values[number * pack : (number + 1) * pack], whole, op)
            for use in result.uses:
                use.operands = [value if v is result else v for v in use.operands]
                value.uses.append(use)

    def _unpacked(self, tile: Value, pack: int, op: Op) -> list[Value]:
        """The tiles of every ``pack``-th element in row-major order, from the first, from the second, and so on."""
        if pack == 1:
            return [tile]
        (count,) = self.shape
        pairs = self._emit("tt.reshape", [tile], {}, op, tile, (count * pack // 2, 2))
        even, odd = (Value(tile.type.with_shape((count * pack // 2,)), f"{pairs.name}_{n}", index=n) for n in (0, 1))
        split = Op("tt.split", [pairs], [even, odd], {}, [], op.location, self.block)
        even.op = odd.op = split
        pairs.uses.append(split)
        self.ops.append(split)
        halves = [self._unpacked(half, pack // 2, op) for half in (even, odd)]
        return [part for both in zip(*halves, strict=True) for part in both]

    def _packed(self, tiles: list[Value], shape: tuple[int, ...], op: Op) -> Value:
        """The tile of ``shape`` whose elements ``_unpacked`` tells apart as ``tiles``."""
        if len(tiles) == 1:
            return tiles[0]
        count = tiles[0].type.numel * len(tiles)
        even, odd = (self._packed(tiles[start::2], (count // 2,), op) for start in (0, 1))
        pairs = self._emit("tt.join", [even, odd], {}, op, even, (count // 2, 2))
        return self._emit("tt.reshape", [pairs], {}, op, pairs, shape)

    def _follow(self, block: Block, values: Values, stop: Block | None, chosen: bool) -> list[Value]:
        """Writes ``block`` and what follows, up to ``stop``. ``chosen``: a branch decides which elements need it."""
        for op in block.ops[:-1]:
            self._copy(op, values, chosen)
        end = block.terminator
        operands = [self._tile(values.get(v, v), end) for v in end.operands]
        if end.name == "tt.map_elementwise.return":
            return operands
        if end.name == "cf.br":
            return self._enter(end.successors[0], operands, values, stop, chosen)
        _, first, _ = end.attrs["operandSegmentSizes"]
        join = self.meeting[block]
        sides = [
            self._enter(label, args, dict(values), join, True)
            for label, args in zip(end.successors, (operands[1 : 1 + first], operands[1 + first :]), strict=True)
        ]
        merged = [self._emit("arith.select", [operands[0], x, y], {}, end, x) for x, y in zip(*sides, strict=True)]
        if join is None or join is stop:
            return merged
        return self._enter(join.label, merged, values, stop, chosen)

    def _enter(self, label: str, args: list[Value], values: Values, stop: Block | None, chosen: bool) -> list[Value]:
        target = self.targets[label]
        if target is stop:
            return args
        values.update(zip(target.args, args, strict=True))
        return self._follow(target, values, stop, chosen)

    def _copy(self, op: Op, values: Values, chosen: bool) -> None:
        if op.name == "arith.constant":
            values[op.result] = self._emit(op.name, [], op.attrs, op, op.result)
            return
        if op.name == "scf.if":
            self._if(op, values)
            return
        if op.name not in ELEMENTWISE:
            raise UnsupportedError.at(f"{op.name} inside map_elementwise", op.location, _REMEDY)
        operands = [self._tile(values.get(v, v), op) for v in op.operands]
        if chosen and op.name in _DIVISIONS:
            operands[1] = self._nonzero(operands[1], op)
        values[op.result] = self._emit(op.name, operands, op.attrs, op, op.result)

    def _if(self, op: Op, values: Values) -> None:
        condition = self._tile(values.get(op.operands[0], op.operands[0]), op)
        sides: list[list[Value]] = []
        for region in op.regions:
            inner = dict(values)
            for block in region.blocks:
                for nested in block.ops[:-1]:
                    self._copy(nested, inner, True)
                sides.append([self._tile(inner.get(v, v), op) for v in block.terminator.operands])
        for result, x, y in zip(op.results, *sides, strict=True) if op.results else ():
            values[result] = self._emit("arith.select", [condition, x, y], {}, op, result)

    def _nonzero(self, divisor: Value, op: Op) -> Value:
        """The divisor, or 1 where it is 0: there the quotient may be one that no branch asks for."""
        zero, one = (self._emit("arith.constant", [], {"value": number}, op, divisor) for number in (0, 1))
        truth = Value(type(divisor.type)("i1", divisor.type.shape), "%zero")
        is_zero = self._emit("arith.cmpi", [divisor, zero], {"predicate": 0}, op, truth)
        return self._emit("arith.select", [is_zero, one, divisor], {}, op, divisor)

    def _tile(self, value: Value, op: Op) -> Value:
        return value if value.type.is_tile else self._emit("tt.splat", [value], {}, op, value)

    def _emit(
        self,
        name: str,
        operands: list[Value],
        attrs: dict[str, object],
        source: Op,
        like: Value,
        shape: tuple[int, ...] | None = None,
    ) -> Value:
        """A new operation with a result of the elements of ``like``, and of the map's shape unless another is given."""
        result = Value(like.type.with_shape(shape or self.shape), f"{like.name}_{len(self.ops)}")
        op = Op(name, operands, [result], dict(attrs), [], source.location, self.block)
        result.op = op
        for operand in operands:
            operand.uses.append(op)
        self.ops.append(op)
        return result
