"""Copy-on-write clones (Tensor._lazy_clone): what is only read stays shared, what is written gets memory of its own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

is_lazy = torch._C._is_cow_tensor  # type: ignore[attr-defined]

READS: dict[str, Callable[[Tensor], object]] = {
    "element by element": lambda x: x.abs() + x,
    "reduction": lambda x: x.sum(),
    "several results": lambda x: torch.linalg.svd(x),
    "product": lambda x: x @ x.t(),
    "list": lambda x: torch.cat([x, x]),
    "index": lambda x: x[torch.tensor([1, 0], device="gxu")],
    "dtype": lambda x: x.double(),
    "other strides": lambda x: x.t().contiguous(),
    "to the CPU": lambda x: x.cpu(),
    "convolution": lambda x: F.conv1d(x[None], x[None]),
    "attention": lambda x: F.scaled_dot_product_attention(x[None], x[None], x[None]),
    "printing": str,
}

WRITES: dict[str, Callable[[Tensor], object]] = {
    "element by element": lambda x: x.add_(1),
    "copy": lambda x: x.copy_(torch.ones(3, 5)),
    "other strides": lambda x: x.t().copy_(torch.zeros(5, 3, device="gxu")),
    "out": lambda x: torch.exp(torch.zeros(3, 5, device="gxu"), out=x),
    "out that is an argument, too": lambda x: torch.cumsum(x, 0, out=x),
    "boxed": lambda x: x.masked_scatter_(x > -9, torch.ones(15, device="gxu")),
    "fill": lambda x: x.fill_(2),
    "index": lambda x: x.index_put_((torch.tensor([0], device="gxu"),), torch.zeros((), device="gxu")),
    "random": lambda x: x.normal_(),
    "list": lambda x: torch._foreach_mul_([x], 3),
    "statistics": lambda x: F.batch_norm(torch.ones(2, 5, device="gxu"), x[0], x[1], training=True),
}


@pytest.fixture
def original() -> Tensor:
    return torch.randn(3, 5, device="gxu")


@pytest.mark.parametrize("name", READS)
def test_reading_leaves_the_memory_shared(name: str, original: Tensor) -> None:
    clone = original._lazy_clone()
    READS[name](clone)
    assert is_lazy(clone) and is_lazy(original)
    assert torch._C._data_address(clone) == torch._C._data_address(original)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", WRITES)
def test_writing_to_a_clone_leaves_the_original(name: str, original: Tensor) -> None:
    before = original.cpu()
    clone = original._lazy_clone()
    WRITES[name](clone)
    assert not is_lazy(clone)
    assert torch.equal(original.cpu(), before)
    assert not torch.equal(clone.cpu(), before)


def test_the_last_owner_keeps_the_memory(original: Tensor) -> None:
    address = original.data_ptr() if not is_lazy(original) else 0
    clone = original._lazy_clone()
    original.add_(1)
    clone.add_(1)
    assert clone.data_ptr() == address != original.data_ptr()
    assert torch.equal(clone, original)
