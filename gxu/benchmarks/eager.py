"""Operators that small models spend their time in, as calls of a device and a number of elements."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# Makes operands of about that many elements on a device, and returns the call to be timed.
Maker = Callable[[str, int], Callable[[], object]]

# These touch no element, or one, so that their ratio says nothing about work on elements.
METADATA_ONLY = frozenset({"empty", "view", "transpose", "slice", "select", "chunk", "item"})
# At the end of the name of a call that records what its gradients need; the others do not.
WITH_GRADIENT = ", grad"


def operators() -> dict[str, Maker]:
    """Factories, views, copies, arithmetic, reductions, products, lists and indices, losses: by name."""
    import torch
    from torch.nn import functional

    def vectors(function: Callable[..., object], count: int = 1, gradient: bool = False) -> Maker:
        def make(device: str, elements: int) -> Callable[[], object]:
            operands = [torch.rand(elements).to(device).requires_grad_(gradient) for _ in range(count)]
            return lambda: function(*operands)

        return make

    def squares(function: Callable[..., object], count: int = 1, gradient: bool = False) -> Maker:
        def make(device: str, elements: int) -> Callable[[], object]:
            side = math.isqrt(elements)
            operands = [torch.rand(side, side).to(device).requires_grad_(gradient) for _ in range(count)]
            return lambda: function(*operands)

        return make

    def linear(gradient: bool) -> Maker:
        def make(device: str, elements: int) -> Callable[[], object]:
            side = math.isqrt(elements)
            shapes = ((side, side), (side, side), (side,))
            x, weight, bias = (torch.rand(*shape).to(device).requires_grad_(gradient) for shape in shapes)
            return lambda: functional.linear(x, weight, bias)

        return make

    def rows(function: Callable[[Tensor, Tensor], object]) -> Maker:
        """`function` of a square and as many row numbers."""

        def make(device: str, elements: int) -> Callable[[], object]:
            side = math.isqrt(elements)
            x, index = torch.rand(side, side).to(device), torch.randint(side, (side,)).to(device)
            return lambda: function(x, index)

        return make

    def layer_norm(device: str, elements: int) -> Callable[[], object]:
        side = math.isqrt(elements)
        x, weight, bias = (torch.rand(*shape).to(device) for shape in ((side, side), (side,), (side,)))
        return lambda: functional.layer_norm(x, (side,), weight, bias)

    def item(device: str, elements: int) -> Callable[[], object]:
        x = torch.rand(1).to(device)
        return x.item

    return {
        "empty": vectors(torch.empty_like),
        "zeros": vectors(torch.zeros_like),
        "full": vectors(lambda x: torch.full_like(x, 2.0)),
        "arange": lambda device, elements: lambda: torch.arange(elements, device=device),
        "view": vectors(lambda x: x.view(1, -1)),
        "transpose": squares(lambda x: x.t()),
        "slice": squares(lambda x: x[:, :1]),
        "select": squares(lambda x: x[0]),
        "chunk": squares(lambda x: x.chunk(2)),
        "item": item,
        "clone": vectors(torch.clone),
        "copy_": vectors(lambda x, y: x.copy_(y), 2),
        "to bf16": vectors(lambda x: x.to(torch.bfloat16)),
        "transpose copy": squares(lambda x: x.t().contiguous()),
        "fill_": vectors(lambda x: x.fill_(1.0)),
        "zero_": vectors(lambda x: x.zero_()),
        "add": vectors(torch.add, 2),
        "add number": vectors(lambda x: x + 1.0),
        "add_": vectors(lambda x, y: x.add_(y), 2),
        "sub": vectors(torch.sub, 2),
        "mul": vectors(torch.mul, 2),
        "mul number": vectors(lambda x: x * 2.0),
        "div": vectors(torch.div, 2),
        "pow": vectors(lambda x: x**2),
        "exp": vectors(torch.exp),
        "rsqrt": vectors(torch.rsqrt),
        "tanh": vectors(torch.tanh),
        "sigmoid": vectors(torch.sigmoid),
        "relu": vectors(torch.relu),
        "gelu": vectors(functional.gelu),
        "silu": vectors(functional.silu),
        "eq": vectors(torch.eq, 2),
        "gt number": vectors(lambda x: x > 0.5),
        "clamp": vectors(lambda x: x.clamp(0.2, 0.8)),
        "where": vectors(lambda x, y: torch.where(x > 0.5, x, y), 2),
        "masked_fill": vectors(lambda x: x.masked_fill(x > 0.5, 0.0)),
        "sum": vectors(torch.sum),
        "mean": squares(lambda x: x.mean(-1)),
        "max": vectors(torch.max),
        "argmax": squares(lambda x: x.argmax(-1)),
        "softmax": squares(lambda x: torch.softmax(x, dim=-1)),
        "log_softmax": squares(lambda x: torch.log_softmax(x, dim=-1)),
        "layer_norm": layer_norm,
        "mm": squares(torch.mm, 2),
        "bmm": squares(lambda x, y: torch.bmm(x[None], y[None]), 2),
        "linear": linear(gradient=False),
        "cat": vectors(lambda x, y: torch.cat((x, y)), 2),
        "stack": vectors(lambda x, y: torch.stack((x, y)), 2),
        "index": rows(lambda x, index: x[index]),
        "embedding": rows(lambda x, index: functional.embedding(index, x)),
        "gather": rows(lambda x, index: x.gather(1, index[:, None])),
        "cross_entropy": rows(functional.cross_entropy),
        "mse_loss": vectors(functional.mse_loss, 2),
        f"view{WITH_GRADIENT}": vectors(lambda x: x.view(1, -1), gradient=True),
        f"add{WITH_GRADIENT}": vectors(torch.add, 2, gradient=True),
        f"mul{WITH_GRADIENT}": vectors(torch.mul, 2, gradient=True),
        f"relu{WITH_GRADIENT}": vectors(torch.relu, gradient=True),
        f"softmax{WITH_GRADIENT}": squares(lambda x: torch.softmax(x, dim=-1), gradient=True),
        f"mm{WITH_GRADIENT}": squares(torch.mm, 2, gradient=True),
        f"linear{WITH_GRADIENT}": linear(gradient=True),
    }
