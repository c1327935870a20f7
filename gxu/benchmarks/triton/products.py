"""Matrix products, by the tutorial's blocked kernel with its list of configurations to choose from."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gxu.benchmarks.device import DEVICE
from gxu.benchmarks.triton.comparison import against_library
from gxu.benchmarks.triton.row import Case, Work

GROUP = "products"
MKL_BAR, ONEDNN_BAR = 0.8, 0.7


def _configuration(m: int, n: int, k: int) -> triton.Config:
    return triton.Config({"BLOCK_M": m, "BLOCK_N": n, "BLOCK_K": k, "GROUP_M": 8})


CONFIGURATIONS = [
    _configuration(128, 128, 128),
    _configuration(128, 256, 256),
    _configuration(256, 256, 256),
    _configuration(512, 256, 256),
]


@triton.autotune(CONFIGURATIONS, key=["M", "N", "K"])
@triton.jit
def matmul_kernel(
    a_ptr,
    b_ptr,
    c_ptr,
    M,
    N,
    K,
    stride_am,
    stride_ak,
    stride_bk,
    stride_bn,
    stride_cm,
    stride_cn,
    ACCUMULATOR: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr,
):
    """c = a @ b. Neighbouring programs share rows of a and columns of b, GROUP_M blocks of rows at a time."""
    pid = tl.program_id(0)
    blocks_m = tl.cdiv(M, BLOCK_M)
    blocks_n = tl.cdiv(N, BLOCK_N)
    in_group = GROUP_M * blocks_n
    first_m = pid // in_group * GROUP_M
    group_m = min(blocks_m - first_m, GROUP_M)
    pid_m = first_m + pid % in_group % group_m
    pid_n = pid % in_group // group_m
    m = pid_m * BLOCK_M + tl.arange(0, BLOCK_M)
    n = pid_n * BLOCK_N + tl.arange(0, BLOCK_N)
    k = tl.arange(0, BLOCK_K)
    a_ptrs = a_ptr + (m % M)[:, None] * stride_am + k[None, :] * stride_ak
    b_ptrs = b_ptr + k[:, None] * stride_bk + (n % N)[None, :] * stride_bn
    accumulator = tl.zeros([BLOCK_M, BLOCK_N], ACCUMULATOR)
    for step in range(0, tl.cdiv(K, BLOCK_K)):
        a = tl.load(a_ptrs, k[None, :] < K - step * BLOCK_K, other=0)
        b = tl.load(b_ptrs, k[:, None] < K - step * BLOCK_K, other=0)
        accumulator = tl.dot(a, b, accumulator, out_dtype=ACCUMULATOR)
        a_ptrs += BLOCK_K * stride_ak
        b_ptrs += BLOCK_K * stride_bk
    c = c_ptr + m[:, None] * stride_cm + n[None, :] * stride_cn
    tl.store(c, accumulator.to(c_ptr.dtype.element_ty), (m[:, None] < M) & (n[None, :] < N))


def cases() -> list[Case]:
    def case(name: str, n: int, dtype: torch.dtype) -> Case:
        bar, library = (MKL_BAR, "MKL") if dtype == torch.float32 else (ONEDNN_BAR, "oneDNN")
        return against_library(f"matmul {name} {n}", GROUP, bar, library, lambda: matmul(n, dtype))

    narrow = {"bf16": torch.bfloat16, "fp16": torch.float16, "int8": torch.int8}
    return [case("fp32", n, torch.float32) for n in (256, 512, 1024, 2048)] + [
        case(name, n, dtype) for name, dtype in narrow.items() for n in (512, 1024, 2048)
    ]


def matmul(n: int, dtype: torch.dtype) -> Work:
    """Square products; int8 accumulates in int32, everything else in fp32."""
    integers = dtype == torch.int8
    if integers:
        a, b = (torch.randint(-128, 128, (n, n), dtype=dtype) for _ in range(2))
    else:
        a, b = (torch.randn(n, n).to(dtype) for _ in range(2))
    x, y = a.to(DEVICE), b.to(DEVICE)
    accumulator = tl.int32 if integers else tl.float32

    def grid(meta: dict[str, int]) -> tuple[int]:
        return (triton.cdiv(n, meta["BLOCK_M"]) * triton.cdiv(n, meta["BLOCK_N"]),)

    def kernel() -> Tensor:
        c = torch.empty(n, n, dtype=torch.int32 if integers else dtype, device=DEVICE)
        matmul_kernel[grid](x, y, c, n, n, n, *x.stride(), *y.stride(), *c.stride(), ACCUMULATOR=accumulator)
        return c

    tolerance = 1e-3 if dtype == torch.float32 else 2e-2
    return Work(kernel, lambda: library_product(a, b), rtol=tolerance, atol=tolerance * n**0.5)


def library_product(a: Tensor, b: Tensor) -> Tensor:
    """The fastest product that torch's libraries have. fp16 takes the way through fp32: without AVX512-FP16, oneDNN
    has no kernel for it, and ``a @ b`` runs a plain loop that is a hundred times slower."""
    if a.dtype == torch.int8:
        return torch._int_mm(a, b)
    if a.dtype == torch.float16:
        return (a.float() @ b.float()).half()
    return a @ b
