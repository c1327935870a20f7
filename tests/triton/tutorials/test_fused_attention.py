"""Attention in one kernel, forward and backward, causal and not; by descriptors and by pointers, with autotuning."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import triton
import triton.language as tl

LOG2_E = 1.4426950408889634
LOG2 = tl.constexpr(LOG2_E)


@triton.jit
def attend(
    total, weight, top, q, k_tiles, v_tiles, first, row, start, end, scale,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, DIAGONAL: tl.constexpr,
):  # fmt: skip
    """Goes over the keys ``start..end``; total, weight and top are relative to the largest score so far."""
    for column in tl.range(start, end, BLOCK_N):
        column = tl.multiple_of(column, BLOCK_N)
        scores = tl.dot(q, k_tiles.load([first + column, 0]).T)
        if DIAGONAL:
            ahead = row[:, None] < column + tl.arange(0, BLOCK_N)[None, :]
            scores = scores * scale + tl.where(ahead, -1.0e6, 0)
            higher = tl.maximum(top, tl.max(scores, 1))
            scores -= higher[:, None]
        else:
            higher = tl.maximum(top, tl.max(scores, 1) * scale)
            scores = scores * scale - higher[:, None]
        p = tl.math.exp2(scores)
        shrink = tl.math.exp2(top - higher)
        total = total * shrink[:, None]
        total = tl.dot(p.to(q.dtype), v_tiles.load([first + column, 0]), total)
        weight = weight * shrink + tl.sum(p, 1)
        top = higher
    return total, weight, top


def fits(configs: list[triton.Config], arguments: dict[str, Any], **meta: Any) -> list[triton.Config]:
    """Blocks of queries no longer than the sequence and, for causal attention, no shorter than those of keys."""
    arguments = arguments | meta
    kept = [c for c in configs if c.kwargs["BLOCK_M"] <= arguments["LENGTH"]]
    return [c for c in kept if not arguments["CAUSAL"] or c.kwargs["BLOCK_M"] >= c.kwargs["BLOCK_N"]]


@triton.autotune(
    configs=[
        triton.Config({"BLOCK_M": m, "BLOCK_N": n}, num_stages=stages, num_warps=warps)
        for m, n, stages, warps in [(128, 64, 3, 8), (64, 64, 2, 4), (64, 32, 4, 4), (32, 64, 2, 4)]
    ],
    key=["LENGTH", "DIM", "CAUSAL"],
    prune_configs_by={"early_config_prune": fits},
)
@triton.jit
def forward_kernel(
    q, k, v, out, logs, scale, rows,
    LENGTH: tl.constexpr, DIM: tl.constexpr, CAUSAL: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Matrices are [batch * heads * LENGTH, DIM]; logs: log2 of every row's sum of exponentials."""
    q_tiles = tl.make_tensor_descriptor(q, shape=[rows, DIM], strides=[DIM, 1], block_shape=[BLOCK_M, DIM])
    k_tiles = tl.make_tensor_descriptor(k, shape=[rows, DIM], strides=[DIM, 1], block_shape=[BLOCK_N, DIM])
    v_tiles = tl.make_tensor_descriptor(v, shape=[rows, DIM], strides=[DIM, 1], block_shape=[BLOCK_N, DIM])
    out_tiles = tl.make_tensor_descriptor(out, shape=[rows, DIM], strides=[DIM, 1], block_shape=[BLOCK_M, DIM])
    block = tl.program_id(0)
    first = tl.program_id(1) * LENGTH
    row = block * BLOCK_M + tl.arange(0, BLOCK_M)
    top = tl.full([BLOCK_M], -float("inf"), tl.float32)
    weight = tl.full([BLOCK_M], 1.0, tl.float32) - 1.0
    total = tl.zeros([BLOCK_M, DIM], tl.float32)
    x = q_tiles.load([first + block * BLOCK_M, 0])
    scale *= LOG2
    before = block * BLOCK_M if CAUSAL else LENGTH
    total, weight, top = attend(
        total, weight, top, x, k_tiles, v_tiles, first, row, 0, before, scale, BLOCK_M, BLOCK_N, False
    )
    if CAUSAL:
        total, weight, top = attend(
            total, weight, top, x, k_tiles, v_tiles, first, row, before, before + BLOCK_M, scale,
            BLOCK_M, BLOCK_N, True,
        )  # fmt: skip
    tl.store(logs + first + row, top + tl.math.log2(weight))
    out_tiles.store([first + block * BLOCK_M, 0], (total / weight[:, None]).to(out.dtype.element_ty))


@triton.jit
def delta_kernel(out, dout, delta, BLOCK: tl.constexpr, DIM: tl.constexpr):
    """delta = rowsum(out * dout)."""
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    at = row[:, None] * DIM + tl.arange(0, DIM)[None, :]
    tl.store(delta + row, tl.sum(tl.load(out + at).to(tl.float32) * tl.load(dout + at).to(tl.float32), axis=1))


@triton.jit
def key_gradients(
    dk, dv, q, k, v, dout, logs, delta, column, start, steps,
    STEP: tl.constexpr, DIM: tl.constexpr, DIAGONAL: tl.constexpr,
):  # fmt: skip
    d = tl.arange(0, DIM)
    i = start + tl.arange(0, STEP)
    q_at = q + i[None, :] * DIM + d[:, None]
    dout_at = dout + i[:, None] * DIM + d[None, :]
    for _ in range(steps):
        q_t = tl.load(q_at)
        p_t = tl.math.exp2(tl.dot(k, q_t) - tl.load(logs + i)[None, :])
        if DIAGONAL:
            p_t = tl.where(i[None, :] >= column[:, None], p_t, 0.0)
        upstream = tl.load(dout_at)
        dv += tl.dot(p_t.to(upstream.dtype), upstream)
        dp_t = tl.dot(v, tl.trans(upstream)).to(tl.float32)
        ds_t = p_t * (dp_t - tl.load(delta + i)[None, :])
        dk += tl.dot(ds_t.to(q_t.dtype), tl.trans(q_t))
        i += STEP
        q_at += STEP * DIM
        dout_at += STEP * DIM
    return dk, dv


@triton.jit
def query_gradients(
    dq, q, k, v, dout, logs, delta, row, start, steps, STEP: tl.constexpr, DIM: tl.constexpr, DIAGONAL: tl.constexpr
):
    d = tl.arange(0, DIM)
    j = start + tl.arange(0, STEP)
    k_at = k + j[None, :] * DIM + d[:, None]
    v_at = v + j[None, :] * DIM + d[:, None]
    for _ in range(steps):
        k_t = tl.load(k_at)
        p = tl.math.exp2(tl.dot(q, k_t) - logs)
        if DIAGONAL:
            p = tl.where(row[:, None] >= j[None, :], p, 0.0)
        dp = tl.dot(dout, tl.load(v_at)).to(tl.float32)
        ds = p * (dp - delta[:, None])
        dq += tl.dot(ds.to(k_t.dtype), tl.trans(k_t))
        j += STEP
        k_at += STEP * DIM
        v_at += STEP * DIM
    return dq


@triton.jit
def backward_kernel(
    q, k, v, scale, dout, dq, dk, dv, logs, delta, length,
    SHORT: tl.constexpr, LONG: tl.constexpr, DIM: tl.constexpr, CAUSAL: tl.constexpr,
):  # fmt: skip
    """k comes multiplied by scale * log2(e). A program computes LONG rows of dk and dv, then LONG rows of dq."""
    first = tl.program_id(1).to(tl.int64) * length
    q += first * DIM
    k += first * DIM
    v += first * DIM
    dout += first * DIM
    logs += first
    delta += first
    own = tl.program_id(0) * LONG
    row = own + tl.arange(0, LONG)
    at = row[:, None] * DIM + tl.arange(0, DIM)[None, :]
    masked: tl.constexpr = LONG // SHORT

    keys, values = tl.load(k + at), tl.load(v + at)
    key_sum = tl.zeros([LONG, DIM], tl.float32)
    value_sum = tl.zeros([LONG, DIM], tl.float32)
    start = 0
    if CAUSAL:
        key_sum, value_sum = key_gradients(
            key_sum, value_sum, q, keys, values, dout, logs, delta, row, own, masked, SHORT, DIM, True
        )
        start = own + LONG
    key_sum, value_sum = key_gradients(
        key_sum, value_sum, q, keys, values, dout, logs, delta, row, start, (length - start) // SHORT,
        SHORT, DIM, False,
    )  # fmt: skip
    tl.store(dv + first * DIM + at, value_sum.to(dv.dtype.element_ty))
    tl.store(dk + first * DIM + at, (key_sum * scale).to(dk.dtype.element_ty))

    queries, upstream = tl.load(q + at), tl.load(dout + at)
    log, shift = tl.load(logs + row)[:, None], tl.load(delta + row)
    query_sum = tl.zeros([LONG, DIM], tl.float32)
    end = length
    if CAUSAL:
        query_sum = query_gradients(query_sum, queries, k, v, upstream, log, shift, row, own, masked, SHORT, DIM, True)
        end = own
    query_sum = query_gradients(query_sum, queries, k, v, upstream, log, shift, row, 0, end // SHORT, SHORT, DIM, False)
    tl.store(dq + first * DIM + at, (query_sum / LOG2).to(dq.dtype.element_ty))


class Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, causal, scale):
        batch, heads, length, dim = q.shape
        out = torch.full_like(q, float("nan"))
        logs = torch.full((batch, heads, length), float("nan"), device=q.device)
        forward_kernel[lambda meta: (triton.cdiv(length, meta["BLOCK_M"]), batch * heads)](
            q, k, v, out, logs, scale, batch * heads * length, LENGTH=length, DIM=dim, CAUSAL=causal
        )
        ctx.save_for_backward(q, k, v, out, logs)
        ctx.causal, ctx.scale = causal, scale
        return out

    @staticmethod
    def backward(ctx, dout):
        q, k, v, out, logs = ctx.saved_tensors
        batch, heads, length, dim = q.shape
        dq, dk, dv = (torch.full_like(q, float("nan")) for _ in range(3))
        delta = torch.full_like(logs, float("nan"))
        dout = dout.contiguous()
        delta_kernel[(delta.numel() // 32,)](out, dout, delta, BLOCK=32, DIM=dim)
        backward_kernel[(length // 64, batch * heads)](
            q, k * (ctx.scale * LOG2_E), v, ctx.scale, dout, dq, dk, dv, logs, delta, length,
            SHORT=32, LONG=64, DIM=dim, CAUSAL=ctx.causal, num_warps=4, num_stages=5,
        )  # fmt: skip
        return dq, dk, dv, None, None


@pytest.fixture
def device_memory_for_descriptors() -> Iterator[None]:
    triton.set_allocator(lambda size, alignment, stream: torch.empty(size, dtype=torch.int8, device="gxu"))
    yield
    triton.set_allocator(triton.runtime._allocation.NullAllocator())


@pytest.mark.usefixtures("device_memory_for_descriptors")
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize(("length", "dim"), [(128, 64), (192, 32)])
def test_attention(length, dim, dtype, causal):
    shape = (2, 3, length, dim)
    q, k, v = ((0.5 * torch.randn(shape)).to(dtype) for _ in range(3))
    dout = torch.randn(shape).to(dtype)
    inputs = [t.to("gxu").requires_grad_() for t in (q, k, v)]
    if length % 128:  # queries of a block are not masked
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(forward_kernel, "configs", [c for c in forward_kernel.configs if c.kwargs["BLOCK_M"] < 128])
            out = Attention.apply(*inputs, causal, 0.5)
    else:
        out = Attention.apply(*inputs, causal, 0.5)
    out.backward(dout.to("gxu"))
    exact = [t.double().requires_grad_() for t in (q, k, v)]
    wanted = torch.nn.functional.scaled_dot_product_attention(*exact, is_causal=causal, scale=0.5)
    wanted.backward(dout.double())
    tolerance = {torch.float16: 6e-3, torch.bfloat16: 6e-2, torch.float32: 2e-5}[dtype]
    torch.testing.assert_close(out.detach().cpu().double(), wanted.detach(), rtol=tolerance, atol=tolerance)
    for got, reference in zip(inputs, exact, strict=True):
        torch.testing.assert_close(got.grad.cpu().double(), reference.grad, rtol=tolerance, atol=3 * tolerance)
