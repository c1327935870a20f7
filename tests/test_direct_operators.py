"""Operators that run on the CPU without boxing, on aliases that are lent to them: csrc/torch/direct_*, lent_alias."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

TABLE = Path(__file__).parents[1] / "csrc/torch/direct_operators.cpp"


def outcome(function: Callable[[str], Any], device: str) -> Any:
    """What the function gives on a device, on the CPU; the type and first words of its error if it raises."""
    try:
        result = function(device)
    except (RuntimeError, IndexError) as error:
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
    rows = re.findall(r"^  _\((\w+)\)", TABLE.read_text(), re.MULTILINE)
    assert len(rows) > 100
    on_cpu = set()
    for name in torch._C._dispatch_get_registrations_for_dispatch_key("CPU"):
        operator, _, overload = name.removeprefix("aten::").partition(".")
        on_cpu.add(f"{operator}_{overload}" if overload else operator)
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
    "conjugated": lambda d: torch.mm(values(d, 3, 4, dtype=torch.complex64).mH, values(d, 3, 4, dtype=torch.complex64)),
    "negated": lambda d: torch._neg_view(values(d, 3)) + 1,
    "itself": lambda d: (lambda x: x.add_(x))(values(d, 5)),
    "itself as out": lambda d: (lambda x: torch.mul(x, x, out=x))(values(d, 5)),
    "overlapping out": lambda d: (lambda x: torch.add(x[:-1], x[:-1], out=x[1:]))(values(d, 5)),
    "overlapping in place": lambda d: (lambda x: x[1:].mul_(x[:-1]))(values(d, 5)),
    "overlapping copy": lambda d: (lambda x: x[1:].copy_(x[:-1]))(values(d, 5)),
    "overlapping list": lambda d: (lambda x: torch.cat((x, x[:0]), out=x))(values(d, 5)),
    "apart in one memory": lambda d: (lambda x: x[:3].mul_(x[3:]))(values(d, 6)),
    "an expanded output": lambda d: values(d, 1).expand(4).add_(1),
    "wrong shapes": lambda d: values(d, 3) + values(d, 4),
    "wrong dtypes": lambda d: torch.mm(values(d, 3, 3), values(d, 3, 3, dtype=torch.float64)),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_calls_end_as_on_the_cpu(name: str) -> None:
    result = check_alike(CALLS[name])
    assert isinstance(result, tuple) == name.startswith(("overlapping", "an expanded", "wrong", "two")), result


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
    """Replaces the CPU's `neg` by one that keeps its argument and returns a view of it."""
    kept: list[Tensor] = []

    def neg(x: Tensor) -> Tensor:
        kept.append(x)
        return x[1:]

    library = torch.library.Library("aten", "IMPL")
    library.impl("neg", neg, "CPU", allow_override=True)
    yield kept
    library._destroy()


@pytest.mark.filterwarnings("ignore:.*[Oo]verrid")
def test_what_an_operator_keeps_stays(kernel_that_keeps: list[Tensor]) -> None:
    with torch.no_grad():
        x = torch.arange(1000.0, device="gxu")
        views = [torch.neg(x), torch.neg(x)]
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

    def neg(x: Tensor) -> Tensor:
        return x.cpu() + torch.exp(other * 0).cpu() + (other * 2).cpu()

    library = torch.library.Library("aten", "IMPL")
    library.impl("neg", neg, "CPU", allow_override=True)
    try:
        with torch.no_grad():
            result = torch.neg(torch.ones(4, device="gxu"))
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
