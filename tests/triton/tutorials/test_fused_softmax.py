"""Row softmax in one kernel: programs that stride over rows, launched from a kernel that was compiled beforehand."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl


@triton.jit
def softmax_kernel(out, x, out_stride, x_stride, rows, columns, BLOCK: tl.constexpr, num_stages: tl.constexpr):
    j = tl.arange(0, BLOCK)
    inside = j < columns
    for row in tl.range(tl.program_id(0), rows, tl.num_programs(0), num_stages=num_stages):
        values = tl.load(x + row * x_stride + j, inside, other=-float("inf"))
        weights = tl.exp(values - tl.max(values, axis=0))
        tl.store(out + row * out_stride + j, weights / tl.sum(weights, axis=0), inside)


def softmax(x: torch.Tensor) -> torch.Tensor:
    rows, columns = x.shape
    out = torch.empty_like(x)
    block = triton.next_power_of_2(columns)
    args = (out, x, out.stride(0), x.stride(0), rows, columns)
    kernel = softmax_kernel.warmup(*args, BLOCK=block, num_stages=2, num_warps=8, grid=(1,))
    kernel._init_handles()
    properties = triton.runtime.driver.active.utils.get_device_properties(x.device.index)
    fitting = properties["max_num_regs"] // (kernel.n_regs * properties["warpSize"] * 8)
    fitting = min(fitting, properties["max_shared_mem"] // kernel.metadata.shared)
    programs = min(properties["multiprocessor_count"] * fitting, rows)
    kernel[(programs, 1, 1)](*args, block, 2)
    return out


@pytest.mark.parametrize("shape", [(1823, 781), (3, 1), (1, 4096), (700, 16)])
def test_softmax(shape):
    x = torch.randn(shape)
    expected = torch.softmax(x.double(), 1).float()
    torch.testing.assert_close(softmax(x.to("gxu")).cpu(), expected, rtol=2e-6, atol=1e-8)


def test_rows_with_infinities():
    x = torch.randn(5, 37)
    x[0, 3] = -float("inf")
    x[1] = -float("inf")
    x[2, 5] = float("inf")
    expected = torch.softmax(x, 1)
    torch.testing.assert_close(softmax(x.to("gxu")).cpu(), expected, rtol=2e-6, atol=1e-8, equal_nan=True)


def test_rows_apart_in_memory():
    x = torch.randn(50, 200)
    result = softmax(x.to("gxu")[:, :130])
    torch.testing.assert_close(result.cpu(), torch.softmax(x[:, :130].double(), 1).float(), rtol=2e-6, atol=1e-8)
