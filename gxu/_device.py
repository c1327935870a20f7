"""Device arguments and the current device. Class names are torch.cuda's."""

from __future__ import annotations

from typing import Any

import torch

from gxu import _C
from gxu._name import DEVICE_TYPE

DeviceLike = torch.device | str | int | None


def get_device_index(device: DeviceLike, *, optional: bool = True) -> int:
    """Index of a gxu device given as torch.device, string or integer; None and "gxu" stand for the current device.

    ValueError for devices of another type, and, unless `optional`, for those without an index.
    """
    if isinstance(device, int):
        index = None if device < 0 and optional else device
    else:
        if isinstance(device, str):
            device = torch.device(device)
        if device is not None and not isinstance(device, torch.device):
            raise ValueError(f"expected a torch.device, a string or an integer, but got {device!r}")
        if device is not None and device.type != DEVICE_TYPE:
            raise ValueError(f"Expected a {DEVICE_TYPE} device, but got: {device}")
        index = None if device is None else device.index
    if index is not None:
        return index
    if not optional:
        raise ValueError(f"Expected a {DEVICE_TYPE} device with a specified index or an integer, but got: {device}")
    return _C.current_device()


#: `device` without the handling of its argument, for generated code.
_DeviceGuard = _C.DeviceGuard


class device:  # noqa: N801
    """Context manager that makes `device` the current one; does nothing where it is None or negative."""

    def __init__(self, device: DeviceLike) -> None:
        self.idx = -1 if device is None else get_device_index(device)
        self.prev_idx = -1

    def __enter__(self) -> device:
        self.prev_idx = _C.maybe_exchange_device(self.idx)
        return self

    def __exit__(self, *exception: Any) -> None:
        _C.maybe_exchange_device(self.prev_idx)


class device_of(device):  # noqa: N801
    """Context manager that makes the device of a tensor or storage current; does nothing where that is not a gxu."""

    def __init__(self, obj: Any) -> None:
        super().__init__(obj.get_device() if obj.device.type == DEVICE_TYPE else None)


def set_device(device: DeviceLike) -> None:
    """Makes `device` the current one of this thread. RuntimeError where its index is out of range."""
    _C.set_device(get_device_index(device))
