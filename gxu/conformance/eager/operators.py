"""Cases of the OpInfo database: every operator, dtype, and way to call it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch.testing._internal.common_methods_invocations import (
    foreach_binary_op_db,
    foreach_other_op_db,
    foreach_pointwise_op_db,
    foreach_reduce_op_db,
    foreach_unary_op_db,
    op_db,
)

from gxu.conformance.case import Case, SkipCase
from gxu.conformance.eager import calls, gradients
from gxu.conformance.eager.check import Call, check_samples
from gxu.conformance.eager.data import DEVICE, Arguments, OnCpu

#: Dtypes for which calls on unusual strides, and the large sets of reference inputs, are made.
REPRESENTATIVE = (torch.float32, torch.int64, torch.complex64)
#: Second derivatives and forward AD are checked in these, as in PyTorch's own tests.
PRECISE = (torch.float64, torch.complex128)
#: Positions, after the first argument, of tensors that PyTorch wants on the CPU for every device.
STAY_ON_CPU = {"tensor_split": (0,)}
#: Operators whose results have other strides than the CPU's on torch.cuda and on gxu: PyTorch's meta kernels promise
#: those, and compiled code asserts them.
STRIDES_OF_CUDA = {"nonzero_static"}

Samples = Iterable[Any]


def cases() -> list[Case]:
    found = []
    for op in op_db:
        found += list(_of_operator(op))
    for op in (
        *foreach_unary_op_db,
        *foreach_binary_op_db,
        *foreach_pointwise_op_db,
        *foreach_reduce_op_db,
        *foreach_other_op_db,
    ):
        found += list(_of_foreach(op))
    return found


def _of_operator(op: Any) -> Iterator[Case]:
    for dtype in sorted(op.supported_dtypes("cpu"), key=str):
        yield _case(op, dtype, "forward", _forward)
        if dtype in REPRESENTATIVE:
            if op.reference_inputs_func is not None:
                yield _case(op, dtype, "reference inputs", _reference)
            yield _case(op, dtype, "noncontiguous", _noncontiguous)
            if op.test_neg_view and dtype != torch.int64:
                yield _case(op, dtype, "negated view", _negated)
        if op.test_conjugated_samples and dtype == torch.complex64:
            yield _case(op, dtype, "conjugated view", _conjugated)
        yield from _forms(op, dtype)
        if op.supports_out:
            yield _case(op, dtype, "out", _out)
    if op.supports_autograd:
        for dtype in sorted(op.supported_backward_dtypes("cpu"), key=str):
            yield _case(op, dtype, "backward", _backward)
            if dtype in PRECISE and op.supports_gradgrad:
                yield _case(op, dtype, "double backward", _double_backward)
            if dtype in PRECISE and op.supports_forward_ad:
                yield _case(op, dtype, "forward AD", _forward_mode)
            if dtype in PRECISE and op.supports_inplace_autograd and op.get_inplace() is not None:
                yield _case(op, dtype, "in-place backward", _in_place_backward)
    if op.error_inputs_func is not None:
        yield Case(name_of(op), "", "errors", functools.partial(_errors, op))


def _of_foreach(op: Any) -> Iterator[Case]:
    for dtype in sorted(op.supported_dtypes("cpu"), key=str):
        if op.op is not None:
            yield _case(op, dtype, "forward", _forward)
        if op.inplace_variant is not None and op.inplace_variant is not op.op:
            yield _case(op, dtype, "in-place", _in_place)
        if op.supports_autograd and dtype in PRECISE:
            yield _case(op, dtype, "backward", _backward)


def _forms(op: Any, dtype: torch.dtype) -> Iterator[Case]:
    if op.get_method() is not None:
        yield _case(op, dtype, "method", _method)
    if op.get_inplace() is not None:
        yield _case(op, dtype, "in-place", _in_place)
    if op.get_operator() is not None:
        yield _case(op, dtype, "operator", _operator)
    if op.get_inplace_operator() is not None:
        yield _case(op, dtype, "in-place operator", _in_place_operator)


def name_of(op: Any) -> str:
    return f"{op.name}.{op.variant_test_name}" if op.variant_test_name else str(op.name)


def _case(op: Any, dtype: torch.dtype, kind: str, run: Callable[[Any, torch.dtype], None]) -> Case:
    return Case(name_of(op), str(dtype).removeprefix("torch."), kind, functools.partial(run, op, dtype))


def _forward(op: Any, dtype: torch.dtype) -> None:
    _check_plainly(op, op.sample_inputs("cpu", dtype))


def _check_plainly(op: Any, samples: Samples) -> None:
    _check_call(op, samples, calls.plainly(op.op))


def _check_call(op: Any, samples: Samples, call: Call) -> None:
    check_samples(
        placed(op, samples),
        call,
        strides=op.name not in STRIDES_OF_CUDA,
        values=has_values(op),
    )


def has_values(op: Any) -> bool:
    """Whether the numbers of its results mean anything. torch 2.11's OpInfo does not say so: there, by the name."""
    return not getattr(op, "has_nondeterministic_output", "empty" in op.name)


def placed(op: Any, samples: Samples) -> Samples:
    """Factory functions take the device as an argument; some arguments stay on the CPU."""
    stay = STAY_ON_CPU.get(op.name, ())
    for sample in samples:
        if op.is_factory_function:
            sample.kwargs = {**sample.kwargs, "device": "cpu"}
        if stay:
            sample.args = tuple(
                OnCpu(value) if number in stay and isinstance(value, torch.Tensor) else value
                for number, value in enumerate(sample.args)
            )
        yield sample


def _reference(op: Any, dtype: torch.dtype) -> None:
    _check_plainly(op, op.reference_inputs("cpu", dtype))


def _noncontiguous(op: Any, dtype: torch.dtype) -> None:
    _check_plainly(op, (sample.noncontiguous() for sample in op.sample_inputs("cpu", dtype)))


def _viewed(op: Any, dtype: torch.dtype, view: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """The first tensor of each sample, behind a view that leaves its values' signs to be applied later."""

    def samples() -> Samples:
        for sample in op.sample_inputs("cpu", dtype):
            if isinstance(sample.input, torch.Tensor):
                sample.input = view(sample.input)
            elif isinstance(sample.input, list | tuple) and len(sample.input) and torch.is_tensor(sample.input[0]):
                sample.input = [view(sample.input[0]), *sample.input[1:]]
            else:
                continue
            yield sample

    _check_plainly(op, samples())


def _negated(op: Any, dtype: torch.dtype) -> None:
    _viewed(op, dtype, torch._neg_view)


def _conjugated(op: Any, dtype: torch.dtype) -> None:
    _viewed(op, dtype, torch.conj)


def _method(op: Any, dtype: torch.dtype) -> None:
    _check_call(op, op.sample_inputs("cpu", dtype), calls.plainly(op.get_method()))


def _operator(op: Any, dtype: torch.dtype) -> None:
    check_samples(placed(op, op.sample_inputs("cpu", dtype)), calls.plainly(op.get_operator()))


def _in_place(op: Any, dtype: torch.dtype) -> None:
    check_samples(placed(op, op.sample_inputs("cpu", dtype)), calls.in_place(op.get_inplace()))


def _in_place_operator(op: Any, dtype: torch.dtype) -> None:
    check_samples(placed(op, op.sample_inputs("cpu", dtype)), calls.in_place(op.get_inplace_operator()))


def _out(op: Any, dtype: torch.dtype) -> None:
    samples = placed(op, op.sample_inputs("cpu", dtype))
    check_samples(samples, calls.with_out(op.op), values=has_values(op))


def _differentiated(op: Any, dtype: torch.dtype, kind: Callable[[Any, Any], Call], function: Any) -> None:
    """Each sample has its own function that picks what of the result is differentiable."""
    skipped: SkipCase | None = None
    checked = False
    for number, sample in enumerate(placed(op, op.sample_inputs("cpu", dtype, requires_grad=True))):
        wrapped = functools.partial(op.gradcheck_wrapper, function)
        try:
            check_samples([sample], kind(wrapped, sample.output_process_fn_grad), strides=False)
            checked = True
        except SkipCase as skip:
            skipped = skip
        except AssertionError as error:
            raise AssertionError(str(error).replace("sample 0", f"sample {number}", 1)) from error
    if skipped is not None and not checked:
        raise skipped


def _backward(op: Any, dtype: torch.dtype) -> None:
    _differentiated(op, dtype, gradients.backward, op.op)


def _double_backward(op: Any, dtype: torch.dtype) -> None:
    _differentiated(op, dtype, gradients.double_backward, op.op)


def _forward_mode(op: Any, dtype: torch.dtype) -> None:
    _differentiated(op, dtype, gradients.forward_mode, op.op)


def _in_place_backward(op: Any, dtype: torch.dtype) -> None:
    def function(input_: Any, *args: Any, **kwargs: Any) -> Any:
        copy = input_.clone() if isinstance(input_, torch.Tensor) else [tensor.clone() for tensor in input_]
        return op.get_inplace()(copy, *args, **kwargs)

    _differentiated(op, dtype, gradients.backward, function)


def _errors(op: Any) -> None:
    """What the database says must be refused is refused with the same type of error as on the CPU."""
    asked = 0
    for number, error_input in enumerate(op.error_inputs("cpu")):
        (sample,) = placed(op, [error_input.sample_input])
        if not _raises(op, sample, "cpu", error_input.error_type):
            continue
        asked += 1
        if not _raises(op, sample, DEVICE, error_input.error_type):
            raise AssertionError(f"error input {number}: no error, but on the CPU a {error_input.error_type.__name__}")
    if not asked:
        raise SkipCase("the CPU refuses none of the error inputs")


def _raises(op: Any, sample: Any, device: str, kind: type[Exception]) -> bool:
    arguments = Arguments.of(sample).on(device)
    try:
        op(arguments.input, *arguments.args, **arguments.kwargs)
    except kind:
        return True
    return False
