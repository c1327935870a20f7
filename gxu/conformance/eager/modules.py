"""Cases of PyTorch's database of modules: outputs, and gradients of inputs and parameters, trained and evaluated."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch.testing._internal.common_modules import module_db

from gxu.conformance.case import Case, SkipCase
from gxu.conformance.eager.check import SEED, Call, Rejected, check
from gxu.conformance.eager.comparison import tensors_of
from gxu.conformance.eager.data import Arguments
from gxu.conformance.eager.gradients import directions


def cases() -> list[Case]:
    return [case for info in module_db for case in _of_module(info)]


def _of_module(info: Any) -> Iterator[Case]:
    for dtype in sorted(info.supported_dtypes("cpu"), key=str):
        for training in (True, False) if info.train_and_eval_differ else (True,):
            mode = "training" if training else "evaluation"
            run = functools.partial(_run, info, dtype, training)
            yield Case(str(info.name), str(dtype).removeprefix("torch."), f"module {mode}", run)


def _run(info: Any, dtype: torch.dtype, training: bool) -> None:
    inputs = info.module_inputs_func(info, device="cpu", dtype=dtype, requires_grad=True, training=training)
    compared, rejection = 0, "no inputs"
    for number, module_input in enumerate(inputs):
        if module_input.forward_input is None:
            continue
        torch.manual_seed(SEED)
        made = module_input.constructor_input
        module = info.module_cls(*made.args, **made.kwargs).to(dtype).train(training)
        forward = module_input.forward_input
        try:
            check(Arguments(None, tuple(forward.args), dict(forward.kwargs)), _step(module), strides=False)
        except Rejected as rejected:
            rejection = str(rejected)
            continue
        except Exception as error:
            raise AssertionError(f"input {number} ({module_input.desc}): {type(error).__name__}: {error}") from error
        compared += 1
    if not compared:
        raise SkipCase(f"the CPU takes none of the inputs: {rejection}")


def _step(module: torch.nn.Module) -> Call:
    """Forward and backward of a copy of `module`: outputs, gradients and the state afterwards."""

    def call(arguments: Arguments) -> Any:
        moved = copy.deepcopy(module).to(arguments.device)
        outputs = moved(*arguments.args, **arguments.kwargs)
        differentiable = [tensor for tensor in tensors_of(outputs) if tensor.requires_grad]
        if differentiable:
            torch.autograd.backward(differentiable, directions(differentiable, 1))
        inputs = tensors_of((arguments.args, arguments.kwargs))
        gradients = [tensor.grad for tensor in (*inputs, *moved.parameters()) if tensor.is_leaf]
        detached = [tensor.detach() for tensor in tensors_of(outputs)]
        return detached, gradients, dict(moved.state_dict())

    return call
