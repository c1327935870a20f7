"""FX wrapper for gxu: torch._inductor.codegen.wrapper_fxir with the lines that it does not convert.

PyTorch's wrapper turns objects into graph nodes, and refuses lines that are plain Python: copies between devices, and
the checks of buffers that are on by default. Its graph modules also leave the devices' indices out.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch._C._dynamo.guards import assert_alignment
from torch._inductor.codegen.wrapper import WrapperLine
from torch._inductor.codegen.wrapper_fxir import WrapperFxCodegen
from torch._inductor.virtualized import V
from torch.fx import GraphModule

from gxu.inductor import compat
from gxu.inductor.device import device_module


def assert_no_nan(tensor: torch.Tensor, name: str) -> None:
    """AssertionError where the buffer `name` has a NaN."""
    assert not tensor.isnan().any().item(), f"{name} has a NaN"


def assert_no_inf(tensor: torch.Tensor, name: str) -> None:
    """AssertionError where the buffer `name` has an infinity."""
    assert not tensor.isinf().any().item(), f"{name} has an infinity"


@dataclass
class CallLine(WrapperLine):
    """Calls a function with buffers, given by their names, and then constants."""

    function: Callable[..., Any]
    buffers: tuple[str, ...]
    constants: tuple[Any, ...] = ()

    def codegen_fx(self, converter: Any) -> Callable[[WrapperLine], None]:
        def generate(line: WrapperLine) -> None:
            nodes = tuple(converter.buffer_to_node[name] for name in self.buffers)
            converter.gm.graph.call_function(self.function, (*nodes, *self.constants))

        return generate


def _check(line: str) -> CallLine | None:
    """The check that a line of Python code makes."""
    if found := re.fullmatch(r"assert not (\w+)\.isnan\(\)\.any\(\)\.item\(\)", line):
        return CallLine(assert_no_nan, (found[1],), (found[1],))
    if found := re.fullmatch(r"assert not (\w+)\.isinf\(\)\.any\(\)\.item\(\)", line):
        return CallLine(assert_no_inf, (found[1],), (found[1],))
    if found := re.fullmatch(r"assert_alignment\((\w+), (\d+), '([^']*)'\)", line):
        return CallLine(assert_alignment, (found[1],), (int(found[2]), found[3]))
    return None


class GXUWrapperFxCodegen(WrapperFxCodegen):
    """Wrapper code as a graph module, called with the graph's device as the current one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Code generation for gxu has begun, even where no tensor was made yet: see compat.has_triton.
        compat.mark_used()
        super().__init__(*args, **kwargs)

    def writeline(self, line: Any) -> None:
        super().writeline((_check(line) or line) if isinstance(line, str) else line)

    def codegen_device_copy(self, src: str, dst: str, non_blocking: bool | str) -> None:
        self.writeline(CallLine(torch.ops.aten.copy_.default, (dst, src), (str(non_blocking) == "True",)))

    def sync_d2h_copy(self, buffer_name: str) -> None:
        self.writeline(CallLine(device_module().synchronize, ()))

    def compile_graph(self, gm: GraphModule) -> Callable[..., Any]:
        # The graph allocates and launches on the current device: its lines that would change it are left out.
        device = next(iter(V.graph.device_idxs), None)
        run = super().compile_graph(gm)
        if device is None:
            return run

        def run_on_device(*args: Any) -> Any:
            with device_module()._DeviceGuard(device):
                return run(*args)

        return run_on_device
