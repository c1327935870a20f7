"""Makes `gxu` known to PyTorch. Runs once, when the package is imported."""

from __future__ import annotations

import sys

import torch

from gxu import compat, distributed, module, multiprocessing
from gxu._name import DEVICE_TYPE

#: What programs import from torch.gxu by its name: `from torch.gxu.amp import GradScaler`.
SUBMODULES = ("amp", "graphs", "memory", "nvtx", "random", "streams")


def register() -> None:
    """Names the device type, installs `torch.gxu`, and adds `x.gxu()`, `x.is_gxu` and the like to tensors, modules and
    storages. Registration with Dynamo and Inductor waits until one of them is imported."""
    torch.utils.rename_privateuse1_backend(DEVICE_TYPE)
    torch._register_device_module(DEVICE_TYPE, module)
    for name in SUBMODULES:
        sys.modules[f"torch.{DEVICE_TYPE}.{name}"] = getattr(module, name)
    torch.utils.generate_methods_for_privateuse1_backend(for_storage=True)

    multiprocessing.register()
    distributed.register()
    compat.apply()

    from gxu.inductor import activation

    activation.install()
