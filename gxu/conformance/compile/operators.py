"""Cases of the OpInfo database: every operator, in the dtypes of PyTorch's own Inductor tests."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch.testing._internal.common_methods_invocations import op_db

from gxu.conformance.case import Case
from gxu.conformance.compile.check import check_samples
from gxu.conformance.eager import gradients
from gxu.conformance.eager.calls import plainly
from gxu.conformance.eager.check import Call
from gxu.conformance.eager.operators import has_values, name_of, placed

#: As in PyTorch's test_torchinductor_opinfo.py, and bfloat16 and complex64.
DTYPES = (
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.int32,
    torch.int64,
    torch.bool,
    torch.complex64,
)
#: For dynamic shapes, which use the same kernels; in static shapes these have more samples than the other dtypes.
DYNAMIC = (torch.float32, torch.int64)
DIFFERENTIATED = (torch.float32,)
#: Compiled samples of a case, spread evenly over all that the database has.
SAMPLES, SAMPLES_OF_OTHER_KINDS = 4, 2


def cases() -> list[Case]:
    return [case for op in op_db for case in _of_operator(op)]


def _of_operator(op: Any) -> Iterator[Case]:
    supported = op.supported_dtypes("cpu")
    for dtype in DTYPES:
        if dtype not in supported:
            continue
        yield _case(op, dtype, "static", _forward, dynamic=False)
        if dtype in DYNAMIC:
            yield _case(op, dtype, "dynamic", _forward, dynamic=True)
    if op.supports_autograd:
        for dtype in DIFFERENTIATED:
            if dtype in op.supported_backward_dtypes("cpu"):
                yield _case(op, dtype, "backward", _backward, dynamic=False)


def _case(op: Any, dtype: torch.dtype, kind: str, run: Callable[..., None], dynamic: bool) -> Case:
    return Case(
        name_of(op), str(dtype).removeprefix("torch."), kind, functools.partial(run, op, dtype, dynamic=dynamic)
    )


def _forward(op: Any, dtype: torch.dtype, dynamic: bool) -> None:
    count = SAMPLES if dtype in DYNAMIC and not dynamic else SAMPLES_OF_OTHER_KINDS
    samples = _spread(op.sample_inputs("cpu", dtype), count)
    calls: list[tuple[Any, Call]] = [(sample, plainly(op.op)) for sample in placed(op, samples)]
    check_samples(calls, dynamic=dynamic, values=has_values(op))


def _backward(op: Any, dtype: torch.dtype, dynamic: bool) -> None:
    samples = _spread(op.sample_inputs("cpu", dtype, requires_grad=True), SAMPLES_OF_OTHER_KINDS)
    function = functools.partial(op.gradcheck_wrapper, op.op)
    calls = [(sample, gradients.backward(function, sample.output_process_fn_grad)) for sample in placed(op, samples)]
    check_samples(calls, dynamic=dynamic, values=True)


def _spread(samples: Iterable[Any], count: int) -> list[Any]:
    found = list(samples)
    if len(found) <= count:
        return found
    return [found[index * (len(found) - 1) // (count - 1)] for index in range(count)]
