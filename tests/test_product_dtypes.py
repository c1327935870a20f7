"""Products whose result is float32 while the operands are bf16 or fp16: torch.mm(a, b, out_dtype=torch.float32)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._inductor import config as inductor_config

FLOAT32 = torch.float32
DTYPES = (torch.bfloat16, torch.float16)
#: Rows, inner extent, columns.
SHAPES = ((3, 5, 7), (1, 64, 1), (33, 1, 17), (65, 130, 40), (5, 0, 3), (0, 4, 3), (4, 3, 0))


def random(*size: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(*size).to(dtype).to("gxu")


def assert_product(actual: Tensor, expected: Tensor) -> None:
    """`expected` is in double precision. Sums that were rounded to the operands' type would be off by 4e-3."""
    assert actual.dtype == FLOAT32
    torch.testing.assert_close(actual.cpu().double(), expected, rtol=1e-5, atol=1e-4)


def double(*tensors: Tensor) -> list[Tensor]:
    return [tensor.cpu().double() for tensor in tensors]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_mm(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    m, k, n = shape
    a, b = random(m, k, dtype=dtype), random(n, k, dtype=dtype).t()
    expected = torch.mm(*double(a, b))
    assert_product(torch.mm(a, b, out_dtype=FLOAT32), expected)
    out = torch.full((m, n), float("nan"), device="gxu")
    assert torch.mm(a, b, out_dtype=FLOAT32, out=out) is out
    assert_product(out, expected)
    batched = torch.bmm(a.expand(2, m, k), b.expand(2, k, n), out_dtype=FLOAT32)
    assert_product(batched, expected.expand(2, m, n))
    batched_out = torch.full((2, m, n), float("nan"), device="gxu")
    assert torch.bmm(a.expand(2, m, k), b.expand(2, k, n), out_dtype=FLOAT32, out=batched_out) is batched_out
    assert_product(batched_out, expected.expand(2, m, n))


@pytest.mark.parametrize("added_dtype", [FLOAT32, None], ids=["added-float32", "added-same"])
@pytest.mark.parametrize("factors", [{}, {"beta": 0.5, "alpha": -2}, {"beta": 0}], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_addmm(dtype: torch.dtype, factors: dict[str, float], added_dtype: torch.dtype | None) -> None:
    a, b = random(2, 9, 20, dtype=dtype), random(2, 20, 6, dtype=dtype)
    for size in ((9, 6), (6,), (9, 1)):
        added = random(*size, dtype=added_dtype or dtype)
        expected = torch.addmm(*double(added, a[0], b[0]), **factors)
        assert_product(torch.addmm(added, a[0], b[0], FLOAT32, **factors), expected)
        out = torch.empty(9, 6, device="gxu")
        torch.addmm(added, a[0], b[0], FLOAT32, **factors, out=out)
        assert_product(out, expected)
    added = random(2, 9, 6, dtype=added_dtype or dtype)
    expected = torch.baddbmm(*double(added, a, b), **factors)
    assert_product(torch.baddbmm(added, a, b, FLOAT32, **factors), expected)
    out = torch.empty(2, 9, 6, device="gxu")
    torch.baddbmm(added, a, b, FLOAT32, **factors, out=out)
    assert_product(out, expected)


def test_sums_are_never_rounded_to_the_operands_type() -> None:
    a = torch.ones(1, 4096, dtype=torch.bfloat16, device="gxu")
    b = torch.full((4096, 1), 1 + 2**-7, dtype=torch.bfloat16, device="gxu")
    assert torch.mm(a, b, out_dtype=FLOAT32).item() == 4096 + 32
    assert torch.bmm(a[None], b[None], out_dtype=FLOAT32).item() == 4096 + 32


def test_the_same_dtype() -> None:
    a, b = torch.randn(3, 4, device="gxu"), torch.randn(4, 5, device="gxu")
    assert torch.equal(torch.mm(a, b, out_dtype=FLOAT32), a @ b)
    assert torch.mm(a.half(), b.half(), out_dtype=torch.float16).dtype == torch.float16


def test_what_is_refused() -> None:
    """With CUDA's messages."""
    a = torch.ones(2, 2, dtype=torch.float16, device="gxu")
    half, bfloat16, float32 = a, a.bfloat16(), a.float()
    batches = (half[None], half[None])
    refused: list[tuple[str, Callable[[], Tensor]]] = [
        ("out_dtype must be the same as input dtype or fp32", lambda: torch.mm(half, half, out_dtype=torch.float64)),
        ("out_dtype must be the same as input dtype or fp32", lambda: torch.mm(float32, float32, out_dtype=half.dtype)),
        ("input dtypes must be the same", lambda: torch.mm(half, bfloat16, out_dtype=FLOAT32)),
        (r"cannot be multiplied \(2x2 and 1x2\)", lambda: torch.mm(half, half[:1], out_dtype=FLOAT32)),
        ("mat2 must be a matrix, got 1-D tensor", lambda: torch.mm(half, half[0], out_dtype=FLOAT32)),
        ("dtype of the provided out tensor", lambda: torch.mm(half, half, out_dtype=FLOAT32, out=half.clone())),
        ("batch1 must be a 3D tensor", lambda: torch.bmm(half, half, out_dtype=FLOAT32)),
        ("self dtype must match either out_dtype or mat1", lambda: torch.addmm(bfloat16, half, half, FLOAT32)),
        ("self dtype must match either out_dtype or batch1", lambda: torch.baddbmm(bfloat16[None], *batches, FLOAT32)),
        (
            "self dtype must match either out_dtype or batch1",
            lambda: torch.baddbmm(bfloat16[None], *batches, FLOAT32, out=torch.empty(0, device="gxu")),
        ),
        ("same device", lambda: torch.mm(half, half.cpu(), out_dtype=FLOAT32)),
    ]
    for message, function in refused:
        with pytest.raises(RuntimeError, match=message):
            function()


def test_autograd_has_no_formula() -> None:
    """PyTorch has none on any device."""
    a = torch.ones(2, 2, dtype=torch.float16, device="gxu", requires_grad=True)
    result = torch.mm(a, a, out_dtype=FLOAT32)
    with pytest.raises(RuntimeError, match="derivative for aten::mm is not implemented"):
        result.sum().backward()


def test_capture() -> None:
    a, b = random(8, 8, dtype=torch.float16), random(8, 8, dtype=torch.float16)
    graph = torch.gxu.Graph()
    with torch.gxu.graph(graph):
        product = torch.mm(a, b, out_dtype=FLOAT32)
        added = torch.addmm(product, a, b, FLOAT32)
    a.copy_(torch.randn(8, 8))
    graph.replay()
    assert_product(product, torch.mm(*double(a, b)))
    assert_product(added, 2 * torch.mm(*double(a, b)))


def test_flops_are_counted() -> None:
    from torch._inductor import compile_fx  # noqa: F401  (registers gxu with it)
    from torch.utils.flop_counter import FlopCounterMode

    a = random(4, 5, 5, dtype=torch.float16)
    with FlopCounterMode(display=False) as counter:
        torch.bmm(a, a, out_dtype=FLOAT32)
        torch.baddbmm(a, a, a, FLOAT32)
        torch.mm(a[0], a[0], out_dtype=FLOAT32)
        torch.addmm(a[0], a[0], a[0], FLOAT32)
    assert counter.get_total_flops() == 10 * 2 * 5**3


def products(a: Tensor, b: Tensor, added: Tensor) -> tuple[Tensor, ...]:
    batch = torch.bmm(a.relu()[None], b[None], out_dtype=FLOAT32)
    return (
        torch.mm(a, b, out_dtype=FLOAT32).sin(),
        torch.addmm(added, a, b, FLOAT32, beta=0.5, alpha=2),
        batch,
        torch.baddbmm(added[None], a[None], b[None], FLOAT32) + 1,
    )


def expected_products(a: Tensor, b: Tensor, added: Tensor) -> tuple[Tensor, ...]:
    a, b, added = double(a, b, added)
    product = a @ b
    return product.sin(), 0.5 * added + 2 * product, (a.relu() @ b)[None], (added + product)[None] + 1


OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "templates": {"max_autotune": True, "max_autotune_gemm_backends": "TRITON"},
    "measured": {"max_autotune": True},
    "coordinate-descent": {"coordinate_descent_tuning": True},
    "fx-wrapper": {"fx_wrapper": True},
    "cpp-wrapper": {"cpp_wrapper": True},
}


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@pytest.mark.parametrize("options", OPTIONS)
def test_compiled(options: str, dynamic: bool) -> None:
    # An inner extent of one is a product of vectors, which torch's decompositions leave in the operands' type.
    for m, k, n in ((37, 48, 20), (5, 1, 9), (1, 16, 1)):
        torch._dynamo.reset()
        a, b, added = (random(*size, dtype=torch.bfloat16) for size in ((m, k), (k, n), (m, n)))
        with inductor_config.patch(OPTIONS[options]):
            results = torch.compile(products, fullgraph=True, dynamic=dynamic)(a, b, added)
        for actual, expected in zip(results, expected_products(a, b, added), strict=True):
            assert_product(actual, expected)


def test_exported(tmp_path: Any) -> None:
    class Products(torch.nn.Module):
        def forward(self, a: Tensor, b: Tensor, added: Tensor) -> tuple[Tensor, ...]:
            return products(a, b, added)

    def inputs(rows: int) -> tuple[Tensor, ...]:
        return tuple(random(*size, dtype=torch.float16) for size in ((rows, 24), (24, 7), (rows, 7)))

    rows = torch.export.Dim("rows")
    program = torch.export.export(Products(), inputs(3), dynamic_shapes=({0: rows}, None, {0: rows}))
    path = torch._inductor.aoti_compile_and_package(program, package_path=str(tmp_path / "products.pt2"))
    args = inputs(11)
    for actual, expected in zip(torch._inductor.aoti_load_package(path)(*args), expected_products(*args), strict=True):
        assert_product(actual, expected)
