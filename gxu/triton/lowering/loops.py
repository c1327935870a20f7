"""The loop form: loops over axes of tiles, with roots as their statements."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..analysis.strides import Stride
from ..ir.module import Op, Value

_numbers = itertools.count()


@dataclass(eq=False, slots=True)
class Axis:
    """One dimension of iteration. Axes of different roots that may share a loop are united; ``find`` gives the one
    that counts.
    """

    size: int
    parent: Axis | None = None
    vector: bool = False
    number: int = field(default_factory=lambda: next(_numbers))

    def find(self) -> Axis:
        axis = self
        while axis.parent is not None:
            axis = axis.parent
        return axis


# Where a dimension of a value is read from while a root is computed: at an axis, at index 0 (None), or at an
# index that is computed from several axes (COMPLEX).
COMPLEX = "complex"
Dim = Axis | str | None


# Kinds of roots that carry an accumulator along an axis and give results.
FOLDS = ("reduce", "scan")
# Kinds of roots whose results are in registers inside their loops, and in memory where others need them.
RESULTS = (*FOLDS, "atomic")


@dataclass(eq=False, slots=True)
class Access:
    """A load or store met by a root, with the byte stride of its address along each of the root's axes."""

    op: Op
    elem: str
    strides: dict[Axis, Stride]


@dataclass(frozen=True, slots=True)
class Atom:
    """One comparison of a mask, read at ``dims``: ``index < bound`` along ``axis`` where that is its form, else
    axis None.
    """

    value: Value
    dims: tuple[Dim, ...]
    axis: Axis | None


@dataclass(frozen=True, slots=True)
class Wrap:
    """A division or remainder by a constant or a scalar of an index that grows by one along ``axis``: it changes
    course every ``period``.
    """

    op: Op
    dims: tuple[Dim, ...]
    axis: Axis
    period: int | Value


@dataclass(eq=False, slots=True)
class Root:
    """A statement of the loop form.

    ``kind`` is "store", "atomic", "reduce", "scan", "opaque", "assert" or "buffer"; ``axes`` is its
    iteration space, one axis for each dimension (None for dimensions of size one; none at all for an opaque one, which
    has loops of its own). A buffer root writes ``value`` to memory of its own.
    """

    kind: str
    op: Op
    axes: tuple[Axis | None, ...]
    value: Value | None = None
    reduce_dim: int | None = None
    accesses: list[Access] = field(default_factory=list)
    loads: dict[Op, list[tuple[Dim, ...]]] = field(default_factory=dict)
    inputs: dict[Value, list[tuple[Dim, ...]]] = field(default_factory=dict)  # results of other roots
    atoms: frozenset[Atom] = frozenset()
    exponents: frozenset[Atom] = frozenset()  # indices outside change nothing, if any index is inside
    wraps: list[Wrap] = field(default_factory=list)
    costly: dict[Value, list[tuple[Dim, ...]]] = field(default_factory=dict)  # values worth computing once
    readers: list[Root] = field(default_factory=list)  # of a buffer that only this segment needs
    replaces: Value | None = None  # the loop-carried tile in whose memory a buffer is written
    transposed: bool = False  # a buffer's memory has the last two dimensions exchanged
    cost: int = 0
    widest: int = 32  # bits of the widest element that is loaded, stored or computed
    buffered: bool = False  # the result is needed outside the loops that compute it
    path: list[Loop] = field(default_factory=list)  # enclosing loops, outermost first
    outputs: list[object] = field(default_factory=list)  # memory of each result that is kept (codegen's Buffer)

    @property
    def results(self) -> list[Value]:
        return [self.value] if self.value is not None else self.op.results

    @property
    def reduce_axis(self) -> Axis | None:
        """The axis that a reduction or scan goes along; None for other roots, and where that dimension has size one."""
        return None if self.reduce_dim is None else self.axes[self.reduce_dim]

    @property
    def kept_axes(self) -> tuple[Axis | None, ...]:
        """The axes of the result's dimensions."""
        if self.kind == "scan":
            return self.axes
        return tuple(a for d, a in enumerate(self.axes) if d != self.reduce_dim)

    def __str__(self) -> str:
        names = ", ".join(v.name for v in self.results)
        where = "".join(f"[{f'i{a.find().number}' if a else 0}]" for a in self.axes)
        if self.kind in FOLDS:
            combine = self.op.body.ops[0].name if len(self.op.body.ops) == 2 else "combine"
            return f"{names} = {self.kind} {combine} {', '.join(v.name for v in self.op.operands)}{where}"
        if self.kind == "buffer":
            assert self.value is not None
            return f"buffer {self.value.name}{where} = {self.value.name}"
        if self.kind == "opaque":
            return f"{names} = {self.op.name.removeprefix('tt.')} {', '.join(v.name for v in self.op.operands)}"
        if self.kind == "assert":
            return f"assert {self.op.operands[0].name}{where}"
        return f"{self.op.name.removeprefix('tt.')} {self.op.operands[0].name}{where} <- {self.op.operands[1].name}"


@dataclass(eq=False, slots=True)
class Loop:
    """``for axis in 0..trip``: the trip count is the axis' size, cut by the atoms in ``clamps``."""

    axis: Axis
    body: list[Loop | Root]
    clamps: list[Atom] = field(default_factory=list)
    # Where there are no clamps: bounds of some statements. Whole vectors within all of them come first, without masks.
    cuts: list[Atom] = field(default_factory=list)
    # Of the cuts those behind which nothing changes, if any index is within them.
    ends: list[Atom] = field(default_factory=list)
    wraps: list[Wrap] = field(default_factory=list)  # where the loop is cut into pieces without divisions
    lanes: int = 1
    # Loads that blocks of this loop and the vector loop in it transpose, with the dimensions they are read at, and the
    # memory of their blocks (codegen's Buffer).
    transposed: list[tuple[Op, tuple[Dim, ...]]] = field(default_factory=list)
    blocks: list[object] = field(default_factory=list)

    @property
    def folds(self) -> list[Root]:
        """The reductions and scans that go along this loop."""
        return [
            r
            for r in self.body
            if isinstance(r, Root) and r.reduce_axis is not None and r.reduce_axis.find() is self.axis
        ]


def roots_of(items: list[Loop | Root]) -> Iterator[Root]:
    for item in items:
        if isinstance(item, Root):
            yield item
        else:
            yield from roots_of(item.body)


def loops_of(items: list[Loop | Root]) -> Iterator[Loop]:
    for item in items:
        if isinstance(item, Loop):
            yield item
            yield from loops_of(item.body)


def same_element(axes: tuple[Axis | None, ...], dims: tuple[Dim, ...]) -> bool:
    """Whether a read at ``dims`` meets the element at ``axes``, one loop iteration for another.

    A read of a tile of another rank does not: it stands before a broadcast, so several iterations share its element.
    """
    return len(axes) == len(dims) and all(
        (axis is None and dim is None) or (axis is not None and isinstance(dim, Axis) and dim.find() is axis.find())
        for axis, dim in zip(axes, dims, strict=True)
    )


def render(items: list[Loop | Root], indent: int = 0) -> list[str]:
    """The loop form as text, one line for each loop and statement."""
    lines = []
    for item in items:
        pad = "  " * indent
        if isinstance(item, Root):
            line = f"{pad}{item}{'  // kept in memory' if item.buffered else ''}"
            lines.append(f"{line}  // {item.op.location}" if item.op.location.line else line)
            continue
        cut = "".join(f" while {atom.value.name}" for atom in item.clamps)
        kind = f"vector {item.lanes}" if item.lanes > 1 else "for"
        names = dict.fromkeys(w.period if isinstance(w.period, int) else w.period.name for w in item.wraps)
        periods = ", ".join(str(name) for name in names)
        cut += "".join(f" {'mostly' if atom in item.ends else 'first'} while {atom.value.name}" for atom in item.cuts)
        pieces = f" in pieces of {periods}" if periods else ""
        if item.transposed:
            kind = f"blocks that transpose {', '.join(load.result.name for load, _ in item.transposed)} in"
        lines.append(f"{pad}{kind} i{item.axis.number} in 0..{item.axis.size}{cut}{pieces}:")
        lines += render(item.body, indent + 1)
    return lines
