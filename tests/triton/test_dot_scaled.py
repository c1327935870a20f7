"""tl.dot_scaled: every format of both operands, with and without scales, against numpy in float64.

The reference decodes elements and scales from the tables of the OCP microscaling specification.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from triton_helpers import TRITON_VERSION, launch

FORMATS = ("e2m1", "e4m3", "e5m2", "bf16", "fp16")
DTYPES = {
    "e2m1": torch.uint8,
    "e4m3": torch.float8_e4m3fn,
    "e5m2": torch.float8_e5m2,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


@triton.jit
def product(
    a,
    a_scale,
    b,
    b_scale,
    acc,
    out,
    A_FORMAT: tl.constexpr,
    B_FORMAT: tl.constexpr,
    A_SCALED: tl.constexpr,
    B_SCALED: tl.constexpr,
    A_ROWS: tl.constexpr,
    A_COLUMNS: tl.constexpr,
    B_ROWS: tl.constexpr,
    B_COLUMNS: tl.constexpr,
    A_ALONG_K: tl.constexpr,
    B_ALONG_K: tl.constexpr,
    M: tl.constexpr,
    N: tl.constexpr,
    GROUPS: tl.constexpr,
):
    """One tile; the shapes of a and b are as packed."""
    m, n, g = tl.arange(0, M), tl.arange(0, N), tl.arange(0, GROUPS)
    x = tl.load(a + tl.arange(0, A_ROWS)[:, None] * A_COLUMNS + tl.arange(0, A_COLUMNS)[None, :])
    y = tl.load(b + tl.arange(0, B_ROWS)[:, None] * B_COLUMNS + tl.arange(0, B_COLUMNS)[None, :])
    x_scale, y_scale = None, None
    if A_SCALED:
        x_scale = tl.load(a_scale + m[:, None] * GROUPS + g[None, :])
    if B_SCALED:
        y_scale = tl.load(b_scale + n[:, None] * GROUPS + g[None, :])
    at = m[:, None] * N + n[None, :]
    result = tl.dot_scaled(
        x, x_scale, A_FORMAT, y, y_scale, B_FORMAT, tl.load(acc + at), lhs_k_pack=A_ALONG_K, rhs_k_pack=B_ALONG_K
    )
    tl.store(out + at, result)


def operand(rows: int, columns: int, kind: str, packed: int) -> tuple[torch.Tensor, np.ndarray]:
    """(as the kernel gets it, its numbers) of a random matrix."""
    if kind == "e2m1":
        codes = np.random.randint(0, 16, (rows, columns))
        pairs = np.moveaxis(codes, packed, -1)
        pairs = pairs.reshape(*pairs.shape[:-1], -1, 2)
        bytes_ = np.moveaxis(pairs[..., 0] | pairs[..., 1] << 4, -1, packed)
        return torch.from_numpy(np.ascontiguousarray(bytes_.astype(np.uint8))), E2M1[codes]
    values = torch.randn(rows, columns).to(DTYPES[kind])
    return values, values.double().numpy()


def scales(count: int, groups: int) -> tuple[torch.Tensor, np.ndarray]:
    codes = np.random.randint(120, 136, (count, groups)).astype(np.uint8)
    return torch.from_numpy(codes), 2.0 ** (codes.astype(np.float64) - 127)


def check(a_kind, b_kind, a_scaled, b_scaled, m=16, n=32, k=64, a_along=True, b_along=True):
    a, left = operand(m, k, a_kind, 1 if a_along else 0)
    b, right = operand(k, n, b_kind, 0 if b_along else 1)
    a_scale, left_scale = scales(m, k // 32)
    b_scale, right_scale = scales(n, k // 32)
    acc = torch.randn(m, n)
    out = torch.full((m, n), float("nan"))
    meta = {
        "A_FORMAT": a_kind, "B_FORMAT": b_kind, "A_SCALED": a_scaled, "B_SCALED": b_scaled,
        "A_ROWS": a.shape[0], "A_COLUMNS": a.shape[1], "B_ROWS": b.shape[0], "B_COLUMNS": b.shape[1],
        "A_ALONG_K": a_along, "B_ALONG_K": b_along, "M": m, "N": n, "GROUPS": k // 32,
    }  # fmt: skip
    result = launch(product, (1,), a, a_scale, b, b_scale, acc, out, **meta)[-1]
    if a_scaled:
        left = left * left_scale.repeat(32, axis=1)
    if b_scaled:
        right = right * right_scale.T.repeat(32, axis=0)
    # Errors are those of adding up k products in float32.
    bound = (np.abs(left) @ np.abs(right) + np.abs(acc.double().numpy())) * (k + 1) * 2.0**-24
    error = np.abs(result.double().numpy() - (left @ right + acc.double().numpy()))
    assert (error <= bound).all(), error.max()


@pytest.mark.parametrize(("a_kind", "b_kind"), list(itertools.product(FORMATS, FORMATS)))
def test_every_pair_of_formats(a_kind, b_kind):
    check(a_kind, b_kind, True, True)


@pytest.mark.parametrize(("a_scaled", "b_scaled"), [(True, False), (False, True), (False, False)])
@pytest.mark.parametrize(("a_kind", "b_kind"), [("e2m1", "bf16"), ("e4m3", "e5m2"), ("fp16", "e2m1")])
def test_scales_may_be_missing(a_kind, b_kind, a_scaled, b_scaled):
    check(a_kind, b_kind, a_scaled, b_scaled)


@pytest.mark.parametrize(("a_along", "b_along"), [(False, True), (True, False), (False, False)])
def test_elements_packed_along_the_outer_dimension(a_along, b_along):
    check("e2m1", "e2m1", True, True, a_along=a_along, b_along=b_along)


@pytest.mark.parametrize(("m", "n", "k"), [(16, 16, 32), (1, 64, 128), (64, 4, 32), (2, 2, 256)])
def test_shapes(m, n, k):
    check("e2m1", "e4m3", True, True, m, n, k)
    check("e5m2", "e2m1", True, True, m, n, k)


@triton.jit
def one_scale(a, scale, out, M: tl.constexpr):
    """out = (a, each row scaled by its own) @ identity."""
    i, j = tl.arange(0, M)[:, None], tl.arange(0, 32)[None, :]
    identity = (tl.arange(0, 32)[:, None] == j).to(tl.bfloat16)
    factor = tl.load(scale + i)
    result = tl.dot_scaled(tl.load(a + i * 32 + j), factor, "bf16", identity, None, "bf16")
    tl.store(out + i * 32 + j, result)


def test_every_scale():
    a = torch.zeros(256, 32).bfloat16()
    a[:, 3] = -1.5
    codes = torch.arange(256, dtype=torch.uint8)
    result = launch(one_scale, (1,), a, codes, torch.empty(256, 32), M=256)[-1]
    # 1.5 * 2**127 is the largest scaled number; the smallest, 1.5 * 2**-127, may count as zero.
    wanted = torch.from_numpy(-1.5 * 2.0 ** (np.arange(255) - 127.0))
    torch.testing.assert_close(result[:255, 3].double(), wanted, rtol=0, atol=2.0**-126)
    assert (result[:255, :3] == 0).all()
    assert result[255].isnan().all()


@triton.jit
def nvfp4(a, a_scale, b, b_scale, out, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    m, n = tl.arange(0, M)[:, None], tl.arange(0, N)[:, None]
    k, g = tl.arange(0, K // 2)[None, :], tl.arange(0, K // 16)[None, :]
    x, y = tl.load(a + m * (K // 2) + k), tl.load(b + n * (K // 2) + k)
    x_scale, y_scale = tl.load(a_scale + m * (K // 16) + g), tl.load(b_scale + n * (K // 16) + g)
    result = tl.dot_scaled(x, x_scale, "e2m1", y.T, y_scale, "e2m1")
    tl.store(out + m * N + tl.arange(0, N)[None, :], result)


def test_groups_of_16_with_scales_of_fp8():
    m, n, k = 8, 16, 64
    a, left = operand(m, k, "e2m1", 1)
    b, right = operand(n, k, "e2m1", 1)
    a_scale = (torch.rand(m, k // 16) * 8).to(torch.float8_e4m3fn)
    b_scale = (torch.rand(n, k // 16) * 8).to(torch.float8_e4m3fn)
    result = launch(nvfp4, (1,), a, a_scale, b, b_scale, torch.empty(m, n), M=m, N=n, K=k)[-1]
    left = left * a_scale.double().numpy().repeat(16, axis=1)
    right = right * b_scale.double().numpy().repeat(16, axis=1)
    torch.testing.assert_close(result.double(), torch.from_numpy(left @ right.T), rtol=1e-5, atol=1e-3)


@triton.jit
def batched(a, a_scale, b, out, B: tl.constexpr, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    batch, m, n = tl.arange(0, B)[:, None, None], tl.arange(0, M), tl.arange(0, N)
    x = tl.load(a + (batch * M + m[None, :, None]) * (K // 2) + tl.arange(0, K // 2)[None, None, :])
    scale = tl.load(a_scale + (batch * M + m[None, :, None]) * (K // 32) + tl.arange(0, K // 32)[None, None, :])
    y = tl.load(b + (batch * K + tl.arange(0, K)[None, :, None]) * N + n[None, None, :])
    result = tl.dot_scaled(x, scale, "e2m1", y, None, "bf16")
    tl.store(out + (batch * M + m[None, :, None]) * N + n[None, None, :], result)


@pytest.mark.skipif(TRITON_VERSION < "3.7", reason="Triton 3.6 has no scaled products of batches")
def test_batches():
    size, m, n, k = 2, 16, 8, 64
    a, left = operand(size * m, k, "e2m1", 1)
    scale, factors = scales(size * m, k // 32)
    b = torch.randn(size, k, n).bfloat16()
    result = launch(batched, (1,), a, scale, b, torch.empty(size, m, n), B=size, M=m, N=n, K=k)[-1]
    wanted = torch.from_numpy((left * factors.repeat(32, axis=1)).reshape(size, m, k)) @ b.double()
    torch.testing.assert_close(result.double(), wanted, rtol=1e-4, atol=1e-3)
