"""torch.compile with cpp_wrapper=True on gxu: the same graphs as with the Python wrapper, called from C++.

Each graph costs seconds of C++ compiler, so the default run has a few large ones; `--extended` has one a feature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from inductor_helpers import assert_close, in_double, to_device
from torch import Tensor, nn
from torch._inductor import config as inductor_config
from torch._inductor.utils import run_and_get_code


@pytest.fixture(autouse=True)
def cpp_wrapper() -> Iterator[None]:
    torch._dynamo.reset()
    with inductor_config.patch(cpp_wrapper=True):
        yield
    torch._dynamo.reset()


@triton.jit
def scaled_add(x_ptr, y_ptr, out_ptr, n, scale, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    tl.store(out_ptr + offsets, tl.load(x_ptr + offsets, mask) + scale * tl.load(y_ptr + offsets, mask), mask)


def run_scaled_add(x: Tensor, y: Tensor, scale: float) -> Tensor:
    """The kernel on gxu; the same arithmetic on the CPU, in whatever precision."""
    if x.device.type == "cpu":
        return x + scale * y
    out = torch.empty_like(x)
    scaled_add[(triton.cdiv(x.numel(), 256),)](x, y, out, x.numel(), scale, BLOCK=256)
    return out


def check(fn: Callable[..., Any], *args: Any, dynamic: bool | None = None) -> str:
    """Compiles `fn`, runs it three times, compares with the CPU in double precision; returns the generated code."""
    compiled = torch.compile(fn, fullgraph=True, dynamic=dynamic)
    result, (code,) = run_and_get_code(compiled, *to_device(args, "gxu"))
    assert "inductor_entry_impl" in code
    assert_close(result, fn(*in_double(args)))
    for _ in range(2):
        assert_close(compiled(*to_device(args, "gxu")), fn(*in_double(args)))
    return code


def test_kernels_operators_and_several_outputs() -> None:
    table = torch.randn(7)

    def fn(x: Tensor, weight: Tensor, bias: Tensor, index: Tensor) -> tuple[Tensor, ...]:
        hidden = torch.addmm(bias, x, weight)
        normal = (hidden - hidden.mean(-1, keepdim=True)) * torch.rsqrt(hidden.var(-1, keepdim=True) + 1e-5)
        values, order = torch.sort(hidden.sum(-1), stable=True)
        constant = torch.tensor([0.5, -1.25, 2.0], device=x.device, dtype=x.dtype)
        picked = table.to(x.device, x.dtype)[index]
        mixed = run_scaled_add(normal.contiguous(), hidden, 2.5)
        return normal.t(), values, order, constant * 3, picked, mixed, normal.argmax(-1)

    args = torch.randn(37, 20), torch.randn(20, 48), torch.randn(48), torch.randint(0, 7, (5,))
    code = check(fn, *args)
    assert "aoti_torch_gxu_addmm_out" in code
    assert "aoti_torch_get_current_gxu_stream" in code
    assert "AOTIGXUGuard device_guard(0)" in code


def test_training_with_dynamic_batch() -> None:
    model = nn.Sequential(nn.Linear(12, 24), nn.GELU(), nn.LayerNorm(24), nn.Linear(24, 3))
    on_gxu = nn.Sequential(nn.Linear(12, 24), nn.GELU(), nn.LayerNorm(24), nn.Linear(24, 3)).to("gxu")
    on_gxu.load_state_dict(model.state_dict())
    reference = model.double()

    def loss(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(network(x), y)

    compiled = torch.compile(lambda x, y: loss(on_gxu, x, y), dynamic=True, fullgraph=True)
    for batch in (5, 64, 9):
        x, y = torch.randn(batch, 12), torch.randint(0, 3, (batch,))
        expected, actual = loss(reference, x.double(), y), compiled(x.to("gxu"), y.to("gxu"))
        assert_close(actual, expected)
        gradients = torch.autograd.grad(actual, list(on_gxu.parameters()))
        assert_close(gradients, torch.autograd.grad(expected, list(reference.parameters())))


def _mutation(x: Tensor, y: Tensor) -> Tensor:
    x.mul_(2).add_(y)
    return x.sum(0)


def _cond(x: Tensor, y: Tensor) -> Tensor:
    return torch.cond(x.sum() > 0, lambda a, b: a.sin() @ b, lambda a, b: a - b.sum(), (x, y))


def _while_loop(x: Tensor, y: Tensor) -> Any:
    return torch.while_loop(
        lambda i, a: i < 4, lambda i, a: (i + 1, a * 0.5 + 1), (torch.zeros((), dtype=torch.int64, device=x.device), x)
    )


def _scatter(x: Tensor, y: Tensor) -> Tensor:
    index = torch.tensor([[0, 2, 1], [3, 3, 0]], device=x.device)
    return (
        torch.zeros_like(x)
        .scatter_reduce(0, index, y[:2, :3].contiguous(), "amax")
        .index_put((torch.tensor([1, 1], device=x.device),), y[:2], accumulate=True)
    )


def _item(x: Tensor, y: Tensor) -> Tensor:
    return x * y.flatten()[0].item()


def _views_and_aliases(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    return x.t(), x[1:, ::2], (x + 1).as_strided((2, 2), (1, 3)), y.expand(2, *y.shape)


def _zero_size(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    return x[:0] + 1, x[:0].sum(), torch.cat([x[:0], y])


def _scan_and_sort(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    return x.cumsum(0), x.sort(descending=True)[1], y.topk(2)[0], torch.bucketize(x, y.flatten().sort()[0])


def _convolution(x: Tensor, y: Tensor) -> Tensor:
    return F.conv2d(x.reshape(1, 1, 6, 6), y.reshape(4, 1, 3, 3), padding=1).relu()


def _attention(x: Tensor, y: Tensor) -> Tensor:
    q = x.reshape(1, 2, 6, 3)
    return F.scaled_dot_product_attention(q, q + 1, q * 2, is_causal=True)


def _nonzero(x: Tensor, y: Tensor) -> Tensor:
    return x[x > 0].sum() + torch.nonzero(y > 0).shape[0]


FEATURES = (
    _mutation, _cond, _while_loop, _scatter, _item, _views_and_aliases, _zero_size, _scan_and_sort, _convolution,
    _attention, _nonzero,
)  # fmt: skip


@pytest.mark.extended
@pytest.mark.parametrize("feature", FEATURES, ids=lambda fn: fn.__name__.lstrip("_"))
def test_feature(feature: Callable[..., Any]) -> None:
    with torch._dynamo.config.patch(capture_scalar_outputs=True, capture_dynamic_output_shape_ops=True):
        check(feature, torch.randn(6, 6), torch.randn(6, 6))


@pytest.mark.extended
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.int32, torch.bool])
def test_dtypes(dtype: torch.dtype) -> None:
    x = torch.randint(0, 2, (9, 33)).to(dtype) if not dtype.is_floating_point else torch.randn(9, 33).to(dtype)

    def fn(x: Tensor) -> tuple[Tensor, Tensor]:
        return x.sum(-1), torch.where(x > 0, x, x)

    result = torch.compile(fn, fullgraph=True)(x.to("gxu"))
    torch.testing.assert_close([r.cpu() for r in result], list(fn(x)), rtol=2e-2, atol=2e-2)
