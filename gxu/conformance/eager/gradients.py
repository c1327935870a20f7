"""Gradients as calls: backward, double backward and forward AD, by autograd on either device."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd import forward_ad
from torch.utils._pytree import tree_map

from gxu.conformance.eager.calls import Function
from gxu.conformance.eager.check import Call
from gxu.conformance.eager.comparison import tensors_of
from gxu.conformance.eager.data import Arguments


def directions(like: list[torch.Tensor], seed: int) -> list[torch.Tensor]:
    """Random tensors with the shapes, dtypes and device of `like`, the same ones on every device."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(t.shape, dtype=t.dtype, generator=generator).to(t.device) for t in like]


def differentiable(tree: Any) -> list[torch.Tensor]:
    return [tensor for tensor in tensors_of(tree) if tensor.requires_grad]


def backward(function: Function, finish: Function) -> Call:
    """Gradients of a random combination of the outputs by every input that requires one."""

    def call(arguments: Arguments) -> Any:
        inputs = differentiable(arguments.all())
        outputs = differentiable(finish(function(arguments.input, *arguments.args, **arguments.kwargs)))
        return _gradients(outputs, inputs, directions(outputs, 1), create_graph=False)

    return call


def double_backward(function: Function, finish: Function) -> Call:
    """Gradients of the gradients, by the inputs and by the weights of the outputs."""

    def call(arguments: Arguments) -> Any:
        inputs = differentiable(arguments.all())
        outputs = differentiable(finish(function(arguments.input, *arguments.args, **arguments.kwargs)))
        weights = [weight.requires_grad_() for weight in directions(outputs, 1)]
        first = [g for g in _gradients(outputs, inputs, weights, create_graph=True) if g is not None]
        again = [gradient for gradient in first if gradient.requires_grad]
        if not again:
            raise TypeError("the gradients do not depend on the inputs")
        return _gradients(again, inputs + weights, directions(again, 2), create_graph=False)

    return call


def forward_mode(function: Function, finish: Function) -> Call:
    """The derivatives along a random direction of the inputs."""

    def call(arguments: Arguments) -> Any:
        inputs = differentiable(arguments.all())
        tangents = {id(t): d for t, d in zip(inputs, directions(inputs, 3), strict=True)}
        with forward_ad.dual_level():

            def dual(value: Any) -> Any:
                if isinstance(value, torch.Tensor) and id(value) in tangents:
                    return forward_ad.make_dual(value.detach(), tangents[id(value)])
                return value

            input_, args, kwargs = tree_map(dual, arguments.all())
            result = finish(function(input_, *args, **kwargs))
            pairs = [forward_ad.unpack_dual(tensor) for tensor in tensors_of(result)]
            return [(None if pair.tangent is None else pair.tangent.clone()) for pair in pairs]

    return call


def _gradients(
    outputs: list[torch.Tensor], inputs: list[torch.Tensor], weights: list[torch.Tensor], *, create_graph: bool
) -> list[torch.Tensor | None]:
    if not outputs or not inputs:
        raise TypeError("nothing to differentiate")
    return list(torch.autograd.grad(outputs, inputs, weights, create_graph=create_graph, allow_unused=True))
