"""Products of narrow elements, which are packed for the CPU's instructions, against exact references."""

import numpy as np
import pytest
import torch
import triton
import triton.language as tl

import gxu.triton.codegen.target as target_module


@triton.jit
def matmul(a, b, c, start, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, OUT: tl.constexpr):
    m, n, k = tl.arange(0, M), tl.arange(0, N), tl.arange(0, K)
    x = tl.load(a + m[:, None] * K + k[None, :])
    y = tl.load(b + k[:, None] * N + n[None, :])
    total = tl.load(start + m[:, None] * N + n[None, :])
    tl.store(c + m[:, None] * N + n[None, :], tl.dot(x, y, total, out_dtype=OUT))


SHAPES = [(16, 16, 16), (1, 4, 4), (2, 8, 2), (64, 32, 128), (4, 2, 64), (8, 64, 1), (32, 128, 8)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_int8_is_exact(shape: tuple[int, int, int]) -> None:
    """All of int8, -128 included, and sums that wrap."""
    rows, columns, inner = shape
    a = torch.randint(-128, 128, (rows, inner), dtype=torch.int8)
    b = torch.randint(-128, 128, (inner, columns), dtype=torch.int8)
    a[0, 0], b[0, 0] = -128, -128
    start = torch.randint(-(2**31), 2**31, (rows, columns), dtype=torch.int32)
    out = torch.empty(rows, columns, dtype=torch.int32, device="gxu")
    matmul[(1,)](a.to("gxu"), b.to("gxu"), out, start.to("gxu"), *shape, tl.int32)
    with np.errstate(over="ignore"):
        expected = a.numpy().astype(np.int32) @ b.numpy().astype(np.int32) + start.numpy()
    np.testing.assert_array_equal(out.cpu().numpy(), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_half_precision(dtype: torch.dtype, shape: tuple[int, int, int]) -> None:
    """Products of halves are exact in float32, so that what differs from float64 is the sum alone."""
    rows, columns, inner = shape
    a, b = torch.randn(rows, inner).to(dtype), torch.randn(inner, columns).to(dtype)
    start = torch.randn(rows, columns)
    out = torch.full((rows, columns), float("nan"), device="gxu")
    matmul[(1,)](a.to("gxu"), b.to("gxu"), out, start.to("gxu"), *shape, tl.float32)
    expected = a.double() @ b.double() + start.double()
    error_bound = (a.double().abs() @ b.double().abs() + start.abs()) * (inner + 1) * 2.0**-23
    assert ((out.cpu().double() - expected).abs() <= error_bound).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_not_finite(dtype: torch.dtype) -> None:
    a, b = torch.ones(16, 16, dtype=dtype), torch.ones(16, 16, dtype=dtype)
    a[1, 3], a[2, 5], a[4, 7] = float("nan"), float("inf"), float("-inf")
    b[7, 2] = 0
    out = torch.empty(16, 16, device="gxu")
    matmul[(1,)](a.to("gxu"), b.to("gxu"), out, torch.zeros(16, 16, device="gxu"), 16, 16, 16, tl.float32)
    torch.testing.assert_close(out.cpu(), a.float() @ b.float(), equal_nan=True)


def test_without_the_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU that has none of them gets the same numbers: exact for int8."""
    monkeypatch.setattr(target_module.Target, "has", lambda self, feature: False)
    plain = triton.jit(matmul.fn)  # a kernel of its own, compiled while the patch holds
    monkeypatch.setenv("TRITON_ALWAYS_COMPILE", "1")
    a = torch.randint(-128, 128, (16, 32), dtype=torch.int8)
    b = torch.randint(-128, 128, (32, 16), dtype=torch.int8)
    out, start = torch.empty(16, 16, dtype=torch.int32, device="gxu"), torch.zeros(16, 16, dtype=torch.int32)
    kernel = plain[(1,)](a.to("gxu"), b.to("gxu"), out, start.to("gxu"), 16, 16, 32, tl.int32)
    assert torch.equal(out.cpu(), a.int() @ b.int())
    assert "vpdpbusd" not in kernel.asm["llir"]
