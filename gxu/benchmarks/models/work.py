"""One call of a model, for inference or as a training step, and how far its numbers are from float64's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gxu.benchmarks.models.catalogue import Model, prepare

LEARNING_RATE = 1e-4


@dataclass(frozen=True)
class Work:
    """`call` runs once and returns its results on the device; for a training step these are the gradients."""

    call: Callable[[], Sequence[Tensor]]
    device: str

    def run(self) -> Sequence[Tensor]:
        """One call, finished."""
        results = self.call()
        if self.device != "cpu":
            torch.get_device_module(self.device).synchronize()
        return results


def make_work(model: Model, device: str, dtype: torch.dtype, *, training: bool, compiled: bool, update: bool) -> Work:
    """`update`: a training step ends with AdamW's update, so that a second one starts from other weights."""
    module, inputs = prepare(model, device, dtype)
    run: Callable[..., Tensor] = torch.compile(module, dynamic=False) if compiled else module
    if not training:
        return Work(_inference(run, inputs), device)
    optimizer = torch.optim.AdamW(module.parameters(), lr=LEARNING_RATE) if update else None
    return Work(_training_step(run, module, inputs, optimizer), device)


def _inference(run: Callable[..., Tensor], inputs: Sequence[Tensor]) -> Callable[[], Sequence[Tensor]]:
    def call() -> Sequence[Tensor]:
        with torch.no_grad():
            return [run(*inputs)]

    return call


def _training_step(
    run: Callable[..., Tensor], module: nn.Module, inputs: Sequence[Tensor], optimizer: torch.optim.Optimizer | None
) -> Callable[[], Sequence[Tensor]]:
    # In eval mode, as everything here: dropout draws other numbers on each device.
    def call() -> Sequence[Tensor]:
        module.zero_grad(set_to_none=True)
        run(*inputs).float().square().mean().backward()
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        if optimizer is not None:
            optimizer.step()
        return gradients

    return call


def error(results: Sequence[Tensor], reference: Sequence[Tensor]) -> float:
    """Relative error of all results together, as the 2-norm of the difference over that of the reference."""
    pairs = [(r.cpu().double(), w.cpu().double()) for r, w in zip(results, reference, strict=True)]
    difference = sum(float((r - w).square().sum()) for r, w in pairs)
    size = sum(float(w.square().sum()) for _, w in pairs)
    return (difference / size) ** 0.5 if size else difference**0.5
