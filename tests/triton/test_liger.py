"""liger-kernel as it comes from PyPI, on gxu tensors: forward and backward against plain torch in double precision.

Liger picks settings by `liger_kernel.utils.infer_device()`, which knows CUDA, XPU and NPU; on a machine with none of
them it uses its defaults, and its kernels run on whatever device their tensors are on.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

# Its lists of configurations for experts are long: trying them all would take a minute.
os.environ.setdefault("LIGER_FUSED_MOE_AUTOTUNE", "0")
ops = pytest.importorskip("liger_kernel.ops", reason="liger-kernel is not installed: make .venv/.dev")

Tensors = tuple[torch.Tensor, ...]


def R(*shape: int) -> torch.Tensor:
    return torch.randn(shape)


def labels(count: int, classes: int) -> torch.Tensor:
    target = torch.randint(0, classes, (count,))
    target[1] = -100
    return target


def log_probs(*shape: int) -> torch.Tensor:
    return torch.randn(shape).log_softmax(-1)


def probs(*shape: int) -> torch.Tensor:
    return torch.randn(shape).softmax(-1)


# -- references ---------------------------------------------------------------------------------------------------


def rms(x: torch.Tensor, eps: float = 1e-6) -> torch.Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat((-second, first), -1) * sin


def angles(*shape: int) -> Tensors:
    """cos and sin whose halves are the same, as models make them."""
    half = torch.rand(*shape[:-1], shape[-1] // 2) * 6
    whole = torch.cat((half, half), -1)
    return whole.cos(), whole.sin()


def rope(q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> Tensors:
    return rotate(q, cos[:, None], sin[:, None]), rotate(k, cos[:, None], sin[:, None])


def by_sections(x: torch.Tensor) -> torch.Tensor:
    """Time, height and width each rotate their section of both halves: [3, ..., dim] to [..., dim]."""
    sections = [4, 6, 6] * 2
    return torch.cat([part[i % 3] for i, part in enumerate(x.split(sections, -1))], -1)


def complex_rope(q: torch.Tensor, k: torch.Tensor, turns: torch.Tensor) -> Tensors:
    def turn(x: torch.Tensor) -> torch.Tensor:
        pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
        return torch.view_as_real(pairs * turns[None, :, None]).flatten(-2)

    return turn(q), turn(k)


def js_divergence(x: torch.Tensor, y: torch.Tensor, beta: float) -> torch.Tensor:
    """beta * KL(Q || M) + (1 - beta) * KL(P || M); x and y are the logarithms of Q (student) and P, M their mixture."""
    mixture = torch.log(beta * y.exp() + (1 - beta) * x.exp())
    student, teacher = x.exp() * (x - mixture), y.exp() * (y - mixture)
    return (beta * teacher + (1 - beta) * student).sum() / x.shape[0]


def sparsemax(x: torch.Tensor) -> torch.Tensor:
    """Projection on the simplex (Martins & Astudillo, 2016)."""
    ordered = x.sort(-1, descending=True).values
    rank = torch.arange(1, x.shape[-1] + 1, dtype=x.dtype)
    support = (1 + rank * ordered > ordered.cumsum(-1)).sum(-1, keepdim=True)
    threshold = (ordered.cumsum(-1).gather(-1, support - 1) - 1) / support
    return (x - threshold).clamp_min(0)


def poly_norm(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return w[0] * rms(x**3) + w[1] * rms(x**2) + w[2] * rms(x) + b


def attention_residuals(v: torch.Tensor, query: torch.Tensor, norm: torch.Tensor) -> torch.Tensor:
    weights = ((rms(v) * norm) @ query).softmax(0)
    return (weights[..., None] * v).sum(0)


def neighbourhood(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    at = torch.arange(q.shape[-2])
    near = (at[:, None] - at[None, :]).abs() <= 3
    return F.scaled_dot_product_attention(q, k, v, attn_mask=near)


def token_attention(scores: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    length = scores.shape[-1]
    ahead = torch.ones(length, length, dtype=torch.bool).triu(1)
    mixed = F.conv2d(scores.masked_fill(ahead, -1e9).softmax(-1), weight, bias, padding=1)
    return mixed.masked_fill(ahead, 0.0)


def experts(x: torch.Tensor, up: torch.Tensor, down: torch.Tensor, index: torch.Tensor, weight: torch.Tensor) -> Any:
    rows = []
    for row, chosen, share in zip(x, index, weight, strict=True):
        parts = []
        for e, s in zip(chosen, share, strict=True):
            gate, value = (up[e] @ row).chunk(2)
            parts.append(s * (down[e] @ (F.silu(gate) * value)))
        rows.append(torch.stack(parts).sum(0))
    return torch.stack(rows)


def modulated(x: torch.Tensor, w: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    return rms(x) * w * (1 + scale[:, None]) + shift[:, None]


def hyper_connections(
    x: torch.Tensor, phi: torch.Tensor, b: torch.Tensor, pre: torch.Tensor, post: torch.Tensor, res: torch.Tensor
) -> Tensors:
    """Coefficients of manifold-constrained hyper-connections: two gates, and a doubly stochastic matrix by Sinkhorn."""
    count = x.shape[-2]
    mix = rms(x.flatten(-2)) @ phi
    gates, shared, matrix = mix.split([count, count, count * count], -1)
    gate_b, shared_b, matrix_b = b.split([count, count, count * count])
    matrix = (matrix * res + matrix_b).unflatten(-1, (count, count)).softmax(-1) + 1e-6
    matrix = matrix / (matrix.sum(-2, keepdim=True) + 1e-6)
    for _ in range(9):
        matrix = matrix / (matrix.sum(-1, keepdim=True) + 1e-6)
        matrix = matrix / (matrix.sum(-2, keepdim=True) + 1e-6)
    return (gates * pre + gate_b).sigmoid() + 1e-6, 2 * (shared * post + shared_b).sigmoid(), matrix


def smoothed_tvd(student: torch.Tensor, teacher: torch.Tensor, target: torch.Tensor) -> Tensors:
    ce = F.cross_entropy(student, target, reduction="none")
    distance = 0.5 * (student.softmax(-1) - teacher.softmax(-1)).abs().sum(-1)
    return ce, distance * (target != -100)


def first(outputs: Any) -> Any:
    return outputs[0]


# name: (Liger's function of gxu tensors, the same in torch, what makes the tensors, how many of them need gradients)
Case = tuple[Callable[..., Any], Callable[..., Any], Callable[[], Tensors], int]
CASES: dict[str, Case] = {
    "rms_norm": (
        lambda x, w: ops.LigerRMSNormFunction.apply(x, w, 1e-6, 0.0, "llama", False),
        lambda x, w: rms(x) * w,
        lambda: (R(5, 37, 100), R(100)),
        2,
    ),
    "rms_norm of gemma, in place": (
        lambda x, w: ops.LigerRMSNormFunction.apply(x, w, 1e-6, 1.0, "gemma", True),
        lambda x, w: rms(x) * (w + 1),
        lambda: (R(33, 300), R(300)),
        2,
    ),
    "rms_norm, many rows": (
        lambda x, w: ops.LigerRMSNormFunction.apply(x, w, 1e-6, 0.0, "none", False),
        lambda x, w: rms(x) * w,
        lambda: (R(5000, 64), R(64)),
        2,
    ),
    "rms_norm without weight": (
        lambda x: ops.LigerRMSNormFunction.apply(x, None, 1e-6),
        rms,
        lambda: (R(33, 77),),
        1,
    ),
    "fused_add_rms_norm": (
        lambda x, r, w: ops.LigerFusedAddRMSNormFunction.apply(x, r, w, 1e-6),
        lambda x, r, w: (rms(x + r) * w, x + r),
        lambda: (R(3, 11, 90), R(3, 11, 90), R(90)),
        3,
    ),
    "modulated_rms_norm": (
        lambda x, w, a, b: ops.LigerModulatedRMSNormFunction.apply(x, w, a, b, 1e-6, 0.0, "llama", False),
        modulated,
        lambda: (R(3, 11, 90), R(90), R(3, 90), R(3, 90)),
        4,
    ),
    "layer_norm": (
        lambda x, w, b: ops.LigerLayerNormFunction.apply(x, w, b, 1e-5),
        lambda x, w, b: F.layer_norm(x, w.shape, w, b, 1e-5),
        lambda: (R(7, 13, 200), R(200), R(200)),
        3,
    ),
    "group_norm": (
        lambda x, w, b: ops.LigerGroupNormFunction.apply(x, w, b, 12, 3, 1e-5),
        lambda x, w, b: F.group_norm(x, 3, w, b, 1e-5),
        lambda: (R(4, 12, 50), R(12), R(12)),
        3,
    ),
    "poly_norm": (
        lambda x, w, b: ops.LigerPolyNormFunction.apply(x, w, b, 1e-6, False),
        poly_norm,
        lambda: (R(20, 70), R(3), R()),
        3,
    ),
    "softmax": (ops.LigerSoftmaxFunction.apply, lambda x: x.softmax(-1), lambda: (R(9, 333),), 1),
    "sparsemax": (lambda x: ops.LigerSparsemaxFunction.apply(x, -1), sparsemax, lambda: (R(9, 100),), 1),
    "relu_squared": (ops.LigerReLUSquaredFunction.apply, lambda x: x.relu().square(), lambda: (R(9, 333),), 1),
    "swiglu": (ops.LigerSiLUMulFunction.apply, lambda a, b: F.silu(a) * b, lambda: (R(3, 9, 200), R(3, 9, 200)), 2),
    "swiglu with multipliers": (
        lambda a, b: ops.LigerSiLUMulFunction.apply(a, b, 0.7, 1.5),
        lambda a, b: F.silu(a * 0.7) * b * 1.5,
        lambda: (R(9, 200), R(9, 200)),
        2,
    ),
    "swiglu of one tensor": (
        ops.LigerFusedGateUpSiLUMulFunction.apply,
        lambda y: F.silu(y.chunk(2, -1)[0]) * y.chunk(2, -1)[1],
        lambda: (R(9, 200),),
        1,
    ),
    "geglu": (
        ops.LigerGELUMulFunction.apply,
        lambda a, b: F.gelu(a, approximate="tanh") * b,
        lambda: (R(3, 9, 200), R(3, 9, 200)),
        2,
    ),
    "rope": (
        lambda q, k, cos, sin: ops.LigerRopeFunction.apply(q, k, cos, sin),
        rope,
        lambda: (R(2, 6, 13, 32), R(2, 2, 13, 32), *angles(1, 13, 32)),
        2,
    ),
    "rope, a table for each sequence": (
        lambda q, k, cos, sin: ops.LigerRopeFunction.apply(q, k, cos, sin),
        rope,
        lambda: (R(2, 6, 13, 48), R(2, 3, 13, 48), *angles(2, 13, 48)),
        2,
    ),
    "qwen2vl_mrope": (
        lambda q, k, cos, sin: ops.LigerQwen2VLMRopeFunction.apply(q, k, cos, sin, [4, 6, 6]),
        lambda q, k, cos, sin: rope(q, k, by_sections(cos), by_sections(sin)),
        lambda: (R(2, 4, 13, 32), R(2, 2, 13, 32), *angles(3, 2, 13, 32)),
        2,
    ),
    "llama4_rope": (
        ops.LigerLlama4RopeFunction.apply,
        complex_rope,
        lambda: (R(2, 13, 4, 32), R(2, 13, 2, 32), torch.polar(torch.ones(13, 16), torch.rand(13, 16) * 6)),
        2,
    ),
    "cross_entropy": (
        lambda x, t: first(ops.LigerCrossEntropyFunction.apply(x, t, None)),
        F.cross_entropy,
        lambda: (R(31, 1000), labels(31, 1000)),
        1,
    ),
    "cross_entropy, weighted and smoothed": (
        lambda x, t, w: first(ops.LigerCrossEntropyFunction.apply(x, t, w, -100, 0.0, 0.1, "sum")),
        lambda x, t, w: F.cross_entropy(x, t, w, label_smoothing=0.1, reduction="sum"),
        lambda: (R(31, 100), labels(31, 100), torch.rand(100) + 0.1),
        1,
    ),
    "cross_entropy, capped, with z loss": (
        lambda x, t: ops.LigerCrossEntropyFunction.apply(x, t, None, -100, 1e-3, 0.0, "mean", 20.0, True)[:2],
        lambda x, t: (
            F.cross_entropy(20 * (x / 20).tanh(), t) + z_loss(20 * (x / 20).tanh(), t),
            z_loss(20 * (x / 20).tanh(), t),
        ),
        lambda: (R(31, 100) * 8, labels(31, 100)),
        1,
    ),
    "fused_linear_cross_entropy": (
        lambda x, w, b, t: first(ops.LigerFusedLinearCrossEntropyFunction.apply(x, w, t, b)),
        lambda x, w, b, t: F.cross_entropy(x @ w.T + b, t),
        lambda: (R(40, 30), R(300, 30), R(300), labels(40, 300)),
        3,
    ),
    "fused_linear_scaled_cross_entropy": (
        lambda x, w, t: ops.LigerFusedLinearScaledCrossEntropyFunction.apply(x, w, t, 0.7),
        lambda x, w, t: F.cross_entropy(x @ w.T / 0.7, t, reduction="none"),
        lambda: (R(40, 30), R(300, 30), labels(40, 300)),
        2,
    ),
    "vocab_parallel_cross_entropy": (
        lambda x, t: ops.LigerVocabParallelCEFunction.apply(x, t, None, -100, 0.0, "nemo", "off"),
        lambda x, t: F.cross_entropy(x.flatten(0, 1), t.flatten(), reduction="none").view(t.shape),
        lambda: (R(5, 4, 300), torch.randint(0, 300, (5, 4))),
        1,
    ),
    "kl_div": (
        lambda x, y: ops.LigerKLDivLossFunction.apply(x, y, "batchmean"),
        lambda x, y: F.kl_div(x, y, reduction="batchmean"),
        lambda: (log_probs(9, 500), probs(9, 500)),
        1,
    ),
    "kl_div of logarithms, unreduced": (
        lambda x, y: ops.LigerKLDivLossFunction.apply(x, y, "none", True),
        lambda x, y: F.kl_div(x, y, reduction="none", log_target=True),
        lambda: (log_probs(9, 500), log_probs(9, 500)),
        1,
    ),
    "fused_linear_kl_div": (
        ops.LigerFusedLinearKLDivFunction.apply,
        lambda x, w, y: F.kl_div((x @ w.T).log_softmax(-1), y, reduction="batchmean"),
        lambda: (R(20, 30), R(200, 30), probs(20, 200)),
        2,
    ),
    "jsd": (
        lambda x, y: ops.LigerJSDFunction.apply(x, y, None, 0.3),
        lambda x, y: js_divergence(x, y, 0.3),
        lambda: (log_probs(9, 500), log_probs(9, 500)),
        1,
    ),
    "fused_linear_jsd": (
        lambda x, w, y, v: ops.LigerFusedLinearJSDFunction.apply(x, w, y, v),
        lambda x, w, y, v: js_divergence((x @ w.T).log_softmax(-1), (y @ v.T).log_softmax(-1), 0.5),
        lambda: (R(20, 30), R(200, 30), R(20, 40), R(200, 40)),
        2,
    ),
    "tvd": (
        lambda p, q: ops.LigerTVDLossFunction.apply(p, q, None, "batchmean"),
        lambda p, q: 0.5 * (p - q).abs().sum() / p.shape[0],
        lambda: (probs(9, 500), probs(9, 500)),
        1,
    ),
    "fused_ce_tvd": (
        ops.LigerFusedCETVDFunction.apply,
        smoothed_tvd,
        lambda: (R(9, 500), R(9, 500), labels(9, 500)),
        1,
    ),
    "embedding": (
        ops.LigerEmbeddingFunction.apply,
        lambda table, index: F.embedding(index, table),
        lambda: (R(50, 70), torch.randint(0, 50, (3, 20))),
        1,
    ),
    "attn_res": (
        lambda v, q, n: ops.LigerAttnResFunction.apply(v, q, n, 1e-6),
        attention_residuals,
        lambda: (R(5, 2, 7, 48), R(48), R(48)),
        3,
    ),
    "fused_neighborhood_attention": (
        ops.LigerFusedNeighborhoodAttentionFunction.apply,
        neighbourhood,
        lambda: (R(1, 2, 40, 32), R(1, 2, 40, 32), R(1, 2, 40, 32)),
        3,
    ),
    "multi_token_attention": (
        lambda s, w, b: ops.LigerMultiTokenAttentionFunction.apply(s, w, b, 1, 1),
        token_attention,
        lambda: (R(2, 3, 20, 20), R(3, 3, 3, 3), R(3)),
        3,
    ),
    "fused_moe": (
        ops.LigerFusedMoEFunction.apply,
        experts,
        lambda: (
            R(13, 64), R(4, 96, 64) / 8, R(4, 64, 48) / 8,
            torch.stack([torch.randperm(4)[:2] for _ in range(13)]).int(), torch.rand(13, 2),
        ),
        3,
    ),
    "mhc, coefficients": (
        lambda *tensors: ops.LigerMHCCoeffsFunction.apply(*tensors, True, 10, 1e-6, 1e-6, 1e-6, 2.0),
        hyper_connections,
        lambda: (R(3, 5, 4, 64), R(256, 24) / 16, R(24), R(), R(), R()),
        6,
    ),
    "mhc, before the layer": (
        ops.LigerMHCPreFunction.apply,
        lambda x, h: (x * h[..., None]).sum(-2),
        lambda: (R(3, 5, 4, 64), R(3, 5, 4)),
        2,
    ),
    "mhc, after the layer": (
        ops.LigerMHCPostResFunction.apply,
        lambda x, f, h, m: m @ x + h[..., None] * f[..., None, :],
        lambda: (R(3, 5, 4, 64), R(3, 5, 64), R(3, 5, 4), R(3, 5, 4, 4)),
        4,
    ),
}  # fmt: skip


def z_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    kept = target != -100
    return 1e-3 * logits[kept].logsumexp(-1).square().mean()


def compare(case: Case, tolerance: float, dtype: torch.dtype = torch.float32) -> None:
    function, reference, make, count = case
    values = [v.to(dtype) if v.dtype == torch.float32 else v for v in make()]
    inputs = [v.to("gxu").requires_grad_(i < count) for i, v in enumerate(values)]
    wide = {torch.complex64: torch.complex128}
    exact = [
        v.to(wide.get(v.dtype, torch.float64 if v.is_floating_point() else v.dtype)).requires_grad_(i < count)
        for i, v in enumerate(values)
    ]
    # Some functions overwrite their inputs, as they may: these are leaves, so they get copies.
    outputs = function(*[v.clone() if v.requires_grad else v for v in inputs])
    wanted = reference(*exact)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    upstream = [torch.randn(w.shape).to(dtype) for w in wanted[: len(outputs)]]
    for output, value in zip(outputs, wanted, strict=True):
        assert output.device.type == "gxu"
        close(output, value, tolerance)
    differentiable = [i for i, output in enumerate(outputs) if output.requires_grad]
    # Liger leaves the terms of a loss to its first output.
    scalars = len(outputs) > 1 and outputs[0].dim() == 0
    used = differentiable[:1] if scalars else differentiable
    torch.autograd.backward([outputs[i] for i in used], [upstream[i].to("gxu").to(outputs[i].dtype) for i in used])
    torch.autograd.backward([wanted[i] for i in used], [upstream[i].to(torch.float64) for i in used])
    for number in range(count):
        assert inputs[number].grad is not None, f"input {number}"
        close(inputs[number].grad, exact[number].grad, tolerance)


def close(actual: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    size = max(1.0, expected.abs().max().item())
    torch.testing.assert_close(
        actual.detach().cpu().to(expected.dtype), expected.detach(), rtol=tolerance, atol=tolerance * size
    )


@pytest.mark.parametrize("name", CASES)
def test_operation(name):
    compare(CASES[name], 2e-5)


@pytest.mark.parametrize("name", ["rms_norm", "layer_norm", "swiglu", "geglu", "rope", "cross_entropy", "softmax"])
def test_bfloat16(name):
    compare(CASES[name], 4e-2, torch.bfloat16)
