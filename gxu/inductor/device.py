"""The device's name and its module, for the rest of the package."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch

from gxu._name import DEVICE_TYPE


def compute_capability(triton_backend: str, triton_arch: str) -> int | str:
    """What Inductor records as the compute capability (`cc`) of a device, and gives to Triton as the architecture.

    Inductor takes the device's name for the backend of Triton's target. Where they differ, the backend stands before
    the architecture ("cuda:90"): it reaches compile workers that way, which know nothing of the device.
    """
    if triton_backend != DEVICE_TYPE:
        return f"{triton_backend}:{triton_arch}"
    return int(triton_arch) if triton_arch.isdecimal() else triton_arch


def triton_target(device_type: str, cc: int | str) -> tuple[str, int | str]:
    """Backend and architecture of the Triton target that `cc` stands for."""
    if not isinstance(cc, str) or ":" not in cc:
        return device_type, cc
    backend, arch = cc.split(":", 1)
    return backend, int(arch) if arch.isdecimal() else arch


def device_module() -> ModuleType:
    """`torch.gxu`."""
    return torch.get_device_module(DEVICE_TYPE)


def is_gxu_tensor(value: Any) -> bool:
    """Whether `value` is a tensor, perhaps a fake one, on a gxu device."""
    return isinstance(value, torch.Tensor) and value.device.type == DEVICE_TYPE
