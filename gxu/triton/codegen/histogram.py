"""``tt.histogram``: counts integers into bins."""

from __future__ import annotations

from ..ir.module import Op
from . import integers, memory
from .evaluate import ZERO, Buffer, Evaluator
from .target import Target
from .values import constant

_I32 = "i32"


def write(e: Evaluator, op: Op, output: Buffer, target: Target) -> None:
    """Fills ``output`` with how often each of the numbers 0, 1, ... occurs; other numbers are not counted."""
    b = e.b
    one = constant(1, _I32)
    bins, count = op.result.type.numel, op.operands[0].type.numel
    b.lanes = min(target.vector_bytes // 4, bins)
    with b.loop(_I32, ZERO, constant(bins, _I32), constant(b.lanes, _I32)) as clear:
        e.write_buffer(output, (integers.progression(b, clear.iv, 1),), constant(0, output.elem))
    b.lanes = 1
    with b.loop(_I32, ZERO, constant(count, _I32), one) as each:
        value = e.at(op.operands[0], (each.iv,))
        wanted = (
            b.compare("icmp ult", value, constant(bins, value.elem)) if bins < 1 << 7 or value.elem != "i8" else None
        )
        if len(op.operands) > 1:
            mask, _ = e.mask(op.operands[1], (each.iv,))
            wanted = memory.both(b, wanted, mask)
        with b.branch(wanted if wanted is not None else constant(1, "i1")):
            place = integers.extend(b, value, "i64", signed=False)
            address = e.buffer_address(output, (integers.truncate(b, place, _I32),))
            old = memory.load(b, address, output.elem, None, None, at_least=b.depth)
            memory.store(b, address, integers.add(b, old, constant(1, output.elem)), output.elem, None)
