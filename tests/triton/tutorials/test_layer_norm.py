"""Layer norm forward and backward: weight gradients are added up by programs that take turns with locks."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl


@triton.jit
def forward_kernel(x, out, weight, bias, means, rstds, stride, columns, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    x += row * stride
    out += row * stride
    total = tl.zeros([BLOCK], tl.float32)
    for start in range(0, columns, BLOCK):
        j = start + tl.arange(0, BLOCK)
        total += tl.load(x + j, j < columns, other=0.0).to(tl.float32)
    mean = tl.sum(total) / columns
    squares = tl.zeros([BLOCK], tl.float32)
    for start in range(0, columns, BLOCK):
        j = start + tl.arange(0, BLOCK)
        distance = tl.where(j < columns, tl.load(x + j, j < columns, other=0.0).to(tl.float32) - mean, 0.0)
        squares += distance * distance
    rstd = 1 / tl.sqrt(tl.sum(squares) / columns + eps)
    tl.store(means + row, mean)
    tl.store(rstds + row, rstd)
    for start in range(0, columns, BLOCK):
        j = start + tl.arange(0, BLOCK)
        inside = j < columns
        normal = (tl.load(x + j, inside, other=0.0).to(tl.float32) - mean) * rstd
        tl.store(out + j, normal * tl.load(weight + j, inside) + tl.load(bias + j, inside), inside)


@triton.jit
def input_gradient_kernel(
    dx, dy, dw, db, x, weight, means, rstds, locks, stride, columns, GROUPS: tl.constexpr, BLOCK: tl.constexpr
):
    """One row: its dx, and its share of dw and db, added to those of its group while it holds the group's lock."""
    row = tl.program_id(0)
    j = tl.arange(0, BLOCK)
    inside = j < columns
    group = row % GROUPS
    lock, filled = locks + group, locks + GROUPS + group
    dw_at, db_at = dw + group * columns + j, db + group * columns + j
    upstream = tl.load(dy + row * stride + j, inside, other=0).to(tl.float32)
    w = tl.load(weight + j, inside).to(tl.float32)
    rstd = tl.load(rstds + row)
    normal = (tl.load(x + row * stride + j, inside, other=0).to(tl.float32) - tl.load(means + row)) * rstd
    normal = tl.where(inside, normal, 0.0)
    scaled = tl.where(inside, w * upstream, 0.0)
    along = tl.sum(normal * scaled, axis=0) / columns
    average = tl.sum(scaled, axis=0) / columns
    tl.store(dx + row * stride + j, (scaled - (normal * along + average)) * rstd, inside)
    part_w = (upstream * normal).to(w.dtype)
    part_b = upstream.to(w.dtype)
    while tl.atomic_cas(lock, 0, 1) == 1:
        pass
    if tl.load(filled) == 0:
        tl.atomic_xchg(filled, 1)
    else:
        part_w += tl.load(dw_at, inside)
        part_b += tl.load(db_at, inside)
    tl.store(dw_at, part_w, inside)
    tl.store(db_at, part_b, inside)
    tl.debug_barrier()
    tl.atomic_xchg(lock, 0)


@triton.jit
def sum_groups_kernel(parts_w, parts_b, dw, db, groups, columns, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    j = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    total_w = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    total_b = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for start in range(0, groups, BLOCK_M):
        i = start + tl.arange(0, BLOCK_M)
        inside = (i[:, None] < groups) & (j[None, :] < columns)
        at = i[:, None] * columns + j[None, :]
        total_w += tl.load(parts_w + at, inside, other=0.0)
        total_b += tl.load(parts_b + at, inside, other=0.0)
    tl.store(dw + j, tl.sum(total_w, axis=0), j < columns)
    tl.store(db + j, tl.sum(total_b, axis=0), j < columns)


class LayerNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, eps, groups):
        rows, columns = x.shape
        out = torch.full_like(x, float("nan"))
        means = torch.empty(rows, device=x.device)
        rstds = torch.empty(rows, device=x.device)
        block = triton.next_power_of_2(columns)
        forward_kernel[(rows,)](
            x,
            out,
            weight,
            bias,
            means,
            rstds,
            x.stride(0),
            columns,
            eps,
            BLOCK=min(block, 256),
            num_warps=4,
            num_ctas=1,
        )
        ctx.save_for_backward(x, weight, means, rstds)
        ctx.block, ctx.groups = block, groups
        return out

    @staticmethod
    def backward(ctx, dy):
        x, weight, means, rstds = ctx.saved_tensors
        (rows, columns), groups = x.shape, ctx.groups
        locks = torch.zeros(2 * groups, dtype=torch.int32, device=x.device)
        # No program reads a group's sums before one has written them.
        parts_w = torch.full((groups, columns), float("nan"), device=x.device)
        parts_b = torch.full((groups, columns), float("nan"), device=x.device)
        dx, dw, db = torch.full_like(x, float("nan")), torch.empty_like(weight), torch.empty_like(weight)
        input_gradient_kernel[(rows,)](
            dx, dy.contiguous(), parts_w, parts_b, x, weight, means, rstds, locks, x.stride(0), columns,
            GROUPS=groups, BLOCK=ctx.block,
        )  # fmt: skip
        used = min(groups, rows)
        sum_groups_kernel[(triton.cdiv(columns, 128),)](
            parts_w, parts_b, dw, db, used, columns, BLOCK_M=32, BLOCK_N=128
        )
        return dx, dw, db, None, None


@pytest.mark.parametrize("groups", [1, 64])
@pytest.mark.parametrize("shape", [(1151, 320), (13, 1000), (3, 1)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_layer_norm(shape, groups, dtype):
    x = (-2.3 + 0.5 * torch.randn(shape)).to(dtype)
    weight, bias, dy = torch.rand(shape[1]).to(dtype), torch.rand(shape[1]).to(dtype), torch.randn(shape).to(dtype)
    inputs = [t.to("gxu").requires_grad_() for t in (x, weight, bias)]
    out = LayerNorm.apply(*inputs, 1e-5, groups)
    out.backward(dy.to("gxu"))
    exact = [t.double().requires_grad_() for t in (x, weight, bias)]
    wanted = torch.nn.functional.layer_norm(exact[0], shape[1:], exact[1], exact[2], 1e-5)
    wanted.backward(dy.double())
    rtol, atol = (1e-4, 2e-5) if dtype == torch.float32 else (1e-2, 1e-2)
    torch.testing.assert_close(out.detach().cpu().double(), wanted.detach(), rtol=rtol, atol=atol)
    for got, reference in zip(inputs, exact, strict=True):
        torch.testing.assert_close(got.grad.cpu().double(), reference.grad, rtol=rtol, atol=atol * shape[0] ** 0.5)
