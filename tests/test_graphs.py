"""Graphs: capture and replay of kernels and operators, their memory, their random numbers, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from process_helpers import RunPython
from torch import Tensor, nn


def capture(function: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[torch.gxu.Graph, Any]:
    """The graph of function(*args) and the tensors that its replays write."""
    graph = torch.gxu.Graph()
    with torch.gxu.graph(graph, **kwargs):
        out = function(*args)
    return graph, out


def test_nothing_runs_before_the_replay() -> None:
    x = torch.zeros(1000, device="gxu")
    graph, y = capture(lambda: x.add_(1) * 2)
    torch.gxu.synchronize()
    assert (x == 0).all()
    for step in range(1, 4):
        graph.replay()
        assert (x == step).all() and (y == 2 * step).all()


def test_operators_of_all_kinds() -> None:
    weight = torch.randn(30, 20, device="gxu")
    x = torch.randn(17, 20, device="gxu")
    image = torch.randn(2, 3, 9, 11, device="gxu")
    kernel = torch.randn(4, 3, 3, 3, device="gxu")
    index = torch.tensor([3, 1, 2], device="gxu")
    out = torch.empty(0, device="gxu")

    def function() -> list[Tensor]:
        h = F.gelu(x @ weight.t()).to(torch.bfloat16).float()
        values, indices = h.topk(3, dim=1)
        torch.sum(h, 0, out=out)
        parts = torch.split(F.layer_norm(h, (30,)), [10, 20], dim=1)
        return [
            h,
            values,
            indices,
            h.t()[index].softmax(-1),
            out,
            torch.cat([part.sum(1) for part in parts]),
            F.conv2d(image, kernel, padding=1).relu_(),
            h.view(-1)[::7].clone(),
            F.scaled_dot_product_attention(x[None, None], x[None, None], x[None, None]),
            torch.where(h > 0, h, 2.0),
            torch.full((3,), 2.5, device="gxu") + torch.tensor(1.5),
        ]

    graph, results = capture(function)
    for _ in range(2):
        for tensor in (weight, x, image, kernel):
            tensor.normal_()
        graph.replay()
        replayed = [result.cpu() for result in results]
        for a, b in zip(replayed, [result.cpu() for result in function()], strict=True):
            torch.testing.assert_close(a, b)


def test_compiled_kernels() -> None:
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: torch.relu(x * 3 - 1).sum(0))
    x = torch.randn(50, 70, device="gxu")
    compiled(x)
    launches = torch.gxu._C.launch_count()
    graph, y = capture(lambda: compiled(x) + 1)
    assert torch.gxu._C.launch_count() > launches
    x.normal_()
    graph.replay()
    torch.testing.assert_close(y.cpu(), torch.relu(x.cpu() * 3 - 1).sum(0) + 1)


def test_a_training_step() -> None:
    torch.manual_seed(0)
    cpu = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.BatchNorm1d(32), nn.Linear(32, 4))
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.BatchNorm1d(32), nn.Linear(32, 4)).to("gxu")
    model.load_state_dict(cpu.state_dict())
    optimizers = [torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9) for module in (cpu, model)]
    x, target = torch.randn(8, 16, device="gxu"), torch.randint(4, (8,), device="gxu")

    def step(module: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, target: Tensor) -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(module(x), target)
        loss.backward()
        optimizer.step()
        return loss

    side = torch.gxu.Stream()
    with torch.gxu.stream(side):
        for _ in range(3):
            step(model, optimizers[1], x, target)
    for _ in range(3):
        step(cpu, optimizers[0], x.cpu(), target.cpu())
    graph, loss = capture(step, model, optimizers[1], x, target)
    for _ in range(5):
        x.normal_()
        target.random_(4)
        graph.replay()
        expected = step(cpu, optimizers[0], x.cpu(), target.cpu())
        torch.testing.assert_close(loss.cpu(), expected, rtol=1e-4, atol=1e-5)
    for a, b in zip(model.parameters(), cpu.parameters(), strict=True):
        torch.testing.assert_close(a.cpu(), b, rtol=1e-4, atol=1e-5)


def test_random_numbers_go_on_with_every_replay() -> None:
    other = torch.Generator("gxu")

    def draw() -> list[Tensor]:
        return [
            torch.rand(100, device="gxu"),
            F.dropout(torch.ones(100, device="gxu"), 0.5),
            torch.randn(33, device="gxu", generator=other),
            torch.poisson(torch.full((50,), 3.0, device="gxu")),
            torch.randperm(20, device="gxu"),
            torch.empty(6, 6, device="gxu")[::2, ::3].uniform_(),
        ]

    torch.gxu.manual_seed(3)
    other.manual_seed(4)
    eager = [[value.clone() for value in draw()] for _ in range(3)]
    graph, values = capture(draw)
    torch.gxu.manual_seed(3)
    other.manual_seed(4)
    for expected in eager:
        graph.replay()
        for a, b in zip(values, expected, strict=True):
            assert torch.equal(a, b)
    offset = torch.gxu.default_generators[0].get_offset()
    graph.replay()
    torch.gxu.default_generators[0].set_offset(offset)
    first = [value.clone() for value in values[:2]]
    graph.replay()
    for a, b in zip(values[:2], first, strict=True):
        assert torch.equal(a, b)


def test_memory_is_private_until_the_graph_goes() -> None:
    x = torch.zeros(4096, device="gxu")

    def function() -> Tensor:
        a = x + 1
        b = a * 2
        del a
        return b + 3

    graph, y = capture(function)
    addresses = set()
    others = [torch.full((4096,), 7.0, device="gxu") for _ in range(8)]
    addresses.update(other.data_ptr() for other in others)
    assert y.data_ptr() not in addresses
    x.fill_(5)
    graph.replay()
    assert (y == 15).all()
    assert all((other == 7).all() for other in others)


def test_intermediates_share_memory_as_they_do_eagerly() -> None:
    size = 1 << 20
    x = torch.rand(size // 4, device="gxu")

    def function() -> Tensor:
        y = x
        for step in range(20):
            y = torch.sin(y) + torch.roll(y, step)
        return y

    expected = function()
    torch.gxu.synchronize()
    torch.gxu.empty_cache()
    before = torch.gxu.memory_allocated()
    torch.gxu.reset_peak_memory_stats()
    graph, y = capture(function)
    assert torch.gxu.max_memory_allocated() - before <= 5 * size
    assert torch.gxu.memory_allocated() - before == size  # the result
    for value in (1.0, 2.0):
        x.mul_(value)
        y.zero_()
        graph.replay()
        assert torch.equal(y, function())
    assert not torch.equal(y, expected)


def test_graphs_share_a_pool() -> None:
    pool = torch.gxu.graph_pool_handle()
    x = torch.ones(100, device="gxu")
    first, y = capture(lambda: x * 2, pool=pool)
    second, z = capture(lambda: y + 1, pool=pool)
    assert first.pool() == second.pool() == pool
    first.replay()
    second.replay()
    assert (z == 3).all()


def test_several_streams_and_events_in_one_capture() -> None:
    x = torch.ones(1000, device="gxu")
    side = torch.gxu.Stream()

    def function() -> Tensor:
        forked = torch.gxu.Event()
        forked.record()
        side.wait_event(forked)
        with torch.gxu.stream(side):
            y = x * 2
            joined = torch.gxu.Event()
            joined.record()
        z = x + 5
        torch.gxu.current_stream().wait_event(joined)
        return y + z

    graph, result = capture(function)
    x.fill_(3)
    graph.replay()
    assert (result == 14).all()


def test_is_current_stream_capturing() -> None:
    assert not torch.gxu.is_current_stream_capturing()
    seen = []
    capture(lambda: seen.append(torch.gxu.is_current_stream_capturing()))
    assert seen == [True]
    assert not torch.gxu.is_current_stream_capturing()


REFUSED: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "item": (lambda x: x.sum().item(), "_local_scalar_dense"),
    "bool": (lambda x: bool((x > 0).all()), "_local_scalar_dense|is_nonzero"),
    "cpu": (lambda x: x.cpu(), "pageable CPU memory"),
    "nonzero": (lambda x: x.nonzero(), "nonzero"),
    "masked_select": (lambda x: x[x > 0], "nonzero|index"),
    "synchronize": (lambda x: torch.gxu.synchronize(), "Synchronising the device"),
    "stream": (lambda x: torch.gxu.current_stream().synchronize(), "waits for the device"),
    "query": (lambda x: torch.gxu.current_stream().query(), "query of a stream"),
    "equal": (lambda x: torch.equal(x, x), "equal"),
    "from the CPU": (lambda x: torch.ones(4).to("gxu"), "pageable CPU memory"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_waits_is_refused_and_the_device_stays_usable(name: str) -> None:
    function, message = REFUSED[name]
    x = torch.ones(10, device="gxu")
    graph = torch.gxu.Graph()
    with pytest.raises(RuntimeError, match=message) as raised, torch.gxu.graph(graph):
        function(x + 1)
    assert raised.value.__context__ is None
    assert torch.gxu.current_stream() == torch.gxu.default_stream()
    assert not torch.gxu.is_current_stream_capturing()
    assert (x + 1).tolist() == [2.0] * 10
    with torch.gxu.graph(graph):
        y = x + 2
    graph.replay()
    assert (y == 3).all()


@pytest.mark.skipif(not hasattr(torch.accelerator, "Graph"), reason="torch 2.11 has no torch.accelerator.Graph")
def test_the_accelerator_graph_names_what_failed() -> None:
    graph = torch.accelerator.Graph()
    with pytest.raises(RuntimeError, match="_local_scalar_dense"), torch.Stream("gxu"), graph:
        torch.ones(3, device="gxu").sum().item()
    x = torch.zeros(4, device="gxu")
    with torch.Stream("gxu"), graph:
        x += 1
    graph.replay()
    graph.replay()
    assert (x == 2).all()


def test_errors_of_a_replay_surface_when_the_device_is_waited_for() -> None:
    table = torch.ones(10, 3, device="gxu")
    index = torch.tensor([0, 9], device="gxu")
    graph, rows = capture(lambda: table[index])
    graph.replay()
    assert (rows == 1).all()
    index.fill_(10)
    graph.replay()
    with pytest.raises(RuntimeError, match=r"A replayed graph failed on gxu:0 in aten::index: .*out of bounds"):
        torch.gxu.synchronize()
    torch.gxu.synchronize()
    index.fill_(3)
    graph.replay()
    assert (rows == 1).all()


def test_wrong_uses() -> None:
    graph = torch.gxu.Graph()
    with pytest.raises(RuntimeError, match="default stream"):
        graph.capture_begin()
    with pytest.raises(RuntimeError, match="no captured graph"):
        graph.replay()
    with pytest.raises(RuntimeError, match="not capturing"):
        graph.capture_end()
    with torch.gxu.graph(graph):
        pass
    with pytest.raises(RuntimeError, match="reset"), torch.gxu.graph(graph):
        pass
    assert torch.gxu.current_stream() == torch.gxu.default_stream()


def test_keep_graph_and_debug_dump(tmp_path: Path) -> None:
    graph = torch.gxu.Graph(keep_graph=True)
    graph.enable_debug_mode()
    x = torch.zeros(4, device="gxu")
    with torch.gxu.graph(graph):
        x.add_(1)
    graph.instantiate()
    graph.instantiate()
    graph.replay()
    assert (x == 1).all()
    graph.debug_dump(str(tmp_path / "graph.dot"))
    assert "aten::add_" in (tmp_path / "graph.dot").read_text()
    graph.reset()
    with pytest.raises(RuntimeError, match="no captured graph"):
        graph.replay()


def test_releasing_a_graph_with_replays_in_flight() -> None:
    x = torch.zeros(100, device="gxu")
    for _ in range(20):
        graph, y = capture(lambda: (x.add_(1), x * 2)[1])
        for _ in range(5):
            graph.replay()
        del graph, y
    assert (x == 100).all()


def test_make_graphed_callables() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(10, 20), nn.Tanh(), nn.Linear(20, 5)).to("gxu")
    reference = nn.Sequential(nn.Linear(10, 20), nn.Tanh(), nn.Linear(20, 5))
    reference.load_state_dict({name: value.cpu() for name, value in model.state_dict().items()})
    sample = torch.randn(6, 10, device="gxu", requires_grad=True)
    graphed = torch.gxu.make_graphed_callables(model, (sample,))
    assert graphed is model
    for _ in range(3):
        x = torch.randn(6, 10)
        model.zero_grad()  # gradients are the graph's memory, which the next replay writes
        reference.zero_grad()
        ours, theirs = x.to("gxu").requires_grad_(), x.clone().requires_grad_()
        graphed(ours).square().sum().backward()
        reference(theirs).square().sum().backward()
        torch.testing.assert_close(ours.grad.cpu(), theirs.grad, rtol=1e-4, atol=1e-5)
    for a, b in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(a.grad.cpu(), b.grad, rtol=1e-4, atol=1e-5)
    model.eval()
    torch.testing.assert_close(model(ours).cpu(), reference(theirs), rtol=1e-4, atol=1e-5)
    function = torch.gxu.make_graphed_callables(lambda a, b: (a * b, a + b), (sample, sample.detach()))
    product, total = function(ours, ours.detach())
    torch.testing.assert_close(product.cpu(), theirs * theirs)
    torch.testing.assert_close(total.cpu(), theirs + theirs)


def test_other_devices(run_python: RunPython) -> None:
    code = """
import torch
with torch.gxu.device(1):
    x = torch.zeros(10, device="gxu")
    graph = torch.gxu.Graph()
    stream = torch.gxu.Stream()
    with torch.gxu.graph(graph, stream=stream):
        x += 1
        y = torch.rand(5, device="gxu")
graph.replay()
assert (x == 1).all() and y.device.index == 1
assert torch.gxu.default_generators[0].get_offset() == 0 < torch.gxu.default_generators[1].get_offset()
"""
    result = run_python("-c", code, env={"GXU_DEVICE_COUNT": "2"})
    assert result.returncode == 0, result.stderr
