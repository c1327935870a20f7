"""Products with a vector as sums, which autotuning measures against the library's operator.

With one row or one column there is nothing to reuse in a tile: the product is as fast as memory, the sum's kernel fuses
with what is around it, and which is faster depends on the dtype and on which dimension is contiguous.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any
from unittest import mock

import torch
from torch._dispatch.python import enable_python_dispatcher
from torch._inductor.codegen.subgraph import SubgraphChoiceCaller, inline_subgraph_to_ir_nodes
from torch._inductor.decomposition import select_decomp_table
from torch._inductor.ir import TensorBox
from torch._inductor.virtualized import V
from torch._prims_common import get_computation_dtype
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

_indices = itertools.count()


def has_sum(mat1: Any, mat2: Any) -> bool:
    """Whether the product `[..., m, k] @ [..., k, n]` is one with a vector, m or n being 1, that can be measured."""
    known_equals, known_gt = V.graph.sizevars.statically_known_equals, V.graph.sizevars.statically_known_gt
    if not (known_equals(mat1.get_size()[-2], 1) or known_equals(mat2.get_size()[-1], 1)):
        return False
    sizes = (*mat1.get_size(), *mat2.get_size())
    # A measurement needs elements, and a guess of how many. Triton has no complex numbers.
    return (
        all(known_gt(size, 0) for size in sizes)
        and not free_unbacked_symbols(sizes)
        and not mat1.get_dtype().is_complex
    )


def as_sum(mat1: torch.Tensor, mat2: torch.Tensor) -> torch.Tensor:
    """`mat1 @ mat2`, added up in the type that the dtype's arithmetic has: float32 for bfloat16."""
    dtype = get_computation_dtype(mat1.dtype)
    products = mat1.to(dtype).unsqueeze(-1) * mat2.to(dtype).unsqueeze(-3)
    return products.sum(-2, dtype=dtype).to(mat1.dtype)


class SumChoice(SubgraphChoiceCaller):
    """`as_sum` as a candidate of autotuning. Chosen, it is lowered in place, where it fuses like any other sum."""

    def __init__(self, operands: Sequence[Any], layout: Any) -> None:
        with enable_python_dispatcher():
            trace = make_fx(as_sum, select_decomp_table())
            super().__init__(f"sum_{next(_indices)}", list(operands), layout, "sum", trace)

    def _compile_for_benchmarking(self) -> Any:
        # What is measured is called from Python, whatever the graph's wrapper.
        with mock.patch.multiple(V.graph, cpp_wrapper=False, aot_mode=False):
            return super()._compile_for_benchmarking()

    def output_node(self) -> TensorBox:
        operands = [TensorBox.create(operand) for operand in self.input_nodes]
        return inline_subgraph_to_ir_nodes(self.gm, operands, self.name)
