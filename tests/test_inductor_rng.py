"""Random numbers in compiled code on gxu."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._prims.rng_prims import run_and_save_rng_state, run_with_rng_state
from torch.utils.checkpoint import checkpoint


def test_dropout_forward_and_backward() -> None:
    torch._dynamo.reset()
    x = torch.ones(100, 1000, device="gxu", requires_grad=True)
    compiled = torch.compile(lambda x: F.dropout(x, 0.25), fullgraph=True)
    out = compiled(x)
    kept = (out != 0).float().mean().item()
    assert abs(kept - 0.75) < 0.01
    torch.testing.assert_close(out[out != 0].unique().cpu(), torch.tensor([1 / 0.75]))
    out.sum().backward()
    # The gradient has the mask of the output.
    torch.testing.assert_close(x.grad.cpu(), out.detach().cpu())
    assert not torch.equal(compiled(x), out)


def test_the_seed_decides() -> None:
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: (torch.rand_like(x), torch.randn_like(x), F.dropout(x, 0.5)), fullgraph=True)
    x = torch.ones(10_000, device="gxu")
    compiled(x)
    torch.manual_seed(7)
    first = compiled(x)
    second = compiled(x)
    torch.manual_seed(7)
    again = compiled(x)
    for a, b, c in zip(first, second, again, strict=True):
        assert torch.equal(a, c)
        assert not torch.equal(a, b)
    uniform, normal, _ = first
    assert 0 <= uniform.min() <= uniform.max() < 1
    assert abs(uniform.mean().item() - 0.5) < 0.02
    assert abs(normal.mean().item()) < 0.05
    assert abs(normal.std().item() - 1) < 0.05


def test_random_integers() -> None:
    torch._dynamo.reset()
    out = torch.compile(lambda x: torch.randint(3, 9, x.shape, device=x.device), fullgraph=True)(
        torch.empty(1000, device="gxu")
    )
    assert sorted(out.unique().tolist()) == [3, 4, 5, 6, 7, 8]


def test_state_is_saved_and_replayed() -> None:
    x = torch.ones(1000, device="gxu")
    op = torch.ops.aten.bernoulli.p
    state, first = run_and_save_rng_state(op, x, 0.5)
    unrelated = op(x, 0.5)
    before = torch.gxu.get_rng_state()
    replayed = run_with_rng_state(state, op, x, 0.5)
    assert torch.equal(first, replayed)
    assert not torch.equal(first, unrelated)
    # Replaying leaves the generator where it was.
    assert torch.equal(before, torch.gxu.get_rng_state())


def test_tracing_keeps_the_state_operators() -> None:
    from torch.fx.experimental.proxy_tensor import make_fx

    def fn(x: Tensor) -> Tensor:
        state, out = run_and_save_rng_state(torch.ops.aten.bernoulli.p, x, 0.5)
        return out - run_with_rng_state(state, torch.ops.aten.bernoulli.p, x, 0.5)

    x = torch.ones(1000, device="gxu")
    graph = make_fx(fn)(x)
    targets = [node.target for node in graph.graph.nodes]
    assert run_and_save_rng_state in targets
    assert run_with_rng_state in targets
    assert graph(x).abs().max() == 0


def test_checkpoint_replays_dropout() -> None:
    torch._dynamo.reset()
    torch.manual_seed(3)
    layer = nn.Linear(64, 64).to("gxu")
    x = torch.randn(32, 64, device="gxu", requires_grad=True)

    def block(x: Tensor) -> Tensor:
        return F.dropout(torch.relu(layer(x)), 0.5)

    def fn(x: Tensor) -> Tensor:
        return checkpoint(block, x, use_reentrant=False)

    out = torch.compile(fn, fullgraph=True)(x)
    out.sum().backward()
    # relu(layer(x)) is scaled by the mask: its gradient vanishes exactly where the output does.
    mask = (out != 0).float() * 2
    expected = mask @ layer.weight
    torch.testing.assert_close(x.grad.cpu(), expected.detach().cpu(), rtol=1e-4, atol=1e-4)
