"""Cases of the OpInfo database with sparse inputs, in each layout that an operator supports."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch.testing._internal.common_methods_invocations import op_db
from torch.utils._pytree import tree_map

from gxu.conformance.case import Case
from gxu.conformance.eager import calls, gradients
from gxu.conformance.eager.check import check_samples
from gxu.conformance.eager.operators import name_of

LAYOUTS = (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc)


def cases() -> list[Case]:
    return [case for op in op_db for case in _of_operator(op)]


def _of_operator(op: Any) -> Iterator[Case]:
    for layout in LAYOUTS:
        if not op.supports_sparse_layout(layout):
            continue
        name = str(layout).removeprefix("torch.")
        for dtype in sorted(op.supported_dtypes("cpu"), key=str):
            label = str(dtype).removeprefix("torch.")
            yield Case(name_of(op), label, name, functools.partial(_forward, op, layout, dtype))
            if op.supports_autograd and dtype == torch.float64:
                run = functools.partial(_backward, op, layout, dtype)
                yield Case(name_of(op), label, f"{name} backward", run)


def _samples(op: Any, layout: torch.layout, dtype: torch.dtype, requires_grad: bool) -> Iterator[Any]:
    """The database's own; where it has none for the layout, its dense ones with a sparse first tensor."""
    if getattr(op, f"sample_inputs_{str(layout).removeprefix('torch.')}_func").__name__ != "_sample_inputs_unspecified":
        yield from op.sample_inputs_sparse(layout, "cpu", dtype, requires_grad=requires_grad)
        return
    for sample in op.sample_inputs("cpu", dtype):
        dense = sample.input
        if isinstance(dense, torch.Tensor) and (dense.dim() == 2 or (layout == torch.sparse_coo and dense.dim() > 0)):
            blocksize = (1, 1) if layout in (torch.sparse_bsr, torch.sparse_bsc) else None
            sample.input = dense.detach().to_sparse(layout=layout, blocksize=blocksize).requires_grad_(requires_grad)
            yield sample


def _forward(op: Any, layout: torch.layout, dtype: torch.dtype) -> None:
    check_samples(_samples(op, layout, dtype, False), calls.plainly(op.op))


def _backward(op: Any, layout: torch.layout, dtype: torch.dtype) -> None:
    samples = _samples(op, layout, dtype, True)
    check_samples(samples, gradients.backward(op.op, _to_dense), strides=False)


def _to_dense(result: Any) -> Any:
    return tree_map(lambda v: v.to_dense() if isinstance(v, torch.Tensor) and v.layout in LAYOUTS else v, result)
