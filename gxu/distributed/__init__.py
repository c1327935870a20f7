"""The device's backend of torch.distributed: process groups for gxu tensors.

It is called "gxuccl", after the device, and is the default for it: `init_process_group()`, `"cpu:gloo,gxu:gxuccl"`,
`init_device_mesh("gxu", ...)`. A package that brings a communication library of its own registers its backend with
`torch.distributed.Backend.register_backend(..., devices=["gxu"])` before gxu is imported, and has the default then.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

from gxu import _C
from gxu._name import DEVICE_TYPE

#: What `init_process_group(backend=...)` takes.
BACKEND = f"{DEVICE_TYPE}ccl"


def create_process_group(options: Any, backend_options: Any = None) -> Any:
    """A backend for the group that `options` (torch's `_DistributedBackendOptions`) describes.

    `backend_options`, the `pg_options` of the caller, are None or gloo's. RuntimeError where this torch has no gloo,
    TypeError for options of another backend.
    """
    if not dist.is_gloo_available():
        raise RuntimeError(f"{BACKEND} communicates by gloo, which this PyTorch was built without")
    gloo: Any = dist.ProcessGroupGloo

    if backend_options is None:
        group = gloo(options.store, options.group_rank, options.group_size, timeout=options.timeout)
    elif isinstance(backend_options, gloo._Options):
        backend_options._timeout = options.timeout
        backend_options._devices = backend_options._devices or [gloo.create_default_device()]
        group = gloo(options.store, options.group_rank, options.group_size, backend_options)
    else:
        raise TypeError(f"{BACKEND} takes pg_options of ProcessGroupGloo, not {type(backend_options).__name__}")
    group.options.global_ranks_in_group = options.global_ranks_in_group
    group.options.group_name = options.group_id
    group._set_sequence_number_for_group()
    return _C.new_process_group(group, BACKEND)


def register() -> None:
    """Names the backend to torch.distributed, which `import torch` has imported. Does nothing where it is left out of
    this PyTorch."""
    if torch.distributed.is_available():
        dist.Backend.register_backend(BACKEND, create_process_group, extended_api=True, devices=[DEVICE_TYPE])
