"""Values that are worth computing once: costly ones that two loops of a segment need."""

from __future__ import annotations

from ..ir.module import Value
from .loops import Loop, Root, same_element

# A value that no outer loop keeps close is only kept while it fits the caches nearby.
_NEARBY_BYTES = 64 * 1024


def repeated_values(roots: list[Root]) -> list[Value]:
    """Costly values that roots in different bodies compute, each over the whole of its own iteration space."""
    found: list[Value] = []
    for position, root in enumerate(roots):
        for value, reads in root.costly.items():
            if value in found or not value.type.is_tile or value.type.shape != _shape(root):
                continue
            again = [other for other in roots[position + 1 :] if value in other.costly and other.path is not root.path]
            if not again or not all(same_element(root.axes, dims) for dims in reads):
                continue
            close = all(set(root.path) & set(other.path) for other in again) or 8 * value.type.numel <= _NEARBY_BYTES
            if close and all(same_element(root.axes, dims) for other in again for dims in other.costly[value]):
                found.append(value)
    return found


def _shape(root: Root) -> tuple[int, ...]:
    return tuple(axis.size if axis is not None else 1 for axis in root.axes)


def shared_scalar_loops(root: Root) -> list[Loop]:
    """Loops around a buffer and all its readers that go one index at a time: the buffer needs no room for their
    axes.
    """
    return [loop for loop in root.path if loop.lanes == 1 and all(loop in reader.path for reader in root.readers)]
