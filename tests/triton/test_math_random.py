"""Triton's random numbers: integers and uniform floats bit for bit as the interpreter makes them.

randn is sqrt(-2 log(u)) * cos(2 pi v): its integers and uniforms are equal bit for bit, so what differs from the
interpreter (numpy in float32) is the rounding of three functions. It is held against float64 instead, within what those
may add up to.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from triton_helpers import agree, launch


@triton.jit
def integers(out, seed, n, offset_high, WIDE: tl.constexpr, ROUNDS: tl.constexpr, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    m = i < n
    offset = i.to(tl.int64) + (tl.full([], offset_high, tl.int64) << 32) if WIDE else i
    a, b, c, d = tl.randint4x(seed, offset, ROUNDS)
    tl.store(out + i, tl.randint(seed, offset, ROUNDS).to(tl.int32, bitcast=True), m)
    tl.store(out + n + i, a.to(tl.int32, bitcast=True), m)
    tl.store(out + 2 * n + i, b.to(tl.int32, bitcast=True), m)
    tl.store(out + 3 * n + i, c.to(tl.int32, bitcast=True), m)
    tl.store(out + 4 * n + i, d.to(tl.int32, bitcast=True), m)


@triton.jit
def uniform(out, seed, n, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    m = i < n
    a, b, c, d = tl.rand4x(seed, i)
    tl.store(out + i, tl.rand(seed, i), m)
    tl.store(out + n + i, a, m)
    tl.store(out + 2 * n + i, b, m)
    tl.store(out + 3 * n + i, c, m)
    tl.store(out + 4 * n + i, d, m)


@triton.jit
def normal(out, seed, n, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    m = i < n
    u, v, _, _ = tl.randint4x(seed, i)
    tl.store(out + i, tl.randn(seed, i), m)
    tl.store(out + n + i, tl.maximum(1.0e-7, tl.random.uint_to_uniform_float(u)), m)
    tl.store(out + 2 * n + i, tl.random.uint_to_uniform_float(v), m)


def _philox(seed: int, offset: int, rounds: int) -> list[int]:
    """Philox4x32 as its authors define it: counter (offset, 0, 0), key seed."""
    c0, c1, c2, c3 = offset & 0xFFFFFFFF, offset >> 32, 0, 0
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(rounds):
        left, right = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (right >> 32) ^ c1 ^ k0, right & 0xFFFFFFFF, (left >> 32) ^ c3 ^ k1, left & 0xFFFFFFFF
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return [c0, c1, c2, c3]


@pytest.mark.parametrize(
    ("seed", "wide", "rounds"),
    [(0, False, 10), (0x123456789ABCDEF, False, 10), (2**63 - 1, True, 10), (1, True, 7)],
)
def test_random_integers(seed, wide, rounds):
    n, high = 301, 5 if wide else 0
    out = torch.full((5 * n,), 77, dtype=torch.int32)
    with np.errstate(over="ignore"):
        got = agree(integers, (-(-n // 64),), out, seed, n, high, WIDE=wide, ROUNDS=rounds, B=64)[0]
    wanted = torch.tensor([_philox(seed, k + (high << 32), rounds) for k in range(n)]).T
    assert torch.equal(got.reshape(5, n)[1:].long() & 0xFFFFFFFF, wanted)
    assert torch.equal(got[:n].long() & 0xFFFFFFFF, wanted[0])


@pytest.mark.parametrize("seed", [3, 0x7EDCBA9876543210])
def test_uniform_numbers(seed):
    n = 1003
    with np.errstate(over="ignore"):
        got = agree(uniform, (-(-n // 128),), torch.full((5 * n,), -1.0), seed, n, B=128)[0]
    assert got.min() >= 0 and got.max() < 1


def test_normal_numbers():
    n = 5001
    out = launch(normal, (-(-n // 256),), torch.full((3 * n,), 77.0), 11, n, B=256)[0]
    got, u, v = out.reshape(3, n).double()
    radius, angle = torch.sqrt(-2 * torch.log(u)), (v.float() * 6.283185307179586).double()
    # Half a unit of the angle, up to 2 pi, and 2 ULP each of log (halved by the root), root, cosine and product.
    far = (got - radius * torch.cos(angle)).abs()
    assert (far <= 2**-23 * (4 * radius + got.abs())).all(), far.max()
    assert abs(float(got.mean())) < 4 / math.sqrt(n) and abs(float(got.std()) - 1) < 0.05
