"""Forms loop nests from the roots of one straight-line segment.

1. Axes of different roots that walk the same values are united.
2. Each root gets a vector axis: the one along which most of the addresses are contiguous.
3. Runs of neighbouring roots that share an axis get one loop over it, recursively, as long as no root needs what
another
   one has not finished.
4. Tiles that loops carry keep their memory where they may. Masks that every statement of a loop has become its trip
   count.
5. Vector loops get their lanes, and loads along the other axis are marked to be transposed in blocks.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from ..analysis.effects import same_memory
from ..ir.module import Value
from ..ir.types import byte_size
from .hazards import may_overwrite
from .loops import FOLDS, RESULTS, Access, Atom, Axis, Dim, Loop, Root, Wrap, roots_of, same_element
from .transposes import find_transposes
from .walk import identity_of, scans_by_vectors


def form_loops(roots: list[Root], escaping: set[Value], vector_bytes: int) -> list[Loop | Root]:
    """The loop form of ``roots``, in program order. Results in ``escaping`` are needed after this segment."""
    _unite(roots)
    _choose_vector_axes(roots)
    items = _fuse(roots, {root: [a.find() for a in root.axes if a is not None] for root in roots})
    _place(items, [])
    producers = {result: root for root in roots if root.kind in RESULTS for result in root.results}
    for root in roots:
        if root.kind in RESULTS:
            root.buffered = any(r in escaping and r.type.is_tile for r in root.results)
    for root in roots:
        for value, reads in root.inputs.items():
            producer = producers.get(value)
            if producer is not None and not _reads_in_register(producer, root, reads):
                producer.buffered = True
    _write_in_place(roots)
    _clamp(items)
    _choose_lanes(items, vector_bytes)
    find_transposes(items, vector_bytes)
    return items


# -- 1. axes -----------------------------------------------------------------------------------------------------------


def _unite(roots: list[Root]) -> None:
    owners: dict[Axis, set[Root]] = {a: {root} for root in roots for a in root.axes if a is not None}
    seen: dict[tuple[object, int], Axis] = {}

    def unite(a: Axis, b: Axis) -> None:
        a, b = a.find(), b.find()
        if a is b or a.size != b.size or owners[a] & owners[b]:
            return  # two axes of one root stay two loops
        b.parent = a
        owners[a] |= owners.pop(b)

    def meet(key: object, dims: Iterable[Dim]) -> None:
        for position, dim in enumerate(dims):
            if isinstance(dim, Axis):
                unite(seen.setdefault((key, position), dim), dim)

    for root in roots:
        for result in root.results if root.kind in (*RESULTS, "buffer") else ():
            meet(result, root.kept_axes)
        for op, reads in root.loads.items():
            for dims in reads:
                meet(op.result, dims)
        for value, reads in root.inputs.items():
            for dims in reads:
                meet(value, dims)
    # Neighbours of one shape that share nothing still share their loops.
    for first, second in itertools.pairwise(roots):
        if len(first.axes) == len(second.axes):
            for a, b in zip(first.axes, second.axes, strict=True):
                if a is not None and b is not None:
                    unite(a, b)


# -- 2. vector axes ----------------------------------------------------------------------------------------------------


# Against a store that would be scattered but need not be: loads can be transposed, stores cannot.
_SCATTERED = 6.0


def _contiguity(access: Access, scores: dict[Axis, float]) -> None:
    is_store = access.op.name == "tt.store"
    contiguous = byte_size(access.elem) in access.strides.values()
    for axis, stride in access.strides.items():
        axis = axis.find()
        if stride == byte_size(access.elem):
            scores[axis] = scores.get(axis, 0.0) + 2.0
        elif stride != 0:
            scores[axis] = scores.get(axis, 0.0) - (_SCATTERED if is_store and contiguous else 1.0)


def _kept_in_rows(root: Root, scores: dict[Axis, float]) -> None:
    """A tile that is kept is a store that is contiguous along the last dimension of its memory."""
    axes = list(root.axes)
    if root.transposed:
        axes[-2:] = reversed(axes[-2:])
    for dim, axis in enumerate(reversed(axes)):
        if axis is not None and axes[-1] is not None:
            scores[axis.find()] = scores.get(axis.find(), 0.0) + (2.0 if dim == 0 else -_SCATTERED)


_FULL = 8  # lanes that a loop had better use


def _unused_lanes(axis: Axis, root: Root) -> float:
    """What a short axis costs: every instruction of the root serves few elements. In scattered accesses, of which each
    takes about as long as two instructions."""
    return 4.0 + root.cost * (1 / axis.size - 1 / _FULL) / 2 if axis.size < _FULL else 0.0


def _choose_vector_axes(roots: list[Root]) -> None:
    scores: dict[Axis, float] = {}
    for root in roots:
        for access in root.accesses:
            _contiguity(access, scores)
        if root.kind == "buffer":
            _kept_in_rows(root, scores)
    # Most scans go index by index.
    scalar = {
        root.reduce_axis.find()
        for root in roots
        if root.kind == "scan" and root.reduce_axis is not None and not scans_by_vectors(root.op)
    }
    for root in sorted(roots, key=lambda r: -sum(a is not None for a in r.axes)):
        axes = [a.find() for a in root.axes if a is not None]
        candidates = [a for a in axes if a not in scalar]
        if not candidates:
            continue
        chosen = next((a for a in candidates if a.vector), None)
        if chosen is None:
            # The last of equals: the innermost dimension in Triton's row-major order.
            chosen = max(reversed(candidates), key=lambda a: scores.get(a, 0.0) - _unused_lanes(a, root))
            chosen.vector = True
        scalar.update(a for a in axes if a is not chosen)
    for axis in scalar:
        axis.vector = False


# -- 3. shared loops ---------------------------------------------------------------------------------------------------


def _fuse(roots: list[Root], remaining: dict[Root, list[Axis]]) -> list[Loop | Root]:
    items: list[Loop | Root] = []
    at = 0
    while at < len(roots):
        first = roots[at]
        best_axis, best_run = None, 0
        for axis in _loop_order(first, remaining[first]):
            run = _run_length(roots[at:], remaining, axis)
            if run > best_run:
                best_axis, best_run = axis, run
        if best_axis is None:
            items.append(first)
            at += 1
            continue
        run_roots = roots[at : at + best_run]
        inner = {r: [a for a in remaining[r] if a is not best_axis] for r in run_roots}
        items.append(Loop(best_axis, _fuse(run_roots, inner)))
        at += best_run
    return items


def _loop_order(root: Root, axes: list[Axis]) -> list[Axis]:
    """Axes that may come outermost for a root, best first: a reduction's own axis only when it is the last."""
    reduce_axis = root.reduce_axis.find() if root.reduce_axis else None
    kept = [a for a in axes if a is not reduce_axis]
    if not kept:
        return axes
    return sorted(kept, key=lambda a: a.vector)


def _run_length(roots: list[Root], remaining: dict[Root, list[Axis]], axis: Axis) -> int:
    """How many of the first roots can share a loop over ``axis``."""
    run: list[Root] = []
    for root in roots:
        if axis not in _loop_order(root, remaining[root]) or not all(_independent(p, root, axis) for p in run):
            break
        run.append(root)
    return len(run)


def _independent(producer: Root, consumer: Root, axis: Axis) -> bool:
    """Whether one iteration of a shared loop may run ``consumer`` after ``producer``, before the next iteration."""
    if producer.kind == consumer.kind == "scan" and producer.op.attrs["reverse"] != consumer.op.attrs["reverse"]:
        return False
    for result in producer.results if producer.kind in (*RESULTS, "buffer") else ():
        for dims in consumer.inputs.get(result, ()):
            if not _same_index(producer, dims, axis):
                return False
    if producer.kind in ("store", "atomic"):
        pointer = producer.op.operands[0]
        for op, reads in consumer.loads.items():
            if not same_memory(pointer, op.operands[0]):
                continue
            same_address = op.operands[0] is pointer and all(_same_index(producer, dims, axis) for dims in reads)
            if not same_address:
                return False
        if consumer.kind in ("store", "atomic") and same_memory(pointer, consumer.op.operands[0]):
            return consumer.op.operands[0] is pointer
    if consumer.kind in ("store", "atomic"):
        # The producer's loads of later iterations would come after this iteration's store.
        pointer = consumer.op.operands[0]
        for op, reads in producer.loads.items():
            if same_memory(pointer, op.operands[0]) and not (
                op.operands[0] is pointer and all(_same_index(consumer, dims, axis) for dims in reads)
            ):
                return False
    return True


def _same_index(producer: Root, dims: tuple[Dim, ...], axis: Axis) -> bool:
    """Whether a read at ``dims`` finds what the same iteration over ``axis`` has produced."""
    kept = producer.kept_axes
    for mine, theirs in zip(kept, dims, strict=True):
        if mine is not None and mine.find() is axis:
            return isinstance(theirs, Axis) and theirs.find() is axis
    return False


def _place(items: list[Loop | Root], path: list[Loop]) -> None:
    for item in items:
        if isinstance(item, Root):
            item.path = path
        else:
            _place(item.body, [*path, item])


def _reads_in_register(producer: Root, consumer: Root, reads: list[tuple[Dim, ...]]) -> bool:
    """Whether every read happens inside the loops over the producer's kept axes, at their own index."""
    own = producer.reduce_axis.find() if producer.kind == "reduce" and producer.reduce_axis else None
    loops = [loop for loop in producer.path if loop.axis is not own]
    if any(loop not in consumer.path for loop in loops):
        return False
    return all(same_element(producer.kept_axes, dims) for dims in reads)


# -- 4. trip counts ----------------------------------------------------------------------------------------------------


def _write_in_place(roots: list[Root]) -> None:
    """Tiles that loops carry keep their memory where they may."""
    for root in roots:
        if root.replaces is not None and not may_overwrite(root, root.replaces, roots):
            root.replaces, root.atoms = None, frozenset()  # elsewhere, indices outside masks must be copied


def canonical(atom: Atom) -> Atom:
    dims = tuple(d.find() if isinstance(d, Axis) else d for d in atom.dims)
    return Atom(atom.value, dims, atom.axis.find() if atom.axis else None)


def _clamp(items: list[Loop | Root], outer: tuple[Axis, ...] = ()) -> None:
    for item in items:
        if isinstance(item, Root):
            continue
        opened = (*outer, item.axis)
        item.clamps = _shared(item, opened, exponents=False)
        if item.axis.vector and not item.clamps and all(isinstance(inner, Root) for inner in item.body):
            item.ends = _shared(item, opened, exponents=True)
            bounds = dict.fromkeys(a for root in roots_of(item.body) for a in _own_atoms(root, item.axis))
            item.cuts = list(dict.fromkeys([*item.ends, *_usable(bounds, opened)]))
        _clamp(item.body, opened)


def _shared(loop: Loop, opened: tuple[Axis, ...], *, exponents: bool) -> list[Atom]:
    """The bounds that every root of a loop has."""
    shared: set[Atom] | None = None
    for root in roots_of(loop.body):
        atoms = _restrictions(root, loop, exponents)
        if atoms is not None:
            shared = atoms if shared is None else shared & atoms
    return _usable(shared or (), opened)


def _usable(atoms: Iterable[Atom], opened: tuple[Axis, ...]) -> list[Atom]:
    return [a for a in atoms if all(not isinstance(d, Axis) or d in opened for d in a.dims)]


def _restrictions(root: Root, loop: Loop, exponents: bool) -> set[Atom] | None:
    """Atoms that bound a root along a loop; None if the root does not care what happens outside its neighbours'
    bounds. With ``exponents`` also those that do so if any index is inside.
    """
    axis = loop.axis
    along = root.reduce_axis is not None and root.reduce_axis.find() is axis
    if root.kind in FOLDS and not along:
        return set() if root.buffered else None
    if root.kind == "atomic" and root.buffered:
        return set()  # elements outside the mask give zero
    if root.readers:
        # Filled as far as anybody reads it: readers in this very loop read what it has just filled.
        elsewhere = [_own_atoms(reader, axis) for reader in root.readers if loop not in reader.path]
        return set.intersection(*elsewhere) if elsewhere else None
    return _own_atoms(root, axis) | (_of_axis(root.exponents, axis) if exponents else set())


def _own_atoms(root: Root, axis: Axis) -> set[Atom]:
    return _of_axis(root.atoms, axis)


def _of_axis(atoms: Iterable[Atom], axis: Axis) -> set[Atom]:
    return {c for c in map(canonical, atoms) if c.axis is axis}


# -- 5. lanes ----------------------------------------------------------------------------------------------------------


def _choose_lanes(items: list[Loop | Root], vector_bytes: int) -> None:
    """Lanes of vector loops: one register of the widest element, times an unroll factor that hides latencies."""
    for item in items:
        if isinstance(item, Root):
            continue
        if item.axis.vector:
            roots = list(roots_of(item.body))
            lanes = max(1, vector_bytes * 8 // max(r.widest for r in roots))
            cost = sum(r.cost for r in roots)
            reduces = any(r.kind == "reduce" for r in roots)
            unroll = 4 if reduces and cost < 60 else 2 if cost < 120 else 1
            item.lanes = min(lanes * unroll, item.axis.size)
            _cut_at_wraps(item, roots)
        _choose_lanes(item.body, vector_bytes)


_SHORTEST_PIECE = 8  # lanes; shorter periods stay divisions of vectors


def _cut_at_wraps(loop: Loop, roots: list[Root]) -> None:
    """Cuts a vector loop where divisions by constants wrap, and narrows it where the pieces are short.

    A reduction without an identity counts on full vectors in front of its one tail: it is not cut.
    """
    if any(r.reduce_axis is not None and identity_of(r.op) is None for r in roots):
        return
    for root in roots:
        for wrap in root.wraps:
            # Periods longer than the axis wrap once at most: enough to turn what it reads into gathers.
            worth_it = not isinstance(wrap.period, int) or wrap.period >= _SHORTEST_PIECE
            if wrap.axis.find() is loop.axis and worth_it:
                dims = tuple(d.find() if isinstance(d, Axis) else d for d in wrap.dims)
                loop.wraps.append(Wrap(wrap.op, dims, loop.axis, wrap.period))
    periods = [w.period for w in loop.wraps if isinstance(w.period, int)]
    if periods:
        shortest = min(periods)
        loop.lanes = min(loop.lanes, 1 << (shortest.bit_length() - 1))
