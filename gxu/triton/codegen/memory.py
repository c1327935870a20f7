"""Loads and stores: scalar, contiguous, gathered; masked or not."""

from __future__ import annotations

from ..ir.module import Op
from ..ir.types import byte_size
from . import strided
from .builder import Builder
from .values import LLVM_TYPE, Val, constant


def _memory_type(elem: str) -> str:
    return "i8" if elem == "i1" else LLVM_TYPE[elem]


def both(b: Builder, x: Val | None, y: Val | None) -> Val | None:
    """The conjunction of two optional masks; None is always true."""
    if x is None or x.const == 1:
        return y if y is None or y.const != 1 else None
    if y is None or y.const == 1:
        return x
    return b.binary("and", x, y)


def load(
    b: Builder,
    pointer: Val,
    elem: str,
    mask: Val | None,
    other: Val | None,
    *,
    at_least: int,
    volatile: bool = False,
    op: Op | None = None,
) -> Val:
    """Loads one element for each lane. Lanes that the mask leaves out give ``other`` (zero when there is none).

    ``op`` is the kernel's own load that this is, if it is one: those are checked under GXU_SANITIZE=1.
    """
    kind = _memory_type(elem)
    if mask is not None and mask.const == 1:
        mask = None
    qualifier = "volatile " if volatile else ""
    if pointer.lanes == 1:
        value = _load_scalar(b, pointer, elem, mask, at_least, qualifier, op)
        if mask is None:
            return value
        return b.select(mask, value, other if other is not None else constant(0, elem))
    if op is not None and b.sanitizer is not None:
        mask = b.sanitizer.allowed(op, pointer, mask, elem)
    depth = b.memory_depth(pointer.base or pointer, mask, other, at_least=at_least)
    lanes = b.lanes
    vector = f"<{lanes} x {kind}>"
    align = byte_size(elem)
    if pointer.base is not None and pointer.stride == align:
        base = b.scalar(pointer.base)
        if mask is None:
            text = f"load {qualifier}{vector}, ptr {base}, align {align}"
        else:
            function = f"llvm.masked.load.v{lanes}{_suffix(kind)}.p0"
            b.declare(function, vector, ["ptr", f"<{lanes} x i1>", vector])
            passthru = _passthru(b, other, elem, vector)
            chosen = b.wide(mask)
            text = f"call {vector} @{function}(ptr align {align} {base}, <{lanes} x i1> {chosen}, {vector} {passthru})"
    elif mask is None and not volatile and strided.applies(pointer, elem):
        loaded = strided.load(b, pointer, elem, depth)
        raw = Val("i8" if elem == "i1" else elem, loaded, depth, lanes)
        return b.cast("trunc", raw, "i1") if elem == "i1" else raw
    else:
        function = f"llvm.masked.gather.v{lanes}{_suffix(kind)}.v{lanes}p0"
        b.declare(function, vector, [f"<{lanes} x ptr>", f"<{lanes} x i1>", vector])
        passthru = _passthru(b, other, elem, vector)
        chosen = b.wide(mask) if mask is not None else "splat (i1 true)"
        text = (
            f"call {vector} @{function}(<{lanes} x ptr> align {align} {b.wide(pointer)}, <{lanes} x i1> {chosen}, "
            f"{vector} {passthru})"
        )
    if elem == "i1":
        raw = b.emit("i8", text, depth, lanes)
        return b.cast("trunc", raw, "i1")
    return b.emit(elem, text, depth, lanes)


def _suffix(kind: str) -> str:
    return {"half": "f16", "float": "f32", "double": "f64", "ptr": "p0"}.get(kind, kind)


def _passthru(b: Builder, other: Val | None, elem: str, vector: str) -> str:
    if other is None or other.const == 0:
        return "zeroinitializer"
    if elem == "i1":
        return b.wide(b.cast("zext", other, "i8"))
    return b.wide(other)


def _load_scalar(
    b: Builder, pointer: Val, elem: str, mask: Val | None, at_least: int, qualifier: str, op: Op | None
) -> Val:
    """One load for all lanes. Under a mask it reads a harmless zero instead where no lane wants it."""
    kind = _memory_type(elem)
    address = b.scalar(pointer)
    depth = b.memory_depth(pointer, mask, at_least=at_least)
    wanted = b.scalar(mask) if mask is not None and mask.lanes == 1 else None
    if mask is not None and mask.lanes > 1:
        function = f"llvm.vector.reduce.or.v{mask.lanes}i1"
        b.declare(function, "i1", [f"<{mask.lanes} x i1>"])
        wanted = b.define(f"call i1 @{function}(<{mask.lanes} x i1> {b.wide(mask)})", depth)
    if op is not None and b.sanitizer is not None:
        asked = Val("i1", wanted, depth) if wanted is not None else None
        allowed = b.sanitizer.allowed(op, pointer, asked, elem)
        wanted, depth = b.scalar(allowed), allowed.depth
    if wanted is not None:
        b.globals["gxu_zero"] = "@gxu_zero = internal constant [16 x i8] zeroinitializer, align 16"
        address = b.define(f"select i1 {wanted}, ptr {address}, ptr @gxu_zero", depth)
    raw = b.emit(
        "i8" if elem == "i1" else elem, f"load {qualifier}{kind}, ptr {address}, align {byte_size(elem)}", depth
    )
    return b.cast("trunc", raw, "i1") if elem == "i1" else raw


def store(b: Builder, pointer: Val, value: Val, elem: str, mask: Val | None, op: Op | None = None) -> None:
    """Stores one element for each lane that the mask lets through, at the current level.

    ``op`` is the kernel's own store that this is, if it is one: those are checked under GXU_SANITIZE=1.
    """
    if mask is not None and mask.const == 0:
        return
    if mask is not None and mask.const == 1:
        mask = None
    if elem == "i1":
        value = b.cast("zext", value, "i8")
    kind = _memory_type(elem)
    align = byte_size(elem)
    lanes = b.lanes if max(pointer.lanes, value.lanes, mask.lanes if mask is not None else 1) > 1 else 1
    if lanes == 1 or (mask is not None and mask.lanes == 1):
        if mask is not None:
            with b.branch(mask):
                store(b, pointer, value, "i8" if elem == "i1" else elem, None, op)
            return
    if op is not None and b.sanitizer is not None:
        allowed = b.sanitizer.allowed(op, pointer, mask, elem)
        if allowed.lanes == 1:
            with b.branch(allowed):
                store(b, pointer, value, "i8" if elem == "i1" else elem, None)
            return
        mask = allowed
    if lanes == 1:
        b.line(f"store {kind} {b.scalar(value)}, ptr {b.scalar(pointer)}, align {align}", b.depth)
        return
    vector = f"<{lanes} x {kind}>"
    if pointer.base is not None and pointer.stride == align:
        base = b.scalar(pointer.base)
        if mask is None:
            text = f"store {vector} {b.wide(value)}, ptr {base}"
            streamed = b.streams.mask(op, lanes * align) if b.streams is not None and op is not None else None
            if streamed is None:
                b.line(f"{text}, align {align}", b.depth)
            else:
                assert b.streams is not None
                b.streams.store(text, base, align, streamed)
            return
        function = f"llvm.masked.store.v{lanes}{_suffix(kind)}.p0"
        b.declare(function, "void", [vector, "ptr", f"<{lanes} x i1>"])
        b.line(
            f"call void @{function}({vector} {b.wide(value)}, ptr align {align} {base}, <{lanes} x i1> {b.wide(mask)})",
            b.depth,
        )
        return
    function = f"llvm.masked.scatter.v{lanes}{_suffix(kind)}.v{lanes}p0"
    b.declare(function, "void", [vector, f"<{lanes} x ptr>", f"<{lanes} x i1>"])
    chosen = b.wide(mask) if mask is not None else "splat (i1 true)"
    b.line(
        f"call void @{function}({vector} {b.wide(value)}, <{lanes} x ptr> align {align} {b.wide(pointer)}, "
        f"<{lanes} x i1> {chosen})",
        b.depth,
    )
