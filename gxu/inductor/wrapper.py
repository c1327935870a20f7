"""Python wrapper code for gxu: torch._inductor.codegen.wrapper with this device's allocation."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

from torch._inductor import config as inductor_config
from torch._inductor.codegen.wrapper import (
    AllocateLine,
    EnterDeviceContextManagerLine,
    ExitDeviceContextManagerLine,
    PythonWrapperCodegen,
    SubgraphPythonWrapperCodegen,
)
from torch._inductor.utils import IndentedBuffer
from torch._inductor.virtualized import V

from gxu.inductor import async_compile, compat
from gxu.inductor.device import DEVICE_TYPE
from gxu.inductor.scheduling import GXUTritonKernel


@dataclass
class EnterDeviceLine(EnterDeviceContextManagerLine):
    """Makes a device the current one: two calls of a C function, where a context manager takes four times as long."""

    previous: str

    def codegen(self, code: IndentedBuffer) -> None:
        code.writeline(f"{self.previous} = exchange_device({self.device_idx})")
        code.writeline("try:")
        code.do_indent()
        code.writeline("pass")  # the lines that follow may all turn out to be nothing


@dataclass
class ExitDeviceLine(ExitDeviceContextManagerLine):
    """Goes back to the device that was current before."""

    previous: str

    def codegen(self, code: IndentedBuffer) -> None:
        code.do_unindent()
        code.writeline("finally:")
        with code.indent():
            code.writeline(f"exchange_device({self.previous})")


class CommBufferLine(AllocateLine):
    """Allocates a buffer that other processes' devices reach; torch's line names a cuda device."""

    def _codegen_comm_buffer(self, code: IndentedBuffer) -> None:
        line = IndentedBuffer()
        super()._codegen_comm_buffer(line)
        code.splice(line.getvalue().replace('torch.device("cuda:', f'torch.device("{DEVICE_TYPE}:'))


class UserKernelLines(PythonWrapperCodegen):
    """Defines the kernels that users wrote as the device's own are defined: of `gxu.inductor.heuristics`."""

    @classmethod
    def _get_triton_info_kernel_cls(cls) -> Any:
        on_gxu = V.graph.get_current_device_or_throw().type == DEVICE_TYPE
        return GXUTritonKernel if on_gxu else super()._get_triton_info_kernel_cls()


class _GXULines(UserKernelLines):
    """Allocates gxu buffers and sets the device with functions of `gxu._C`, about a microsecond faster than torch's."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._guard_ids = itertools.count()
        self._guards: list[str] = []
        super().__init__(*args, **kwargs)

    def writeline(self, line: Any) -> None:
        if type(line) is AllocateLine and line.comm_buffer:
            line = CommBufferLine(self, line.node, comm_buffer=True)
        super().writeline(line)

    def codegen_device_guard_enter(self, device_idx: int, *args: Any, **kwargs: Any) -> None:
        super().codegen_device_guard_enter(device_idx, *args, **kwargs)
        if type(line := self.lines[-1]) is EnterDeviceContextManagerLine:
            self._guards.append(f"device_before{next(self._guard_ids)}")
            self.lines[-1] = EnterDeviceLine(device_idx, line.last_seen_device_guard_index, self._guards[-1])

    def codegen_device_guard_exit(self) -> None:
        super().codegen_device_guard_exit()
        if type(self.lines[-1]) is ExitDeviceContextManagerLine:
            self.lines[-1] = ExitDeviceLine(self._guards.pop())

    def make_allocation(
        self,
        name: str,
        device: Any,
        dtype: Any,
        shape: Any,
        stride: Any,
        allocation_shape: Any = None,
        is_pinned: bool = False,
    ) -> str:
        # The function allocates on the current device, which the surrounding device guard has set.
        if device.type != DEVICE_TYPE or inductor_config.test_configs.track_memory_lifecycle:
            return super().make_allocation(name, device, dtype, shape, stride, allocation_shape, is_pinned)
        shape_code = self.codegen_python_shape_tuple(shape)
        stride_code = self.codegen_python_shape_tuple(stride)
        allocated = shape_code if allocation_shape is None else self.codegen_python_shape_tuple(allocation_shape)
        line = f"{name} = empty_strided_gxu({allocated}, {stride_code}, {dtype})"
        return line if allocated == shape_code else f"{line}.as_strided({shape_code}, {stride_code})"


class GXUPythonWrapperCodegen(_GXULines):
    """Wrapper of a whole graph."""

    def __init__(self) -> None:
        # Code generation for gxu has begun, even where no tensor was made yet: see compat.has_triton.
        compat.mark_used()
        super().__init__()

    @staticmethod
    def create(
        is_subgraph: bool,
        subgraph_name: str | None,
        parent_wrapper: PythonWrapperCodegen | None,
        partition_signatures: Any = None,
    ) -> PythonWrapperCodegen:
        if not is_subgraph:
            return GXUPythonWrapperCodegen()
        assert subgraph_name is not None
        assert parent_wrapper is not None
        return GXUSubgraphPythonWrapperCodegen(subgraph_name, parent_wrapper, partition_signatures)

    def write_header(self) -> None:
        super().write_header()
        self.imports.writeline(f"from {async_compile.__name__} import AsyncCompile")  # in the place of torch's
        self.header.writeline("from gxu._C import empty_strided_gxu, exchange_device")
        if inductor_config.annotate_training:
            self.header.writeline("from gxu import nvtx")  # in the place of torch.cuda's, which torch's header has


class GXUSubgraphPythonWrapperCodegen(_GXULines, SubgraphPythonWrapperCodegen):
    """Wrapper of a subgraph, whose header is its parent's."""
