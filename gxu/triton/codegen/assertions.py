"""Device assertions: report to the runtime and leave the kernel before anything that relied on them runs. Assumptions:
what LLVM may rely on."""

from __future__ import annotations

from ..ir.module import Op
from . import memory
from .builder import Builder
from .evaluate import Evaluator
from .values import Val, constant

# Offset of assert_fail in gxuHostServices (csrc/runtime/host/gxu_host_kernel.h).
_ASSERT_FAIL_OFFSET = 8


def device_assert(e: Evaluator, op: Op, condition: Val, mask: Val | None) -> None:
    """``tt.assert`` for the lanes at hand, or those of ``mask``; the launch fails with the message, source file and
    line.
    """
    b = e.b
    if condition.const == 1:
        return
    failed = memory.both(b, b.binary("xor", condition, constant(1, "i1")), mask)
    if failed is None:
        failed = constant(1, "i1")
    if failed.lanes > 1:
        function = f"llvm.vector.reduce.or.v{failed.lanes}i1"
        b.declare(function, "i1", [f"<{failed.lanes} x i1>"])
        failed = b.emit("i1", f"call i1 @{function}(<{failed.lanes} x i1> {b.wide(failed)})", failed.depth)
    message = f"device-side assert: {op.attrs.get('message', '')} ({op.location})"
    text = b.string(message)
    with b.branch(failed):
        slot = b.define(f"getelementptr i8, ptr %services, i64 {_ASSERT_FAIL_OFFSET}", b.depth)
        function_pointer = b.define(f"load ptr, ptr {slot}", b.depth)
        b.line(f"call void {function_pointer}(ptr {text})", b.depth)
        b.line("ret void", b.depth)
        b.label(b.name("after"), b.depth)


def assume(b: Builder, condition: Val) -> None:
    """``tl.assume`` of a scalar condition, from here on."""
    if condition.const is None:
        b.declare("llvm.assume", "void", ["i1"])
        b.line(f"call void @llvm.assume(i1 {condition.ref})", b.depth)
