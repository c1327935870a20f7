"""Follows a root's expression down to what it reads, keeping track of which axis each dimension is read at."""

from __future__ import annotations

from collections.abc import Callable

from ..analysis.strides import QUOTIENTS, REMAINDERS, PieceStrides, StrideAnalysis
from ..codegen.elementwise import COST, EXPENSIVE
from ..ir.module import Op, Value, constant_of, post_order
from ..ir.types import BITS
from .loops import COMPLEX, FOLDS, Access, Atom, Axis, Dim, Root, Wrap
from .reads import REARRANGES

Dims = tuple[Dim, ...]

# Views: how the dimensions of the operand follow from those of the result.
VIEWS = {"tt.splat", "tt.expand_dims", "tt.broadcast", "tt.trans", "tt.reshape"}
# Operations whose results come from memory that a root fills.
ROOT_RESULTS = {"tt.reduce", "tt.scan", "tt.dot", "tt.atomic_rmw", "tt.atomic_cas", "tt.histogram"}
DIVISIONS = REMAINDERS | QUOTIENTS
# Combine functions of one operation, with the number that changes nothing.
IDENTITIES: dict[str, Callable[[str], float | int]] = {
    "arith.addf": lambda elem: -0.0,
    "arith.mulf": lambda elem: 1.0,
    "arith.maxnumf": lambda elem: float("-inf"),
    "arith.maximumf": lambda elem: float("-inf"),
    "arith.minnumf": lambda elem: float("inf"),
    "arith.minimumf": lambda elem: float("inf"),
    "arith.addi": lambda elem: 0,
    "arith.muli": lambda elem: 1,
    "arith.andi": lambda elem: -1,
    "arith.ori": lambda elem: 0,
    "arith.xori": lambda elem: 0,
    "arith.maxsi": lambda elem: -(1 << (BITS[elem] - 1)),
    "arith.minsi": lambda elem: (1 << (BITS[elem] - 1)) - 1,
    "arith.maxui": lambda elem: 0,
    "arith.minui": lambda elem: -1,
}


# For these a NaN changes nothing either, and it is the result where there is nothing else.
IGNORES_NAN = {"arith.maxnumf", "arith.minnumf"}


def view_dims(op: Op, dims: Dims) -> Dims:
    """Dimensions of a view's operand when the view is read at ``dims``."""
    source = op.operands[0].type.shape
    if op.name == "tt.splat":
        return ()
    if op.name == "tt.expand_dims":
        axis = op.attrs["axis"]
        return dims[:axis] + dims[axis + 1 :]
    if op.name == "tt.broadcast":
        return tuple(None if size == 1 else d for size, d in zip(source, dims, strict=True))
    if op.name == "tt.trans":
        result: list[Dim] = [None] * len(dims)
        for position, axis in enumerate(op.attrs["order"]):
            result[axis] = dims[position]
        return tuple(result)
    target = op.result.type.shape
    if [s for s in source if s != 1] == [s for s in target if s != 1]:
        remaining = iter([d for d, size in zip(dims, target, strict=True) if size != 1])
        return tuple(None if size == 1 else next(remaining) for size in source)
    return tuple(None if size == 1 else COMPLEX for size in source)


class Walker:
    """Fills in what a root reads."""

    def __init__(self, strides: StrideAnalysis, in_memory: Callable[[Value], bool]) -> None:
        self.strides = strides
        self.pieces = PieceStrides(strides)
        self.in_memory = in_memory

    def make(
        self, kind: str, op: Op, value: Value | None = None, *, fills: bool = False, replaces: Value | None = None
    ) -> Root:
        """A root with fresh axes for a store, an atomic, a reduction, or a buffer for ``value``.

        ``fills`` says that the buffer is where everybody else reads the value, so that it must be computed for it.
        ``replaces`` is the tile that a loop carries, if this is its next value.
        """
        if kind == "opaque":
            return self._opaque(op)
        shape = value.type.shape if value is not None else op.operands[0].type.shape
        axes = tuple(Axis(size) if size > 1 else None for size in shape)
        root = Root(kind, op, axes, value, replaces=replaces)
        seen: set[tuple[Value, Dims]] = set()
        if kind in FOLDS:
            root.reduce_dim = op.attrs["axis"]
        if kind in ("store", "atomic"):
            pointer = op.operands[0]
            root.accesses.append(self._access(op, pointer, axes, axes))
            root.widest = max(root.widest, BITS[pointer.type.pointee])
        sources = [value] if value is not None else op.operands
        for source in sources:
            self._visit(root, source, axes, seen, top=fills)
        root.atoms = frozenset(self._atoms(root))
        root.exponents = frozenset(self._exponents(root))
        return root

    def _opaque(self, op: Op) -> Root:
        """A root that brings its own loops and reads its operands in an order of its own."""
        root = Root("opaque", op, ())
        seen: set[tuple[Value, Dims]] = set()
        for operand in op.operands:
            self._visit(root, operand, (COMPLEX,) * len(operand.type.shape), seen)
        root.cost = 2 * op.operands[0].type.numel
        if op.name == "tt.dot":
            root.cost *= op.result.type.shape[-1]
        return root

    def _visit(self, root: Root, value: Value, dims: Dims, seen: set[tuple[Value, Dims]], top: bool = False) -> None:
        stack = [(value, dims, top)]
        while stack:
            value, dims, top = stack.pop()
            if (value, dims) in seen:
                continue
            seen.add((value, dims))
            op = value.op
            if not value.type.shape:
                if op is not None and op.name in ROOT_RESULTS:
                    root.inputs.setdefault(value, []).append(())
                continue
            if op is None or op.name in ROOT_RESULTS or op.regions or (not top and self.in_memory(value)):
                root.inputs.setdefault(value, []).append(dims)
                if value in self.strides.same_as:  # moves along with a scalar: computed from its first value
                    stack.append((self.strides.same_as[value], dims, False))
                continue
            if op.name in VIEWS:
                stack.append((op.operands[0], view_dims(op, dims), False))
                continue
            if op.name in REARRANGES:
                stack += [(operand, at, False) for operand, at in REARRANGES[op.name](op, dims)]
                continue
            if op.name == "tt.load":
                root.loads.setdefault(op, []).append(dims)
                root.accesses.append(self._access(op, op.operands[0], dims, root.axes))
                root.widest = max(root.widest, BITS[value.type.elem])
            elif value.type.is_float:
                root.widest = max(root.widest, BITS[value.type.elem])
            if op.name in DIVISIONS:
                self._wrap(root, op, dims)
            if op.name not in ("arith.constant", "tt.make_range"):
                root.cost += COST.get(op.name, 1)
                if COST.get(op.name, 1) >= EXPENSIVE:
                    root.costly.setdefault(value, []).append(dims)
            stack += [(operand, dims, False) for operand in op.operands]

    def _access(self, op: Op, pointer: Value, dims: Dims, axes: tuple[Axis | None, ...]) -> Access:
        found: dict[Axis, object] = {}
        for dim, stride in zip(dims, self.pieces.of(pointer), strict=True):
            if isinstance(dim, Axis):
                found[dim] = stride
            elif dim == COMPLEX:
                for axis in axes:
                    if axis is not None:
                        found[axis] = None
        return Access(op, pointer.type.pointee, found)  # type: ignore[arg-type]

    def _wrap(self, root: Root, op: Op, dims: Dims) -> None:
        divisor = op.operands[1]
        period: int | float | Value | None = constant_of(divisor)
        if period is None and divisor.op is not None and divisor.op.name == "tt.splat":
            period = divisor.op.operands[0]
        if isinstance(period, float) or period is None or (isinstance(period, int) and period <= 1):
            return
        for dim, stride in zip(dims, self.strides.of(op.operands[0]), strict=True):
            if isinstance(dim, Axis) and stride == 1:
                root.wraps.append(Wrap(op, dims, dim, period))

    # -- masks --------------------------------------------------------------------------------------------------------

    def _atoms(self, root: Root) -> list[Atom]:
        """Comparisons that must hold for the root to do anything at an index."""
        op = root.op
        if root.replaces is not None:
            return self._updated(root)
        if root.kind == "store" and len(op.operands) > 2:
            return self.conjuncts(op.operands[2], root.axes)
        if op.name == "tt.atomic_rmw" and len(op.operands) > 2:
            return self.conjuncts(op.operands[2], root.axes)
        if root.kind == "assert":
            return self._exempted(op.operands[0], root.axes)
        if root.kind == "reduce" and len(op.operands) == 1:
            return self._identity_mask(op, root.axes)
        return []

    def _updated(self, root: Root) -> list[Atom]:
        """The mask of ``where(mask, x, old)``: where ``old`` lies already, indices outside it change nothing."""
        op = root.value.op if root.value is not None else None
        if op is None or op.name != "arith.select" or op.operands[2] is not root.replaces:
            return []
        mask = op.operands[0]
        return self.conjuncts(mask, root.axes) if mask.type.shape else []

    def _identity_mask(self, op: Op, dims: Dims) -> list[Atom]:
        """The mask of ``reduce(where(mask, x, identity))``: indices outside it change nothing."""
        combine = identity_of(op)
        return [] if combine is None else self._outside(op.operands[0], dims, combine)

    def _outside(self, value: Value, dims: Dims, number: float) -> list[Atom]:
        """Comparisons of which each makes ``value`` equal to ``number`` where it does not hold.

        A product is zero where both factors are (a factor alone may meet an infinity), and so is a sum.
        """

        def combined(value: Value) -> list[Value]:
            op = value.op
            sums = op is not None and number == 0 and op.name in ("arith.mulf", "arith.addf", "arith.subf")
            return op.operands if op is not None and (sums or op.name == "arith.extf") else []

        known: dict[Value, list[Atom]] = {}
        for each in post_order(value, combined, known):
            first, *others = [known[operand] for operand in combined(each)] or [self._masked(each, dims, number)]
            known[each] = [atom for atom in first if all(atom in other for other in others)]
        return known[value]

    def _masked(self, value: Value, dims: Dims, number: float) -> list[Atom]:
        """As :meth:`_outside`, of what a mask chooses."""
        op = value.op
        if op is not None and op.name == "arith.select":
            mask, other = op.operands[0], op.operands[2]
        elif op is not None and op.name == "tt.load" and op.attrs["operandSegmentSizes"][2]:
            mask, other = op.operands[1:3]
        else:
            return []
        return self.conjuncts(mask, dims) if constant_of(other) == number else []

    def _exponents(self, root: Root) -> list[Atom]:
        """The mask of ``sum(exp(x - max(x)))`` where x is -inf outside it.

        If any index is inside, the others change nothing: they add exp(-inf), or the sum is NaN anyway, because all of
        x is -inf or a NaN.
        """
        op = root.op
        if root.kind != "reduce" or len(op.operands) != 1 or identity_of(op) != 0:
            return []
        exponential = op.operands[0].op
        if exponential is None or exponential.name not in ("math.exp", "math.exp2"):
            return []
        difference = exponential.operands[0].op
        if difference is not None and difference.name == "arith.mulf":
            factor = constant_of(difference.operands[1])
            if factor is None or not 0 < factor < float("inf"):
                return []
            difference = difference.operands[0].op
        if difference is None or difference.name != "arith.subf":
            return []
        x, largest = difference.operands
        while largest.op is not None and largest.op.name in ("tt.splat", "tt.broadcast", "tt.expand_dims"):
            largest = largest.op.operands[0]
        maximum = largest.op
        if maximum is None or maximum.name != "tt.reduce" or maximum.operands != [x]:
            return []
        if maximum.attrs["axis"] != op.attrs["axis"] or identity_of(maximum) != float("-inf"):
            return []
        return self._outside(x, root.axes, float("-inf"))

    def _exempted(self, condition: Value, dims: Dims) -> list[Atom]:
        """The mask of ``assert(condition | ~mask)``: indices outside it pass."""
        op = condition.op
        if op is not None and op.name == "arith.ori":
            for side in op.operands:
                inverse = side.op
                if inverse is not None and inverse.name == "arith.xori" and constant_of(inverse.operands[1]) in (1, -1):
                    return self.conjuncts(inverse.operands[0], dims)
        return []

    def conjuncts(self, mask: Value, dims: Dims) -> list[Atom]:
        atoms: list[Atom] = []
        seen: set[tuple[Value, Dims]] = set()
        stack = [(mask, dims)]
        while stack:
            value, at = stack.pop()
            if (value, at) in seen:
                continue
            seen.add((value, at))
            op = value.op
            if op is not None and op.name in VIEWS and value.type.shape and op.operands[0].type.shape:
                stack.append((op.operands[0], view_dims(op, at)))
            elif op is not None and op.name == "arith.andi":
                stack += [(operand, at) for operand in op.operands]
            else:
                atoms.append(Atom(value, at, self._bounded_axis(op, at)))
        return atoms

    def _bounded_axis(self, op: Op | None, dims: Dims) -> Axis | None:
        """The axis along which a comparison has the form ``start + step * index < bound``, step a positive number."""
        sides = bound_sides(op)
        if sides is None or not op or not op.operands[0].type.shape:
            return None
        index, bound, _ = sides
        if any(s != 0 for s in self.strides.of(bound)):
            return None
        varying = [(d, s) for d, s in zip(dims, self.strides.of(index), strict=True) if s != 0]
        if len(varying) != 1:
            return None
        axis, step = varying[0]
        return axis if isinstance(axis, Axis) and isinstance(step, int) and step > 0 else None


def bound_sides(op: Op | None) -> tuple[Value, Value, bool] | None:
    """(index, bound, inclusive) of a comparison that says ``index < bound`` or ``index <= bound``."""
    if op is None or op.name != "arith.cmpi":
        return None
    left, right = op.operands
    predicate = op.attrs["predicate"]
    if predicate in (2, 3):  # slt, sle
        return left, right, predicate == 3
    if predicate in (4, 5):  # sgt, sge
        return right, left, predicate == 5
    return None


def scans_by_vectors(op: Op) -> bool:
    """Whether a scan may combine the lanes of a vector among themselves first: forward, and by one associative
    operation whose identity changes nothing, not even a NaN.
    """
    known = identity_of(op) is not None and op.body.ops[0].name not in IGNORES_NAN
    return known and not op.attrs["reverse"] and op.operands[0].type.elem != "i1"


def identity_of(op: Op) -> float | int | None:
    """The identity of a reduction whose combine function is one known operation on its two arguments."""
    body = op.body
    if len(body.args) != 2 or len(body.ops) != 2 or body.ops[0].name not in IDENTITIES:
        return None
    if {*body.ops[0].operands} != {*body.args}:
        return None
    return IDENTITIES[body.ops[0].name](body.args[0].type.elem)
