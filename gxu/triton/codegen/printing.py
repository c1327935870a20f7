"""``tt.print``: every element as a line of its own, in the format of Triton's GPU backends."""

from __future__ import annotations

import contextlib

from ..ir.module import Op, Value
from ..ir.types import BITS
from . import integers, math
from .evaluate import ZERO, Evaluator
from .values import LLVM_TYPE, Val, constant

# Offset of print in gxuHostServices (csrc/runtime/host/gxu_host_kernel.h).
_PRINT_OFFSET = 16
_LONGEST = 1024  # bytes of a line; what is longer is cut


def device_print(e: Evaluator, op: Op, program: list[Val]) -> None:
    """Prints ``pid (x, y, z) idx (i, j) prefix: value`` for each element of each operand, operand after operand."""
    prefix = op.attrs["prefix"].replace("%", "%%")
    head = f"pid ({', '.join(['%u'] * len(program))})"
    line = e.b.define(f"alloca [{_LONGEST + len(prefix)} x i8]", 0)
    room = _LONGEST + len(prefix)
    if not op.operands:
        _print(e, line, room, head + prefix, program)
        return
    for number, operand in enumerate(op.operands):
        which = f"(operand {number}) " if len(op.operands) > 1 else ""
        widths = [len(str(size - 1)) for size in operand.type.shape]
        where = f" idx ({', '.join(f'%{width}u' for width in widths)})"
        with contextlib.ExitStack() as loops:
            index = [
                loops.enter_context(e.b.loop("i32", ZERO, constant(size, "i32"), constant(1, "i32"))).iv
                for size in operand.type.shape
            ]
            text, value = _formatted(e, operand, tuple(index), op.attrs["hex"], bool(op.attrs["isSigned"][number]))
            _print(e, line, room, f"{head}{where}{prefix}{which}{text}", [*program, *index, value])


def _formatted(
    e: Evaluator, operand: Value, index: tuple[Val, ...], hexadecimal: bool, signed: bool
) -> tuple[str, Val]:
    """How printf writes an element, and the element as printf takes it."""
    b, value = e.b, e.at(operand, index)
    bits = BITS[value.elem]
    if value.elem == "ptr":
        return "%p", value
    if hexadecimal:
        if operand.type.is_float and not LLVM_TYPE[value.elem].startswith("i"):
            value = b.cast("bitcast", value, f"i{bits}")
        elif operand.type.is_float:
            value = Val(f"i{bits}", value.ref, value.depth)
        return f"0x%0{max(1, bits // 4)}llx", integers.extend(b, value, "i64", signed=False)
    if operand.type.is_float:
        return "%f", math.convert_float(b, value, "f64")
    if bits == 1:
        return "%lli", integers.extend(b, value, "i64", signed=False)
    return "%lli" if signed else "%llu", integers.extend(b, value, "i64", signed=signed)


def _print(e: Evaluator, line: str, room: int, text: str, arguments: list[Val]) -> None:
    b = e.b
    b.declarations["snprintf"] = "declare i32 @snprintf(ptr, i64, ptr, ...)"
    given = ", ".join(f"{LLVM_TYPE[a.elem]} {b.scalar(a)}" for a in arguments)
    b.define(f"call i32 (ptr, i64, ptr, ...) @snprintf(ptr {line}, i64 {room}, ptr {b.string(text)}, {given})", b.depth)
    slot = b.define(f"getelementptr i8, ptr %services, i64 {_PRINT_OFFSET}", b.depth)
    b.line(f"call void {b.define(f'load ptr, ptr {slot}', b.depth)}(ptr {line})", b.depth)
