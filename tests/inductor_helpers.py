"""What the tests of compiled code on gxu share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils import _pytree as pytree

from gxu import _C


def to_device(tree: Any, device: str) -> Any:
    """Copies of a tree's tensors on `device`, requiring gradients where the originals do."""
    return pytree.tree_map_only(torch.Tensor, lambda t: t.detach().to(device).requires_grad_(t.requires_grad), tree)


def in_double(tree: Any) -> Any:
    return pytree.tree_map_only(
        torch.Tensor, lambda t: t.detach().double() if t.is_floating_point() else t.detach(), tree
    )


#: Relative and absolute tolerance against the double-precision reference.
TOLERANCES = {
    torch.float64: (1e-9, 1e-9),
    torch.float32: (1e-4, 1e-5),
    torch.float16: (4e-3, 4e-3),
    torch.bfloat16: (2e-2, 2e-2),
}


def assert_close(actual: Any, expected: Any) -> None:
    """Compares a tree of gxu tensors with a reference on the CPU, possibly in double precision."""
    actual_leaves, expected_leaves = pytree.tree_leaves(actual), pytree.tree_leaves(expected)
    assert len(actual_leaves) == len(expected_leaves)
    for a, e in zip(actual_leaves, expected_leaves, strict=True):
        assert a.device.type == "gxu"
        rtol, atol = TOLERANCES.get(a.dtype, (0, 0))
        torch.testing.assert_close(a.cpu().to(e.dtype), e, rtol=rtol, atol=atol, equal_nan=True)


def launches_of(fn: Callable[[], Any]) -> tuple[Any, int]:
    """What `fn` returns, and how many kernels it launched."""
    torch.gxu.synchronize()
    before = _C.launch_count()
    result = fn()
    torch.gxu.synchronize()
    return result, _C.launch_count() - before


def check(
    fn: Callable[..., Any], *args: Any, dynamic: bool | None = None, kernels: int | None = None, double: bool = True
) -> None:
    """Compiles `fn` for gxu, runs it twice, and compares with the CPU in double precision (else eager, same types).

    Every run launches at least one Triton kernel, or exactly `kernels`.
    """
    torch._dynamo.reset()
    compiled = torch.compile(fn, fullgraph=True, dynamic=dynamic)
    expected = fn(*(in_double(args) if double else args))
    gxu_args = to_device(args, "gxu")
    assert_close(compiled(*gxu_args), expected)
    result, launches = launches_of(lambda: compiled(*gxu_args))
    assert_close(result, expected)
    if kernels is None:
        assert launches > 0, "no Triton kernel ran"
    else:
        assert launches == kernels
