"""Writes loop nests: trip counts, vector loops with their masked tails, reductions, and the statements inside."""

from __future__ import annotations

from collections.abc import Sequence

from ..analysis.effects import same_memory
from ..ir.module import Op, Value
from ..lowering.loops import FOLDS, Atom, Axis, Dim, Loop, Root, Wrap
from ..lowering.walk import IGNORES_NAN, identity_of
from . import atomics, dot, histogram, integers, memory, transposes
from .assertions import device_assert
from .combine import combine
from .evaluate import ZERO, Buffer, Evaluator, Index
from .target import Target
from .values import LLVM_TYPE, Val, constant

_I32 = "i32"
# Roots that are about to store, each with its value, its address and its mask.
Prepared = list[tuple[Root, tuple[Val, Val, Val | None]]]
# Operations that write loops of their own, and their results to memory.
_OPAQUE = {"tt.dot": dot.write, "tt.histogram": histogram.write}


class NestWriter:
    """Writes the loop form of one segment."""

    def __init__(self, evaluator: Evaluator, target: Target) -> None:
        self.e = evaluator
        self.target = target
        self.b = evaluator.b
        self.position: dict[Axis, Val] = {}

    def write(self, items: Sequence[Loop | Root]) -> None:
        """Statements of one body: all that they store is computed before the first of them stores."""
        pending: Prepared = []
        for item in items:
            if isinstance(item, Root):
                self.b.source.enter(item.op.location)
            if isinstance(item, Root) and item.kind in ("store", "buffer"):
                if self._reads_after(item, pending):
                    self._finish(pending)
                pending.append((item, self._prepare(item)))
                continue
            self._finish(pending)
            if isinstance(item, Loop):
                self._loop(item)
            elif item.kind in FOLDS:
                self._fold_nothing(item)
            elif item.kind == "opaque":
                output = item.outputs[0]
                assert isinstance(output, Buffer)
                _OPAQUE[item.op.name](self.e, item.op, output, self.target)
                self.e.buffers[item.op.result] = output
            elif item.kind == "assert":
                self._assert(item)
            else:
                self._atomic(item)
        self._finish(pending)

    # -- positions ----------------------------------------------------------------------------------------------------

    def index(self, dims: Sequence[Dim]) -> Index:
        return tuple(self.position.get(d.find(), ZERO) if isinstance(d, Axis) else ZERO for d in dims)

    # -- stores -------------------------------------------------------------------------------------------------------

    def _reads_after(self, root: Root, pending: Prepared) -> bool:
        """Whether the root loads what a pending store writes, and comes after it in the program."""
        order = self.e.order
        return any(
            order[load] > order[store.op] and same_memory(load.operands[0], store.op.operands[0])
            for store, _ in pending
            if store.kind == "store"
            for load in root.loads
        )

    def _prepare(self, root: Root) -> tuple[Val, Val, Val | None]:
        index = self.index(root.axes)
        if root.kind == "buffer":
            assert root.value is not None
            keeps = self.e.buffers.get(root.value) is root.outputs[0]
            return (self.e.fresh if keeps else self.e.at)(root.value, index), ZERO, None
        operands = root.op.operands
        condition: Val | None = None
        if len(operands) > 2:
            condition, _ = self.e.mask(operands[2], index)
        pointer, value = self.e.at(operands[0], index), self.e.at(operands[1], index)
        # A tail's lanes beyond the bound must not store; lanes that agree on one address store once.
        if self.e.facts.lane_mask is not None:
            condition = memory.both(self.b, condition, self.e.facts.lane_mask)
        return value, pointer, condition

    def _finish(self, pending: Prepared) -> None:
        for root, prepared in pending:
            value, pointer, condition = prepared
            self.b.source.enter(root.op.location)
            if root.kind == "buffer":
                self._keep(root, 0, self.index(root.axes), value)
            else:
                memory.store(self.b, pointer, value, root.op.operands[0].type.pointee, condition, root.op)
        pending.clear()

    def _atomic(self, root: Root) -> None:
        old = atomics.write(self.e, root.op, self.index(root.axes))
        if old is not None:
            self._bind_results(root, [old])

    def _assert(self, root: Root) -> None:
        condition = self.e.at(root.op.operands[0], self.index(root.axes))
        mask = self.e.facts.lane_mask if condition.lanes > 1 else None
        device_assert(self.e, root.op, condition, mask)

    def _keep(self, root: Root, result: int, index: Index, value: Val) -> None:
        buffer = root.outputs[result]
        assert isinstance(buffer, Buffer)
        self.e.write_buffer(buffer, index, value)

    # -- loops --------------------------------------------------------------------------------------------------------

    def trip(self, loop: Loop) -> Val:
        """The trip count: the axis' size cut by the loop's clamps; not negative."""
        return self._within(loop, loop.clamps, constant(loop.axis.size, _I32))

    def _bound(self, atom: Atom, axis: Axis) -> Val:
        outer = self.position.pop(axis, None)
        index = self.index(atom.dims)  # the loop's own axis is not open: it reads index 0
        if outer is not None:
            self.position[axis] = outer
        room = self.e.room(atom.value, index)
        step = self._step(atom)
        return room if step == 1 else integers.ceil_divide(self.b, room, step)

    def _step(self, atom: Atom) -> int:
        assert atom.value.op is not None
        strides = [
            s
            for side in atom.value.op.operands
            for d, s in zip(atom.dims, self.e.strides.of(side), strict=True)
            if isinstance(d, Axis) and d.find() is atom.axis and s != 0
        ]
        assert len(strides) == 1 and isinstance(strides[0], int)
        return strides[0]

    def _smaller(self, trip: Val, count: Val) -> Val:
        """min(trip, count), clipped at 0, as i32; ``count`` is i64, so that no bound overflows."""
        limit = integers.extend(self.b, trip, "i64", signed=True)
        if isinstance(count.const, int) and isinstance(limit.const, int):
            return constant(max(0, min(count.const, limit.const)), _I32)
        smaller = self.b.select(self.b.compare("icmp slt", count, limit), count, limit)
        zero = constant(0, "i64")
        result = self.b.select(self.b.compare("icmp sgt", smaller, zero), smaller, zero)
        result = integers.truncate(self.b, result, _I32)
        bounds = [bound for bound in (limit.bound, count.bound) if bound is not None]
        result.nonneg, result.bound = True, max(0, min(bounds)) if bounds else None
        return result

    def _loop(self, loop: Loop) -> None:
        saved = dict(self.e.facts.atoms)
        trip = self.trip(loop)
        if loop.transposed and transposes.pays(self, loop):
            transposes.write(self, loop, trip)
        elif loop.lanes > 1:
            self.vector_loop(loop, trip)
        else:
            self._scalar_loop(loop, trip)
        self.e.facts.atoms = saved

    def enter(self, loop: Loop, index: Val) -> None:
        """Opens the loop's axis at ``index`` and lets its clamps count as facts."""
        self.position[loop.axis] = index
        for atom in loop.clamps:
            at = tuple(
                ZERO if size == 1 else i for i, size in zip(self.index(atom.dims), atom.value.type.shape, strict=True)
            )
            self.e.facts.atoms[(atom.value, tuple(i.uid for i in at))] = self.b.depth

    def body(self, loop: Loop, index: Val, state: list[Val], first: Val | None) -> list[Val]:
        """One pass over the body. ``state`` holds the accumulators of the loop's reductions, ``first`` whether they
        are empty.
        """
        self.enter(loop, index)
        folds = loop.folds
        group: list[Loop | Root] = []
        result: list[Val] = []
        for item in loop.body:
            if isinstance(item, Root) and item in folds:
                self.write(group)
                group = []
                self.b.source.enter(item.op.location)
                width = len(item.op.operands)
                inputs = [self.e.at(v, self.index(item.axes)) for v in item.op.operands]
                accumulated = state[len(result) : len(result) + width]
                if item.kind == "scan" and loop.lanes > 1:
                    carried, scanned = self._scan_vector(item.op, accumulated[0], inputs[0])
                    result.append(carried)
                    self._bind_results(item, [scanned])
                    continue
                replaced = first if item.kind == "scan" or identity_of(item.op) is None else None
                mask = self.e.facts.lane_mask if loop.lanes > 1 else None
                counts = None if replaced is None else self.b.binary("xor", replaced, constant(1, "i1"))
                combined = combine(
                    self.e, item.op, accumulated, inputs, memory.both(self.b, counts, self.e.facts.lane_mask)
                )
                if replaced is not None:
                    combined = [self.b.select(replaced, i, c) for i, c in zip(inputs, combined, strict=True)]
                if mask is not None:
                    combined = [self.b.select(mask, c, a) for c, a in zip(combined, accumulated, strict=True)]
                result += combined
                if item.kind == "scan":
                    self._bind_results(item, combined)
            else:
                group.append(item)
        self.write(group)
        del self.position[loop.axis]
        return result

    def _scalar_loop(self, loop: Loop, trip: Val) -> None:
        initial = self._initial(loop)
        with self.b.loop(_I32, ZERO, trip, constant(1, _I32), initial) as opened:
            first = self.b.compare("icmp eq", opened.iv, ZERO) if initial else None
            index = opened.iv
            if any(root.op.attrs.get("reverse") for root in loop.folds):
                index = integers.sub(self.b, constant(loop.axis.size - 1, _I32), index)
                index.nonneg = True
            opened.next = self.body(loop, index, opened.carried, first)
        self._deliver(loop, opened.results, self.b.lanes, None)

    def vector_loop(self, loop: Loop, trip: Val) -> None:
        lanes = loop.lanes
        self.b.lanes = lanes
        state = self._initial(loop)
        wraps = self._wraps(loop)
        if wraps:
            state = self._pieces(loop, trip, wraps, state)
        elif loop.cuts and loop.axis.size > lanes:
            state = self._cut(loop, trip, state)
        else:
            state = self._vectors(loop, ZERO, trip, state)
        # Fewer indices than lanes: some lanes of the accumulators may have seen no input.
        partial = trip if not isinstance(trip.const, int) or trip.const < lanes else None
        self._deliver(loop, state, lanes, partial)
        self.b.lanes = 1

    def _cut(self, loop: Loop, size: Val, state: list[Val]) -> list[Val]:
        """Whole vectors within the bounds of ``loop.cuts``, which are facts there, then the others: all of them, or up
        to the last that has an index within ``loop.ends``, if any has.
        """
        inside = self._whole(loop, self._within(loop, loop.cuts, size))
        if loop.ends:
            lanes = constant(loop.lanes, _I32)
            indices = self._within(loop, loop.ends, size)
            vectors = integers.mul(self.b, integers.ceil_divide(self.b, indices, loop.lanes), lanes)
            size = self.b.select(self.b.compare("icmp sgt", indices, ZERO), vectors, size)
        saved, facts = loop.clamps, dict(self.e.facts.atoms)
        loop.clamps = loop.cuts
        for start, end in ((ZERO, inside), (inside, size)):
            with self.b.loop(_I32, start, end, constant(loop.lanes, _I32), state) as opened:
                first = self.b.compare("icmp eq", opened.iv, ZERO) if state else None
                opened.next = self.body(loop, integers.progression(self.b, opened.iv, 1), opened.carried, first)
            state, loop.clamps, self.e.facts.atoms = opened.results, saved, facts
        return state

    def _within(self, loop: Loop, atoms: Sequence[Atom], trip: Val) -> Val:
        for atom in atoms:
            trip = self._smaller(trip, self._bound(atom, loop.axis))
        return trip

    def _whole(self, loop: Loop, count: Val) -> Val:
        """The part of ``count`` indices that fills vectors."""
        whole = integers.bitwise(self.b, "and", count, constant(-loop.lanes, _I32))
        if whole.const is None:
            whole.multiple, whole.nonneg, whole.bound = loop.lanes, True, loop.axis.size
        return whole

    def _vectors(self, loop: Loop, start: Val, end: Val, state: list[Val]) -> list[Val]:
        """Full vectors from ``start``, then one masked tail up to ``end``."""
        lanes = loop.lanes
        count = integers.sub(self.b, end, start)
        whole = self._whole(loop, count)
        main_end = integers.add(self.b, start, whole)
        if whole.const == lanes:
            # One full vector: no loop.
            first = constant(1, "i1") if start.const == 0 else None
            state = self.body(loop, integers.progression(self.b, start, 1), state, first)
        elif whole.const != 0:
            with self.b.loop(_I32, start, main_end, constant(lanes, _I32), state) as opened:
                first = self.b.compare("icmp eq", opened.iv, ZERO) if state else None
                opened.next = self.body(loop, integers.progression(self.b, opened.iv, 1), opened.carried, first)
            state = opened.results
        left = integers.sub(self.b, count, whole)
        return state if left.const == 0 else self.tail(loop, main_end, left, state)

    def tail(self, loop: Loop, start: Val, left: Val, state: list[Val]) -> list[Val]:
        """The last indices, fewer than the lanes: one pass under a mask, skipped at run time when there are none."""
        facts = self.e.facts
        condition = constant(1, "i1") if left.const is not None else self.b.compare("icmp sgt", left, ZERO)
        with self.b.guarded(condition, state) as guard:
            lane = integers.progression(self.b, ZERO, 1)
            facts.lane_mask = self.b.compare("icmp slt", lane, left)
            first = constant(1, "i1") if start.const == 0 else self.b.compare("icmp eq", start, ZERO)
            guard.next = self.body(loop, integers.progression(self.b, start, 1), state, first if state else None)
            facts.lane_mask = None
        return guard.results

    def _wraps(self, loop: Loop) -> list[tuple[Wrap, Val]]:
        """The divisions that the loop must be cut for, with the index they start at: not those that vectors fit
        anyway.
        """
        found = []
        for wrap in loop.wraps:
            start = self.e.at(wrap.op.operands[0], self.index(wrap.dims))
            fits = False
            if isinstance(wrap.period, int):
                fits = not start.nonneg or integers.stays_between(start, wrap.period, loop.lanes)
            if start.lanes == 1 and not fits:
                found.append((wrap, start))
        return found

    def _pieces(self, loop: Loop, trip: Val, wraps: list[tuple[Wrap, Val]], state: list[Val]) -> list[Val]:
        """A loop over pieces that end where one of the divisions wraps; inside a piece they are progressions."""
        b = self.b
        with b.loop(_I32, ZERO, trip, constant(1, _I32), state) as pieces:
            end = trip
            seen: set[tuple[int, int | Value]] = set()
            firsts: dict[Op, Val | None] = {}
            for wrap, start in wraps:
                first = integers.add(b, start, integers.extend(b, pieces.iv, start.elem, signed=True))
                firsts[wrap.op] = None if wrap.op in firsts else first
                if (start.uid, wrap.period) in seen:
                    continue
                seen.add((start.uid, wrap.period))
                left = integers.extend(b, integers.sub(b, end, pieces.iv), start.elem, signed=True)
                room = self._until_wrap(wrap, first)
                room = b.select(b.compare("icmp slt", room, left), room, left)
                end = integers.add(b, pieces.iv, integers.truncate(b, room, _I32))
            saved = dict(self.e.facts.unwrapped)
            self.e.facts.unwrapped |= firsts
            pieces.next = self._vectors(loop, pieces.iv, end, pieces.carried)
            self.e.facts.unwrapped = saved
            pieces.following = end
        return pieces.results

    def _until_wrap(self, wrap: Wrap, first: Val) -> Val:
        """How many indices from ``first`` on have one quotient: one where signs matter, or nothing divides."""
        if isinstance(wrap.period, int):
            period = constant(wrap.period, first.elem)
        else:
            zero, divisor = constant(0, first.elem), self.e.scalars[wrap.period]
            plain = self.b.binary(
                "and", self.b.compare("icmp sge", first, zero), self.b.compare("icmp sgt", divisor, zero)
            )
            period = self.b.select(plain, divisor, constant(1, first.elem))
        return integers.sub(self.b, period, self.b.binary("urem", first, period))

    # -- reductions ---------------------------------------------------------------------------------------------------

    def _initial(self, loop: Loop) -> list[Val]:
        """First accumulators: the identity, or zeros where the combine function has none (the first input replaces
        them).
        """
        initial = []
        for root in loop.folds:
            by_vectors = root.kind == "scan" and loop.lanes > 1
            identity = identity_of(root.op) if root.kind == "reduce" or by_vectors else None
            for operand in root.op.operands:
                elem = operand.type.elem
                if identity is not None and not loop.clamps and root.op.body.ops[0].name in IGNORES_NAN:
                    identity = float("nan")
                number = constant(0 if identity is None else identity, elem)
                # Vectors when the reduction runs inside, or along, a vector loop.
                if self.b.lanes > 1 and not by_vectors and (loop.lanes > 1 or self._varies_by_lane(root)):
                    number = Val(elem, self.b.wide(number), 0, self.b.lanes)
                initial.append(number)
        return initial

    def _scan_vector(self, op: Op, before: Val, value: Val) -> tuple[Val, Val]:
        """(what all lanes and ``before`` combine to, the scanned lanes): log2(lanes) steps, each of which combines a
        lane with what it holds of twice as many lanes in front. Lanes behind the last index do not count.
        """
        b, elem, lanes = self.b, value.elem, self.b.lanes
        number = identity_of(op)
        assert number is not None
        identity = constant(number, elem)
        if self.e.facts.lane_mask is not None:
            value = b.select(self.e.facts.lane_mask, value, identity)
        vector = f"<{lanes} x {LLVM_TYPE[elem]}>"
        scanned, distance = Val(elem, b.wide(value), value.depth, lanes), 1
        while distance < lanes:
            picks = ", ".join(f"i32 {lane - distance if lane >= distance else lanes}" for lane in range(lanes))
            text = f"shufflevector {vector} {scanned.ref}, {vector} {b.wide(identity)}, <{lanes} x i32> <{picks}>"
            shifted = b.emit(elem, text, scanned.depth, lanes)
            (scanned,) = combine(self.e, op, [shifted], [scanned])
            distance *= 2
        last = b.emit(elem, f"extractelement {vector} {b.wide(scanned)}, i32 {lanes - 1}", scanned.depth)
        (carried,) = combine(self.e, op, [before], [last])
        (result,) = combine(self.e, op, [before], [scanned])
        return carried, result

    def _varies_by_lane(self, root: Root) -> bool:
        return any(loop.lanes > 1 for loop in root.path)

    def _deliver(self, loop: Loop, state: list[Val], lanes: int, partial: Val | None) -> None:
        """Ends the loop's reductions: folds lanes, binds the results, and writes those that are kept in memory."""
        at = 0
        for root in loop.folds:
            width = len(root.op.operands)
            values = state[at : at + width]
            at += width
            self.b.source.enter(root.op.location)
            if root.kind == "scan":
                continue  # its results were bound inside
            if loop.lanes > 1:
                values = self._fold(root.op, values, lanes, partial)
                self.b.lanes = 1
            self._bind_results(root, values)
            if loop.lanes > 1:
                self.b.lanes = lanes

    def _bind_results(self, root: Root, values: list[Val]) -> None:
        index = self.index(root.kept_axes)
        for number, (result, value) in enumerate(zip(root.op.results, values, strict=True)):
            if not result.type.shape:
                self.e.scalars[result] = value
                continue
            self.e.bind(result, tuple(index), value)
            if root.buffered:
                self._keep(root, number, index, value)
                # Other loops read it there; inside this one the binding is found first.
                output = root.outputs[number]
                assert isinstance(output, Buffer)
                self.e.buffers[result] = output

    def _fold_nothing(self, root: Root) -> None:
        """A reduction or scan over a dimension of size one: its result is its operand."""
        index = self.index(root.axes)
        self._bind_results(root, [self.e.at(v, index) for v in root.op.operands])

    def _fold(self, op: Op, values: list[Val], lanes: int, partial: Val | None) -> list[Val]:
        """Combines the lanes pairwise, halving. Lanes from ``partial`` on hold nothing, where given."""
        has_identity = identity_of(op) is not None
        width = lanes
        while width > 1:
            half = width // 2
            low: list[Val] = []
            high: list[Val] = []
            for value in values:
                kind = LLVM_TYPE[value.elem]
                source = self.b.wide(value, width)
                depth = self.b.depth
                for part, start in ((low, 0), (high, half)):
                    picks = ", ".join(f"i32 {start + i}" for i in range(half))
                    vector = f"<{width} x {kind}>"
                    if half == 1:
                        text = f"extractelement {vector} {source}, i32 {start}"
                    else:
                        text = f"shufflevector {vector} {source}, {vector} poison, <{half} x i32> <{picks}>"
                    part.append(self.b.emit(value.elem, text, depth, half))
            self.b.lanes = half
            filled = None
            if partial is not None and not has_identity:
                lane = integers.progression(self.b, constant(half, _I32), 1)
                filled = self.b.compare("icmp slt", lane, partial)
            combined = combine(self.e, op, low, high, filled)
            if filled is not None:
                combined = [self.b.select(filled, c, v) for c, v in zip(combined, low, strict=True)]
            values, width = combined, half
        self.b.lanes = lanes
        return values
