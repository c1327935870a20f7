"""One call compiled for the device, against the same call in eager mode on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch._functorch import config as functorch_config
from torch._inductor import config as inductor_config
from torch.utils._pytree import tree_flatten

from gxu.conformance.case import SkipCase
from gxu.conformance.eager.check import SEED, Call, Rejected, is_random, on_the_cpu
from gxu.conformance.eager.comparison import compare
from gxu.conformance.eager.data import DEVICE, Arguments

#: (relative, absolute): compiled code keeps half precision in float32 between operators, and sums in other orders.
TOLERANCES = {
    torch.float16: (1e-2, 1e-2),
    torch.bfloat16: (5e-2, 5e-2),
    torch.float32: (1e-4, 2e-5),
    torch.complex64: (1e-4, 2e-5),
}


def check_samples(calls: Sequence[tuple[Any, Call]], *, dynamic: bool, values: bool) -> None:
    """Every (sample, call). SkipCase if the CPU takes none of them, AssertionError for the first that differs."""
    compared, reason = 0, "no samples"
    for number, (sample, call) in enumerate(calls):
        try:
            _check(Arguments.of(sample), call, dynamic=dynamic, values=values)
        except Rejected as rejected:
            reason = str(rejected)
            continue
        except Exception as error:
            raise AssertionError(f"sample {number}: {type(error).__name__}: {error}") from error
        compared += 1
    if compared == 0:
        raise SkipCase(reason)


def _check(arguments: Arguments, call: Call, *, dynamic: bool, values: bool) -> None:
    expected = on_the_cpu(call, arguments.on("cpu"))
    try:
        actual = _compiled(call, arguments.on(DEVICE), dynamic)
        _compare(actual, expected, values)
    except Exception:
        values = values and not is_random(call, arguments)
        _reject_what_inductor_gets_wrong(arguments, call, dynamic, expected, values)
        if values:
            raise
        _compare(_compiled(call, arguments.on(DEVICE), dynamic), expected, values=False)


def _compiled(call: Call, arguments: Arguments, dynamic: bool) -> Any:
    torch._dynamo.reset()
    torch.manual_seed(SEED)
    # A graph or two, once: the compiler's processes and caches would cost more than they save.
    with (
        inductor_config.patch(compile_threads=1, fx_graph_cache=False),
        functorch_config.patch(enable_autograd_cache=False),
    ):
        return torch.compile(call, dynamic=dynamic)(arguments)


def _reject_what_inductor_gets_wrong(
    arguments: Arguments, call: Call, dynamic: bool, expected: Any, values: bool
) -> None:
    """Raises Rejected if Inductor's own CPU backend fails too."""
    try:
        _compare(_on_device(_compiled(call, arguments.on("cpu"), dynamic)), expected, values)
    except Exception as error:
        raise Rejected(f"Inductor's CPU backend fails too: {type(error).__name__}: {error}") from error


def _compare(actual: Any, expected: Any, values: bool) -> None:
    """Both trees have the same form, and tensors and numbers in them are equal within the tolerance of their dtype."""
    compare(actual, expected, strides=False, values=False)
    if not values:
        return
    for left, right in zip(tree_flatten(actual)[0], tree_flatten(expected)[0], strict=True):
        if isinstance(right, torch.Tensor):
            rtol, atol = TOLERANCES.get(right.dtype, (None, None))
            torch.testing.assert_close(
                left.detach().cpu(), right.detach(), rtol=rtol, atol=atol, equal_nan=True, check_stride=False
            )
        elif isinstance(right, bool | int | float | complex):
            torch.testing.assert_close(left, right, equal_nan=True, rtol=1e-4, atol=1e-5)


def _on_device(tree: Any) -> Any:
    """A result of Inductor's CPU backend as `compare` wants its first tree."""
    leaves, form = tree_flatten(tree)
    return form.unflatten([leaf.to(DEVICE) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves])
