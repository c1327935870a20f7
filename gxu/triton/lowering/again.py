"""Which tiles a later segment of the same block computes again from memory, rather than keep them in a buffer.

Reading a row a second time costs as much as reading a buffer that holds it, and nothing has to be written. It must give
the same numbers, so nothing may be stored in between, wherever that goes: a kernel may be called with one tensor as
input and as output. What the later segment stores itself is the matter of ``hazards.py``.
"""

from __future__ import annotations

from collections.abc import Callable

from ..analysis.effects import STORES, is_volatile, same_memory
from ..analysis.strides import StrideAnalysis
from ..codegen.elementwise import COST, EXPENSIVE
from ..ir.module import Block, Function, Op, Value, walk
from ..ir.types import byte_size
from .reads import KEPT_OPERANDS
from .walk import ROOT_RESULTS

# A vector of a buffer costs a store and a load: about as much as this many loads and operations in registers.
_LOADS_MOST, _OPERATIONS_MOST = 3, 8


class Again:
    """``order`` is the position of each operation in ``function``, ``is_index`` tells index arithmetic."""

    def __init__(self, function: Function, order: dict[Op, int], is_index: Callable[[Value], bool]) -> None:
        ops = [op for block in function.region.blocks for op in walk(block)]
        self.order = order
        self.is_index = is_index
        self.strides = StrideAnalysis()
        self.stores = [op for op in ops if op.name in STORES]
        # Whole tiles are read where one is rearranged: what they are made of would be computed many times.
        self.rearranges = any(op.name in KEPT_OPERANDS for op in ops)
        self.loads: set[Op] = set()  # that are read again

    def is_cheap(self, value: Value, uses: list[int]) -> bool:
        """Whether segments of the block of ``value`` that start at ``uses`` may compute it again."""
        assert value.op is not None and value.op.parent is not None
        ops = [] if self.rearranges else self._expression(value, value.op.parent)
        loads = [op for op in ops if op.name == "tt.load"]
        if not loads or len(loads) > _LOADS_MOST or len(ops) > _OPERATIONS_MOST + len(loads):
            return False
        if any(COST.get(op.name, 1) >= EXPENSIVE for op in ops):
            return False
        if not all(self._is_row(load) and self._unchanged(load, max(uses)) for load in loads):
            return False
        self.loads.update(loads)
        return True

    def _expression(self, value: Value, block: Block) -> list[Op]:
        """The operations behind a value, up to other roots' results, other blocks and index arithmetic."""
        found: dict[Op, None] = {}
        stack = [value]
        while stack:
            value = stack.pop()
            op = value.op
            if op is None or op in found or op.parent is not block or op.regions or op.name in ROOT_RESULTS:
                continue
            if self.is_index(value):
                continue
            found[op] = None
            if op.name != "tt.load":
                stack += op.operands
            else:
                stack += op.operands[1:]
        return list(found)

    def _is_row(self, load: Op) -> bool:
        """Whether a load is contiguous, at an address that does not come out of memory."""
        strides = self.strides.of(load.operands[0])
        contiguous = byte_size(load.result.type.elem) in strides
        return contiguous and not is_volatile(load) and all(map(self.is_index, load.operands[:2]))

    def _unchanged(self, load: Op, use: int) -> bool:
        """Whether nothing is stored before ``use`` that may be what was loaded: scalars go to tensors of their own."""
        between = [op for op in self.stores if self.order[load] < self.order[op] < use]
        pointers = [op.operands[0] for op in between]
        return not any(p.type.is_tile or same_memory(p, load.operands[0]) for p in pointers)
