"""Saving and replaying gxu's random-number state inside compiled graphs (torch._prims.rng_prims)."""

from __future__ import annotations

from typing import Any

import torch
from torch._C import DispatchKey
from torch._prims import rng_prims

from gxu.inductor.device import device_module


def _run_and_save_rng_state(op: Any, *args: Any, **kwargs: Any) -> Any:
    return device_module().get_rng_state(), op(*args, **kwargs)


def _run_with_rng_state(rng_state: torch.Tensor, op: Any, *args: Any, **kwargs: Any) -> Any:
    current = device_module().get_rng_state()
    device_module().set_rng_state(rng_state.cpu())
    try:
        return op(*args, **kwargs)
    finally:
        device_module().set_rng_state(current)


def register() -> None:
    """Gives both higher-order operators an implementation for gxu tensors. Idempotent."""
    for operator, implementation in (
        (rng_prims.run_and_save_rng_state, _run_and_save_rng_state),
        (rng_prims.run_with_rng_state, _run_with_rng_state),
    ):
        if DispatchKey.PrivateUse1 not in operator.py_kernels:
            operator.py_impl(DispatchKey.PrivateUse1)(implementation)
