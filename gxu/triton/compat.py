"""Patches of Triton: what no seam of a backend reaches. They are idempotent and answer for gxu alone."""

from __future__ import annotations

import functools
import importlib
import os
from typing import Any

from .image import is_sealed

_NO_SASS = (
    "# This kernel is machine code of the host's CPU, not SASS: read its .asm stage, or disassemble the .cubin file, "
    "which is an ELF shared object, with objdump -d.\n"
)


def patch_sass() -> None:
    """Whatever is called `cubin` is taken for NVIDIA's: TRITON_KERNEL_DUMP=1 and ``kernel.asm["sass"]`` give it to
    cuobjdump, which fails. (Inductor looks for the name `cubin`, so an image of gxu has it.)"""
    compiler: Any = importlib.import_module("triton.compiler.compiler")
    original: Any = compiler.get_sass
    if getattr(original, "_gxu", False):
        return

    @functools.wraps(original)
    def get_sass(cubin_asm: bytes, fun: str | None = None) -> Any:
        return _NO_SASS if is_sealed(cubin_asm) else original(cubin_asm, fun)

    get_sass._gxu = True  # type: ignore[attr-defined]
    compiler.get_sass = get_sass


def patch_default_backend() -> None:
    """Triton 3.6 does not know TRITON_DEFAULT_BACKEND: on a machine with a GPU, whose driver is active too, it refuses
    to choose. Later versions make the driver that the variable names. Applied when Triton's module is imported."""
    module: Any = importlib.import_module("triton.runtime.driver")
    original: Any = module._create_driver
    if getattr(original, "_gxu", False) or "TRITON_DEFAULT_BACKEND" in original.__code__.co_consts:
        return

    @functools.wraps(original)
    def _create_driver() -> Any:
        if os.environ.get("TRITON_DEFAULT_BACKEND") == "gxu":
            from .driver import GXUDriver

            return GXUDriver()
        return original()

    _create_driver._gxu = True  # type: ignore[attr-defined]
    module._create_driver = _create_driver


def patch_interpreted_scalars() -> None:
    """Triton 3.6's interpreter, for which scalars are arrays of one element, turns those into numbers in a way that
    NumPy 2.4 refuses: no loop over `tl.range` runs in it. Only the conformance suite applies this."""
    import triton

    if tuple(map(int, triton.__version__.split(".")[:2])) >= (3, 7):
        return
    module: Any = importlib.import_module("triton.runtime.interpreter")
    original: Any = module._patch_lang_tensor
    if getattr(original, "_gxu", False):
        return

    @functools.wraps(original)
    def _patch_lang_tensor(tensor: Any, scope: Any) -> None:
        original(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.squeeze()))

    _patch_lang_tensor._gxu = True  # type: ignore[attr-defined]
    module._patch_lang_tensor = _patch_lang_tensor
