"""Compiled code on gxu agrees with the CPU in double precision, and runs Triton kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from inductor_helpers import check
from torch import Tensor

FLOATS = [torch.float32, torch.float16, torch.bfloat16]
INTEGERS = [torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8]


def chain(x: Tensor, y: Tensor) -> Tensor:
    return torch.where(x > 0, x * y + 1, (x - y).abs()).clamp(max=3)


@pytest.mark.parametrize("shape", [(1,), (7,), (1000,), (33, 65), (3, 5, 7), (48, 4096), (100_003,)])
def test_pointwise_shapes(shape: tuple[int, ...]) -> None:
    check(chain, torch.randn(shape), torch.randn(shape), kernels=1)


@pytest.mark.parametrize("dtype", [*FLOATS, torch.float64])
def test_pointwise_floats(dtype: torch.dtype) -> None:
    x, y = torch.randn(1000, dtype=dtype), torch.randn(1000, dtype=dtype)
    check(chain, x, y, kernels=1, double=dtype != torch.float64)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_pointwise_integers(dtype: torch.dtype) -> None:
    x, y = (torch.randint(0, 100, (1000,), dtype=dtype) for _ in range(2))
    check(lambda x, y: (x * y - x, x // (y + 1), x & y, x << 1, (x > y).to(x.dtype)), x, y, double=False)


def test_pointwise_bool() -> None:
    x, y = torch.randn(999) > 0, torch.randn(999) > 0
    check(lambda x, y: (x & y, x | ~y, x ^ y, torch.where(x, 1.5, 2.5)), x, y)


UNARY = [
    "sin",
    "cos",
    "exp",
    "log",
    "sqrt",
    "rsqrt",
    "tanh",
    "sigmoid",
    "erf",
    "expm1",
    "log1p",
    "floor",
    "ceil",
    "abs",
]


@pytest.mark.parametrize("name", UNARY)
def test_unary(name: str) -> None:
    check(getattr(torch, name), torch.rand(1234) * 4 + 0.1, kernels=1)


@pytest.mark.parametrize("fn", [F.gelu, F.silu, F.relu, F.softplus, F.mish, F.hardswish, F.elu, F.leaky_relu])
def test_activations(fn: Callable[[Tensor], Tensor]) -> None:
    check(fn, torch.randn(3, 777) * 3, kernels=1)


def test_broadcast_and_views() -> None:
    x, row, column = torch.randn(33, 65), torch.randn(65), torch.randn(33, 1)
    check(lambda x, r, c: (x + r) * c, x, row, column, kernels=1)
    check(lambda x: x[3:20, ::2] * 2, x, kernels=1)
    check(lambda x: torch.cat([x, x + 1], 1).reshape(65, 66) + 1, x)


@pytest.mark.parametrize("shape", [(64, 64), (33, 65), (1000, 500), (7, 4097)])
def test_transpose(shape: tuple[int, int]) -> None:
    check(lambda x, y: x.t() + y, torch.randn(shape), torch.randn(shape[::-1]), kernels=1)


def test_permutations() -> None:
    x = torch.randn(5, 17, 33)
    check(lambda x: x.permute(2, 0, 1).contiguous() * 2, x, kernels=1)
    check(lambda x, y: x.permute(0, 2, 1) + y, x, torch.randn(5, 33, 17), kernels=1)


def test_gather_and_embedding() -> None:
    index = torch.randint(0, 50, (7, 13))
    check(lambda w, i: F.embedding(i, w) * 2, torch.randn(50, 24), index)
    check(lambda x, i: x[i] + 1, torch.randn(50), index)


REDUCTIONS: list[Callable[[Tensor], Any]] = [
    lambda x: x.sum(),
    lambda x: x.sum(0),
    lambda x: x.sum(-1),
    lambda x: x.mean(-1),
    lambda x: x.amax(0),
    lambda x: x.amin(-1),
    lambda x: x.var(-1),
    lambda x: x.std(0),
    lambda x: torch.var_mean(x, (0, -1)),
    lambda x: x.softmax(-1),
    lambda x: x.log_softmax(0),
    lambda x: x.logsumexp(-1),
    lambda x: x.argmax(-1),
    lambda x: x.argmin(0),
    lambda x: (1 + x[:, :50] / 50).prod(-1),
    lambda x: (x > 0).any(-1),
    lambda x: (x > -9).all(0),
]


@pytest.mark.parametrize("shape", [(3, 5), (129, 384), (4096, 7), (5, 40_000)])
@pytest.mark.parametrize("number", range(len(REDUCTIONS)))
def test_reductions(number: int, shape: tuple[int, int]) -> None:
    check(REDUCTIONS[number], torch.randn(shape))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_reductions_of_short_floats(dtype: torch.dtype) -> None:
    x = torch.randn(129, 385).to(dtype)
    check(lambda x: (x.softmax(-1), x.mean(0), x.amax(-1)), x)


def test_integer_reductions() -> None:
    x = torch.randint(-100, 100, (77, 301))
    check(lambda x: (x.sum(0), x.amax(-1), x.sum()), x, double=False)


@pytest.mark.slow
def test_reduction_of_more_than_2_31_elements() -> None:
    """Triton takes numbers from 2^31 to 2^32 for unsigned ones, and a loop up to them for none."""
    function = torch.compile(lambda x: x.expand(2**31 + 100).argmax(), fullgraph=True)
    assert function(torch.zeros(1, dtype=torch.int8, device="gxu")).item() == 0


@pytest.mark.parametrize("numel", [100_000, 3_000_001])
def test_split_reduction(numel: int) -> None:
    check(lambda x: (x.sum(), x.amax()), torch.randn(numel))


def test_outer_split_reduction() -> None:
    check(lambda x: x.sum(0), torch.randn(8192, 96), kernels=2)


@pytest.mark.parametrize("width", [384, 1000, 5000])
def test_normalisation(width: int) -> None:
    x, weight, bias = torch.randn(67, width), torch.randn(width), torch.randn(width)
    check(lambda x, w, b: F.layer_norm(x, (width,), w, b), x, weight, bias, kernels=1)
    check(lambda x, w: F.rms_norm(x, (width,), w), x, weight, kernels=1)


def test_batch_norm() -> None:
    module = torch.nn.BatchNorm2d(8)
    check(lambda x: F.batch_norm(x, None, None, training=True), torch.randn(16, 8, 9, 11))
    check(lambda x, m, v: F.batch_norm(x, m, v), torch.randn(4, 8, 3, 3), module.running_mean, module.running_var + 0.5)


def test_cross_entropy() -> None:
    check(lambda x, y: F.cross_entropy(x, y), torch.randn(65, 1000), torch.randint(0, 1000, (65,)))


def test_products_use_the_library() -> None:
    x, w, b = torch.randn(33, 64), torch.randn(48, 64), torch.randn(48)
    check(lambda x, w, b: F.gelu(F.linear(x, w, b)), x, w, b, kernels=1)
    check(lambda x, w: torch.relu(torch.bmm(x, w)), torch.randn(3, 4, 5), torch.randn(3, 5, 6), kernels=1)


def test_attention() -> None:
    q, k, v = (torch.randn(2, 4, 17, 16) for _ in range(3))
    check(lambda q, k, v: F.scaled_dot_product_attention(q, k, v) + 1, q, k, v)


def test_convolution() -> None:
    x, w = torch.randn(2, 3, 16, 16), torch.randn(8, 3, 3, 3)
    check(lambda x, w: F.relu(F.conv2d(x, w, padding=1)), x, w)


def test_masked_scatter() -> None:
    check(lambda x, m, s: x.masked_scatter(m, s) * 2, torch.randn(100), torch.rand(100) > 0.5, torch.randn(100))


def test_scatter() -> None:
    def fn(x: Tensor, i: Tensor, y: Tensor) -> Tensor:
        return x.index_add(0, i, y)

    check(fn, torch.randn(20, 8), torch.randint(0, 20, (50,)), torch.randn(50, 8))


def test_sort_and_topk() -> None:
    x = torch.randn(13, 100)
    check(lambda x: (x * 2).sort(-1), x)
    check(lambda x: (x * 2).topk(5).values, x)


@pytest.mark.parametrize("shape", [(0,), (0, 5), (5, 0)])
def test_empty(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    torch._dynamo.reset()
    out = torch.compile(lambda x: (x * 2 + 1, x.sum()), fullgraph=True)(x.to("gxu"))
    assert out[0].shape == shape
    assert out[1].item() == 0


def test_factories_and_scalars() -> None:
    check(lambda x: x + torch.arange(x.shape[0], device=x.device) + torch.ones((), device=x.device), torch.randn(65))
    check(lambda x: x * torch.tensor(2.5), torch.randn(65))


def test_mutation_and_aliases() -> None:
    def fn(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        y = y.clone()
        y.add_(x)
        y[:3].mul_(2)
        return y, y[1:]

    check(fn, torch.randn(33), torch.randn(33))


def test_an_input_is_mutated() -> None:
    x = torch.randn(1000)
    d = x.to("gxu")
    torch.compile(lambda x: x.mul_(2).add_(1), fullgraph=True)(d)
    torch.testing.assert_close(d.cpu(), x * 2 + 1)


def test_foreach() -> None:
    tensors = [torch.randn(n) for n in (3, 100, 5000, 33)]
    check(lambda ts: torch._foreach_add(torch._foreach_mul(ts, 2.0), ts), tensors, kernels=1)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@pytest.mark.parametrize("options", [{}, {"cpp_wrapper": True}, {"fx_wrapper": True}, {"combo_kernels": True}], ids=str)
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_copies_of_complex_tensors(dynamic: bool, options: dict[str, bool], dtype: torch.dtype) -> None:
    """Triton has no complex types: what Inductor would copy in a kernel, for a clone or for strides, is an operator."""

    def fn(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        product, square = x * y, x @ y.t()
        return (
            square,
            product.t().clone(memory_format=torch.contiguous_format),
            product[1:, ::2].contiguous() + 1,
            torch.diagonal_scatter(square, y[:, 0]),
            torch.cat([x, y]).t().contiguous().abs().sum(0),
            x.clone(),
        )

    torch._dynamo.reset()
    for size in ((5, 8), (3, 4), (7, 7)):
        # Inputs that start inside of their storage.
        x, y = torch.randn(2, *size, dtype=dtype), torch.randn(2, *size, dtype=dtype)
        with torch._inductor.config.patch(options):
            compiled = torch.compile(fn, fullgraph=True, dynamic=dynamic)
            results = compiled(x.to("gxu")[1], y.to("gxu")[1])
        for result, expected in zip(results, fn(x[1], y[1]), strict=True):
            torch.testing.assert_close(result.cpu(), expected)
            assert result.stride() == expected.stride()
