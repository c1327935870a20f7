"""Instructions of AVX-512 that LLVM has for whole registers only: vectors are cut into registers and joined again."""

from __future__ import annotations

from ..ir.types import BITS
from .builder import Builder
from .values import LLVM_TYPE, Val

_BITS = 512


def whole(b: Builder, x: Val) -> bool:
    """Whether a vector of floats is one register or several."""
    return b.avx512 and x.lanes > 1 and x.lanes * BITS[x.elem] % _BITS == 0


def split(b: Builder, x: Val) -> list[str]:
    """The lanes of a vector, register by register."""
    count = _BITS // BITS[x.elem]
    if x.lanes == count:
        return [b.wide(x)]
    kind = f"<{x.lanes} x {LLVM_TYPE[x.elem]}>"
    parts = []
    for start in range(0, x.lanes, count):
        picks = ", ".join(f"i32 {start + lane}" for lane in range(count))
        parts.append(b.define(f"shufflevector {kind} {b.wide(x)}, {kind} poison, <{count} x i32> <{picks}>", x.depth))
    return parts


def join(b: Builder, parts: list[str], elem: str, width: int, depth: int) -> Val:
    """One vector of all the lanes of ``parts``, a power of two of vectors of ``width`` lanes each."""
    while len(parts) > 1:
        kind, picks = f"<{width} x {LLVM_TYPE[elem]}>", ", ".join(f"i32 {lane}" for lane in range(2 * width))
        parts = [
            b.define(f"shufflevector {kind} {low}, {kind} {high}, <{2 * width} x i32> <{picks}>", depth)
            for low, high in zip(parts[::2], parts[1::2], strict=True)
        ]
        width *= 2
    return Val(elem, parts[0], depth, width)


def scale(b: Builder, x: Val, n: Val) -> Val:
    """x * 2**n, rounded once, for whole numbers n of the type of x; for vectors that are :func:`whole`."""
    count, depth = _BITS // BITS[x.elem], max(x.depth, n.depth)
    kind, suffix = f"<{count} x {LLVM_TYPE[x.elem]}>", "ps" if x.elem == "f32" else "pd"
    function = f"llvm.x86.avx512.mask.scalef.{suffix}.512"
    b.declare(function, kind, [kind, kind, kind, f"i{count}", "i32 immarg"])
    # All lanes, and the rounding mode that is set.
    parts = [
        b.define(
            f"call {kind} @{function}({kind} {value}, {kind} {power}, {kind} zeroinitializer, i{count} -1, i32 4)",
            depth,
        )
        for value, power in zip(split(b, x), split(b, n), strict=True)
    ]
    return join(b, parts, x.elem, count, depth)
