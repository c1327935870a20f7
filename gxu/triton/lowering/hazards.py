"""Order of memory accesses within a segment: what is evaluated late must not see what was written early."""

from __future__ import annotations

from collections.abc import Callable

from ..analysis.effects import in_place, same_memory
from ..ir.module import Op, Value
from .loops import Root, same_element


def stale_loads(roots: list[Root], order: dict[Op, int], again: Callable[[Op, Op], bool]) -> list[Op]:
    """Loads that stand before a store in the program, but would be evaluated after it.

    That is a load that another loop evaluates again after the store, and one that feeds the store itself from elements
    which earlier iterations have overwritten. Where ``again(load, root)``, the load was done once already, and no store
    may come before it, not even through another argument, which may be the same tensor.
    """
    stale: dict[Op, None] = {}
    for position, root in enumerate(roots):
        if root.kind in ("store", "atomic"):
            pointer = root.op.operands[0]
            for load, reads in root.loads.items():
                if not same_memory(load.operands[0], pointer):
                    if again(load, root.op) and not all(same_element(root.axes, dims) for dims in reads):
                        stale[load] = None
                elif load.operands[0] is not pointer or not all(same_element(root.axes, dims) for dims in reads):
                    stale[load] = None
        for load in root.loads:
            for earlier in roots[:position]:
                if earlier.kind not in ("store", "atomic") or order[load] > order[earlier.op]:
                    continue
                # In one innermost body values are computed before anything is stored (see NestWriter.write).
                if earlier.path == root.path and earlier.kind == "store" and root.kind in ("store", "buffer"):
                    continue
                met = same_memory(load.operands[0], earlier.op.operands[0]) or in_place(load, earlier.op)
                if met or again(load, root.op):
                    stale[load] = None
    return list(stale)


def may_overwrite(root: Root, source: Value, roots: list[Root]) -> bool:
    """Whether a buffer root may write its result over ``source``, a tile in memory that it and other roots read.

    It may if nobody reads an element of ``source`` after the root has written it: readers are done before the root's
    loops start, or read the same element in the same body, where values are computed before anything is stored.
    """
    at = roots.index(root)
    for position, reader in enumerate(roots):
        reads = reader.inputs.get(source)
        if reads is None:
            continue
        if reader.path is root.path and _one_body(roots, at, position):
            if all(same_element(root.axes, dims) for dims in reads):
                continue
            return False
        if position > at or any(loop in root.path for loop in reader.path):
            return False
    return True


def _one_body(roots: list[Root], first: int, second: int) -> bool:
    """Whether all roots from one to the other are statements of one body that only store."""
    low, high = sorted((first, second))
    return all(r.path is roots[low].path and r.kind in ("store", "buffer") for r in roots[low : high + 1])
