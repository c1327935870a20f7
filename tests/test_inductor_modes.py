"""What torch.compile can be asked for beside plain functions: one test for each, against the CPU in eager mode."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from inductor_helpers import to_device
from process_helpers import RunPython
from torch import Tensor, nn
from torch._higher_order_ops import associative_scan
from torch._higher_order_ops.scan import scan
from torch._higher_order_ops.while_loop import while_loop
from torch._inductor.utils import run_and_get_code
from torch.testing._internal.two_tensor import TwoTensor
from torch.utils import _pytree as pytree


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    torch.manual_seed(7)
    yield
    torch._dynamo.reset()


def assert_same(actual: Any, expected: Any) -> None:
    actual, expected = (
        pytree.tree_map_only(torch.Tensor, lambda tensor: tensor.detach().cpu(), tree) for tree in (actual, expected)
    )
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5, equal_nan=True)


def check(function: Callable[..., Any], *args: Any, **options: Any) -> None:
    """Twice, since the second call takes another path through guards and caches."""
    compiled = torch.compile(function, fullgraph=True, **options)
    for _ in range(2):
        assert_same(compiled(*to_device(args, "gxu")), function(*to_device(args, "cpu")))


def test_sizes_that_depend_on_values() -> None:
    def function(x: Tensor, count: Tensor) -> Any:
        size = int(count.item())
        torch._check(size >= 2)
        torch._check(size <= x.shape[0])
        positive = x[x > 0]
        return x[:size].sin().sum(0), positive.softmax(0), positive.cumsum(0), (x.nonzero() * 2).sum()

    with torch._dynamo.config.patch(capture_scalar_outputs=True, capture_dynamic_output_shape_ops=True):
        check(function, torch.randn(300, 4), torch.tensor(5))


@pytest.mark.parametrize("dynamic", [False, True])
def test_no_elements(dynamic: bool) -> None:
    def function(x: Tensor, w: Tensor) -> Any:
        return x.sum(), x.mean(), x.sum(0), x.softmax(-1), x @ w, torch.cat([x, x]), x.cumsum(0), x.t().contiguous()

    check(function, torch.randn(0, 4), torch.randn(4, 3), dynamic=dynamic)


def test_cond() -> None:
    def function(predicate: Tensor, x: Tensor) -> Any:
        return torch.cond(predicate.sum() > 0, lambda x: (x.sin(), x.sum()), lambda x: (x.cos() * 2, x.max()), (x,))

    for sign in (1, -1):
        check(function, sign * torch.ones(3), torch.randn(8, 8))


def test_while_loop() -> None:
    def function(n: Tensor, x: Tensor) -> Any:
        return while_loop(lambda n, x: n > 0, lambda n, x: (n - 1, x * 1.5 + 1), (n, x))

    x = torch.randn(5)
    expected = x
    for _ in range(4):
        expected = expected * 1.5 + 1
    result = torch.compile(function, fullgraph=True)(torch.tensor(4, device="gxu"), x.to("gxu"))
    assert_same(result, (torch.tensor(0), expected))


def test_scan() -> None:
    def function(start: Tensor, x: Tensor) -> Any:
        return scan(lambda c, a: (c * 0.5 + a, (c + a).sin()), start, x)

    carry, x = torch.randn(4), torch.randn(5, 4)
    result = torch.compile(function, fullgraph=True)(carry.to("gxu"), x.to("gxu"))
    rows = []
    for row in x:
        rows.append((carry + row).sin())
        carry = carry * 0.5 + row
    assert_same(result, (carry, torch.stack(rows)))


@pytest.mark.parametrize("mode", ["pointwise", "generic"])
@pytest.mark.parametrize("reverse", [False, True])
def test_associative_scan(mode: str, reverse: bool) -> None:
    def combine(left: tuple[Tensor, Tensor], right: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return left[0] * right[0], left[1] * right[0] + right[1]

    def function(a: Tensor, b: Tensor) -> Any:
        return associative_scan(combine, (a, b), 0, reverse=reverse, combine_mode=mode)

    pairs = torch.rand(21, 4), torch.randn(21, 4)
    rows = list(zip(*(x.flip(0) if reverse else x for x in pairs), strict=True))
    results = rows[:1]
    for row in rows[1:]:
        results.append(combine(results[-1], row))
    expected = [torch.stack(column) for column in zip(*results, strict=True)]
    expected = [x.flip(0) if reverse else x for x in expected]
    assert_same(torch.compile(function, fullgraph=True)(*to_device(pairs, "gxu")), tuple(expected))


def test_custom_operators() -> None:
    @torch.library.custom_op("gxu_modes::scale", mutates_args=())
    def scale(x: Tensor, factor: float) -> Tensor:
        return x * factor

    @torch.library.custom_op("gxu_modes::increment_", mutates_args=("x",))
    def increment_(x: Tensor) -> None:
        x.add_(1)

    @scale.register_fake
    def like_its_input(x: Tensor, factor: float) -> Tensor:
        return torch.empty_like(x)

    def keep_the_factor(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.factor = inputs[1]

    def scale_the_gradient(ctx: Any, gradient: Tensor) -> Any:
        return gradient * ctx.factor, None

    scale.register_autograd(scale_the_gradient, setup_context=keep_the_factor)

    def function(x: Tensor) -> Tensor:
        y = scale(x.sin(), 3.0).clone()
        increment_(y)
        return y * 2

    x = torch.randn(9, requires_grad=True)
    on_device = to_device(x, "gxu")
    check(function, x)
    function(x).sum().backward()  # type: ignore[no-untyped-call]
    torch.compile(function, fullgraph=True)(on_device).sum().backward()
    assert_same(on_device.grad, x.grad)


def test_tensor_subclass() -> None:
    a, b = torch.randn(4, 4), torch.randn(4, 4)

    def gradient_and_result(device: str, compiled: bool) -> tuple[Any, ...]:
        def function(x: Tensor, y: Tensor) -> Tensor:
            return (x @ y).sin() + 1

        x = TwoTensor(a.to(device), b.to(device)).requires_grad_()
        result: Any = (torch.compile(function) if compiled else function)(x, torch.ones(4, 4, device=device))
        result.sum().backward()
        gradient: Any = x.grad
        return result.a, result.b, gradient.a, gradient.b

    assert_same(gradient_and_result("gxu", True), gradient_and_result("cpu", False))


def test_nested_compile_region() -> None:
    @torch.compiler.nested_compile_region
    def layer(x: Tensor, w: Tensor) -> Tensor:
        return torch.relu(x @ w).sin()

    def function(x: Tensor, weights: list[Tensor]) -> Tensor:
        for weight in weights:
            x = layer(x, weight)
        return x

    check(function, torch.randn(4, 4), [torch.randn(4, 4) for _ in range(3)])


def test_inputs_that_share_memory() -> None:
    def function(x: Tensor, y: Tensor) -> Tensor:
        x.mul_(2)
        return y + 1

    compiled = torch.compile(function, fullgraph=True)
    x = torch.randn(6)
    on_device = x.to("gxu")
    for start in (2, 0):
        assert_same(compiled(on_device, on_device[start:]), function(x, x[start:]))
        assert_same(on_device, x)


def test_compiled_autograd() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    on_device = copy.deepcopy(model).to("gxu")
    x = torch.randn(5, 4)
    model(x).square().sum().backward()
    with torch._dynamo.config.patch(compiled_autograd=True):
        torch.compile(lambda x: on_device(x).square().sum().backward())(x.to("gxu"))
    assert_same([p.grad for p in on_device.parameters()], [p.grad for p in model.parameters()])


def test_deterministic_mode() -> None:
    def function(x: Tensor, index: Tensor, source: Tensor) -> Any:
        return x.index_add(0, index, source), torch.zeros_like(x).index_put((index,), source, accumulate=True)

    inputs = torch.randn(5, 4), torch.randint(0, 5, (300,)), torch.randn(300, 4)
    on_device = to_device(inputs, "gxu")
    torch.use_deterministic_algorithms(True)
    try:
        compiled = torch.compile(function, fullgraph=True)
        first, second = compiled(*on_device), compiled(*on_device)
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    torch.testing.assert_close([x.cpu() for x in first], list(function(*inputs)), rtol=1e-3, atol=1e-3)


def test_export_and_back() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)
            self.register_buffer("offset", torch.ones(4))

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            z = self.linear(x).relu() + self.offset
            return {"z": z, "sum": z.sum()}

    model = Model()
    batch = {0: torch.export.Dim("batch")}
    example = torch.randn(3, 4, device="gxu")
    program = torch.export.export(copy.deepcopy(model).to("gxu"), (example,), dynamic_shapes={"x": batch})
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file)
    x = torch.randn(7, 4)
    expected = model(x)
    assert_same(loaded.module()(x.to("gxu")), expected)
    assert_same(torch.compile(loaded.module())(x.to("gxu")), expected)
    assert_same(loaded.run_decompositions().module()(x.to("gxu")), expected)


def test_streams_of_the_device_module() -> None:
    """Streams and events that compiled code makes are parts of its graph, as torch.cuda's are."""

    def fn(x: torch.Tensor) -> torch.Tensor:
        y = x + 1
        side, started = torch.gxu.Stream(), torch.gxu.Event()
        started.record()
        with torch.gxu.stream(side):
            started.wait()
            z = (y @ y).sin()
        torch.gxu.current_stream().wait_stream(side)
        return z + y

    x = torch.randn(9, 9)
    result, (code,) = run_and_get_code(torch.compile(fn, fullgraph=True), x.to("gxu"))
    y = x + 1
    assert_same(result, (y @ y).sin() + y)
    if torch.__version__ >= "2.12":  # torch 2.11's Inductor knows no streams: a whole graph runs on one
        assert "with stream1:" in code


def test_devices_of_the_device_module(run_python: RunPython) -> None:
    """Contexts and functions that choose a device, ask for it or wait for it are parts of compiled code."""
    code = """
import torch

def fn(x):
    with torch.gxu.device(1):
        inside = torch.ones(3, device="gxu")
    torch.gxu.synchronize()
    return inside, x + 1, torch.gxu.current_device()

compiled = torch.compile(fn, fullgraph=True)
for current in (0, 1):
    torch.gxu.set_device(current)
    *tensors, index = compiled(torch.zeros(3, device="gxu:0"))
    print(*(x.device.index for x in tensors), index, torch.gxu.current_device())
"""
    result = run_python("-c", code, env={"GXU_DEVICE_COUNT": "2", "TORCHINDUCTOR_COMPILE_THREADS": "1"})
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["1 0 0 0", "1 0 1 1"]
