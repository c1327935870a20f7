"""mode="reduce-overhead": captured graphs, their addresses, and what runs without one."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch._inductor import config
from torch.utils import _pytree as pytree

from gxu import _C
from gxu.inductor import captured
from gxu.inductor import config as gxu_config


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    torch.manual_seed(11)
    yield
    torch._dynamo.reset()


class Counted:
    """How many graphs were captured and replayed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.captures = self.replays = 0
        create, replay = captured._Recording.__init__, captured._Recording.replay

        def counted_create(recording: Any, *args: Any) -> None:
            create(recording, *args)
            self.captures += 1

        def counted_replay(recording: Any, inputs: list[Any]) -> Any:
            self.replays += 1
            return replay(recording, inputs)

        monkeypatch.setattr(captured._Recording, "__init__", counted_create)
        monkeypatch.setattr(captured._Recording, "replay", counted_replay)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


def on_cpu(tree: Any) -> Any:
    return pytree.tree_map_only(torch.Tensor, lambda tensor: tensor.detach().cpu(), tree)


def skips() -> int:
    return int(counters["inductor"]["cudagraph_skips"])


@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (lambda x, y: (x.sin() + y, (x @ y).sum()), [(9, 9), (9, 9)]),
        (lambda x, y: (lambda z: (z, z.t(), z[1:], z))(x * y), [(5, 5), (5, 5)]),
        (lambda x: (x.t(), x + 1), [(4, 6)]),
        (lambda x: (x.sum(0), x * 2), [(0, 3)]),
        (lambda x: torch.topk(x, 2), [(6, 5)]),
    ],
)
def test_results_of_all_calls_stay(
    function: Callable[..., Any], shapes: list[tuple[int, int]], counted: Counted
) -> None:
    compiled = torch.compile(function, mode="reduce-overhead")
    results, expected = [], []
    for _ in range(5):
        inputs = [torch.randn(shape) for shape in shapes]
        results.append(compiled(*(x.to("gxu") for x in inputs)))
        expected.append(function(*inputs))
    torch.testing.assert_close(on_cpu(results), expected, rtol=1e-4, atol=1e-5)
    assert (counted.captures, counted.replays) == (1, 4)
    assert skips() == 0


def test_results_that_are_dropped_share_memory() -> None:
    compiled = torch.compile(lambda x: x + 1, mode="reduce-overhead")
    x = torch.randn(300, device="gxu")
    compiled(x)
    addresses = {compiled(x).data_ptr() for _ in range(4)}
    assert len(addresses) == 1
    kept = compiled(x)
    kept.mul_(3)  # what is done to a result is seen by nobody else
    assert kept.data_ptr() in addresses
    other = compiled(x)
    torch.testing.assert_close(kept.cpu(), (x.cpu() + 1) * 3)
    torch.testing.assert_close(other.cpu(), x.cpu() + 1)


def test_results_as_inputs() -> None:
    def step(state: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(state * 0.9 + x)

    compiled = torch.compile(step, mode="reduce-overhead")
    state = torch.zeros(17)
    on_device = state.to("gxu")
    states, on_devices = [], []
    for _ in range(9):
        x = torch.randn(17)
        state, on_device = step(state, x), compiled(on_device, x.to("gxu"))
        states.append(state)
        on_devices.append(on_device)
    torch.testing.assert_close(on_cpu(on_devices), states)


def test_training(counted: Counted) -> None:
    model = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.LayerNorm(32), nn.Linear(32, 4))
    on_device = copy.deepcopy(model).to("gxu")
    compiled = torch.compile(on_device, mode="reduce-overhead")
    optimizers = [torch.optim.AdamW(module.parameters(), lr=1e-2) for module in (model, on_device)]
    losses: list[tuple[Tensor, Tensor]] = []
    for step in range(6):
        x = torch.randn(8, 16)
        losses.append((model(x).square().mean(), compiled(x.to("gxu")).square().mean()))
        for loss, optimizer in zip(losses[-1], optimizers, strict=True):
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad(set_to_none=step % 2 == 0)
    for loss, on_gxu in losses:
        torch.testing.assert_close(on_gxu.detach().cpu(), loss.detach(), rtol=1e-3, atol=1e-5)
    # Forward and backward, of which the first call of each only warms up.
    assert (counted.captures, counted.replays) == (2, 10)


def test_backward_passes_in_another_order() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))
    on_device = copy.deepcopy(model).to("gxu")
    compiled = torch.compile(on_device, mode="reduce-overhead")
    for _ in range(4):
        x, y = torch.randn(3, 8), torch.randn(3, 8)
        for module, device in ((model, "cpu"), (compiled, "gxu")):
            first, second = module(x.to(device)).sum(), module(y.to(device)).cos().sum()
            first.backward()
            second.backward()
    for parameter, expected in zip(on_device.parameters(), model.parameters(), strict=True):
        assert parameter.grad is not None
        assert expected.grad is not None
        torch.testing.assert_close(parameter.grad.cpu(), expected.grad, rtol=1e-4, atol=1e-4)


def test_layers_that_share_code(counted: Counted) -> None:
    layers = [nn.Linear(12, 12).to("gxu") for _ in range(3)]
    compiled = torch.compile(lambda layer, x: layer(x).relu(), mode="reduce-overhead")
    with torch.no_grad():
        for _ in range(5):
            x = expected = torch.randn(2, 12, device="gxu")
            for layer in layers:
                x, expected = compiled(layer, x), layer(expected).relu()
            torch.testing.assert_close(x.cpu(), expected.cpu())
    captures = counted.captures
    assert len(layers) <= captures <= len(layers) * gxu_config.max_graph_variants
    assert counted.replays == 5 * len(layers) - 1


def test_dynamic_shapes(counted: Counted) -> None:
    compiled = torch.compile(lambda x: x.softmax(0) * 2, mode="reduce-overhead", dynamic=True)
    for rows in (5, 6, 7, 5, 6, 7, 5):
        x = torch.randn(rows, 3)
        torch.testing.assert_close(compiled(x.to("gxu")).cpu(), x.softmax(0) * 2)
    assert (counted.captures, counted.replays) == (3, 4)


def test_random_numbers_go_on() -> None:
    compiled = torch.compile(lambda x: torch.rand_like(x), mode="reduce-overhead")
    x = torch.empty(64, device="gxu")
    runs = []
    for _ in range(3):
        torch.manual_seed(5)
        runs.append([compiled(x).cpu() for _ in range(3)])
    torch.testing.assert_close(runs[1], runs[2], rtol=0, atol=0)
    assert not torch.equal(runs[1][0], runs[1][1])


def test_what_changes_its_input_runs_without_a_graph(counted: Counted) -> None:
    def function(x: Tensor) -> Tensor:
        x.add_(1)
        return x * 2

    compiled = torch.compile(function, mode="reduce-overhead")
    for _ in range(3):
        x = torch.randn(5)
        on_device = x.to("gxu")
        torch.testing.assert_close(compiled(on_device).cpu(), function(x))
        torch.testing.assert_close(on_device.cpu(), x)
    assert counted.captures == 0
    assert skips() == 1


def test_buffers_may_change(counted: Counted) -> None:
    model = nn.BatchNorm1d(4)
    on_device = copy.deepcopy(model).to("gxu")
    compiled = torch.compile(on_device, mode="reduce-overhead")
    with torch.no_grad():
        for _ in range(4):
            x = torch.randn(6, 4)
            torch.testing.assert_close(compiled(x.to("gxu")).cpu(), model(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(on_cpu(dict(on_device.named_buffers())), dict(model.named_buffers()))
    assert counted.replays == 3


def test_work_that_cannot_be_captured(counted: Counted) -> None:
    @torch.library.custom_op("gxu_reduce_overhead::through_the_cpu", mutates_args=())
    def through_the_cpu(x: Tensor) -> Tensor:
        return x.cpu().sin().to(x.device)

    @through_the_cpu.register_fake
    def like_its_input(x: Tensor) -> Tensor:
        return torch.empty_like(x)

    def function(x: Tensor) -> Tensor:
        return through_the_cpu(x + 1) * 2

    compiled = torch.compile(function, mode="reduce-overhead")
    for _ in range(3):
        x = torch.randn(5)
        torch.testing.assert_close(compiled(x.to("gxu")).cpu(), (x + 1).sin() * 2)
    assert counted.captures == 0
    assert skips() == 1
    torch._dynamo.reset()
    compiled = torch.compile(function, mode="reduce-overhead")
    with config.patch({"triton.cudagraph_or_error": True}):
        compiled(torch.randn(5, device="gxu"))
        with pytest.raises(RuntimeError, match="cannot be captured"):
            compiled(torch.randn(5, device="gxu"))


def test_too_many_recordings(counted: Counted) -> None:
    compiled = torch.compile(lambda layer, x: layer(x), mode="reduce-overhead")
    with config.patch({"triton.cudagraph_unexpected_rerecord_limit": 2}), torch.no_grad():
        for _ in range(6):
            layer, x = nn.Linear(3, 3).to("gxu"), torch.randn(2, 3, device="gxu")
            torch.testing.assert_close(compiled(layer, x).cpu(), layer(x).cpu())
    assert skips() == 1
    assert counted.captures == 3


def test_scalars_of_the_cpu_are_moved_where_graphs_are_cut(counted: Counted) -> None:
    """A scalar tensor on the CPU, as an argument or made in the graph, does not keep its kernels out of the capture."""

    def function(x: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        return x * scale + 1, torch.tensor(3.0) * x

    compiled = torch.compile(function, mode="reduce-overhead")
    x = torch.randn(9)
    with config.patch(graph_partition=True):
        for value in (2.0, -1.0, 0.5, 7.0):
            scale = torch.tensor(value)
            torch.testing.assert_close(on_cpu(compiled(x.to("gxu"), scale)), function(x, scale))
    assert skips() == 0 and counted.captures == 1 and counted.replays == 3


def test_memory_goes_with_the_compiled_code() -> None:
    compiled = torch.compile(lambda x: x.sin() + 1, mode="reduce-overhead")
    x = torch.randn(1000, device="gxu")
    for _ in range(3):
        result = compiled(x)
    expected = x.cpu().sin() + 1
    del compiled
    torch._dynamo.reset()
    gc.collect()
    assert not captured._device(0).results
    others = [torch.randn(1000, device="gxu") for _ in range(8)]  # nothing takes the memory of a result in use
    torch.testing.assert_close(result.cpu(), expected)
    assert len(others) == 8


def test_eager_operators_in_graphs(counted: Counted) -> None:
    """The backend "cudagraphs", which captures operators as they are."""
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2))
    on_device = copy.deepcopy(model).to("gxu")
    compiled = torch.compile(on_device, backend="cudagraphs")
    for _ in range(4):
        x = torch.randn(3, 6)
        loss, on_gxu = model(x).square().sum(), compiled(x.to("gxu")).square().sum()
        loss.backward()
        on_gxu.backward()
        torch.testing.assert_close(on_gxu.detach().cpu(), loss.detach(), rtol=1e-4, atol=1e-5)
    gradients = [parameter.grad for parameter in on_device.parameters()]
    torch.testing.assert_close(on_cpu(gradients), [parameter.grad for parameter in model.parameters()])
    assert (counted.captures, counted.replays) == (2, 6)

    to_the_cpu = torch.compile(lambda x: x.cpu() + 1, backend="cudagraphs")
    x = torch.randn(5)
    torch.testing.assert_close(to_the_cpu(x.to("gxu")), x + 1)
    assert skips() == 1


def test_results_in_use_move_out() -> None:
    base = torch.arange(6.0, device="gxu")
    outputs = _C.GraphOutputs([base[:4], base[2:]])
    address = base.data_ptr()
    del base
    assert outputs.move_out_living() == 0
    first, second = outputs.tensors()
    assert first.data_ptr() == address
    assert outputs.move_out_living() == 1
    assert first.data_ptr() != address
    assert second.data_ptr() == first.data_ptr() + 8
    torch.testing.assert_close(second.cpu(), torch.arange(2.0, 6.0))
    assert outputs.tensors()[0].data_ptr() == address
