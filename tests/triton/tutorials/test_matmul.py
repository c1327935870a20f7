"""Matrix product with an autotuning list: program order in groups of rows, masks by wrapped indices, an activation."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl


def config(m: int, n: int, k: int, stages: int, warps: int) -> triton.Config:
    meta = {"BLOCK_M": m, "BLOCK_N": n, "BLOCK_K": k, "GROUP_M": 8}
    return triton.Config(meta, num_stages=stages, num_warps=warps)


CONFIGS = [
    config(128, 256, 64, 3, 8),
    config(64, 256, 32, 4, 4),
    config(128, 128, 32, 4, 4),
    config(128, 64, 32, 4, 4),
    config(64, 128, 32, 4, 4),
    config(128, 32, 32, 4, 4),
    config(64, 32, 32, 5, 2),
    config(32, 64, 32, 5, 2),
    config(64, 64, 128, 4, 4),
]


@triton.jit
def leaky_relu(x):
    return tl.where(x >= 0, x, 0.01 * x)


@triton.autotune(configs=CONFIGS, key=["M", "N", "K"])
@triton.jit
def matmul_kernel(
    a, b, c, M, N, K,
    a_rows, a_columns, b_rows, b_columns, c_rows, c_columns,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP_M: tl.constexpr,
    ACTIVATION: tl.constexpr,
):  # fmt: skip
    pid = tl.program_id(0)
    tiles_m, tiles_n = tl.cdiv(M, BLOCK_M), tl.cdiv(N, BLOCK_N)
    in_group = GROUP_M * tiles_n
    first = pid // in_group * GROUP_M
    height = min(tiles_m - first, GROUP_M)
    tile_m = first + pid % in_group % height
    tile_n = pid % in_group // height
    tl.assume(tile_m >= 0)
    tl.assume(tile_n >= 0)
    tl.assume(a_rows > 0)

    row = (tile_m * BLOCK_M + tl.arange(0, BLOCK_M)) % M
    column = (tile_n * BLOCK_N + tl.arange(0, BLOCK_N)) % N
    k = tl.arange(0, BLOCK_K)
    a_at = a + row[:, None] * a_rows + k[None, :] * a_columns
    b_at = b + k[:, None] * b_rows + column[None, :] * b_columns
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for step in range(tl.cdiv(K, BLOCK_K)):
        left = K - step * BLOCK_K
        x = tl.load(a_at, mask=k[None, :] < left, other=0.0)
        y = tl.load(b_at, mask=k[:, None] < left, other=0.0)
        total = tl.dot(x, y, total)
        a_at += BLOCK_K * a_columns
        b_at += BLOCK_K * b_rows
    if ACTIVATION == "leaky_relu":
        total = leaky_relu(total)
    row = tile_m * BLOCK_M + tl.arange(0, BLOCK_M)
    column = tile_n * BLOCK_N + tl.arange(0, BLOCK_N)
    inside = (row[:, None] < M) & (column[None, :] < N)
    tl.store(c + row[:, None] * c_rows + column[None, :] * c_columns, total.to(c.dtype.element_ty), inside)


def matmul(a: torch.Tensor, b: torch.Tensor, activation: str = "", dtype: torch.dtype | None = None) -> torch.Tensor:
    (m, k), n = a.shape, b.shape[1]
    c = torch.full((m, n), float("nan"), device=a.device, dtype=dtype or a.dtype)
    matmul_kernel[lambda meta: (triton.cdiv(m, meta["BLOCK_M"]) * triton.cdiv(n, meta["BLOCK_N"]),)](
        a, b, c, m, n, k, *a.stride(), *b.stride(), *c.stride(), ACTIVATION=activation
    )
    return c


def test_autotuned():
    a, b = torch.randn(192, 160).half(), torch.randn(160, 208).half()
    result = matmul(a.to("gxu"), b.to("gxu"))
    torch.testing.assert_close(result.cpu().double(), a.double() @ b.double(), rtol=1e-3, atol=1e-3)
    assert matmul_kernel.best_config in CONFIGS


# The autotuner has its own test: from here on one configuration is enough.
@pytest.fixture
def one_config(monkeypatch):
    monkeypatch.setattr(matmul_kernel, "configs", [config(64, 32, 32, 5, 2)])


@pytest.mark.usefixtures("one_config")
@pytest.mark.parametrize("activation", ["", "leaky_relu"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_odd_shapes(dtype, activation):
    a, b = torch.randn(77, 131).to(dtype), torch.randn(131, 59).to(dtype)
    expected = a.double() @ b.double()
    if activation:
        expected = torch.nn.functional.leaky_relu(expected)
    result = matmul(a.to("gxu"), b.to("gxu"), activation)
    tolerance = {torch.float16: 1e-3, torch.bfloat16: 8e-3, torch.float32: 1e-5}[dtype]
    torch.testing.assert_close(result.cpu().double(), expected, rtol=tolerance, atol=tolerance * 2)


@pytest.mark.usefixtures("one_config")
def test_transposed_operand():
    a, b = torch.randn(70, 64).half(), torch.randn(90, 64).half()
    result = matmul(a.to("gxu"), b.to("gxu").T)
    torch.testing.assert_close(result.cpu().double(), a.double() @ b.double().T, rtol=1e-3, atol=1e-3)


@pytest.mark.usefixtures("one_config")
@pytest.mark.parametrize("dtype", [torch.float8_e5m2, torch.float8_e4m3fn])
def test_fp8(dtype):
    a, b = torch.randn(64, 96).to(dtype), torch.randn(80, 96).to(dtype)
    result = matmul(a.to("gxu"), b.to("gxu").T, dtype=torch.float16)
    torch.testing.assert_close(result.cpu().double(), a.double() @ b.double().T, rtol=1e-3, atol=1e-3)
