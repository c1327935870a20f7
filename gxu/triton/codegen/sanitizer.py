"""GXU_SANITIZE=1: every access of a kernel asks the runtime first, and what is not allowed does not happen."""

from __future__ import annotations

from ..analysis.effects import base_pointer
from ..ir.module import Op, Value
from ..ir.types import byte_size
from . import integers
from .builder import Builder
from .values import LLVM_TYPE, Val

# Offset of check_accesses in gxuHostServices (csrc/runtime/host/gxu_host_kernel.h), and gxuHostAccessKind.
_CHECK_ACCESSES_OFFSET = 24
_KINDS = {"tt.load": 0, "tt.store": 1, "tt.atomic_rmw": 2, "tt.atomic_cas": 2, "tt.gather": 3}


class Sanitizer:
    """Writes the checks of one kernel. ``scalars`` has the values of its parameters."""

    def __init__(self, builder: Builder, scalars: dict[Value, Val]) -> None:
        self.b = builder
        self.scalars = scalars
        self.program: Val | None = None  # number of the program that runs, i64
        self._slots: dict[int, tuple[str, str]] = {}

    def allowed(self, op: Op, pointer: Val, mask: Val | None, elem: str) -> Val:
        """Which lanes of a load, store or atomic may happen: those of ``mask`` (all, where it is None) that access
        allocated memory. At the current level, because the runtime reports the others."""
        base = base_pointer(op.operands[0])
        origin = self.b.scalar(self.scalars[base]) if base is not None else "null"
        return self._checked(op, origin, pointer, mask, byte_size(elem))

    def in_bounds(self, op: Op, index: Val, mask: Val | None, size: int) -> Val:
        """Which lanes of a gather have an ``index`` (i32) from 0 to ``size - 1``."""
        return self._checked(op, "null", integers.extend(self.b, index, "i64", signed=True), mask, size)

    def _checked(self, op: Op, origin: str, places: Val, mask: Val | None, size: int) -> Val:
        b = self.b
        assert self.program is not None
        lanes = b.lanes if places.lanes > 1 or (mask is not None and mask.lanes > 1) else 1
        addresses, wanted = self._slot(lanes)
        b.line(
            f"store {_vector(LLVM_TYPE[places.elem], lanes)} {b.wide(places, lanes)}, ptr {addresses}, align 8", b.depth
        )
        bytes_ = _vector("i8", lanes)
        chosen = "splat (i8 1)" if lanes > 1 else "1"
        if mask is not None:
            chosen = b.define(f"zext {_vector('i1', lanes)} {b.wide(mask, lanes)} to {bytes_}", b.depth)
        b.line(f"store {bytes_} {chosen}, ptr {wanted}, align 1", b.depth)
        slot = b.define(f"getelementptr i8, ptr %services, i64 {_CHECK_ACCESSES_OFFSET}", b.depth)
        function = b.define(f"load ptr, ptr {slot}", b.depth)
        access = self._access(op, lanes, size)
        b.line(
            f"call void {function}(ptr {access}, i64 {b.scalar(self.program)}, ptr {origin}, ptr {addresses}, "
            f"ptr {wanted})",
            b.depth,
        )
        left = b.define(f"load {bytes_}, ptr {wanted}, align 1", b.depth)
        return b.emit("i1", f"icmp ne {bytes_} {left}, {'zeroinitializer' if lanes > 1 else '0'}", b.depth, lanes)

    def _access(self, op: Op, lanes: int, size: int) -> str:
        """A gxuHostAccess."""
        b = self.b
        location = b.string(str(op.location))
        name = f"gxu_access{len(b.globals)}"
        b.globals[name] = (
            f"@{name} = internal constant {{ ptr, i32, i32, i64 }} "
            f"{{ ptr {location}, i32 {_KINDS[op.name]}, i32 {lanes}, i64 {size} }}"
        )
        return f"@{name}"

    def _slot(self, lanes: int) -> tuple[str, str]:
        """Memory for the addresses and the mask of one check."""
        if lanes not in self._slots:
            self._slots[lanes] = (
                self.b.define(f"alloca [{lanes} x i64], align 8", 0),
                self.b.define(f"alloca [{lanes} x i8], align 8", 0),
            )
        return self._slots[lanes]


def _vector(kind: str, lanes: int) -> str:
    return kind if lanes == 1 else f"<{lanes} x {kind}>"
