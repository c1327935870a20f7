"""Functions that Inductor's kernels call: torch._inductor.runtime.triton_helpers, with a sort of this device's own.

Every kernel that Inductor generates for gxu imports this module under the name `triton_helpers`. Everything that is not
redefined here is torch's. Compile workers import this module too: it must not touch the runtime.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl
from torch._inductor.runtime import triton_helpers as upstream


def __getattr__(name: str) -> Any:
    return getattr(upstream, name)


@triton.jit
def _ordered(x):
    """Signed integers (int32, or int64 for types of 64 bits) in the order in which torch sorts `x`.

    NaN is the largest, both zeros are equal.
    """
    wide: tl.constexpr = x.dtype.primitive_bitwidth == 64
    signed: tl.constexpr = tl.int64 if wide else tl.int32
    sign_bit: tl.constexpr = -(2**63) if wide else -(2**31)
    if x.dtype.is_floating():
        bits = x.to(tl.float64 if wide else tl.float32).to(signed, bitcast=True)
        bits = tl.where(bits == sign_bit, 0, bits)
        # Among negative numbers, those with larger bits are smaller.
        key = tl.where(bits < 0, bits ^ (-1 - sign_bit), bits)
        return tl.where(x != x, -1 - sign_bit, key)
    if x.dtype.is_int_unsigned() and (wide or x.dtype.primitive_bitwidth == 32):
        return x.to(signed, bitcast=True) ^ sign_bit
    return x.to(signed)


@triton.jit
def _sorted_positions(key, position, dim: tl.constexpr):
    """`position` (int64, no negative ones), sorted by `key` (int64, of the values of int32), then by itself."""
    return tl.sort((key << 32) | position, dim) & 0xFFFFFFFF


@triton.jit
def sort_with_index(
    x,
    idxs,
    rnumel,
    dim: tl.constexpr = None,
    stable: tl.constexpr = False,
    descending: tl.constexpr = False,
):
    """`x` sorted along its last axis, and `idxs` in the same order. Elements from `rnumel` on (None: there are none)
    come last.

    Inductor's network exchanges values and indices by sums over pairs, which takes long to compile for a CPU. Here
    key and position are the halves of one number, so that one sort of plain numbers, which is always stable, yields the
    positions, and values and indices are gathered. Keys of 64 bits are sorted by their lower half, then by the upper.
    """
    x, idxs = tl.broadcast(x, idxs)
    last: tl.constexpr = len(x.shape) - 1
    tl.static_assert(dim is None or dim == last, "only the last axis can be sorted")
    position = tl.broadcast_to(
        tl.reshape(tl.arange(0, x.shape[last]).to(tl.int64), [1] * last + [x.shape[last]]), x.shape
    )
    key = _ordered(x)
    if descending:
        key = ~key
    if rnumel is not None:
        # Ties are decided by position.
        key = tl.where(position < rnumel, key, 2**63 - 1 if key.dtype.primitive_bitwidth == 64 else 2**31 - 1)
    if key.dtype.primitive_bitwidth == 64:
        lower = (key & 0xFFFFFFFF) - 2**31
        order = _sorted_positions(lower, position, last)
        upper = tl.gather(key >> 32, order.to(tl.int32), last)
        order = tl.gather(order, _sorted_positions(upper, position, last).to(tl.int32), last)
    else:
        order = _sorted_positions(key.to(tl.int64), position, last)
    order = order.to(tl.int32)
    if x.dtype.is_int1():
        values = tl.gather(x.to(tl.int8), order, last).to(tl.int1)
    else:
        values = tl.gather(x, order, last)
    return values, tl.gather(idxs, order, last)
