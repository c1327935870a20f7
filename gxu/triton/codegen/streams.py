"""Stores past the caches, for results that are larger than them.

A plain store first reads the cache line that it writes, and puts it in the place of another. For a result that the
caches cannot hold both are wasted: about a third of the traffic of a copy. A store past the caches (x86's
non-temporal stores) writes whole lines to memory without reading them. For a smaller result it would be harmful: the
next kernel finds it in the cache.
"""

from __future__ import annotations

import math

from ..analysis.effects import base_pointer, is_volatile, same_memory
from ..ir.module import Function, Op, walk
from ..ir.types import byte_size
from . import integers
from .builder import Builder
from .debug import NONTEMPORAL
from .target import Target
from .values import Val, constant

_LINE = 64  # bytes of a cache line
_TALKS = {"tt.atomic_rmw", "tt.atomic_cas", "tt.call", "scf.while"}


class Streams:
    """Decides for each store of a kernel, at run time, whether it goes past the caches.

    It does where the launch writes at least as many bytes as the last cache holds, counted as programs times the bytes
    of the tile, so only for stores that a program does at least once; where the kernel does not load what it stores;
    and where programs do not talk to each other, since such stores become visible to others late. ``fence`` makes them
    visible before the engine is told that programs are done.
    """

    def __init__(self, builder: Builder, function: Function, target: Target, grid: list[Val]) -> None:
        self.b = builder
        self._limit = target.cache_bytes
        self._grid = grid
        self._programs: Val | None = None
        self._masks: dict[int, Val] = {}
        ops = [op for block in function.region.blocks for op in walk(block)]
        self._loads = [op.operands[0] for op in ops if op.name == "tt.load"]
        talks = any(op.name in _TALKS or is_volatile(op) for op in ops)
        self._possible = target.stores_past_caches and not talks and builder.sanitizer is None

    def mask(self, op: Op, written: int) -> Val | None:
        """What a store instruction of ``written`` bytes that belongs to ``op`` tests its address with, as i64 of the
        kernel's entry: it goes past the caches where no bit is common to both. None: it never does."""
        pointer = op.operands[0]
        if not self._possible or written % _LINE or base_pointer(pointer) is None:
            return None
        if any(same_memory(pointer, load) for load in self._loads):
            return None
        programs = -(-self._limit // (math.prod(pointer.type.shape) * byte_size(pointer.type.pointee)))
        if programs not in self._masks:
            large = self.b.compare("icmp uge", self._count(), constant(programs, "i64"))
            self._masks[programs] = self.b.select(large, constant(_LINE - 1, "i64"), constant(-1, "i64"))
        return self._masks[programs]

    def _count(self) -> Val:
        """Programs of the launch."""
        if self._programs is None:
            x, y, z = (integers.extend(self.b, size, "i64", signed=False) for size in self._grid)
            self._programs = integers.mul(self.b, integers.mul(self.b, x, y), z)
        return self._programs

    def store(self, text: str, address: str, align: int, mask: Val) -> None:
        """A store instruction, given without its alignment: past the caches where ``mask`` lets its address."""
        b = self.b
        number = b.define(f"ptrtoint ptr {address} to i64", b.depth)
        common = b.define(f"and i64 {number}, {b.scalar(mask)}", b.depth)
        streams = Val("i1", b.define(f"icmp eq i64 {common}, 0", b.depth), b.depth)

        def past() -> list[Val]:
            b.line(f"{text}, align {_LINE}, !nontemporal !{NONTEMPORAL}", b.depth)
            return []

        def plain() -> list[Val]:
            b.line(f"{text}, align {align}", b.depth)
            return []

        b.either(streams, past, plain)

    def fence(self) -> None:
        """Orders the stores past the caches before all that follows."""
        if self._masks:
            self.b.declare("llvm.x86.sse.sfence", "void", [])
            self.b.line("call void @llvm.x86.sse.sfence()", self.b.depth)
