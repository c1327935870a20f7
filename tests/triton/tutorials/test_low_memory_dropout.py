"""Dropout by a stored mask and by a seed: with a seed nothing but the seed is kept for the backward pass."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl


@triton.jit
def masked_dropout(x, keep, out, count, p, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    kept = tl.load(keep + at, inside) != 0
    tl.store(out + at, tl.where(kept, tl.load(x + at, inside) / (1 - p), 0.0), inside)


@triton.jit
def seeded_dropout(x, out, count, p, seed, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    kept = tl.rand(seed, at) > p
    tl.store(out + at, tl.where(kept, tl.load(x + at, inside) / (1 - p), 0.0), inside)


@triton.jit
def rows_dropout(x, out, seeds, columns, p, BLOCK: tl.constexpr):
    """A seed for every row."""
    row = tl.program_id(0)
    seed = tl.load(seeds + row)
    for start in range(0, columns, BLOCK):
        at = start + tl.arange(0, BLOCK)
        inside = at < columns
        kept = tl.rand(seed, at) > p
        value = tl.load(x + row * columns + at, inside)
        tl.store(out + row * columns + at, tl.where(kept, value / (1 - p), 0.0), inside)


class SeededDropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, p, seed):
        ctx.p, ctx.seed = p, seed
        return SeededDropout.apply_mask(x, p, seed)

    @staticmethod
    def backward(ctx, grad):
        return SeededDropout.apply_mask(grad, ctx.p, ctx.seed), None, None

    @staticmethod
    def apply_mask(x, p, seed):
        out = torch.full_like(x, float("nan"))
        seeded_dropout[(triton.cdiv(x.numel(), 1024),)](x.contiguous(), out, x.numel(), p, seed, BLOCK=1024)
        return out


def philox_uniform(seed: int, count: int) -> torch.Tensor:
    """Philox-4x32-10 (Salmon et al., 2011) with the index as counter: what tl.rand promises, in Python integers."""
    mask = 0xFFFFFFFF
    numbers = []
    for index in range(count):
        c0, c1, c2, c3 = index, 0, 0, 0
        k0, k1 = seed & mask, seed >> 32
        for _ in range(10):
            high, low = 0xD2511F53 * c0, 0xCD9E8D57 * c2
            c0, c1, c2, c3 = low >> 32 ^ c1 ^ k0, low & mask, high >> 32 ^ c3 ^ k1, high & mask
            k0, k1 = k0 + 0x9E3779B9 & mask, k1 + 0xBB67AE85 & mask
        signed = c0 - (1 << 32) if c0 >> 31 else c0
        numbers.append((-signed - 1 if signed < 0 else signed) * 4.6566127342e-10)
    return torch.tensor(numbers)


def test_mask():
    x = torch.randn(3001)
    keep = (torch.rand(3001) > 0.5).int()
    out = torch.full((3001,), float("nan"), device="gxu")
    masked_dropout[(triton.cdiv(3001, 512),)](x.to("gxu"), keep.to("gxu"), out, 3001, 0.5, BLOCK=512)
    assert torch.equal(out.cpu(), x * keep * 2)


@pytest.mark.parametrize("seed", [123, 512, 2**31 - 1])
def test_seed_decides_what_is_kept(seed):
    count, p = 5000, 0.3
    x = (torch.rand(count) + 1).to("gxu").requires_grad_()
    y = SeededDropout.apply(x, p, seed)
    expected = x.detach().cpu() / (1 - p) * (philox_uniform(seed, count) > p)
    torch.testing.assert_close(y.detach().cpu(), expected, rtol=1e-6, atol=0)
    assert abs((y != 0).float().mean().item() - 0.7) < 0.03
    grad = torch.randn(count)
    y.backward(grad.to("gxu"))
    torch.testing.assert_close(x.grad.cpu(), grad / (1 - p) * (expected != 0), rtol=1e-6, atol=0)


def test_a_seed_for_every_row():
    x = torch.ones(7, 700)
    seeds = torch.randint(0, 2**31 - 1, (7,), dtype=torch.int32)
    out = torch.full((7, 700), float("nan"), device="gxu")
    rows_dropout[(7,)](x.to("gxu"), out, seeds.to("gxu"), 700, 0.5, BLOCK=256)
    expected = torch.stack([(philox_uniform(int(seed), 700) > 0.5).float() * 2 for seed in seeds])
    assert torch.equal(out.cpu(), expected)
