"""Fused attention in the manner of FlashAttention 2: scores are never written to memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from gxu.benchmarks.device import DEVICE
from gxu.benchmarks.triton.comparison import against_library
from gxu.benchmarks.triton.row import Case, Work

GROUP = "attention"
HEADS = 4
BLOCK = 128  # of queries and of keys: as many as the caches near a core hold
LOG2_E = 1.4426950408889634


@triton.jit
def forward_kernel(
    q_ptr, k_ptr, v_ptr, o_ptr, lse_ptr, T, scale, D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr
):
    """softmax(q k^T) v for BLOCK_M queries of one head; lse: log2 of the sums of 2**score. scale includes log2 e."""
    head = tl.program_id(1) * T * D
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    d = tl.arange(0, D)
    q = tl.load(q_ptr + head + m[:, None] * D + d[None, :], m[:, None] < T, other=0.0)
    largest = tl.full([BLOCK_M], -float("inf"), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    accumulator = tl.zeros([BLOCK_M, D], tl.float32)
    for start in range(0, T, BLOCK_N):
        n = start + tl.arange(0, BLOCK_N)
        k = tl.load(k_ptr + head + n[None, :] * D + d[:, None], n[None, :] < T, other=0.0)
        scores = tl.where(n[None, :] < T, tl.dot(q, k) * scale, -float("inf"))
        new = tl.maximum(largest, tl.max(scores, 1))
        p = tl.exp2(scores - new[:, None])
        alpha = tl.exp2(largest - new)
        total = total * alpha + tl.sum(p, 1)
        v = tl.load(v_ptr + head + n[:, None] * D + d[None, :], n[:, None] < T, other=0.0)
        accumulator = tl.dot(p.to(v.dtype), v, accumulator * alpha[:, None])
        largest = new
    o = accumulator / total[:, None]
    tl.store(o_ptr + head + m[:, None] * D + d[None, :], o.to(o_ptr.dtype.element_ty), m[:, None] < T)
    tl.store(lse_ptr + tl.program_id(1) * T + m, largest + tl.log2(total), m < T)


@triton.jit
def delta_kernel(o_ptr, do_ptr, delta_ptr, rows, D: tl.constexpr, BLOCK: tl.constexpr):
    """delta = sum(o * do) over each row."""
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    at = row[:, None] * D + tl.arange(0, D)[None, :]
    o = tl.load(o_ptr + at, row[:, None] < rows, other=0.0).to(tl.float32)
    do = tl.load(do_ptr + at, row[:, None] < rows, other=0.0).to(tl.float32)
    tl.store(delta_ptr + row, tl.sum(o * do, 1), row < rows)


@triton.jit
def backward_kernel(
    q_ptr, k_ptr, v_ptr, do_ptr, lse_ptr, delta_ptr, dq_ptr, dk_ptr, dv_ptr, T, KEYS, scale, scale_log2,
    D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Gradients of KEYS keys and values of one head, and what they add to the gradients of all its queries.

    Each program has queries' gradients of its own, (programs, heads, T, D), which add up in memory without atomics.
    """
    head = tl.program_id(1) * T * D
    first = tl.program_id(0) * KEYS
    dq_ptr += tl.program_id(0) * tl.num_programs(1) * T * D
    d = tl.arange(0, D)
    for start_n in range(first, min(first + KEYS, T), BLOCK_N):
        n = start_n + tl.arange(0, BLOCK_N)
        keys = head + n[:, None] * D + d[None, :]
        k = tl.load(k_ptr + keys, n[:, None] < T, other=0.0)
        v = tl.load(v_ptr + keys, n[:, None] < T, other=0.0)
        dk = tl.zeros([BLOCK_N, D], tl.float32)
        dv = tl.zeros([BLOCK_N, D], tl.float32)
        for start_m in range(0, T, BLOCK_M):
            m = start_m + tl.arange(0, BLOCK_M)
            queries = head + m[:, None] * D + d[None, :]
            q = tl.load(q_ptr + queries, m[:, None] < T, other=0.0)
            do = tl.load(do_ptr + queries, m[:, None] < T, other=0.0)
            lse = tl.load(lse_ptr + tl.program_id(1) * T + m, m < T, other=float("inf"))
            delta = tl.load(delta_ptr + tl.program_id(1) * T + m, m < T, other=0.0)
            p = tl.exp2(tl.dot(q, tl.trans(k)) * scale_log2 - lse[:, None])
            dv = tl.dot(tl.trans(p.to(do.dtype)), do, dv)
            ds = (p * (tl.dot(do, tl.trans(v)) - delta[:, None]) * scale).to(q.dtype)
            dk = tl.dot(tl.trans(ds), q, dk)
            dq = tl.load(dq_ptr + queries, (m[:, None] < T) & (start_n > first), other=0.0)
            tl.store(dq_ptr + queries, tl.dot(ds, k, dq), m[:, None] < T)
        tl.store(dv_ptr + keys, dv.to(dv_ptr.dtype.element_ty), n[:, None] < T)
        tl.store(dk_ptr + keys, dk.to(dk_ptr.dtype.element_ty), n[:, None] < T)


def cases() -> list[Case]:
    def case(name: str, make: Callable[[int, int], Work], t: int, d: int) -> Case:
        return against_library(f"{name} d={d} T={t}", GROUP, 1.0, "SDPA", lambda: make(t, d))

    passes = {"attention": forward, "attention backward": backward}
    return [case(name, make, t, d) for d in (64, 128) for t in (512, 1024, 2048, 4096) for name, make in passes.items()]


def operands(t: int, d: int, count: int) -> tuple[list[Tensor], list[Tensor]]:
    """`count` tensors (1, HEADS, t, d) on the CPU and on gxu."""
    on_cpu = [torch.randn(1, HEADS, t, d) for _ in range(count)]
    return on_cpu, [x.to(DEVICE) for x in on_cpu]


def launch_forward(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    t, d = q.shape[-2:]
    o, lse = torch.empty_like(q), torch.empty(HEADS, t, device=q.device)
    grid = (triton.cdiv(t, BLOCK), HEADS)
    forward_kernel[grid](q, k, v, o, lse, t, d**-0.5 * LOG2_E, D=d, BLOCK_M=BLOCK, BLOCK_N=BLOCK)
    return o, lse


def forward(t: int, d: int) -> Work:
    (q, k, v), on_gxu = operands(t, d, 3)
    return Work(
        lambda: launch_forward(*on_gxu)[0],
        lambda: F.scaled_dot_product_attention(q, k, v),
        rtol=1e-3,
        atol=1e-3,
    )


def backward(t: int, d: int) -> Work:
    """From the saved results of a forward pass, as autograd calls both."""
    (q, k, v, do), (gq, gk, gv, gdo) = operands(t, d, 4)
    o, lse = launch_forward(gq, gk, gv)
    scale = d**-0.5
    saved = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v)

    def kernel() -> tuple[Tensor, ...]:
        # At least as many programs as threads, where there are enough keys.
        keys = triton.cdiv(t, triton.cdiv(torch.get_num_threads(), HEADS) * BLOCK) * BLOCK
        chunks = triton.cdiv(t, keys)
        parts, dk, dv = gq.new_empty(chunks, *gq.shape), torch.empty_like(gk), torch.empty_like(gv)
        delta = torch.empty_like(lse)
        delta_kernel[(triton.cdiv(HEADS * t, 64),)](o, gdo, delta, HEADS * t, D=d, BLOCK=64)
        inputs, results = (gq, gk, gv, gdo, lse, delta), (parts, dk, dv)
        backward_kernel[chunks, HEADS](
            *inputs, *results, t, keys, scale, scale * LOG2_E, D=d, BLOCK_M=BLOCK, BLOCK_N=BLOCK
        )
        return parts[0] if chunks == 1 else parts.sum(0), dk, dv

    def eager() -> tuple[Tensor, ...]:
        gradients: tuple[Tensor, ...] = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
            do, q, k, v, *saved, 0.0, False
        )
        return gradients

    return Work(kernel, eager, rtol=1e-3, atol=1e-3)
