"""Indices and values on other devices than the tensor they index."""

from __future__ import annotations

import pytest
import torch

INDICES = {
    "numbers": torch.tensor([2, 0]),
    "mask": torch.tensor([True, False, True, False]),
}


@pytest.mark.parametrize("name", INDICES)
def test_indices_on_the_cpu(name: str) -> None:
    x = torch.randn(4, 3)
    indexed = x.gxu()
    result = indexed[INDICES[name]]
    assert result.is_gxu and torch.equal(result.cpu(), x[INDICES[name]])
    indexed[INDICES[name]] = torch.tensor(5.0)
    x[INDICES[name]] = 5.0
    assert torch.equal(indexed.cpu(), x)


@pytest.mark.parametrize("name", INDICES)
def test_cpu_tensors_are_not_indexed_by_gxu(name: str) -> None:
    x = torch.randn(4, 3)
    before = x.clone()
    index = INDICES[name].gxu()
    message = r"indices should be either on cpu or on the same device as the indexed tensor \(cpu\)"
    with pytest.raises(RuntimeError, match=message):
        x[index]
    with pytest.raises(RuntimeError, match=message):
        x[:, torch.tensor([0]), None][index]
    with pytest.raises(RuntimeError, match=message):
        x[index] = 0
    assert torch.equal(x, before)


def test_values_on_the_cpu_are_numbers() -> None:
    x = torch.zeros(4, device="gxu")
    with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
        x.index_put_((torch.tensor([0, 1]),), torch.ones(2))
    with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
        x[torch.tensor([0, 1], device="gxu")] = torch.ones(2)
    assert (x == 0).all()
