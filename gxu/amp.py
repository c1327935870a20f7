"""Automatic mixed precision."""

from __future__ import annotations

import torch


def get_amp_supported_dtype() -> list[torch.dtype]:
    """The data types that torch.autocast("gxu") accepts."""
    return [torch.bfloat16, torch.float16]


def is_autocast_available() -> bool:
    return True
