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
from torch._C._dynamo import guards
from torch._inductor.codegen.wrapper import WrapperLine
from torch._inductor.codegen.wrapper_fxir import WrapperFxCodegen
from torch._inductor.virtualized import V
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx import GraphModule

from gxu.inductor import compat
from gxu.inductor.complex_copies import Copy
from gxu.inductor.device import device_module
from gxu.inductor.wrapper import UserKernelLines


def _has_values(tensor: torch.Tensor) -> bool:
    """False while the graph is made: its functions then run on tensors without memory."""
    return not isinstance(tensor, FakeTensor)


def assert_no_nan(tensor: torch.Tensor, name: str) -> None:
    """AssertionError where the buffer `name` has a NaN."""
    assert not _has_values(tensor) or not tensor.isnan().any().item(), f"{name} has a NaN"


def assert_no_inf(tensor: torch.Tensor, name: str) -> None:
    """AssertionError where the buffer `name` has an infinity."""
    assert not _has_values(tensor) or not tensor.isinf().any().item(), f"{name} has an infinity"


def assert_alignment(tensor: torch.Tensor, alignment: int, operator: str) -> None:
    """AssertionError where the result of `operator` does not start at a multiple of `alignment` bytes."""
    if _has_values(tensor):
        guards.assert_alignment(tensor, alignment, operator)


def copy_elements(source: tuple[Any, ...], target: tuple[Any, ...]) -> None:
    """Copies between strided views, each given by a tensor and sizes, strides and an offset in elements from there."""
    from_, to = (
        tensor.as_strided(size, stride, tensor.storage_offset() + offset)
        for tensor, size, stride, offset in (source, target)
    )
    to.copy_(from_)


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


@dataclass
class StridedCopyLine(WrapperLine):
    """Copies elements of one buffer to elements of another."""

    copy: Copy

    def codegen_fx(self, converter: Any) -> Callable[[WrapperLine], None]:
        def generate(line: WrapperLine) -> None:
            views = (
                (
                    converter.buffer_to_node[view.name],
                    converter._generate_sym_nodes(view.size),
                    converter._generate_sym_nodes(view.stride),
                    converter._generate_sym_node(view.offset),
                )
                for view in self.copy
            )
            converter.gm.graph.call_function(copy_elements, tuple(views))

        return generate


def _call(line: str) -> CallLine | None:
    """What a line of Python code does, where it is a check or the clearing of a workspace."""
    if found := re.fullmatch(r"assert not (\w+)\.isnan\(\)\.any\(\)\.item\(\)", line):
        return CallLine(assert_no_nan, (found[1],), (found[1],))
    if found := re.fullmatch(r"assert not (\w+)\.isinf\(\)\.any\(\)\.item\(\)", line):
        return CallLine(assert_no_inf, (found[1],), (found[1],))
    if found := re.fullmatch(r"assert_alignment\((\w+), (\d+), '([^']*)'\)", line):
        return CallLine(assert_alignment, (found[1],), (int(found[2]), found[3]))
    if found := re.fullmatch(r"(\w+)\.zero_\(\)", line):
        return CallLine(torch.ops.aten.zero_.default, (found[1],))
    return None


class GXUWrapperFxCodegen(UserKernelLines, WrapperFxCodegen):
    """Wrapper code as a graph module, called with the graph's device as the current one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Code generation for gxu has begun, even where no tensor was made yet: see compat.has_triton.
        compat.mark_used()
        super().__init__(*args, **kwargs)

    def _generate(self, is_inference: bool) -> Any:
        # The converter runs the graph's functions on tensors without memory, but on constants as they are.
        mode = V.fake_mode
        allowed, mode.allow_non_fake_inputs = mode.allow_non_fake_inputs, True
        try:
            return super()._generate(is_inference)
        finally:
            mode.allow_non_fake_inputs = allowed

    def writeline(self, line: Any) -> None:
        if isinstance(line, str):
            if line.lstrip().startswith("#"):
                return  # a comment: that a result is not assumed to be aligned, say
            line = _call(line) or line
        if not compat.is_left_out_of_fx(line):
            super().writeline(line)

    def codegen_device_copy(self, src: str, dst: str, non_blocking: bool | str) -> None:
        self.writeline(CallLine(torch.ops.aten.copy_.default, (dst, src), (str(non_blocking) == "True",)))

    def codegen_strided_copy(self, copy: Copy) -> None:
        self.writeline(StridedCopyLine(copy))

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
