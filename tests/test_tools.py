"""Tools that torch hands its devices: benchmark timer, checkpointing, torch.func, parametrize, comparisons."""

from __future__ import annotations

import copy
import ctypes
import gc
import inspect
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from process_helpers import RunPython
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize
from torch.utils.benchmark import Timer
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

HOST_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def on_both(function: Callable[..., Any], *arguments: Tensor) -> None:
    """`function` gives on gxu what it gives on the CPU."""
    expected = function(*arguments)
    result = function(*(argument.gxu() for argument in arguments))  # type: ignore[attr-defined]
    for leaf in torch.utils._pytree.tree_leaves(result):
        assert leaf.device.type == "gxu"
    torch.testing.assert_close(result, expected, check_device=False)


# torch.utils.benchmark


def test_timer_waits_for_the_device() -> None:
    """The statement only queues work: a timer that did not synchronise would measure next to nothing."""
    runtime = ctypes.CDLL(torch.gxu._C.runtime_path())
    seconds = 0.02
    sleep = HOST_FUNCTION(lambda _: time.sleep(seconds))

    def queue() -> None:
        assert runtime.gxuLaunchHostFunc(None, sleep, None) == 0

    measurement = Timer("queue()", globals={"queue": queue}).timeit(3)
    assert measurement.mean >= seconds
    x = torch.randn(64, 64, device="gxu")
    blocked_range = Timer("x @ x", globals={"x": x}).blocked_autorange(min_run_time=0.05)
    assert blocked_range.median > 0
    adaptive = Timer("x @ x", globals={"x": x}).adaptive_autorange(min_run_time=0.01, max_run_time=0.1)
    assert adaptive.median > 0


def test_timer_synchronises_before_it_looks_at_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.utils.benchmark.utils import timer

    calls: list[str] = []
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda: calls.append("synchronize"))
    timer.timer()
    assert calls == ["synchronize"]


# torch.utils.checkpoint


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_checkpoint_replays_dropout(use_reentrant: bool) -> None:
    model = nn.Sequential(nn.Linear(6, 20), nn.Dropout(0.5), nn.Linear(20, 6), nn.Dropout(0.3)).gxu()
    gradients = []
    for recompute in (False, True):
        torch.manual_seed(3)
        x = torch.ones(5, 6, device="gxu", requires_grad=True)
        y = checkpoint(model, x, use_reentrant=use_reentrant) if recompute else model(x)
        torch.rand(7, device="gxu")  # moves the random state on before the replay
        y.square().sum().backward()
        gradients.append((x.grad, torch.rand(3, device="gxu")))
    for left, right in zip(*gradients, strict=True):
        assert torch.equal(left, right)


def test_checkpoint_sequential_and_autocast() -> None:
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(4))).gxu()
    x = torch.randn(3, 4, device="gxu")
    left, right = x.clone().requires_grad_(), x.clone().requires_grad_()
    with torch.autocast("gxu", dtype=torch.bfloat16):
        checkpoint_sequential(model, 2, left, use_reentrant=False).float().sum().backward()
        model(right).float().sum().backward()
    assert torch.equal(left.grad, right.grad)


# torch.func


def network(x: Tensor) -> Tensor:
    return (x.sin() * x.exp().sum(-1, keepdim=True)).square().mean()


@pytest.mark.parametrize(
    "transform",
    [
        torch.func.grad(network),
        torch.func.vmap(torch.func.grad(network)),
        torch.func.hessian(network),
        torch.func.jacrev(torch.sin),
        torch.func.jacfwd(torch.sin),
        torch.func.grad_and_value(network),
        lambda x: torch.func.jvp(network, (x,), (x.cos(),)),
        lambda x: torch.func.vjp(torch.tanh, x)[1](x),
        lambda x: torch.func.linearize(torch.tanh, x)[1](x),
        lambda x: torch.func.functionalize(lambda y: y.clone().add_(1).relu_())(x),
        lambda x: torch.func.vmap(torch.func.vmap(torch.dot, in_dims=(0, None)), in_dims=(None, 0))(x, x),
        lambda x: torch.func.vmap(lambda y: torch.linalg.vector_norm(y) + y[..., None].mT @ y[..., None])(x),
        lambda x: torch.func.vmap(lambda y: F.softmax(y, -1), in_dims=1, out_dims=1, chunk_size=2)(x),
    ],
)
def test_transforms(transform: Callable[[Tensor], Any]) -> None:
    on_both(transform, torch.randn(3, 5))


def test_per_sample_gradients_and_ensembles() -> None:
    models = [nn.Linear(4, 2) for _ in range(3)]
    template = copy.deepcopy(models[0]).to("meta")

    def ensemble(x: Tensor) -> Tensor:
        moved = [copy.deepcopy(model).to(x.device) for model in models]
        parameters, buffers = torch.func.stack_module_state(moved)

        def call(values: Any, buffer_values: Any, y: Tensor) -> Tensor:
            return torch.func.functional_call(template, (values, buffer_values), (y,))

        return torch.func.vmap(call, in_dims=(0, 0, None))(parameters, buffers, x).detach()

    def per_sample(x: Tensor) -> Any:
        weights = {name: value.detach().to(x.device) for name, value in models[0].named_parameters()}

        def loss(values: Any, y: Tensor) -> Tensor:
            return torch.func.functional_call(models[0], values, (y,)).square().sum()

        return torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(weights, x)

    x = torch.randn(6, 4)
    on_both(ensemble, x)
    on_both(per_sample, x)


def test_random_numbers_in_vmap() -> None:
    x = torch.zeros(4, 1000, device="gxu")
    same = torch.func.vmap(lambda y: y + torch.randn_like(y), randomness="same")(x)
    different = torch.func.vmap(lambda y: F.dropout(y + 1), randomness="different")(x)
    assert torch.equal(same[0], same[1])
    assert not torch.equal(different[0], different[1])
    with pytest.raises(RuntimeError, match="randomness"):
        torch.func.vmap(lambda y: y + torch.randn_like(y))(x)


# torch.nn.utils.parametrize


@pytest.mark.parametrize(
    "parametrization",
    [parametrizations.orthogonal, parametrizations.weight_norm, parametrizations.spectral_norm],
)
def test_parametrizations_follow_the_module(parametrization: Callable[[nn.Module], nn.Module]) -> None:
    torch.manual_seed(0)
    model = parametrization(nn.Linear(5, 5)).eval()
    twin = copy.deepcopy(model).gxu()
    x = torch.randn(3, 5)
    torch.testing.assert_close(twin(x.gxu()).cpu(), model(x), rtol=1e-4, atol=1e-5)  # type: ignore[attr-defined]
    twin(x.gxu()).sum().backward()  # type: ignore[attr-defined]
    assert all(parameter.grad is not None for parameter in twin.parameters() if parameter.requires_grad)
    assert parametrize.is_parametrized(twin)
    parametrize.remove_parametrizations(twin, "weight")
    assert twin.weight.device.type == "gxu"


def test_parametrization_of_ones_own_on_the_device() -> None:
    class Symmetric(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.triu() + x.triu(1).T

    layer = nn.Linear(4, 4).gxu()
    parametrize.register_parametrization(layer, "weight", Symmetric())
    assert torch.equal(layer.weight, layer.weight.T)
    with parametrize.cached():
        assert layer.weight is layer.weight


# torch.testing


def test_comparisons_name_devices_and_values() -> None:
    x = torch.randn(3, 4, device="gxu")
    torch.testing.assert_close(x, x.clone())
    torch.testing.assert_close(x, x.cpu(), check_device=False)
    with pytest.raises(AssertionError, match="'device' do not match: gxu:0 != cpu"):
        torch.testing.assert_close(x, x.cpu())
    y = x.clone()
    y[1, 2] += 1
    with pytest.raises(AssertionError, match=r"(?s)Mismatched elements: 1 / 12.*at index \(1, 2\)"):
        torch.testing.assert_close(x, y)
    assert torch.testing.make_tensor(3, device="gxu", dtype=torch.float32).device == x.device
    nan = torch.tensor([float("nan")], device="gxu")
    torch.testing.assert_close(nan, nan, equal_nan=True)
    assert torch.allclose(x, x) and torch.isclose(x, y).sum() == 11


# DataParallel


SENTENCE = "torch.nn.DataParallel does not support gxu devices: use torch.nn.parallel.DistributedDataParallel"


def test_data_parallel_says_what_to_use() -> None:
    model, x = nn.Linear(3, 3), torch.randn(2, 3)
    for attempt in (
        lambda: nn.DataParallel(copy.deepcopy(model).gxu()),
        lambda: nn.DataParallel(model, device_ids=[0]),
        lambda: nn.DataParallel(model, ["gxu:0"]),
        lambda: nn.parallel.data_parallel(model, x),
    ):
        with pytest.raises(RuntimeError, match=SENTENCE):
            attempt()


def test_data_parallel_of_the_cpu_is_as_without_an_accelerator() -> None:
    model, x = nn.Linear(3, 3), torch.randn(2, 3)
    parallel = nn.DataParallel(model)
    assert torch.equal(parallel(x), model(x))
    assert set(parallel.state_dict()) == {"module.weight", "module.bias"}


def test_data_parallel_has_the_symbols_that_are_replaced() -> None:
    import importlib

    module = importlib.import_module("torch.nn.parallel.data_parallel")
    assert inspect.unwrap(module._get_available_device_type)() == "gxu"
    parameters = list(inspect.signature(inspect.unwrap(nn.DataParallel.__init__)).parameters)
    assert parameters == ["self", "module", "device_ids", "output_device", "dim"]


# torch.accelerator


def test_accelerator_is_gxu() -> None:
    accelerator = torch.accelerator
    assert accelerator.is_available()
    assert accelerator.current_accelerator() == torch.device("gxu")
    assert accelerator.device_count() == torch.gxu.device_count() >= 1
    assert accelerator.current_device_index() == 0
    accelerator.set_device_index(0)
    with accelerator.device_index(0):
        assert torch.empty(1, device=0).device == torch.device("gxu", 0)
    with pytest.raises(RuntimeError, match="out of range"):
        accelerator.set_device_index(99)
    dtypes = accelerator.get_device_capability()["supported_dtypes"]
    assert {torch.float32, torch.bfloat16, torch.int64, torch.complex64} <= dtypes


def test_accelerator_streams() -> None:
    accelerator = torch.accelerator
    before = accelerator.current_stream()
    side = torch.Stream()
    assert side.device.type == "gxu"
    accelerator.set_stream(side)
    assert accelerator.current_stream() == side == torch.gxu.current_stream()
    accelerator.set_stream(before)
    with side:
        assert accelerator.current_stream() == side
    assert accelerator.current_stream() == before
    event = torch.Event(enable_timing=True)
    event.record(side)
    accelerator.synchronize()
    assert event.query()


def test_accelerator_memory() -> None:
    memory = torch.accelerator.memory
    gc.collect()  # tensors of other tests
    torch.accelerator.empty_cache()
    before = memory.memory_allocated()
    memory.reset_peak_memory_stats()
    x = torch.empty(1 << 20, dtype=torch.uint8, device="gxu")
    assert memory.memory_allocated() == before + (1 << 20)
    del x
    assert memory.memory_allocated() == before
    assert memory.max_memory_allocated() >= before + (1 << 20)
    assert memory.memory_reserved() <= memory.max_memory_reserved()
    free, total = memory.get_memory_info()
    assert 0 < free <= total
    assert memory.memory_stats()["allocated_bytes.all.current"] == before
    memory.reset_accumulated_memory_stats()
    assert memory.memory_stats()["allocation.all.allocated"] <= 1
    if hasattr(torch.accelerator, "empty_host_cache"):  # not with torch 2.11
        torch.accelerator.empty_host_cache()


@pytest.mark.skipif(not hasattr(torch.accelerator.memory, "_snapshot"), reason="torch 2.11 has no _snapshot")
def test_accelerator_snapshot() -> None:
    x = torch.empty(1 << 20, dtype=torch.uint8, device="gxu")
    snapshot = torch.accelerator.memory._snapshot()
    blocks = [block for segment in snapshot["segments"] for block in segment["blocks"]]
    assert x.data_ptr() in [block["address"] for block in blocks]
    assert snapshot.keys() == torch.gxu.memory._snapshot().keys()


@pytest.mark.skipif(not hasattr(F, "linear_cross_entropy"), reason="torch 2.11 has no linear_cross_entropy")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_chunked_cross_entropy_accumulates_as_on_the_cpu(dtype: torch.dtype) -> None:
    """Sums in the inputs' dtype would differ in most elements."""
    options = nn.LinearCrossEntropyOptions(batch_chunk_size=3)
    inputs = torch.randn(11, 64, dtype=dtype), torch.randn(40, 64, dtype=dtype)
    target = torch.randint(0, 40, (11,))
    results = {}
    for device in ("cpu", "gxu"):
        x, weight = (tensor.to(device).requires_grad_() for tensor in inputs)
        loss = F.linear_cross_entropy(x, weight, target.to(device), options=options)
        results[device] = [tensor.cpu() for tensor in (loss, *torch.autograd.grad(loss, (x, weight)))]
    torch.testing.assert_close(results["gxu"], results["cpu"], rtol=0, atol=0)


def test_accelerator_does_not_start_a_device_by_being_asked(run_python: RunPython) -> None:
    code = """
import torch
assert torch.accelerator.is_available() and torch.accelerator.current_accelerator().type == "gxu"
assert torch.accelerator.device_count() == 3 and not torch.gxu.is_initialized()
torch.accelerator.set_device_index(2)
assert torch.ones(1, device="gxu").device.index == 2
with torch.accelerator.device_index(1):
    assert torch.gxu.current_device() == 1
assert torch.accelerator.current_device_index() == 2
"""
    result = run_python("-c", code, env={"GXU_DEVICE_COUNT": "3"})
    assert result.returncode == 0, result.stderr
