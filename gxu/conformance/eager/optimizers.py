"""Cases of PyTorch's database of optimizers: every implementation on the device against the plain loop on the CPU."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch.testing._internal.common_optimizers import optim_db

from gxu.conformance.case import Case, SkipCase
from gxu.conformance.eager.comparison import compare
from gxu.conformance.eager.data import DEVICE, Mover

STEPS = 4
SHAPES = ((3, 4), (7,), (), (2, 3, 5))
DTYPES = (torch.float32, torch.float64, torch.complex64)

#: Keyword arguments that choose an implementation.
IMPLEMENTATIONS: dict[str, dict[str, bool]] = {
    "default": {},
    "for loop": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
    "capturable": {"capturable": True},
}


def cases() -> list[Case]:
    return [case for info in optim_db for case in _of_optimizer(info)]


def _of_optimizer(info: Any) -> Iterator[Case]:
    for dtype in DTYPES:
        if dtype.is_complex and (not info.supports_complex or info.only_supports_sparse_grads):
            continue
        for name in IMPLEMENTATIONS:
            if (name in ("foreach", "fused") and name not in info.supported_impls) or (
                name == "capturable" and not info.has_capturable_arg
            ):
                continue
            if name == "for loop" and "foreach" not in info.supported_impls:
                continue
            if name == "fused" and dtype.is_complex:  # fused kernels are for real numbers, on every device
                continue
            run = functools.partial(_run, info, dtype, IMPLEMENTATIONS[name])
            yield Case(info.name, str(dtype).removeprefix("torch."), f"optimizer {name}", run)


def _run(info: Any, dtype: torch.dtype, implementation: dict[str, bool]) -> None:
    compared, rejection = 0, "no inputs"
    for number, optim_input in enumerate(info.optim_inputs_func(device="cpu")):
        kwargs = {**optim_input.kwargs, **implementation}
        plain = {key: value for key, value in kwargs.items() if key not in ("foreach", "fused", "capturable")}
        try:
            expected = _trained(info, dtype, plain, "cpu")
        except Exception as error:
            rejection = f"{type(error).__name__}: {error}"
            continue
        try:
            actual = _trained(info, dtype, Mover(DEVICE)(kwargs), DEVICE)
            if kwargs.get("capturable"):  # which counts steps, and so corrects biases, in float32
                actual, expected = _in_single(actual), _in_single(expected)
            compare(actual, expected, strides=False)
        except Exception as error:
            raise AssertionError(f"input {number} ({optim_input.desc}): {type(error).__name__}: {error}") from error
        compared += 1
    if not compared:
        raise SkipCase(f"the CPU takes none of the inputs: {rejection}")


def _trained(info: Any, dtype: torch.dtype, kwargs: dict[str, Any], device: str) -> list[torch.Tensor]:
    """The parameters after a few steps with given gradients."""
    generator = torch.Generator().manual_seed(7)

    def draw(shape: tuple[int, ...]) -> torch.Tensor:
        return torch.randn(shape, dtype=dtype, generator=generator).to(device)

    shapes = SHAPES[:1] if info.only_supports_sparse_grads or info.name == "Muon" else SHAPES
    parameters = [torch.nn.Parameter(draw(shape)) for shape in shapes]
    named = [(f"p{number}", parameter) for number, parameter in enumerate(parameters)]
    optimizer = info.optim_cls(named if kwargs.pop("named", False) else parameters, **kwargs)
    for _ in range(STEPS):
        for parameter, shape in zip(parameters, shapes, strict=True):
            gradient = draw(shape)
            parameter.grad = gradient.to_sparse() if info.only_supports_sparse_grads else gradient
        if info.step_requires_closure:
            targets = [draw(shape) for shape in shapes]
            optimizer.step(functools.partial(_closure, optimizer, parameters, targets))
        else:
            optimizer.step()
    return [parameter.detach() for parameter in parameters]


def _in_single(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    return [tensor.to(torch.complex64 if tensor.is_complex() else torch.float32) for tensor in tensors]


def _closure(optimizer: Any, parameters: list[torch.nn.Parameter], targets: list[torch.Tensor]) -> torch.Tensor:
    optimizer.zero_grad()
    loss = torch.stack([(p - t).abs().square().sum() for p, t in zip(parameters, targets, strict=True)]).sum()
    loss.backward()
    return loss
