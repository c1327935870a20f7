"""Moves sample inputs between devices as they are: with their strides, shared storages and pending conjugations."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch.utils._pytree import tree_map

from gxu._name import DEVICE_TYPE

#: What replaces device arguments.
DEVICE = DEVICE_TYPE


class Mover:
    """Copies trees of values to `device` ("cpu" for an independent copy). What shares a storage goes on to share one.

    Devices and strings that name one become `device`; what else is no tensor is kept, and so are meta tensors.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self._storages: dict[int, torch.Tensor] = {}

    def __call__(self, tree: Any) -> Any:
        return tree_map(self._leaf, tree)

    def _leaf(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return self._tensor(value)
        if isinstance(value, torch.device) or (isinstance(value, str) and value == "cpu"):
            return torch.device(self.device) if isinstance(value, torch.device) else self.device
        if isinstance(value, slice):
            return slice(self._leaf(value.start), self._leaf(value.stop), self._leaf(value.step))
        return value

    def _tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.is_meta:
            return tensor
        with torch.no_grad():
            moved = self._strided(tensor) if is_plain(tensor) else tensor.detach().clone().to(self.device)
        if isinstance(tensor, torch.nn.Parameter):
            return torch.nn.Parameter(moved, requires_grad=tensor.requires_grad)
        return moved.requires_grad_(tensor.requires_grad)

    def _strided(self, tensor: torch.Tensor) -> torch.Tensor:
        tensor = tensor.detach()
        if tensor._is_zerotensor():
            return torch._efficientzerotensor(tensor.shape, dtype=tensor.dtype, device=self.device)
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._storages:
            flat = torch.empty(0, dtype=torch.uint8).set_(storage)  # type: ignore[call-overload]
            self._storages[key] = flat.clone() if self.device == "cpu" else flat.to(self.device)
        moved = torch.empty(0, dtype=tensor.dtype, device=self.device)
        geometry = tensor.storage_offset(), tensor.size(), tensor.stride()
        moved.set_(self._storages[key].untyped_storage(), *geometry)  # type: ignore[call-overload]
        moved = moved.conj() if tensor.is_conj() else moved
        return torch._neg_view(moved) if tensor.is_neg() else moved


def is_plain(tensor: torch.Tensor) -> bool:
    """Dense, not quantised and not a tensor of another class: one that `set_` can make."""
    return (
        tensor.layout == torch.strided
        and not tensor.is_quantized
        and type(tensor) in (torch.Tensor, torch.nn.Parameter)
    )


@dataclasses.dataclass(frozen=True)
class OnCpu:
    """A positional argument that stays on the CPU whatever device the call is for, as on torch.cuda."""

    tensor: torch.Tensor


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The arguments of one call: `input` is what the method and in-place forms are called on.

    `stay` has the positions in `args` of what is on the CPU for a call on any device.
    """

    input: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    device: str = "cpu"
    stay: frozenset[int] = frozenset()

    @classmethod
    def of(cls, sample: Any) -> Arguments:
        stay = frozenset(position for position, value in enumerate(sample.args) if isinstance(value, OnCpu))
        args = tuple(value.tensor if isinstance(value, OnCpu) else value for value in sample.args)
        return cls(sample.input, args, dict(sample.kwargs), stay=stay)

    def on(self, device: str) -> Arguments:
        """An independent copy on `device`."""
        move, keep = Mover(device), Mover("cpu")
        input_, kwargs = move((self.input, self.kwargs))
        args = tuple((keep if number in self.stay else move)(value) for number, value in enumerate(self.args))
        return Arguments(input_, args, kwargs, device, self.stay)

    def all(self) -> Any:
        return self.input, self.args, self.kwargs

    def moved(self) -> Any:
        """All that is on the device of the call."""
        args = tuple(value for number, value in enumerate(self.args) if number not in self.stay)
        return self.input, args, self.kwargs
