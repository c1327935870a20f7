"""Types of Triton IR values: scalars, pointers, and tiles of either."""

from __future__ import annotations

import functools
from dataclasses import dataclass

# Bits of every element type that the Triton frontend can put into a tile.
BITS: dict[str, int] = {
    "i1": 1,
    "i8": 8,
    "i16": 16,
    "i32": 32,
    "i64": 64,
    "f8E4M3FN": 8,
    "f8E4M3FNUZ": 8,
    "f8E4M3B11FNUZ": 8,
    "f8E5M2": 8,
    "f8E5M2FNUZ": 8,
    "f16": 16,
    "bf16": 16,
    "f32": 32,
    "f64": 64,
    "ptr": 64,
}

FLOATS = frozenset(name for name in BITS if name.startswith(("f", "bf")))
INTEGERS = frozenset(name for name in BITS if name.startswith("i"))


@dataclass(frozen=True)
class Type:
    """A scalar (``shape == ()``) or a tile of ``elem``.

    ``elem`` is a key of :data:`BITS`; for pointers it is ``"ptr"`` and ``pointee`` names what they point to.
    """

    elem: str
    shape: tuple[int, ...] = ()
    pointee: str = ""

    @property
    def is_tile(self) -> bool:
        return bool(self.shape)

    @property
    def is_float(self) -> bool:
        return self.elem in FLOATS

    @property
    def is_integer(self) -> bool:
        return self.elem in INTEGERS

    @property
    def is_pointer(self) -> bool:
        return self.elem == "ptr"

    @property
    def numel(self) -> int:
        count = 1
        for size in self.shape:
            count *= size
        return count

    def with_shape(self, shape: tuple[int, ...]) -> Type:
        return Type(self.elem, shape, self.pointee)

    def __str__(self) -> str:
        elem = f"*{self.pointee}" if self.is_pointer else self.elem
        return f"{'x'.join(map(str, self.shape))}x{elem}" if self.shape else elem


def byte_size(elem: str) -> int:
    """Bytes that one element takes in memory (an i1 takes one)."""
    return max(1, BITS[elem] // 8)


@functools.lru_cache(maxsize=4096)
def parse_type(text: str) -> Type:
    """Reads one MLIR type, for example ``tensor<8x512x!tt.ptr<f32>>``, without its layout.

    Raises ValueError for a type that no Triton kernel for this target can hold.
    """
    text = text.strip()
    if text.startswith(("tensor<", "!ttg.memdesc<")):
        # A layout after the comma says where a GPU keeps the elements. A memdesc is such a tile in shared memory.
        inner = text[text.index("<") + 1 : -1].split(", #", 1)[0]
        shape: list[int] = []
        while inner[:1].isdigit():
            size, _, inner = inner.partition("x")
            shape.append(int(size))
        elem = parse_type(inner)
        return Type(elem.elem, tuple(shape), elem.pointee)
    if text.startswith("!tt.ptr<"):
        inner = text[len("!tt.ptr<") : -1]
        pointee = inner.rsplit(",", 1)[0] if "," in inner and not inner.startswith("tensor<") else inner
        return Type("ptr", (), pointee.strip() if pointee in BITS else "i8")
    if text == "index":
        return Type("i64")
    if text in BITS:
        return Type(text)
    raise ValueError(f"type {text} is not one that the gxu Triton backend can represent")
