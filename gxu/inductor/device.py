"""The device's name and its module, for the rest of the package."""

from __future__ import annotations

from types import ModuleType

import torch

DEVICE_TYPE = "gxu"


def device_module() -> ModuleType:
    """`torch.gxu`."""
    return torch.get_device_module(DEVICE_TYPE)
