"""liger-kernel's kernels whose Python wrappers ask for a GPU of a known kind, launched from here; and a whole model."""

from __future__ import annotations

import copy
import os

import pytest
import torch
import torch.nn.functional as F
import triton

os.environ.setdefault("LIGER_FUSED_MOE_AUTOTUNE", "0")
ops = pytest.importorskip("liger_kernel.ops", reason="liger-kernel is not installed: make .venv/.dev")


def close(actual: torch.Tensor, expected: torch.Tensor, tolerance: float = 2e-5) -> None:
    size = max(1.0, expected.abs().max().item())
    torch.testing.assert_close(
        actual.detach().cpu().to(expected.dtype), expected.detach(), rtol=tolerance, atol=tolerance * size
    )


def few(monkeypatch: pytest.MonkeyPatch, *kernels: triton.runtime.Autotuner) -> None:
    """Two configurations of each list: autotuning as such has tests of its own."""
    for kernel in kernels:
        monkeypatch.setattr(kernel, "configs", kernel.configs[:2])


def test_dynamic_tanh(monkeypatch):
    """y = gamma * tanh(alpha * x) + beta. The backward wrapper wants the number of a known GPU's units."""
    from liger_kernel.ops.dyt import _dyt_bwd_kernel, _dyt_fwd_kernel, liger_dyt_fwd

    few(monkeypatch, _dyt_bwd_kernel, _dyt_fwd_kernel)
    rows, columns, programs = 57, 1100, 3
    values = torch.randn(rows, columns), torch.randn(1), torch.randn(columns), torch.randn(columns)
    dy = torch.randn(rows, columns)
    exact = [v.double().requires_grad_() for v in values]
    expected = exact[2] * torch.tanh(exact[1] * exact[0]) + exact[3]
    expected.backward(dy.double())

    x, alpha, gamma, beta = (v.to("gxu") for v in values)
    close(liger_dyt_fwd(x, alpha, gamma, beta), expected)
    dx = torch.full_like(x, float("nan"))
    d_alpha = torch.zeros(programs, triton.cdiv(columns, 512), device="gxu")
    d_gamma, d_beta = torch.full((2, programs, columns), float("nan"), device="gxu").unbind()
    _dyt_bwd_kernel[lambda meta: (triton.cdiv(columns, meta["BLOCK_N"]), programs)](
        dy.to("gxu"), dx, d_alpha, d_gamma, d_beta, x, alpha, gamma, True, rows, columns
    )
    for got, reference in zip((dx, d_alpha.sum()[None], d_gamma.sum(0), d_beta.sum(0)), exact, strict=True):
        close(got, reference.grad)


def test_mlp(monkeypatch):
    """A gated MLP by host-made descriptors of views of one tensor. The autograd function asserts a CUDA tensor."""
    from liger_kernel.ops import mlp

    few(monkeypatch, mlp._swiglu_kernel_forward, mlp._swiglu_kernel_backward_dI)
    batch, length, dim, hidden = 2, 50, 64, 96
    values = [torch.randn(shape) / 4 for shape in ((batch, length, dim), (hidden, dim), (hidden, dim), (dim, hidden))]
    x, gate, up, down = (v.double().requires_grad_() for v in values)
    g, u = x @ gate.T, x @ up.T
    g.retain_grad()
    u.retain_grad()
    activated = F.silu(g) * u
    dout = torch.randn(batch, length, dim)
    (activated @ down.T).backward(dout.double())

    on_device = [v.to("gxu") for v in values]
    agu, config = mlp.gemm_swiglu(*on_device[:3], 1.0)
    close(agu[..., :hidden], activated)
    close(agu[..., hidden : 2 * hidden], g)
    mlp.swiglu_backward_dGU(dout.to("gxu"), on_device[3], agu, config, 1.0, 1.0)
    close(agu[..., hidden : 2 * hidden], g.grad)
    close(agu[..., 2 * hidden :], u.grad)
    close(mlp.swiglu_backward_dI(on_device[1], on_device[2], agu), x.grad)


def test_matmul_of_two_bit_weights(monkeypatch):
    from liger_kernel.ops.experimental import mm_int8int2

    configs = [c for c in mm_int8int2.matmul_kernel.configs if c.kwargs["BLOCK_SIZE_K"] == 32]
    monkeypatch.setattr(mm_int8int2.matmul_kernel, "configs", configs[:2])
    a = torch.randint(-128, 128, (60, 256), dtype=torch.int8)
    weights = torch.randint(-1, 2, (256, 70), dtype=torch.int8)
    packed = mm_int8int2.pack_weights(weights.clone(), 2)
    result = mm_int8int2.matmul(a.to("gxu"), packed.to("gxu"))
    assert torch.equal(result.cpu(), (a.long() @ weights.long()).int())


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_grpo_loss(level):
    """The clipped objective of group-relative policy optimisation, with a penalty for leaving a reference model."""
    batch, length, vocabulary = 3, 17, 300
    logits = torch.randn(batch, length + 1, vocabulary)
    ids = torch.randint(0, vocabulary, (batch, length))
    advantages = torch.randn(batch)
    mask = (torch.rand(batch, length) > 0.2).int()

    x = logits.double().requires_grad_()
    logp = (x[:, :-1] / 0.9).log_softmax(-1).gather(-1, ids[..., None])[..., 0]
    old = (logp.detach() + 0.3 * torch.randn(batch, length)).float()
    reference = (logp.detach() + 0.3 * torch.randn(batch, length)).float()
    log_ratio = logp - old.double()
    if level == "sequence":
        log_ratio = ((log_ratio * mask).sum(-1) / mask.sum(-1))[:, None]
    ratio = log_ratio.exp()
    away = reference.double() - logp
    gain = torch.minimum(ratio * advantages[:, None], ratio.clamp(0.8, 1.2) * advantages[:, None])
    per_token = -gain + 0.04 * (away.exp() - away - 1)
    expected = ((per_token * mask).sum(-1) / mask.sum(-1)).mean()
    expected.backward()

    inputs = logits.to("gxu").requires_grad_()
    rest = (old, reference, ids, advantages, mask)
    loss, kl, _ = ops.GrpoLossFunction.apply(
        inputs, *(t.to("gxu") for t in rest), 0.9, 0.04, 0.2, 0.2, False, "grpo", None, True, level
    )
    close(loss, expected)
    close(kl, ((away.exp() - away - 1) * mask).sum() / mask.sum())
    loss.backward()
    close(inputs.grad, x.grad)


def test_tiled_mlp():
    torch.manual_seed(1)
    module = torch.nn.Sequential(torch.nn.Linear(20, 60), torch.nn.GELU(), torch.nn.Linear(60, 20))
    exact = copy.deepcopy(module).double()
    x = torch.randn(2, 33, 20)
    wide = x.double().requires_grad_()
    exact(wide).sum().backward()
    module = module.to("gxu")
    narrow = x.to("gxu").requires_grad_()
    parameters = list(module.parameters())
    out = ops.apply_tiled_mlp(lambda part, shard: part(shard), module, narrow, 4, parameters)
    close(out, exact(x.double()))
    out.sum().backward()
    close(narrow.grad, wide.grad)
    for got, reference in zip(parameters, exact.parameters(), strict=True):
        close(got.grad, reference.grad)


def test_llama(monkeypatch):
    """A model of transformers with Liger's rope, norms, MLP and fused loss: loss and gradients of every parameter."""
    transformers = pytest.importorskip("transformers")
    from liger_kernel.transformers import apply_liger_kernel_to_llama
    from transformers.models.llama import modeling_llama

    # Liger replaces functions of the module: they come back after the test.
    monkeypatch.setattr(modeling_llama, "apply_rotary_pos_emb", modeling_llama.apply_rotary_pos_emb)
    for name in ("LlamaRMSNorm", "LlamaMLP"):
        monkeypatch.setattr(modeling_llama, name, getattr(modeling_llama, name))
    config = transformers.LlamaConfig(
        vocab_size=200, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64,
    )  # fmt: skip
    plain = transformers.LlamaForCausalLM(config).train()
    ids = torch.randint(0, 200, (2, 31))
    model = copy.deepcopy(plain).to("gxu")
    expected = plain.double()(input_ids=ids, labels=ids).loss
    expected.backward()

    apply_liger_kernel_to_llama(model=model)
    loss = model(input_ids=ids.to("gxu"), labels=ids.to("gxu")).loss
    close(loss, expected)
    loss.backward()
    for (name, got), reference in zip(model.named_parameters(), plain.parameters(), strict=True):
        assert got.grad is not None, name
        close(got.grad, reference.grad)
