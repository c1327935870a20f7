"""FlexAttention compiled for gxu: forward, backward and decoding, against attention written out in double precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from inductor_helpers import launches_of, to_device
from torch import Tensor
from torch._inductor import config as inductor_config
from torch._inductor.utils import run_and_get_code
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}


def attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, mask: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d) + bias) v in float64 where `mask`; rows without keys are zero. Heads of keys repeat."""
    group = query.shape[1] // key.shape[1]
    key, value = (t.double().repeat_interleave(group, 1) for t in (key, value))
    scores = query.double() @ key.mT / query.shape[-1] ** 0.5 + bias
    weights = scores.masked_fill(~mask, float("-inf")).softmax(-1)
    return torch.where(mask.any(-1, keepdim=True), weights, 0) @ value


def positions(queries: int, keys: int) -> tuple[Tensor, Tensor]:
    return torch.arange(queries)[:, None], torch.arange(keys)[None, :]


def causal(b: Any, h: Any, q: Any, k: Any) -> Any:
    return q >= k


def relative(score: Any, b: Any, h: Any, q: Any, k: Any) -> Any:
    return score + (q - k) * 0.01


def operands(heads: int, key_heads: int, queries: int, keys: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    shapes = ((2, heads, queries, 64), (2, key_heads, keys, 64), (2, key_heads, keys, 64))
    return [torch.randn(shape).to(dtype) for shape in shapes]


def compiled() -> Callable[..., Any]:
    torch._dynamo.reset()
    return torch.compile(flex_attention, fullgraph=True)


@pytest.mark.parametrize("dtype", list(TOLERANCES))
def test_forward(dtype: torch.dtype) -> None:
    """A bias, a block mask whose last block is not full, and four query heads to two key heads: one kernel."""
    q, k, v = operands(4, 2, 200, 200, dtype)
    block_mask = create_block_mask(causal, None, None, 200, 200, device="gxu")
    fn = compiled()
    call = lambda: fn(  # noqa: E731
        *to_device([q, k, v], "gxu"), score_mod=relative, block_mask=block_mask, enable_gqa=True
    )
    result, code = run_and_get_code(call)
    i, j = positions(200, 200)
    expected = attention(q, k, v, (i - j) * 0.01, i >= j)
    tolerance = TOLERANCES[dtype]
    torch.testing.assert_close(result.cpu().double(), expected, rtol=tolerance, atol=tolerance)
    assert "triton_tem_fused_flex_attention" in code[0]
    assert launches_of(call)[1] == 1


def test_captured_tensors_and_empty_rows() -> None:
    """A bias for every head, and documents of which one has no key that it may see."""
    q, k, v = operands(2, 2, 130, 140)
    slopes, documents = torch.randn(2), torch.randint(0, 4, (140,))
    documents[documents == 1] = 2
    query_documents = torch.randint(0, 4, (130,))
    slopes_gxu, documents_gxu, query_documents_gxu = to_device([slopes, documents, query_documents], "gxu")

    def bias(score: Any, b: Any, h: Any, q: Any, k: Any) -> Any:
        return score + slopes_gxu[h] * k

    def same_document(b: Any, h: Any, q: Any, k: Any) -> Any:
        return query_documents_gxu[q] == documents_gxu[k]

    block_mask = create_block_mask(same_document, None, None, 130, 140, device="gxu")
    result = compiled()(*to_device([q, k, v], "gxu"), score_mod=bias, block_mask=block_mask)
    expected = attention(q, k, v, slopes[:, None, None] * torch.arange(140), query_documents[:, None] == documents)
    assert (query_documents == 1).any()
    torch.testing.assert_close(result.cpu().double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("key_heads", [2, 1])
def test_backward(key_heads: int) -> None:
    q, k, v = (t.requires_grad_() for t in operands(2, key_heads, 150, 150))
    device_operands = to_device([q, k, v], "gxu")
    reference = [t.detach().double().requires_grad_() for t in (q, k, v)]
    block_mask = create_block_mask(causal, None, None, 150, 150, device="gxu")
    result = compiled()(*device_operands, score_mod=relative, block_mask=block_mask, enable_gqa=key_heads != 2)
    i, j = positions(150, 150)
    gradient = torch.randn(2, 2, 150, 64)
    result.backward(gradient.to("gxu"))
    attention(*reference, (i - j) * 0.01, i >= j).backward(gradient.double())
    for actual, expected in zip(device_operands, reference, strict=True):
        torch.testing.assert_close(actual.grad.cpu().double(), expected.grad, rtol=1e-4, atol=2e-5)


def test_decoding() -> None:
    """One query a sequence: the query heads of a key head share a program, and the keys are split among programs."""
    q, k, v = operands(8, 2, 1, 300)
    fn = compiled()
    call = lambda: fn(*to_device([q, k, v], "gxu"), score_mod=relative, enable_gqa=True)  # noqa: E731
    result, code = run_and_get_code(call)
    assert "SPLIT_KV : tl.constexpr" in code[0]
    expected = attention(q, k, v, -torch.arange(300) * 0.01, torch.tensor(True))
    torch.testing.assert_close(result.cpu().double(), expected, rtol=1e-5, atol=1e-5)


def test_eager_and_smaller_blocks() -> None:
    """Without torch.compile it is the same function; max_autotune finds a tile for smaller blocks of the mask."""
    q, k, v = operands(2, 2, 150, 150)
    i, j = positions(150, 150)
    expected = attention(q, k, v, torch.zeros(()), i >= j)
    mask = create_block_mask(causal, None, None, 150, 150, device="gxu", BLOCK_SIZE=64)
    with pytest.warns(UserWarning, match="flex_attention called without torch.compile"):
        result = flex_attention(*to_device([q, k, v], "gxu"), block_mask=mask)
    torch.testing.assert_close(result.cpu().double(), expected, rtol=1e-5, atol=1e-5)
    with inductor_config.patch(max_autotune=True, force_disable_caches=True):
        result = compiled()(*to_device([q, k, v], "gxu"), block_mask=mask)
    torch.testing.assert_close(result.cpu().double(), expected, rtol=1e-5, atol=1e-5)
