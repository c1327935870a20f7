"""Makes one structured block of a function: calls are inlined, and branches between blocks become ``scf.if``.

Triton writes a return in the middle of a function as branches between blocks (loops always have regions). A branch
whose two sides meet again becomes an ``scf.if`` that gives what the meeting point's arguments get. Where one side
returns, what follows the branch moves into the other side; blocks that both sides go on to are written twice.
"""

from __future__ import annotations

from ..errors import UnsupportedError
from ..ir.module import Block, Function, Module, Op, Region, Value, walk

_BLOCKS_MOST = 2000  # written; code that is doubled at every branch would never end
_RETURNS = ("tt.return", "tt.map_elementwise.return")

Values = dict[Value, Value]


def structure(module: Module, function: Function) -> None:
    """Rewrites ``function`` in place, if it has several blocks or calls others."""
    blocks = function.region.blocks
    if len(blocks) == 1 and not any(op.name == "tt.call" for op in walk(blocks[0])):
        return
    entry = blocks[0]
    whole = Block(entry.label, entry.args, [], function.region)
    writer = _Writer(module)
    writer.follow(entry, {}, whole, None, meeting_points(blocks))
    whole.ops.append(Op("tt.return", [], [], {}, [], function.location, whole))
    for arg in entry.args:
        arg.block = whole
    function.region.blocks = [whole]
    for value in (*whole.args, *(v for op in walk(whole) for v in op.results)):
        value.uses = []
    for op in walk(whole):
        for region in op.regions:
            for block in region.blocks:
                for arg in block.args:
                    arg.uses = []
    for op in walk(whole):
        for value in op.operands:
            value.uses.append(op)


def meeting_points(blocks: list[Block]) -> dict[Block, Block | None]:
    """The block at which all paths from a block meet again; None where they only end. Blocks have no cycles."""
    labels = {block.label: block for block in blocks}
    after: dict[Block, list[Block]] = {}

    def all_after(block: Block) -> list[Block]:
        """Blocks that every path from ``block`` passes, nearest first, itself included."""
        if block not in after:
            ways = [all_after(labels[label]) for label in block.terminator.successors]
            common = [b for b in ways[0] if all(b in way for way in ways)] if ways else []
            after[block] = [block, *common]
        return after[block]

    return {block: next(iter(all_after(block)[1:]), None) for block in blocks}


class _Writer:
    def __init__(self, module: Module) -> None:
        self.module = module
        self.written = 0

    def follow(
        self, block: Block, values: Values, out: Block, stop: Block | None, meeting: dict[Block, Block | None]
    ) -> list[Value]:
        """Writes ``block`` and what follows, up to ``stop`` or a return; gives stop's arguments or what is returned."""
        self.written += 1
        if self.written > _BLOCKS_MOST:
            raise UnsupportedError.at("so many returns in the middle of a function", block.ops[0].location)
        for op in block.ops[:-1]:
            self._copy(op, values, out)
        end = block.terminator
        operands = [values.get(v, v) for v in end.operands]
        if end.name in _RETURNS:
            return operands
        targets = {b.label: b for b in meeting}
        if end.name == "cf.br":
            return self._enter(targets[end.successors[0]], operands, values, out, stop, meeting)
        if end.name != "cf.cond_br":
            raise UnsupportedError.at(f"operation {end.name}", end.location)
        _, first, _ = end.attrs["operandSegmentSizes"]
        given = (operands[1 : 1 + first], operands[1 + first :])
        join = meeting[block] if meeting[block] is not stop else stop
        branch = Op("scf.if", operands[:1], [], {}, [], end.location)
        kinds: list[Value] = []
        for label, args in zip(end.successors, given, strict=True):
            region = Region([], branch)
            inner = Block("bb0", [], [], region)
            region.blocks.append(inner)
            branch.regions.append(region)
            kinds = self._enter(targets[label], args, dict(values), inner, join, meeting)
            inner.ops.append(Op("scf.yield", kinds, [], {}, [], end.location, inner))
        branch.results = [
            Value(kind.type, f"{end.operands[0].name}_{i}", op=branch, index=i) for i, kind in enumerate(kinds)
        ]
        _append(out, branch)
        if join is None or join is stop:
            return branch.results
        return self._enter(join, branch.results, values, out, stop, meeting)

    def _enter(
        self,
        target: Block,
        args: list[Value],
        values: Values,
        out: Block,
        stop: Block | None,
        meeting: dict[Block, Block | None],
    ) -> list[Value]:
        if target is stop:
            return args
        values.update(zip(target.args, args, strict=True))
        return self.follow(target, values, out, stop, meeting)

    def _copy(self, op: Op, values: Values, out: Block) -> None:
        operands = [values.get(v, v) for v in op.operands]
        if op.name == "tt.call":
            callee = self.module.functions[op.attrs["callee"].removeprefix("@").strip('"')]
            blocks = callee.region.blocks
            inner = dict(zip(callee.args, operands, strict=True))
            results = self.follow(blocks[0], inner, out, None, meeting_points(blocks))
            values.update(zip(op.results, results, strict=True))
            return
        copy = Op(op.name, operands, [], dict(op.attrs), [], op.location)
        for result in op.results:
            values[result] = Value(result.type, result.name, op=copy, index=result.index)
            copy.results.append(values[result])
        for region in op.regions:
            copied = Region([], copy)
            copy.regions.append(copied)
            if len(region.blocks) > 1 or op.name == "tt.map_elementwise":
                self._copy_blocks(region, copied, values)
                continue
            for block in region.blocks:
                self._copy_block(block, copied, dict(values))
        _append(out, copy)

    def _copy_block(self, block: Block, region: Region, values: Values) -> None:
        copy = Block(block.label, [], [], region)
        region.blocks.append(copy)
        for arg in block.args:
            values[arg] = Value(arg.type, arg.name, block=copy, index=arg.index)
            copy.args.append(values[arg])
        for op in block.ops:
            self._copy(op, values, copy)

    def _copy_blocks(self, region: Region, copied: Region, values: Values) -> None:
        """Blocks that branch to one another keep doing so."""
        inner = dict(values)
        for block in region.blocks:
            self._copy_block(block, copied, inner)
            copied.blocks[-1].terminator.successors = list(block.terminator.successors)


def _append(out: Block, op: Op) -> None:
    op.parent = out
    out.ops.append(op)
