"""Python wrapper code for gxu: torch._inductor.codegen.wrapper with this device's allocation."""

from __future__ import annotations

from typing import Any

from torch._inductor import config as inductor_config
from torch._inductor.codegen.wrapper import PythonWrapperCodegen, SubgraphPythonWrapperCodegen

from gxu.inductor import compat
from gxu.inductor.device import DEVICE_TYPE


class _GXUAllocation(PythonWrapperCodegen):
    """Allocates gxu buffers with `gxu._C.empty_strided_gxu`, about a microsecond faster than torch.empty_strided."""

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


class GXUPythonWrapperCodegen(_GXUAllocation):
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
        self.header.writeline("from gxu._C import empty_strided_gxu")


class GXUSubgraphPythonWrapperCodegen(_GXUAllocation, SubgraphPythonWrapperCodegen):
    """Wrapper of a subgraph, whose header is its parent's."""
