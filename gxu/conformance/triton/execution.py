"""Runs one kernel on the device, with guarded buffers, and by Triton's own interpreter.

The interpreter executes a kernel's Python source with numpy, one program and one operation after the other: it knows
nothing of loops, fusion or vectors, so it is what the order of a kernel's loads and stores is held against.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from triton.runtime.interpreter import InterpretedFunction, _patch_lang
from triton.runtime.jit import JITFunction

from gxu._name import DEVICE_TYPE
from gxu.triton.compat import patch_interpreted_scalars

patch_interpreted_scalars()

#: Elements before and after every buffer that no kernel may write.
GUARD = 64

HEADER = """import triton
import triton.language as tl
from triton.language.extra import libdevice

from gxu._name import DEVICE_TYPE

"""


class Guarded:
    """A gxu tensor with guard elements on both sides; ``check`` fails if any of them changed."""

    def __init__(self, tensor: torch.Tensor, offset: int = 0) -> None:
        flat = tensor.contiguous().reshape(-1)
        size = flat.numel()
        bytes_ = torch.full(((size + 2 * GUARD + offset) * flat.element_size(),), 0xA5, dtype=torch.uint8)
        if flat.dtype == torch.bool:
            bytes_.fill_(1)
        self._start = (GUARD + offset) * flat.element_size()
        self._end = self._start + size * flat.element_size()
        bytes_[self._start : self._end] = flat.view(torch.uint8)
        self._bytes = bytes_.to(DEVICE_TYPE)
        self._before = bytes_
        inner = self._bytes[self._start : self._end]
        self.tensor = (inner.view(tensor.dtype) if size else tensor.to(DEVICE_TYPE)).view(tensor.shape)

    def check(self) -> None:
        after = self._bytes.cpu()
        for part in (slice(0, self._start), slice(self._end, None)):
            if not torch.equal(after[part], self._before[part]):
                raise AssertionError("a kernel wrote outside its buffer")


def launch(kernel: Any, grid: Sequence[int], *args: Any, **meta: Any) -> list[torch.Tensor]:
    """Runs ``kernel`` on gxu with copies of the CPU tensors in ``args``; returns all of them afterwards, on the CPU."""
    guards = [Guarded(a) if isinstance(a, torch.Tensor) else None for a in args]
    values = [a if g is None else g.tensor for a, g in zip(args, guards, strict=True)]
    kernel[tuple(grid)](*values, **meta)
    torch.accelerator.synchronize(DEVICE_TYPE)
    for guard in guards:
        if guard is not None:
            guard.check()
    return [g.tensor.cpu() for g in guards if g is not None]


def interpret(kernel: Any, grid: Sequence[int], *args: Any, **meta: Any) -> list[torch.Tensor]:
    """As :func:`launch`, executed by Triton's interpreter."""
    copies = [a.clone() if isinstance(a, torch.Tensor) else a for a in args]
    with mock.patch.object(JITFunction, "__call__", _call_interpreted):
        InterpretedFunction(kernel.fn)[tuple(grid)](*copies, **meta)
    return [c for c in copies if isinstance(c, torch.Tensor)]


def _call_interpreted(self: JITFunction, *args: Any, **kwargs: Any) -> Any:
    """A call of one @triton.jit function in another, inside the interpreter; leaves the language as it was."""
    scope = _patch_lang(self.fn)
    try:
        return InterpretedFunction(self.fn).rewrite()(*args, **kwargs)
    finally:
        scope.restore()


@functools.lru_cache(maxsize=64)
def kernel_of(source: str) -> Any:
    """The function ``kernel`` of a module with this text: Triton and its interpreter read sources from a file."""
    folder = os.environ.get("GXU_CONFORMANCE_DIR") or _temporary_folder().name
    path = Path(folder) / f"kernel_{hashlib.sha256(source.encode()).hexdigest()[:16]}.py"
    if (
        not path.exists()
    ):  # the processes of a run share the folder: a file is there as a whole, and is not written again
        with tempfile.NamedTemporaryFile("w", dir=folder, suffix=".new", delete=False) as file:
            file.write(HEADER + source)
        Path(file.name).replace(path)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise RuntimeError(f"{path} is no module")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.kernel


@functools.cache
def _temporary_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="gxu-conformance-")
