"""What the emitter knows about a value besides its LLVM name.

A value of a kernel is either the same for all lanes of the vector loop that is open (a scalar in LLVM), or differs by
lane. Lanes that form an arithmetic progression stay symbolic (``base + lane * stride``) for as long as possible: that
is what makes loads contiguous, masks cheap and divisions scalar.
"""

from __future__ import annotations

import itertools
import math
import struct

from ..ir.types import BITS, FLOATS

LLVM_TYPE: dict[str, str] = {
    "i1": "i1",
    "i8": "i8",
    "i16": "i16",
    "i32": "i32",
    "i64": "i64",
    "f16": "half",
    # As its bits: what LLVM makes of `bfloat` depends on the CPU, flushes subnormals on some, calls libgcc on others.
    "bf16": "i16",
    "f32": "float",
    "f64": "double",
    "ptr": "ptr",
    # fp8 values live as bits: LLVM has no such types, conversions are integer code.
    **{name: "i8" for name in BITS if name.startswith("f8")},
}

_uids = itertools.count()


class Val:
    """One emitted value.

    ``elem`` is a key of ``BITS``; ``lanes`` is 1 for a scalar, else the width of the vector loop; ``depth`` is the
    level that defines it. A constant has ``const``; a progression has ``base`` (a scalar Val) and ``stride``
    (elements; bytes for pointers), and no ``ref`` until a vector is asked for. ``multiple`` is a known divisor of a
    scalar integer (of the base of a progression), ``nonneg`` says that no lane is negative, and ``bound`` is then the
    largest value, where known.
    """

    __slots__ = (
        "base",
        "bound",
        "const",
        "depth",
        "elem",
        "lanes",
        "multiple",
        "nonneg",
        "ref",
        "stride",
        "uid",
        "wide",
    )

    def __init__(
        self,
        elem: str,
        ref: str | None,
        depth: int,
        lanes: int = 1,
        const: int | float | None = None,
        base: Val | None = None,
        stride: int = 0,
        multiple: int = 1,
        nonneg: bool = False,
        bound: int | None = None,
    ) -> None:
        self.elem = elem
        self.ref = ref
        self.depth = depth
        self.lanes = lanes
        self.const = const
        self.base = base
        self.stride = stride
        self.multiple = multiple
        self.nonneg = nonneg
        self.bound = bound
        self.uid = next(_uids)
        self.wide: dict[int, str] = {}

    @property
    def is_progression(self) -> bool:
        return self.base is not None

    @property
    def type(self) -> str:
        scalar = LLVM_TYPE[self.elem]
        return scalar if self.lanes == 1 else f"<{self.lanes} x {scalar}>"

    def __repr__(self) -> str:
        return f"Val({self.elem}x{self.lanes} {self.ref or f'{self.base}+{self.stride}*lane'} @{self.depth})"


def constant(number: int | float, elem: str) -> Val:
    """A scalar constant; integers wrap to the width of ``elem``."""
    if elem in FLOATS and not elem.startswith("f8"):
        return Val(elem, float_literal(float(number), elem), 0, const=float(number))
    if elem == "ptr":
        return Val(elem, "null" if number == 0 else f"inttoptr (i64 {int(number)} to ptr)", 0, const=number)
    bits = BITS[elem]
    wrapped = int(number) & ((1 << bits) - 1)
    if elem == "i1":
        return Val(elem, "true" if wrapped else "false", 0, const=wrapped, nonneg=True)
    if wrapped >> (bits - 1):
        wrapped -= 1 << bits
    bound = wrapped if wrapped >= 0 else None
    return Val(elem, str(wrapped), 0, const=wrapped, multiple=divisor_of(wrapped), nonneg=wrapped >= 0, bound=bound)


def divisor_of(number: int) -> int:
    """The largest power of two that divides ``number``, at most 2**20 (zero is divisible by all)."""
    return min(number & -number, 1 << 20) if number else 1 << 20


def float_literal(number: float, elem: str) -> str:
    """LLVM's exact spelling of a float constant, rounded to ``elem``."""
    if elem == "f64":
        return f"0x{struct.unpack('<Q', struct.pack('<d', number))[0]:016X}"
    if elem == "f32":
        rounded = _round_f32(number)
        return f"0x{struct.unpack('<Q', struct.pack('<d', rounded))[0]:016X}"
    if elem == "f16":
        try:
            packed = struct.pack("<e", number)
        except OverflowError:
            packed = struct.pack("<e", math.copysign(math.inf, number))
        return f"0xH{struct.unpack('<H', packed)[0]:04X}"
    bits = struct.unpack("<I", struct.pack("<f", _round_f32(number)))[0]
    if number != number:
        return str((bits >> 16) | 0x40)
    return str(((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16) & 0xFFFF)


def _round_f32(number: float) -> float:
    try:
        rounded: float = struct.unpack("<f", struct.pack("<f", number))[0]
    except OverflowError:
        rounded = math.copysign(math.inf, number)
    return rounded
