"""How many threads it takes to beat one that is alone with its atomics, and so needs no locked instructions.

The engine runs a kernel on one thread, with no other kernel with atomics beside it, where its team has no more threads
than the image says (``GXU_HOST_KERNEL_ALONE`` in ``csrc/runtime/host/gxu_host_kernel.h``).
"""

from __future__ import annotations

from ..ir.module import Op
from ..ir.types import byte_size
from ..lowering.loops import Root
from .atomics import may_be_alone

# Nanoseconds of one element on one core of an AMD EPYC with AVX-512, arrays in its L2 cache: `lock cmpxchg`, which two
# threads do no faster than one where they meet in the same cache lines; a load, an addition and a store; and the same
# by whole vectors.
_LOCKED, _SCATTERED, _CONTIGUOUS = 3.0, 1.3, 0.2
# The same of one unit of Root.cost, as vector code.
_WORK = 0.05
# Iterations of a loop whose trip count is not looked at.
_ITERATIONS = 16
_MOST = 255  # that the image can say


class Alone:
    """Adds up a kernel's time with locked instructions, and on a thread that is alone."""

    def __init__(self) -> None:
        self.work = self.locked = self.alone = 0.0

    def count(self, root: Root, times: int) -> None:
        """``times`` elements of ``root``."""
        times *= _ITERATIONS ** _loops_around(root.op)
        work = times * (root.cost + 2) * _WORK
        locked = alone = 0.0
        if root.kind == "atomic":
            locked = alone = _LOCKED
            if may_be_alone(root.op):
                alone = _CONTIGUOUS if _is_contiguous(root) else _SCATTERED
        self.work += work
        self.locked += times * locked
        self.alone += work + times * alone

    def threads(self) -> int:
        """The largest team that is not faster, where locked instructions of two threads take as long as one's."""
        if self.alone >= self.work + self.locked:
            return 0
        teams = range(_MOST, 0, -1)
        return next(n for n in teams if self.alone <= self.work / n + self.locked * min(1.0, 2 / n))


def _is_contiguous(root: Root) -> bool:
    return any(access.op is root.op and byte_size(access.elem) in access.strides.values() for access in root.accesses)


def _loops_around(op: Op) -> int:
    loops, block = 0, op.parent
    while block is not None and block.parent is not None and block.parent.op is not None:
        outer = block.parent.op
        loops += outer.name in ("scf.for", "scf.while")
        block = outer.parent
    return loops
