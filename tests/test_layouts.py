"""Sparse, nested and quantized tensors: the CPU's operators on tensors whose parts are gxu memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

LAYOUTS = (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc)

pytestmark = pytest.mark.filterwarnings("ignore:Sparse:UserWarning", "ignore:.*quantized tensor creation:UserWarning")


def sparse(layout: torch.layout = torch.sparse_coo, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    dense = torch.randn(6, 8, dtype=dtype).relu()
    return dense.to_sparse(layout=layout, blocksize=(2, 2) if layout in LAYOUTS[3:] else None)


def parts(tensor: torch.Tensor) -> list[torch.Tensor]:
    if tensor.layout == torch.sparse_coo:
        return [tensor._indices(), tensor._values()]
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    return [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_there_and_back(layout: torch.layout) -> None:
    x = sparse(layout)
    moved = x.to("gxu")
    assert moved.layout == layout and moved.device == torch.device("gxu:0") and moved.shape == x.shape
    assert all(part.is_gxu for part in parts(moved))
    for actual, expected in zip(parts(moved.cpu()), parts(x), strict=True):
        assert torch.equal(actual, expected)
    assert torch.equal(moved.to_dense().cpu(), x.to_dense())
    blocksize = (2, 2) if layout in LAYOUTS[3:] else None
    again = x.to_dense().to("gxu").to_sparse(layout=layout, blocksize=blocksize)
    assert again.layout == layout and torch.equal(again.to_dense().cpu(), x.to_dense())


@pytest.mark.parametrize("layout", LAYOUTS[:3], ids=str)
def test_products_and_their_gradients(layout: torch.layout) -> None:
    x, y = sparse(layout, torch.float64), torch.randn(8, 3, dtype=torch.float64)
    results = []
    for device in ("cpu", "gxu"):
        left = x.to(device).detach().clone().requires_grad_(layout != torch.sparse_csc)
        right = y.to(device).detach().clone().requires_grad_()
        product = left @ right
        product.sum().backward()
        gradient = left.grad.to_dense() if left.grad is not None else torch.zeros(6, 8)
        results.append([t.detach().cpu() for t in (product, right.grad, gradient)])
    torch.testing.assert_close(results[1], results[0])


def test_coordinates_in_place_and_shared() -> None:
    x = sparse().to("gxu")
    values = x._values()
    assert values.data_ptr() == x._values().data_ptr()
    before = x.to_dense().cpu()
    assert x.mul_(2) is x
    torch.testing.assert_close(x.to_dense().cpu(), before * 2)
    twice = torch.sparse_coo_tensor(torch.tensor([[0, 0], [1, 1]]).to("gxu"), torch.ones(2).to("gxu"), (3, 3))
    assert not twice.is_coalesced()
    assert twice.coalesce().values().tolist() == [2.0]
    twice.add_(twice)
    assert twice.to_dense()[0, 1].item() == 4
    torch.testing.assert_close((torch.ones(3, 3).to("gxu") + twice).cpu(), torch.ones(3, 3) + twice.to_dense().cpu())


def test_copies_between_layouts_and_devices() -> None:
    x = sparse()
    there = torch.zeros_like(x, device="gxu")
    there.copy_(x)
    torch.testing.assert_close(there.to_dense().cpu(), x.to_dense())
    here = torch.zeros_like(x)
    here.copy_(there)
    torch.testing.assert_close(here.to_dense(), x.to_dense())
    assert x.to("gxu", torch.float64).dtype == torch.float64
    with pytest.raises(RuntimeError, match="layout"):
        torch.zeros(6, 8).to("gxu").to_sparse().copy_(torch.zeros(6, 8, device="gxu"))


def test_operands_on_two_devices_are_refused() -> None:
    with pytest.raises(RuntimeError, match="same device"):
        torch.sparse.mm(sparse().to("gxu"), torch.randn(8, 2))


def test_reductions_of_products_keep_what_their_gradient_needs() -> None:
    x, y = sparse(torch.sparse_csr), torch.randn(8, 3)
    gradients = []
    for device in ("cpu", "gxu"):
        right = y.to(device).detach().clone().requires_grad_()
        torch.sparse.mm(x.to(device), right, "amax").sum().backward()
        assert right.grad is not None
        gradients.append(right.grad.cpu())
    torch.testing.assert_close(gradients[1], gradients[0])


def test_an_embedding_with_sparse_gradients_trains() -> None:
    table = torch.randn(10, 3)
    rows = torch.tensor([1, 4, 4])
    trained = []
    for device in ("cpu", "gxu"):
        embedding = torch.nn.Embedding(10, 3, sparse=True, _weight=table.clone()).to(device)
        optimizer = torch.optim.SparseAdam(embedding.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            embedding(rows.to(device)).square().sum().backward()
            assert embedding.weight.grad is not None and embedding.weight.grad.is_sparse
            optimizer.step()
        trained.append(embedding.weight.detach().cpu())
    torch.testing.assert_close(trained[1], trained[0])


@pytest.mark.parametrize("dtype", [torch.quint8, torch.qint8, torch.qint32], ids=str)
def test_quantized_by_tensor(dtype: torch.dtype) -> None:
    x = torch.randn(5, 7)
    zero_point = 10 if dtype != torch.qint8 else 3
    expected = torch.quantize_per_tensor(x, 0.05, zero_point, dtype)
    actual = torch.quantize_per_tensor(x.to("gxu"), 0.05, zero_point, dtype)
    for quantized in (actual, expected.to("gxu"), actual.t().contiguous().t(), actual.clone()):
        assert quantized.is_quantized and quantized.is_gxu and quantized.dtype == dtype
        assert (quantized.q_scale(), quantized.q_zero_point()) == (0.05, zero_point)
        assert torch.equal(quantized.int_repr().cpu(), expected.int_repr())
        assert torch.equal(quantized.dequantize().cpu(), expected.dequantize())
        assert torch.equal(quantized.cpu().int_repr(), expected.int_repr())


def test_quantized_by_channel_leaves_the_cpus_scales_alone() -> None:
    scales, zero_points = torch.tensor([0.1, 0.2], dtype=torch.float64), torch.tensor([0, 1])
    quantized = torch.quantize_per_channel(torch.randn(2, 4), scales, zero_points, 0, torch.qint8)
    moved = quantized.to("gxu")
    assert torch.equal(moved.q_per_channel_scales().cpu(), scales)
    assert quantized.q_per_channel_scales().untyped_storage().device.type == "cpu"
    assert torch.equal(moved.dequantize().cpu(), quantized.dequantize())


def test_quantized_operators() -> None:
    x = torch.quantize_per_tensor(torch.randn(1, 3, 8, 8), 0.05, 5, torch.quint8)
    for function in (
        torch.relu,
        lambda q: torch.nn.functional.max_pool2d(q, 2),
        lambda q: torch.cat([q, q]),
        lambda q: q.view(3, 64),
    ):
        expected, actual = function(x), function(x.to("gxu"))
        assert actual.is_gxu and actual.q_scale() == expected.q_scale()
        assert torch.equal(actual.int_repr().cpu(), expected.int_repr())


LENGTHS = (2, 5, 3)

NESTED: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "add": lambda x, y: x + y * 2,
    "in place": lambda x, y: x.clone().mul_(y).relu_(),
    "transpose": lambda x, y: x.transpose(1, 2).contiguous(),
    "matmul": lambda x, y: x @ y.transpose(1, 2),
    "linear": lambda x, y: F.linear(x, torch.ones(3, 4, device=x.device), torch.ones(3, device=x.device)),
    "softmax": lambda x, y: F.softmax(x, -1),
    "layer norm": lambda x, y: F.layer_norm(x, (4,), *torch.ones(2, 4, device=x.device)),
    "to double": lambda x, y: x.double(),
}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.parametrize("function", NESTED.values(), ids=NESTED.keys())
def test_nested_tensors_and_their_gradients(function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
    left, right = ([torch.randn(length, 4) for length in LENGTHS] for _ in range(2))
    results = []
    for device in ("cpu", "gxu"):
        leaves = [tensor.detach().clone().to(device).requires_grad_() for tensor in (*left, *right)]
        x, y = (torch.nested.as_nested_tensor(half) for half in (leaves[:3], leaves[3:]))
        result = function(x, y)
        assert result.is_nested and result.device.type == device
        padded = result.to_padded_tensor(0.0)
        gradients = torch.autograd.grad(padded.sin().sum(), leaves, allow_unused=True)
        results.append([None if tensor is None else tensor.cpu() for tensor in (padded.detach(), *gradients)])
    assert any(gradient is not None for gradient in results[1][1:])
    torch.testing.assert_close(results[1], results[0])


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_nested_tensors_move() -> None:
    tensors = [torch.randn(length, 4) for length in LENGTHS]
    moved = torch.nested.nested_tensor(tensors).to("gxu")
    assert moved.device == torch.device("gxu:0") and "device='gxu:0'" in repr(moved)
    for part, back, expected in zip(moved.unbind(), moved.cpu().unbind(), tensors, strict=True):
        assert part.is_gxu and torch.equal(part.cpu(), expected) and torch.equal(back, expected)
    moved[1].fill_(7)
    assert moved.unbind()[1].unique().tolist() == [7], "its parts are views of it"
    assert not moved._nested_tensor_size().is_gxu, "shapes are on the CPU"


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_attention_of_jagged_tensors() -> None:
    tensors = [torch.randn(length, 4) for length in LENGTHS]
    results = []
    for device in ("cpu", "gxu"):
        leaves = [tensor.detach().clone().to(device).requires_grad_() for tensor in tensors]
        jagged = torch.nested.as_nested_tensor(leaves, layout=torch.jagged)
        heads = jagged.unflatten(-1, (2, 2)).transpose(1, 2)
        result = F.scaled_dot_product_attention(heads, heads, heads).transpose(1, 2).flatten(-2).values()
        gradients = torch.autograd.grad(result.square().sum(), leaves)
        results.append([tensor.detach().cpu() for tensor in (result, *gradients)])
    torch.testing.assert_close(results[1], results[0])
