"""Operators that run on the CPU without boxing: csrc/torch/{direct,elementwise,loop,plain}_*, lent_alias."""

from __future__ import annotations

import ctypes
import operator
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from blocked_stream import enqueued
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

SOURCES = Path(__file__).parents[1] / "csrc/torch"
TABLES = [SOURCES / f"{name}_operators.cpp" for name in ("direct", "elementwise", "loop")]


def outcome(function: Callable[[str], Any], device: str) -> Any:
    """What the function gives on a device, on the CPU; the type and first words of its error if it raises."""
    try:
        result = function(device)
    except (RuntimeError, IndexError, TypeError) as error:
        return type(error), str(error)[:60]
    return torch.utils._pytree.tree_map(lambda value: value.cpu() if isinstance(value, Tensor) else value, result)


def check_alike(function: Callable[[str], Any]) -> Any:
    expected = outcome(function, "cpu")
    actual = outcome(function, "gxu")
    if isinstance(expected, tuple) and expected and isinstance(expected[0], type):
        assert actual == expected
    else:
        torch.testing.assert_close(actual, expected, equal_nan=True)
    return expected


def test_every_row_is_an_operator_of_the_cpus_own() -> None:
    """One without a kernel for the CPU would come back to gxu without end, or run as its parts."""
    rows = [row for table in TABLES for row in re.findall(r"^  _\((\w+), [^)]+\)", table.read_text(), re.MULTILINE)]
    assert len(rows) > 100
    on_cpu = set()
    for name in torch._C._dispatch_get_registrations_for_dispatch_key("CPU"):
        base, _, overload = name.removeprefix("aten::").partition(".")
        on_cpu.add(f"{base}_{overload}" if overload else base)
    assert set(rows) <= on_cpu
    assert len(set(rows)) == len(rows)


def values(device: str, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    made = torch.randn(*shape, generator=generator).to(dtype)
    if made.numel() and dtype.is_floating_point:
        made.view(-1)[0] = float("nan")
    return made.to(device)


CALLS: dict[str, Callable[[str], Any]] = {
    "a number": lambda d: values(d, 3, 5) + 2,
    "a number that promotes": lambda d: torch.arange(7, device=d) * 1.5,
    "a CPU number": lambda d: values(d, 3) * torch.tensor(2.0, dtype=torch.float64),
    "a number in place": lambda d: values(d, 3, 5).mul_(0.5),
    "strides and offsets": lambda d: values(d, 7, 9)[1:, ::2].t() + values(d, 7, 9)[:6, 1:6].t(),
    "nothing": lambda d: values(d, 0, 3) + values(d, 1, 3),
    "six dimensions": lambda d: torch.exp(values(d, 1, 2, 1, 3, 2, 1)),
    "a scalar": lambda d: values(d, 5)[2].item(),
    "two results": lambda d: values(d, 4, 6).max(dim=1),
    "no bias": lambda d: torch.nn.functional.layer_norm(values(d, 4, 6), (6,)),
    "bias": lambda d: torch.nn.functional.layer_norm(values(d, 4, 6), (6,), values(d, 6), values(d, 6)),
    "out": lambda d: torch.add(values(d, 4), 1, out=torch.empty(4, device=d)),
    "out that grows": lambda d: torch.mm(values(d, 3, 4), values(d, 4, 5), out=torch.empty(0, device=d)),
    "strided out": lambda d: torch.mm(values(d, 3, 4), values(d, 4, 5), out=torch.empty(5, 3, device=d).t()),
    "a product": lambda d: torch.mm(values(d, 3, 7), values(d, 9, 8)[2:, ::2]),
    "a product of views": lambda d: torch.mm(values(d, 9, 4).t()[1:, :5], values(d, 1, 6).expand(5, 6)),
    "a product in fp64": lambda d: torch.mm(values(d, 5, 1, dtype=torch.float64), values(d, 1, 5, dtype=torch.float64)),
    "a product of nothing": lambda d: torch.mm(values(d, 3, 0), values(d, 0, 4)),
    "a product of integers": lambda d: torch.mm(*(torch.arange(6, device=d).view(n, -1) for n in (2, 3))),
    "wrong product": lambda d: torch.mm(values(d, 3, 4), values(d, 3, 4)),
    "wrong types of a product": lambda d: torch.mm(values(d, 3, 4), values(d, 4, 3, dtype=torch.float64)),
    "conjugated": lambda d: torch.mm(values(d, 3, 4, dtype=torch.complex64).mH, values(d, 3, 4, dtype=torch.complex64)),
    "negated": lambda d: torch._neg_view(values(d, 3)) + 1,
    "itself": lambda d: (lambda x: x.add_(x))(values(d, 5)),
    "itself as out": lambda d: (lambda x: torch.mul(x, x, out=x))(values(d, 5)),
    "overlapping out": lambda d: (lambda x: torch.add(x[:-1], x[:-1], out=x[1:]))(values(d, 5)),
    "overlapping in place": lambda d: (lambda x: x[1:].mul_(x[:-1]))(values(d, 5)),
    "overlapping copy": lambda d: (lambda x: x[1:].copy_(x[:-1]))(values(d, 5)),
    "a number that overflows": lambda d: values(d, 3, dtype=torch.float16) * 1e6,
    "another type in place": lambda d: torch.arange(7, device=d).add_(values(d, 7)),
    "another type": lambda d: values(d, 5) + values(d, 5, dtype=torch.float64),
    "two types, as a scalar": lambda d: values(d, 5, dtype=torch.bfloat16) * values(d, 5)[2],
    "integers": lambda d: torch.exp(torch.arange(-3, 4, device=d)),
    "NaN as a bound": lambda d: values(d, 5).clamp(float("nan"), 1),
    "a bound alone": lambda d: values(d, 5).clamp(max=0.5),
    "wrong bounds": lambda d: values(d, 5).clamp(),
    "a power": lambda d: (values(d, 5) ** 0, values(d, 5) ** 1, values(d, 5) ** 2.5),
    "broadcast in place": lambda d: values(d, 3, 5).mul_(values(d, 5)),
    "too large in place": lambda d: values(d, 5).mul_(values(d, 3, 5)),
    "channels last": lambda d: values(d, 2, 3, 4, 5).to(memory_format=torch.channels_last).relu().stride(),
    "booleans": lambda d: torch.relu(values(d, 5) > 0),
    "one type for all": lambda d: torch.where(values(d, 5) > 0, values(d, 5), 0.0),
    "rows": lambda d: torch.nn.functional.embedding(torch.tensor([[3, 0], [1, 3]], device=d), values(d, 4, 5)),
    "columns": lambda d: values(d, 4, 5).index_select(-1, torch.tensor([3, 0, 3], device=d)),
    "indices of 32 bits": lambda d: values(d, 4, 5).index_select(0, torch.tensor([3, 0], device=d, dtype=torch.int32)),
    "wrong rows": lambda d: values(d, 4, 5).index_select(0, torch.tensor([3, 4], device=d)),
    "wrong negative rows": lambda d: values(d, 4, 5).index_select(0, torch.tensor([-1], device=d)),
    "indices": lambda d: values(d, 4, 5, 6)[:, torch.tensor([1, 0], device=d), torch.tensor([[5], [-1]], device=d)],
    "a mask": lambda d: (lambda x: x[x > 0])(values(d, 4, 5)),
    "indices on the CPU": lambda d: values(d, 4, 5)[torch.tensor([1, 3])],
    "wrong indices": lambda d: values(d, 4, 5)[torch.tensor([4], device=d)],
    "overlapping assignment": lambda d: (lambda x: x.index_put_((torch.tensor([1, 1], device=d),), x[2], True))(
        values(d, 4, 5)
    ),
    "assignment": lambda d: values(d, 4, 5).index_put_((torch.tensor([1, 1], device=d),), values(d, 5), True),
    "assignment to a mask": lambda d: (lambda x: x.masked_fill_(x > 0, 0).index_put_((x < 0,), x[0, 1].clone()))(
        values(d, 4, 5)
    ),
    "two numbers": lambda d: torch.addcmul(values(d, 3), torch.tensor(2.0), torch.tensor(3.0)),
    "a number first": lambda d: torch.tensor(2.0) - values(d, 3),
    "a number of integers": lambda d: torch.tensor(2) / values(d, 3, dtype=torch.bfloat16),
    "a list": lambda d: torch.cat([values(d, 2, 3, 4), values(d, 2, 0, 4), values(d, 2, 5, 4)], -2),
    "a list of two types": lambda d: torch.cat([values(d, 2), values(d, 3, dtype=torch.float64)]),
    "a list with gaps": lambda d: torch.cat([values(d, 4, 6)[:, ::2], values(d, 3, 4).t()]),
    "a list with nothing": lambda d: torch.cat([values(d, 0), values(d, 3, 4)]),
    "a long list": lambda d: torch.cat(list(values(d, 40, 3)), 0),
    "a stack": lambda d: torch.stack([values(d, 3, 4), values(d, 3, 4)], 1),
    "a large list": lambda d: torch.cat([values(d, 200, 300), values(d, 200, 300)], 1),
    "a list of channels last": lambda d: torch.cat(
        [values(d, 2, 3, 4, 5).to(memory_format=torch.channels_last)] * 2
    ).stride(),
    "wrong list": lambda d: torch.cat([values(d, 2, 3), values(d, 3, 3)], 1),
    "wrong dimension": lambda d: torch.cat([values(d, 2, 3)], 2),
    "zeros": lambda d: values(d, 4, 5).t().zero_(),
    "zeros in gaps": lambda d: (lambda x: (x[:, ::2].zero_(), x))(values(d, 4, 5))[1],
    "a value": lambda d: values(d, 4, 5, dtype=torch.bfloat16).fill_(1.1),
    "a value in gaps": lambda d: (lambda x: (x[:, ::2].fill_(3), x))(values(d, 4, 5))[1],
    "wrong value": lambda d: values(d, 4, dtype=torch.int8).fill_(1000),
    "a copy": lambda d: values(d, 4, 5).t().clone(),
    "a copy to gaps": lambda d: (lambda x: (x[:, ::2].copy_(values(d, 4, 3)), x))(values(d, 4, 5))[1],
    "a vector": lambda d: values(d, 4, 5) @ values(d, 5),
    "wrong vector": lambda d: torch.mv(values(d, 4, 5), values(d, 4)),
    "softmax of a column": lambda d: values(d, 4, 5, dtype=torch.float64).softmax(0),
    "softmax of nothing": lambda d: values(d, 0, 5).softmax(-1),
    "softmax of a scalar": lambda d: values(d, 5)[3].log_softmax(0),
    "overlapping list": lambda d: (lambda x: torch.cat((x, x[:0]), out=x))(values(d, 5)),
    "apart in one memory": lambda d: (lambda x: x[:3].mul_(x[3:]))(values(d, 6)),
    "an expanded output": lambda d: values(d, 1).expand(4).add_(1),
    "the largest": lambda d: [values(d, 40).max(), values(d, 40)[1:].max(), values(d, 5, 8).t()[1:].min()],
    "wrong largest of nothing": lambda d: values(d, 0, 3).max(),
    "wrong place in nothing": lambda d: values(d, 0, 3).argmax(0),
    "places": lambda d: [values(d, 4, 5).argmax(1), values(d, 4, 5)[1:].t().argmin(), values(d, 4, 1).argmax(-1, True)],
    "sums": lambda d: [values(d, 4, 5)[1:].sum(), values(d, 4, 5, 6).sum((0, -1)), values(d, 0, 3).sum(0)],
    "sums of other types": lambda d: [values(d, 5).sum(dtype=torch.float64), (values(d, 5) > 0).sum()],
    "wrong sum": lambda d: values(d, 4, 5).sum((0, 0)),
    "a range": lambda d: [torch.arange(*bounds, device=d) for bounds in ((3, 20, 0.5), (0,), (9, 2, -3))],
    "a range out": lambda d: torch.arange(5, out=torch.full((9,), 7, device=d)[2:7]),
    "a range out that grows": lambda d: torch.arange(5, out=torch.full((3,), 7, device=d)[:0]),
    "wrong range": lambda d: torch.arange(3, 0, device=d),
    "one gelu": lambda d: [torch.nn.functional.gelu(values(d, 9)[1]), torch.nn.functional.gelu(values(d, 9)[1:2])],
    "gelu in gaps": lambda d: torch.nn.functional.gelu(values(d, 9, 4)[:, ::2]),
    "a loss": lambda d: torch.nn.functional.cross_entropy(values(d, 3, 4)[1:], torch.tensor([3, 0], device=d)),
    "a weighted loss": lambda d: torch.nn.functional.nll_loss(
        values(d, 3, 4), torch.tensor([3, 0, 1], device=d), values(d, 4), ignore_index=0, reduction="none"
    ),
    "wrong class": lambda d: torch.nn.functional.nll_loss(values(d, 2, 4), torch.tensor([3, 4], device=d)),
    "products of a batch": lambda d: torch.bmm(values(d, 2, 3, 4), values(d, 2, 5, 4).mT),
    "products of an empty batch": lambda d: torch.bmm(values(d, 2, 3, 0), values(d, 2, 0, 5)),
    "wrong products of a batch": lambda d: torch.bmm(values(d, 2, 3, 4), values(d, 3, 4, 5)),
    "a product and a row": lambda d: torch.addmm(values(d, 5), values(d, 3, 4), values(d, 5, 4).t(), beta=2, alpha=3),
    "a product and nothing": lambda d: torch.addmm(values(d, 5), values(d, 3, 4), values(d, 4, 5), beta=0),
    "wrong row": lambda d: torch.addmm(values(d, 6), values(d, 3, 4), values(d, 4, 5)),
    "norm of two types": lambda d: list(
        torch.native_layer_norm(values(d, 4, 6, dtype=torch.bfloat16), (6,), values(d, 6), values(d, 6), 1e-5)
    ),
    "wrong norm": lambda d: torch.nn.functional.layer_norm(values(d, 4, 6), (5,)),
    "wrong shapes": lambda d: values(d, 3) + values(d, 4),
    "wrong dtypes": lambda d: torch.mm(values(d, 3, 3), values(d, 3, 3, dtype=torch.float64)),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_calls_end_as_on_the_cpu(name: str) -> None:
    result = check_alike(CALLS[name])
    assert isinstance(result, tuple) == name.startswith(
        ("overlapping", "an expanded", "wrong", "two results", "a power", "channels last", "a list of channels last")
        + ("another type in place", "too large", "booleans")
    ), result


UNARY = [
    "neg", "exp", "log", "log2", "log1p", "expm1", "sqrt", "rsqrt", "reciprocal", "sin", "cos", "tanh", "sigmoid",
    "erf", "floor", "ceil", "round", "sign", "bitwise_not", "relu", "nn.functional.gelu", "nn.functional.silu",
    "nn.functional.leaky_relu", "nn.functional.elu", "nn.functional.softplus", "nn.functional.hardsigmoid",
    "nn.functional.hardswish", "sum", "amax", "any", "argmax", "sort", "isnan", "prod",
]  # fmt: skip
BINARY = [
    "add", "sub", "mul", "div", "remainder", "maximum", "minimum", "pow", "eq", "ne", "lt", "le", "gt", "ge",
    "bitwise_and", "bitwise_or", "floor_divide",
]  # fmt: skip
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool]
DTYPES += [torch.complex64]


@pytest.mark.parametrize("name", UNARY + BINARY)
def test_bits_are_the_cpus(name: str) -> None:
    """Of every type of elements, in rows that vectors do not fill, in columns, and with a number as operand."""
    function = operator.attrgetter(name)(torch)
    generator = torch.Generator().manual_seed(7)
    for dtype in DTYPES:
        made = torch.randn(3, 37, generator=generator)
        x, y = (
            value.to(dtype) if dtype.is_floating_point else value.mul(5).to(dtype) for value in (made, made.flip(0))
        )
        for a, b in ((x, y), (x.t(), y.t()), (x[:, ::3], y[:, ::3]), (x, y[0]), (x[0, 0], y[0, 0]), (x, 3), (x, 2.5)):
            if name in UNARY and b is not y:
                continue

            def call(device: str, a: Tensor = a, b: Tensor | float = b) -> Any:
                operands = [value.to(device) if isinstance(value, Tensor) else value for value in (a, b)]
                return function(*operands[: 1 if name in UNARY else 2])

            expected, actual = outcome(call, "cpu"), outcome(call, "gxu")
            if isinstance(expected, Tensor):
                assert actual.dtype == expected.dtype and actual.stride() == expected.stride(), (dtype, b)
                torch.testing.assert_close(actual, expected, rtol=0, atol=0, equal_nan=True)
            else:
                assert repr(actual) == repr(expected)


def test_numbers_are_read_below_modes_and_views() -> None:
    """The kernel in place of autograd's goes on to what follows autograd."""
    x = torch.tensor([3 + 4j], device="gxu")
    assert x.conj().item() == 3 - 4j and torch._neg_view(x.real).item() == -3.0
    called = []

    class Mode(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
            called.append(str(function))
            return function(*args, **(kwargs or {}))

    y = torch.tensor(2.5, device="gxu", requires_grad=True)
    with Mode():
        assert y.item() == 2.5
    assert called == ["aten._local_scalar_dense.default"]
    with torch.inference_mode():
        assert torch.tensor(True, device="gxu").item() is True


READERS: list[Callable[[Tensor], Any]] = [
    lambda x: x.sum(), lambda x: x.max(), lambda x: x.argmax(), lambda x: x.amin(1), lambda x: x[0, 0].item(),
    lambda x: torch.nn.functional.gelu(x[0, :1]), lambda x: torch.nn.functional.layer_norm(x, (8,)),
    lambda x: torch.bmm(x[None], x[None]), lambda x: torch.addmm(x[0], x, x),
    lambda x: torch.nn.functional.nll_loss(x, torch.ones(8, dtype=torch.long, device=x.device), reduction="sum"),
]  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
def test_readers_wait_for_the_current_stream(reader: Callable[[Tensor], Any]) -> None:
    def write() -> None:
        time.sleep(0.02)
        ctypes.memmove(x.data_ptr(), written.data_ptr(), x.nbytes)

    x, written = torch.zeros(8, 8, device="gxu"), torch.arange(2.0, 66.0).view(8, 8)
    torch.gxu.synchronize()
    stream = torch.gxu.Stream()
    with torch.gxu.stream(stream), enqueued(stream, write):
        result = reader(x)
    torch.testing.assert_close(result.cpu() if isinstance(result, Tensor) else result, reader(written), rtol=0, atol=0)


def test_operands_of_two_devices_are_refused() -> None:
    x = torch.ones(3, device="gxu")
    for call in (lambda: x + torch.ones(3), lambda: x.mm(torch.ones(3, 3)), lambda: torch.ones(()).mul_(x[0])):
        with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
            call()


def test_results_are_new_tensors_of_the_device() -> None:
    x = torch.randn(3, 4, device="gxu")
    y = x + 1
    assert y.device == x.device and y.untyped_storage().device == x.device
    assert y._is_view() is False and y._version == 0
    before = torch.gxu.memory_allocated()
    del y
    assert torch.gxu.memory_allocated() < before


@pytest.fixture
def kernel_that_keeps() -> Iterator[list[Tensor]]:
    """Replaces the CPU's `remainder` by one that keeps its argument and returns a view of it."""
    kept: list[Tensor] = []

    def remainder(x: Tensor, _: Tensor) -> Tensor:
        kept.append(x)
        return x[1:]

    library = torch.library.Library("aten", "IMPL")
    library.impl("remainder.Tensor", remainder, "CPU", allow_override=True)
    yield kept
    library._destroy()


@pytest.mark.filterwarnings("ignore:.*[Oo]verrid")
def test_what_an_operator_keeps_stays(kernel_that_keeps: list[Tensor]) -> None:
    with torch.no_grad():
        x = torch.arange(1000.0, device="gxu")
        double = torch.ones((), dtype=torch.float64, device="gxu")  # two types: not one iterator's
        views = [torch.remainder(x, double), torch.remainder(x, double)]
        assert all(view.untyped_storage().data_ptr() == x.data_ptr() for view in views)
        x += 1
        assert [view[0].item() for view in views] == [2.0, 2.0]
        pointer = x.data_ptr()
        del x, views
        others = [torch.full((1000,), 9.0, device="gxu") for _ in range(4)]
        assert all(other.data_ptr() != pointer for other in others)
        assert all(torch.equal(kept, torch.arange(1.0, 1001.0)) for kept in kernel_that_keeps)


def test_calls_nest() -> None:
    """An operator of the CPU that calls one of gxu, which needs an alias of its own."""
    other = torch.arange(4.0, device="gxu")

    def remainder(x: Tensor, y: Tensor) -> Tensor:
        return x.cpu() + torch.cumsum(other * 0, 0).cpu() + (other * 2).cpu() + y.cpu()

    library = torch.library.Library("aten", "IMPL")
    library.impl("remainder.Tensor", remainder, "CPU", allow_override=True)
    try:
        with torch.no_grad():
            result = torch.remainder(
                torch.ones(4, device="gxu"), torch.ones((), dtype=torch.float64, device="gxu")
            ).float()
    finally:
        library._destroy()
    assert result.tolist() == [2.0, 4.0, 6.0, 8.0]


def test_inference_mode_and_gradients_alternate() -> None:
    weight = torch.randn(3, 3, device="gxu", requires_grad=True)
    for _ in range(3):
        with torch.inference_mode():
            assert (weight * 2).is_inference()
        loss = (weight * 2).sum()
        (gradient,) = torch.autograd.grad(loss, weight)
        assert gradient.eq(2).all()


def test_threads_have_aliases_of_their_own() -> None:
    failures = []

    def work(seed: int) -> None:
        x = torch.full((33,), float(seed), device="gxu")
        for step in range(300):
            y = (x * 2 + step).sum().item()
            if y != 33 * (2 * seed + step):
                failures.append((seed, step, y))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
