"""What the tests of the Triton backend share: guarded buffers, and Triton's own interpreter as a reference.

The interpreter executes a kernel's Python source with numpy, one program and one operation after the other: it knows
nothing of loops, fusion or vectors, so it is what the order of a kernel's loads and stores is held against.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from unittest import mock

import torch
from triton.runtime.interpreter import InterpretedFunction, _patch_lang
from triton.runtime.jit import JITFunction

#: Elements before and after every buffer that no kernel may write.
GUARD = 64


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
        self._bytes = bytes_.to("gxu")
        self._before = bytes_
        inner = self._bytes[self._start : self._end]
        self.tensor = (inner.view(tensor.dtype) if size else tensor.to("gxu")).view(tensor.shape)

    def check(self) -> None:
        after = self._bytes.cpu()
        for part in (slice(0, self._start), slice(self._end, None)):
            assert torch.equal(after[part], self._before[part]), "a kernel wrote outside its buffer"


def launch(kernel: Any, grid: Sequence[int], *args: Any, **meta: Any) -> list[torch.Tensor]:
    """Runs ``kernel`` on gxu with copies of the CPU tensors in ``args``; returns all of them afterwards, on the CPU."""
    guards = [Guarded(a) if isinstance(a, torch.Tensor) else None for a in args]
    values = [a if g is None else g.tensor for a, g in zip(args, guards, strict=True)]
    kernel[tuple(grid)](*values, **meta)
    torch.gxu.synchronize()
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


def assert_same(actual: torch.Tensor, expected: torch.Tensor, rtol: float = 0.0, atol: float = 0.0) -> None:
    """Equal numbers, NaN at the same places; exactly so unless tolerances are given."""
    assert actual.dtype == expected.dtype
    if actual.dtype.itemsize == 1 and actual.is_floating_point():
        actual, expected = actual.view(torch.uint8), expected.view(torch.uint8)
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=atol, equal_nan=True)


def agree(
    kernel: Any, grid: Sequence[int], *args: Any, rtol: float = 0.0, atol: float = 0.0, **meta: Any
) -> list[torch.Tensor]:
    """Every tensor in ``args`` is the same after gxu ran ``kernel`` as after the interpreter did. Returns gxu's."""
    actual = launch(kernel, grid, *args, **meta)
    for number, (got, wanted) in enumerate(zip(actual, interpret(kernel, grid, *args, **meta), strict=True)):
        try:
            assert_same(got, wanted, rtol, atol)
        except AssertionError as error:
            raise AssertionError(f"tensor argument {number}: {error}") from None
    return actual


def random_bits(count: int, dtype: torch.dtype) -> torch.Tensor:
    """Numbers of every kind that ``dtype`` has, uniform over its bit patterns."""
    if dtype == torch.bool:
        return torch.randint(0, 2, (count,)).bool()
    return torch.randint(0, 256, (count * dtype.itemsize,), dtype=torch.uint8).view(dtype)
