"""Fixtures of the Triton backend's tests."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def gxu_device() -> None:
    """The device is up before a test starts; a kernel that fails reports itself in its own test."""
    torch.gxu.synchronize()
