"""The device's name under PyTorch.

It is GXU_DEVICE_NAME, else what an installed package says, else "gxu". A package says so by an entry point of the group
`gxu.device`: its name is the device's, and its value a function that is called before anything of the device exists. It
may set environment variables (GXU_RUNTIME), and must not import gxu.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
from collections.abc import Collection

import torch

DEFAULT = "gxu"


def _only_name(packages: Collection[importlib.metadata.EntryPoint]) -> str:
    if len(packages) > 1:
        found = ", ".join(sorted(f"{entry.name} ({entry.value})" for entry in packages))
        raise RuntimeError(f"several packages name gxu's device: {found}; set GXU_DEVICE_NAME to the one to use")
    return next((entry.name for entry in packages), DEFAULT)


def _check(name: str) -> None:
    """RuntimeError unless PyTorch can have a device of this name."""
    if not re.fullmatch("[a-z][a-z_]*", name):
        raise RuntimeError(f"GXU_DEVICE_NAME is {name!r}: PyTorch takes lower-case letters and '_' for a device's name")
    if name == torch._C._get_privateuse1_backend_name():
        return
    try:
        torch.device(name)
    except RuntimeError:
        return
    raise RuntimeError(f"GXU_DEVICE_NAME is {name!r}, which is another device of PyTorch's: choose a name of your own")


def choose_name() -> str:
    """The name, after its package has been asked to set up the process. RuntimeError where it cannot be one.

    GXU_DEVICE_NAME holds a name other than "gxu" from here on, for libgxu_torch.so and for child processes.
    """
    if os.environ.get("GXU_REGISTER", "1") == "0":
        return torch._C._get_privateuse1_backend_name()
    packages = importlib.metadata.entry_points(group="gxu.device")
    name = os.environ.get("GXU_DEVICE_NAME") or _only_name(packages)
    _check(name)
    if name != DEFAULT:
        os.environ["GXU_DEVICE_NAME"] = name
    for entry in packages:
        if entry.name == name:
            entry.load()()
    return name


DEVICE_TYPE = choose_name()
