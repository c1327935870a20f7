"""The patches of compilation itself: how Inductor's passes are called, and what code generation accepts."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from gxu.inductor.device import DEVICE_TYPE, is_gxu_tensor
from gxu.inductor.frame_stack import call_with_frame_room


def patch_frame_stack() -> None:
    """Graphs of gxu are compiled with room on the stack of frames, which spares Python's mapping and unmapping it.

    Needed until every CPython that torch supports keeps a chunk of it (python/cpython#142183).
    """
    from torch._inductor import compile_fx

    original: Callable[..., Any] = compile_fx.fx_codegen_and_compile
    if getattr(original, "_gxu", False):
        return

    @functools.wraps(original)
    def fx_codegen_and_compile(gm: torch.fx.GraphModule, example_inputs: Any, *args: Any, **kwargs: Any) -> Any:
        values = (node.meta.get("val") for node in gm.graph.nodes)
        if any(map(is_gxu_tensor, example_inputs)) or any(map(is_gxu_tensor, values)):
            return call_with_frame_room(original, gm, example_inputs, *args, **kwargs)
        return original(gm, example_inputs, *args, **kwargs)

    fx_codegen_and_compile._gxu = True  # type: ignore[attr-defined]
    compile_fx.fx_codegen_and_compile = fx_codegen_and_compile


def patch_fx_numbers() -> None:
    """The FX wrapper takes a kernel's arguments for integers and sizes, and refuses a float that a user's kernel is
    called with, on every device."""
    from torch._inductor.codegen.wrapper_fxir import FxConverter
    from torch._inductor.virtualized import V

    original: Callable[..., Any] = FxConverter._generate_sym_node
    if getattr(original, "_gxu", False):
        return

    @functools.wraps(original)
    def _generate_sym_node(self: FxConverter, s: Any) -> Any:
        if isinstance(s, float) and DEVICE_TYPE in V.graph.device_types:
            return s
        return original(self, s)

    _generate_sym_node._gxu = True  # type: ignore[attr-defined]
    FxConverter._generate_sym_node = _generate_sym_node  # type: ignore[method-assign]
