"""DLPack exchange of gxu tensors.

A gxu tensor is a kDLExtDev one, as PyTorch maps out-of-tree devices: `torch.from_dlpack(x)` shares its memory.
Consumers that know the CPU alone (NumPy and most others) ask for kDLCPU: `numpy.from_dlpack(x, device="cpu")`. Where
the CPU reaches the device's memory they share it too; elsewhere they get a copy.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.utils.dlpack import DLDeviceType

from gxu import _C


def device_of(tensor: torch.Tensor) -> tuple[DLDeviceType, int]:
    """What `__dlpack_device__` answers: (kDLExtDev, index)."""
    return DLDeviceType.kDLExtDev, tensor.device.index


def host_alias(tensor: torch.Tensor, dl_device: Sequence[int] | None, copy: bool | None) -> torch.Tensor | None:
    """A CPU tensor over the same memory for a consumer that asks for kDLCPU, after the work of the current stream.

    None where the consumer asks for something else or for a copy, where the tensor cannot be exported (PyTorch says
    why), and where the CPU does not reach the memory.
    """
    if dl_device is None or tuple(dl_device) != (DLDeviceType.kDLCPU, 0) or copy:
        return None
    if tensor.requires_grad or tensor.is_conj() or tensor.layout != torch.strided:
        return None
    return _C.host_alias(tensor)
