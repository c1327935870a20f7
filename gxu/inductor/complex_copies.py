"""Copies of complex tensors in compiled code.

Inductor calls the operator for everything that computes on complex numbers, but copies it makes itself (for a clone, or
for the strides that an operator wants), and Triton has no complex types. Here each is a call of the operator, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import sympy
from torch._inductor import ir
from torch._inductor.loop_body import MemoryUsageType
from torch._inductor.scheduler import BaseSchedulerNode, SchedulerNode
from torch._inductor.virtualized import V


class StridedView(NamedTuple):
    """Elements of the buffer `name`: sizes, strides and offset in elements."""

    name: str
    size: list[sympy.Expr]
    stride: list[sympy.Expr]
    offset: sympy.Expr


class Copy(NamedTuple):
    source: StridedView
    target: StridedView


def writes_complex(node: BaseSchedulerNode) -> bool:
    """Whether a node, or one of those that were fused into it, computes complex numbers."""
    return any(
        isinstance(part, SchedulerNode)
        and isinstance(part.node, ir.ComputedBuffer)
        and part.node.get_dtype().is_complex
        for part in node.get_nodes()
    )


def copy_of(node: BaseSchedulerNode) -> Copy | None:
    """The copy that a node of complex numbers is. None where it is something else, or reads what is no strided view."""
    if not isinstance(node, SchedulerNode) or not writes_complex(node):
        return None
    body = node._body
    if body.reduce_vars or not body.is_memory_copy():
        return None
    views = []
    for usage in (MemoryUsageType.LOAD, MemoryUsageType.STORE):
        (entry,) = body.memory_usage[usage]
        assert entry.buffer_name is not None
        view = _view(entry.buffer_name, body.indexing_exprs[entry.index_name], body.iter_vars, body.sizes[0])
        if entry.mode is not None or view is None:
            return None
        views.append(view)
    return Copy(*views)


def _view(name: str, index: sympy.Expr, variables: Sequence[Any], size: Sequence[Any]) -> StridedView | None:
    sizevars = V.graph.sizevars
    stride = sizevars.stride_vars(index, variables)
    offset = sizevars.offset_var(index, variables)
    linear = offset + sum(step * variable for step, variable in zip(stride, variables, strict=True))
    if sizevars.simplify(index - linear) != 0 or any(set(variables) & step.free_symbols for step in stride):
        return None
    scheduler = V.graph.scheduler
    return StridedView(scheduler.mutation_real_name.get(name, name), list(size), list(stride), offset)


def generate(copy: Copy) -> None:
    """Writes the copy's line into the graph's wrapper."""
    wrapper: Any = V.graph.wrapper_code
    if hasattr(wrapper, "codegen_strided_copy"):
        wrapper.codegen_strided_copy(copy)
        return
    source, target = (
        wrapper.codegen_reinterpret_view(_buffer(name), size, stride, offset, wrapper.writeline)
        for name, size, stride, offset in copy
    )
    wrapper.codegen_device_copy(source, target, "false" if V.graph.cpp_wrapper else "False")


def _buffer(name: str) -> Any:
    buffer = V.graph.try_get_buffer(name)
    while isinstance(buffer, (ir.TensorBox, ir.StorageBox)):
        buffer = buffer.data
    return buffer
