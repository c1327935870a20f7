"""Finds loads whose late evaluation would see what a store of the same segment has written."""

from __future__ import annotations

from ..analysis.effects import same_memory
from ..ir.module import Op
from .loops import Root


def stale_loads(roots: list[Root], order: dict[Op, int]) -> list[Op]:
    """Loads that stand before a store in the program, but would be evaluated after it, in another loop."""
    stale: dict[Op, None] = {}
    for position, root in enumerate(roots):
        for load in root.loads:
            for earlier in roots[:position]:
                if earlier.kind not in ("store", "atomic") or order[load] > order[earlier.op]:
                    continue
                # In one innermost body values are computed before anything is stored (see NestWriter.write).
                if earlier.path == root.path and earlier.kind == "store" and root.kind != "reduce":
                    continue
                if same_memory(load.operands[0], earlier.op.operands[0]):
                    stale[load] = None
    return list(stale)
