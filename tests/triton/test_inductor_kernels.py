"""Kernels that Inductor writes, function by function: torch.compile on gxu against eager CPU in double precision."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from inductor_helpers import check


def R(*shape: int) -> torch.Tensor:
    return torch.randn(shape)


def ints(low: int, high: int, *shape: int, dtype: torch.dtype = torch.int64) -> torch.Tensor:
    return torch.randint(low, high, shape, dtype=dtype)


# name: (function, what makes its arguments)
TABLE: dict[str, tuple[Callable[..., Any], Callable[[], tuple[Any, ...]]]] = {
    # elementwise
    "arithmetic": (lambda x, y: (x + y * 2, x / (y.abs() + 1), -x, x - 3), lambda: (R(1000), R(1000))),
    "exponentials": (
        lambda x: (x.exp(), x.sigmoid(), torch.tanh(x), F.softplus(x), torch.expm1(x), torch.exp2(x)),
        lambda: (R(333, 77),),
    ),
    "logarithms": (
        lambda x: (
            x.abs().log(),
            torch.log1p(x.abs()),
            x.abs().log2(),
            x.abs().log10(),
            x.abs().rsqrt(),
            x.abs().sqrt(),
        ),
        lambda: (R(1000) + 0.01,),
    ),
    "trigonometry": (
        lambda x: (x.sin(), x.cos(), x.tanh().atan(), x.tanh().asin(), torch.atan2(x, x + 1), x.sinh()),
        lambda: (R(999),),
    ),
    "powers": (
        lambda x: (x.abs() ** 1.7, x**2, x**3, torch.reciprocal(x.abs() + 1), torch.hypot(x, x + 1)),
        lambda: (R(500),),
    ),
    "rounding": (
        lambda x: (x.round(), x.floor(), x.ceil(), x.trunc(), x.frac(), x.sign(), x.int(), x.long(), x.to(torch.int8)),
        lambda: (R(1000) * 10,),
    ),
    "clamps": (
        lambda x: (x.clamp(-1, 1), x.relu(), F.relu6(x), F.hardtanh(x), F.leaky_relu(x), F.elu(x)),
        lambda: (R(700),),
    ),
    "activations": (
        lambda x: (F.gelu(x), F.gelu(x, approximate="tanh"), F.silu(x), F.mish(x), F.hardswish(x)),
        lambda: (R(50, 84),),
    ),
    "special": (
        lambda x: (torch.erf(x), torch.erfc(x), torch.lgamma(x.abs() + 0.5), torch.nan_to_num(x / 0)),
        lambda: (R(300),),
    ),
    "comparisons": (
        lambda x, y: (x < y, x >= y, x == x, torch.maximum(x, y), torch.where(x > y, x, 0.5)),
        lambda: (R(400), R(400)),
    ),
    "nans": (
        lambda x: (x.isnan(), x.isinf(), x.isfinite(), x.amax(0).isnan(), x.nan_to_num(7.0), x.clamp(min=0).isnan()),
        lambda: (torch.tensor([[1.0, float("nan"), float("inf")], [-1.0, 2.0, -float("inf")]]),),
    ),
    "broadcasting": (lambda x, y, z: x * y + z, lambda: (R(7, 1, 33), R(5, 1), R(33))),
    "transposed": (lambda x, y: x.t() + y, lambda: (R(50, 384), R(384, 50))),
    "permuted": (lambda x: x.permute(2, 0, 1).contiguous() * 2, lambda: (R(13, 17, 31),)),
    "many_outputs": (lambda x: tuple(x * i + i for i in range(12)), lambda: (R(257),)),
    "long_chain": (lambda x: [x := (x * 1.01 + 0.1).sin() for _ in range(30)][-1], lambda: (R(500),)),
    # integers, booleans, narrow and wide floats
    "int64": (lambda x, y: (x // y, x % y, x < y, x & 7, x | y), lambda: (ints(-100, 100, 999), ints(1, 9, 999))),
    "int32": (
        lambda x, y: (x // y, x % y, x << 2, x >> 1, x ^ y, ~x, -x, x.abs()),
        lambda: (ints(-100, 100, 999, dtype=torch.int32), ints(1, 9, 999, dtype=torch.int32)),
    ),
    "int8_and_uint8": (
        lambda x, y: (x + x, x * 3, y + 200, y.int() - 300, x.float() / 2, y >> 1),
        lambda: (ints(-128, 127, 300, dtype=torch.int8), ints(0, 255, 300, dtype=torch.uint8)),
    ),
    "int16": (
        lambda x: (x + 30000, x // 7, x.to(torch.int8)),
        lambda: (ints(-(2**15), 2**15, 500, dtype=torch.int16),),
    ),
    "booleans": (
        lambda x, y: (x & y, x | ~y, x ^ y, torch.where(x, 1.0, 2.0), x.sum(), x.any(), y.all(), (~x).int()),
        lambda: (ints(0, 2, 999).bool(), ints(0, 2, 999).bool()),
    ),
    "bfloat16": (
        lambda x, y: ((x * y).relu().sum(-1), x + y, x.exp(), x.float()),
        lambda: (R(77, 300).bfloat16(), R(77, 300).bfloat16()),
    ),
    "float16": (
        lambda x, y: ((x * y).relu(), x.softmax(-1), (x / 4).exp()),
        lambda: (R(77, 300).half(), R(77, 300).half()),
    ),
    "float64": (
        lambda x: (x.exp().sum(1), x.sin(), torch.erf(x), x.log1p(), x.var(1)),
        lambda: (R(50, 77).double().abs(),),
    ),
    "casts": (lambda x: (x.half(), x.bfloat16(), x.double(), x.int().float(), (x > 0).half()), lambda: (R(500) * 100,)),
    "narrow_ranges": (
        lambda x: (
            torch.arange(300, device=x.device).to(torch.int8) + x,
            torch.arange(300, device=x.device, dtype=torch.int32) * 7 % 11,
        ),
        lambda: (ints(-5, 5, 300, dtype=torch.int8),),
    ),
    # reductions and norms
    "sums": (lambda x: (x.sum(), x.sum(0), x.sum(1), x.mean()), lambda: (R(333, 77),)),
    "three_axes": (lambda x: (x.mean((0, 2)), x.sum(1), x.amax((1, 2)), x.sum((0, 1))), lambda: (R(20, 33, 50),)),
    "extrema": (lambda x: (x.amax(0), x.amin(1), x.max(), x.aminmax(dim=1)), lambda: (R(37, 65),)),
    "arguments": (lambda x: (x.argmax(1), x.argmin(0), x.max(1), x.min(0), x.argmax()), lambda: (R(50, 138),)),
    "ties": (lambda x: (x.argmax(1), x.max(1)), lambda: (ints(0, 3, 60, 300).float(),)),
    "products": (lambda x: (x.prod(1), (x > 0).all(0), (x > 2).any(1)), lambda: (1 + R(37, 20) / 10,)),
    "variances": (lambda x: (torch.var_mean(x, 1), x.std(0), torch.var_mean(x, correction=0)), lambda: (R(50, 1380),)),
    "variance_of_far_numbers": (lambda x: torch.var_mean(x, 1), lambda: (R(20, 3000) + 1000,)),
    "integer_sums": (lambda x: (x.sum(1), x.amax(0), x.sum(), x.prod(0)), lambda: (ints(-3, 4, 20, 77),)),
    "norms": (lambda x: (x.norm(), x.norm(dim=1), x.norm(1, dim=0), F.normalize(x, dim=1)), lambda: (R(30, 70),)),
    "layer_norm": (lambda x, w, b: F.layer_norm(x, (384,), w, b), lambda: (R(50, 384), R(384), R(384))),
    "rms_norm": (lambda x, w: F.rms_norm(x, (384,), w), lambda: (R(50, 384), R(384))),
    "group_norm": (lambda x: F.group_norm(x, 4), lambda: (R(4, 16, 9, 9),)),
    "batch_norm": (lambda x: F.batch_norm(x, None, None, training=True), lambda: (R(8, 16, 14, 14),)),
    "softmax": (lambda x: (x.softmax(-1), x.softmax(0), x.log_softmax(1)), lambda: (R(100, 1000),)),
    "logsumexp": (lambda x: (x.logsumexp(1), x.logsumexp(0)), lambda: (R(30, 500),)),
    "cross_entropy": (lambda x, y: F.cross_entropy(x, y), lambda: (R(64, 100), ints(0, 100, 64))),
    "losses": (
        lambda x, y: (F.mse_loss(x, y), F.l1_loss(x, y), F.smooth_l1_loss(x, y), F.huber_loss(x, y)),
        lambda: (R(300), R(300)),
    ),
    "large_sum": (lambda x: (x.sum(), x.mean(1)), lambda: (R(300, 13770),)),
    "one_element": (lambda x: (x.sum(), x.softmax(0), x.argmax(), x + 1), lambda: (R(1),)),
    # pooling and convolution-like
    "max_pool": (lambda x: F.max_pool2d(x, 2), lambda: (R(2, 3, 16, 16),)),
    "avg_pool": (
        lambda x: (F.avg_pool2d(x, 3, stride=2, padding=1), F.adaptive_avg_pool2d(x, 4)),
        lambda: (R(2, 3, 16, 16),),
    ),
    "upsample": (
        lambda x: (F.interpolate(x, scale_factor=2), F.interpolate(x, size=(9, 11), mode="bilinear")),
        lambda: (R(1, 3, 8, 8),),
    ),
    "padding": (
        lambda x: (F.pad(x, (1, 2)), F.pad(x, (2, 1, 3, 1), value=1.5), F.pad(x[None], (3, 2), mode="reflect")),
        lambda: (R(7, 13),),
    ),
    # indexing
    "embedding": (lambda i, w: F.embedding(i, w) * 2, lambda: (ints(0, 100, 7, 13), R(100, 384))),
    "gather": (
        lambda x, i: (x.gather(1, i), x[i[:, 0]], x.index_select(1, i[0])),
        lambda: (R(20, 30), ints(0, 20, 20, 5)),
    ),
    "scatter": (
        lambda x, i: (
            torch.zeros(50, device=x.device).scatter_add(0, i, x),
            torch.zeros(50, device=x.device).index_add(0, i, x * 2),
        ),
        lambda: (ints(-9, 9, 100).float(), ints(0, 50, 100)),
    ),
    "index_put": (lambda x, i: x.index_put((i,), i.float()), lambda: (R(50), torch.arange(0, 50, 7))),
    "cat_and_stack": (
        lambda x, y: (torch.cat([x, y], 1) * 2, torch.stack([x, x + 1]), torch.cat([x, x], 0).sum(0)),
        lambda: (R(50, 38), R(50, 13)),
    ),
    "slices": (
        lambda x: (x[::2] + 1, x[:, 3:17].sum(1), x[1:] - x[:-1], x[-1], x[..., ::3].contiguous()),
        lambda: (R(40, 31),),
    ),
    "flip_and_roll": (
        lambda x: (x.flip(0) + 1, torch.roll(x, 3, 1) * 2, x.flip(0, 1), x.rot90()),
        lambda: (R(10, 100),),
    ),
    "triangles": (lambda x: (x.tril(), x.triu(2), x.tril(-3).sum(1)), lambda: (R(33, 33),)),
    "masked": (
        lambda x: (x.masked_fill(x > 0, -1), torch.where(x.isnan(), 0, x), (x * (x > 1)).sum()),
        lambda: (R(300),),
    ),
    "one_hot": (lambda i: F.one_hot(i, 17).float() * 2, lambda: (ints(0, 17, 40),)),
    "cumulative": (lambda x: (x.cumsum(1) + 1, x.cumsum(0), x.cummax(1).values), lambda: (R(10, 100),)),
    "sorting": (lambda x: (torch.sort(x * 2, 1), x.topk(3, 1).values, x.argsort(0)), lambda: (R(10, 33),)),
    "searching": (
        lambda x, b: (torch.bucketize(x * 2, b), torch.searchsorted(b, x)),
        lambda: (R(100), torch.linspace(-2, 2, 9)),
    ),
    "generated": (
        lambda x: (
            torch.arange(100, device=x.device) * 2.5 + x,
            torch.ones_like(x),
            torch.linspace(0, 1, 100, device=x.device),
            torch.eye(10, device=x.device),
        ),
        lambda: (R(100),),
    ),
    "empty": (lambda x, y: (x + 1, y.sum(), torch.cat([x, y])), lambda: (torch.empty(0), R(5))),
    "dropout_of_nothing": (lambda x: F.dropout(x, 0.0) + 1, lambda: (R(100),)),
    "complex_strides": (lambda x: (x.as_strided((5, 4), (7, 3), 2) * 2, x.unfold(0, 5, 3).sum(1)), lambda: (R(60),)),
}
# Their results depend on the type that they are computed in.
_IN_OWN_TYPE = {
    "casts",
    "rounding",
    "float16",
    "bfloat16",
    "empty",
    "generated",
    "special",
    "scatter",
    "index_put",
    "nans",
}


@pytest.mark.parametrize("name", sorted(TABLE))
def test_compiled_function(name):
    function, arguments = TABLE[name]
    check(function, *arguments(), double=name not in _IN_OWN_TYPE)


@pytest.mark.parametrize("rows", [1, 2, 33, 100])
def test_dynamic_shapes(rows):
    def function(x, y):
        return (x.softmax(1) + y).sum(0), x.flatten()[::2] * rows_of(x), x.t().contiguous()

    def rows_of(x):
        return x.shape[0]

    check(function, R(rows, 37), R(37), dynamic=True)


def test_one_dynamic_kernel_for_every_size():
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: (x * 2).sum(-1) + x.amax(-1), fullgraph=True, dynamic=True)
    for shape in ((3, 5), (7, 64), (64, 7), (128, 1000), (2, 2)):
        x = R(*shape)
        torch.testing.assert_close(compiled(x.to("gxu")).cpu(), (x * 2).sum(-1) + x.amax(-1), rtol=1e-4, atol=1e-4)


def test_gradients():
    def function(x, w):
        return (F.layer_norm(F.gelu(x @ w), (24,)).softmax(1) ** 2).sum()

    torch._dynamo.reset()
    x, w = R(10, 16), R(16, 24)
    wanted = torch.autograd.grad(function(*(ref := [t.double().requires_grad_() for t in (x, w)])), ref)
    got = torch.autograd.grad(
        torch.compile(function, fullgraph=True)(*(own := [t.to("gxu").requires_grad_() for t in (x, w)])), own
    )
    for g, expected in zip(got, wanted, strict=True):
        torch.testing.assert_close(g.cpu().double(), expected, rtol=1e-4, atol=1e-5)
