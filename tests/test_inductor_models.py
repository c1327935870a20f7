"""Whole models compile in one graph, forward and backward, and run Triton kernels."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from inductor_helpers import assert_close, launches_of
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch._inductor.utils import run_and_get_code


@pytest.fixture(autouse=True)
def one_graph() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    assert not counters["graph_break"]


def mlp(device: str, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        layers = nn.Sequential(nn.Linear(512, 1024), nn.ReLU(), nn.Linear(1024, 512), nn.ReLU(), nn.Linear(512, 10))
    return layers.to(device, dtype)


def test_mlp_forward_and_backward() -> None:
    x = torch.randn(64, 512)
    reference, model = mlp("cpu", torch.float64), mlp("gxu")
    compiled = torch.compile(model, fullgraph=True)

    expected = reference(x.double())
    expected.square().mean().backward()
    out, forward_launches = launches_of(lambda: compiled(x.to("gxu")))
    _, backward_launches = launches_of(lambda: out.square().mean().backward())
    assert forward_launches == 2  # each ReLU with its bias; products are the library's
    assert backward_launches >= 2
    assert (out.cpu() - expected).abs().max() < 1e-4
    for parameter, wanted in zip(model.parameters(), reference.parameters(), strict=True):
        assert (parameter.grad.cpu() - wanted.grad).abs().max() < 1e-4


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_training_step(optimizer: type[torch.optim.Optimizer]) -> None:
    """Three steps with a compiled model and a compiled optimiser follow the CPU."""
    x, y = torch.randn(64, 512), torch.randint(0, 10, (64,))
    losses = {}
    for device in ("cpu", "gxu"):
        model = mlp(device)
        step = optimizer(model.parameters(), lr=1e-2)
        loss_of = model
        update = step.step
        if device == "gxu":
            loss_of = torch.compile(model, fullgraph=True)
            update = torch.compile(step.step)
        losses[device] = []
        for _ in range(3):
            step.zero_grad()
            loss = F.cross_entropy(loss_of(x.to(device)), y.to(device))
            loss.backward()
            _, launches = launches_of(update) if device == "gxu" else (update(), 1)
            assert launches > 0
            losses[device].append(loss.item())
    torch.testing.assert_close(losses["gxu"], losses["cpu"], rtol=1e-4, atol=1e-4)
    counters["graph_break"].clear()  # an optimiser's step breaks on any device


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, tokens, 3, 4, width // 4).permute(2, 0, 3, 1, 4)
        attention = (q @ k.transpose(-2, -1) / (width // 4) ** 0.5).softmax(-1) @ v
        x = x + self.out(attention.transpose(1, 2).reshape(batch, tokens, width))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_transformer_block(dtype: torch.dtype) -> None:
    torch.manual_seed(2)
    block = Block()
    x = torch.randn(3, 33, 64)
    expected = block.double()(x.double())
    expected.sum().backward()
    gradients = [p.grad for p in block.parameters()]

    model = Block()
    model.load_state_dict(block.state_dict())
    model = model.to("gxu", dtype)
    out = torch.compile(model, fullgraph=True)(x.to("gxu", dtype))
    assert_close(out, expected.detach())
    out.sum().backward()
    for parameter, wanted in zip(model.parameters(), gradients, strict=True):
        scale = wanted.abs().max().clamp(min=1)
        tolerance = 1e-4 if dtype == torch.float32 else 5e-2
        assert (parameter.grad.cpu().double() - wanted).abs().max() < tolerance * scale


def test_dynamic_batch() -> None:
    """One compilation serves every batch size, also sizes that fill blocks only in part."""
    model = mlp("gxu")
    reference = mlp("cpu")
    compiled = torch.compile(model, fullgraph=True, dynamic=True)
    for rows in (64, 3, 100, 1000, 2):
        x = torch.randn(rows, 512)
        assert (compiled(x.to("gxu")).cpu() - reference(x)).abs().max() < 1e-4
    assert counters["stats"]["unique_graphs"] == 1


def test_dynamic_reduction() -> None:
    compiled = torch.compile(lambda x: (x.softmax(-1), x.sum(0), x.sum()), fullgraph=True, dynamic=True)
    for shape in ((33, 65), (7, 4097), (1000, 3), (5, 100_000)):
        x = torch.randn(shape)
        assert_close(compiled(x.to("gxu")), (x.double().softmax(-1), x.double().sum(0), x.double().sum()))
    assert counters["stats"]["unique_graphs"] == 1


def test_inference_with_freezing() -> None:
    model, reference = mlp("gxu").eval(), mlp("cpu").eval()
    x = torch.randn(16, 512)
    with torch.no_grad(), torch._inductor.config.patch(freezing=True):
        out = torch.compile(model, fullgraph=True)(x.to("gxu"))
    assert (out.cpu() - reference(x)).abs().max() < 1e-4


def test_autocast() -> None:
    model, reference = mlp("gxu"), mlp("cpu")
    x = torch.randn(16, 512)
    compiled = torch.compile(model, fullgraph=True)
    with torch.autocast("gxu", torch.bfloat16):
        out = compiled(x.to("gxu"))
    assert out.dtype == torch.bfloat16
    assert (out.cpu().float() - reference(x)).abs().max() < 2e-2


def test_generated_code() -> None:
    """The wrapper guards the device and allocates quickly; every kernel has one warp and gxu's heuristics."""
    x = torch.randn(100, 384, device="gxu")
    _, (code,) = run_and_get_code(torch.compile(lambda x: (x.softmax(-1) + 1).t().contiguous()), x)
    assert "device_before0 = exchange_device(0)" in code and "exchange_device(device_before0)" in code
    assert "empty_strided_gxu((" in code
    assert " = empty_strided(" not in code
    assert "from gxu._C import get_raw_stream as get_raw_stream" in code
    assert code.count("from gxu.inductor import heuristics as triton_heuristics") == code.count("@triton.jit")
    assert "tt.divisibility" in code


def test_kernels_have_one_configuration_with_one_warp() -> None:
    from gxu.inductor.autotuner import GXUCachingAutotuner

    configurations = []
    original = GXUCachingAutotuner.precompile

    def record(self: GXUCachingAutotuner, *args: object, **kwargs: object) -> None:
        original(self, *args, **kwargs)
        configurations.extend(launcher.config for launcher in self.launchers)

    GXUCachingAutotuner.precompile = record  # type: ignore[method-assign, assignment]
    try:
        x = torch.randn(123, 457, device="gxu")
        torch.compile(lambda x: (x.sum(0), x.softmax(-1), torch.sin(x)))(x)
    finally:
        GXUCachingAutotuner.precompile = original  # type: ignore[method-assign]
    assert configurations
    assert all(config.num_warps == 1 and config.num_stages == 1 for config in configurations)


def test_streams() -> None:
    """Compiled code runs on the stream that is current when it is called."""
    compiled = torch.compile(lambda x: torch.sin(x) * 2, fullgraph=True)
    x = torch.randn(1 << 16, device="gxu")
    compiled(x)
    stream = torch.gxu.Stream()
    event = torch.gxu.Event()
    with torch.gxu.stream(stream):
        out = compiled(x)
        event.record()
    event.synchronize()
    torch.testing.assert_close(out.cpu(), torch.sin(x.cpu()) * 2)


def test_cpu_and_gxu_in_one_graph() -> None:
    def fn(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        moved = torch.sin(x).to("gxu")
        return moved + y, (y * 2).cpu() + 1

    x, y = torch.randn(33), torch.randn(33)
    on_gxu, on_cpu = torch.compile(fn, fullgraph=True)(x, y.to("gxu"))
    assert on_gxu.device.type == "gxu"
    assert on_cpu.device.type == "cpu"
    torch.testing.assert_close(on_gxu.cpu(), torch.sin(x) + y)
    torch.testing.assert_close(on_cpu, y * 2 + 1)


def test_fx_wrapper() -> None:
    x = torch.randn(1000, device="gxu")
    with torch._inductor.config.patch(fx_wrapper=True, compile_threads=1):
        out = torch.compile(lambda x: torch.relu(x) + 1)(x)
    torch.testing.assert_close(out.cpu(), torch.relu(x.cpu()) + 1)
