"""Constants that the frontend writes only after folding: tiles of different numbers, poison."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton_helpers import TRITON_VERSION

_SOURCE = """
module {
  tt.func public @table(%out: !tt.ptr<f32>, %counts: !tt.ptr<i32>) {
    %table = arith.constant dense<VALUES> : tensor<NxTYPE>
    %i = tt.make_range {start = 0 : i32, end = N : i32} : tensor<Nxi32>
    %p = tt.splat %out : !tt.ptr<TYPE> -> tensor<Nx!tt.ptr<TYPE>>
    %q = tt.addptr %p, %i : tensor<Nx!tt.ptr<TYPE>>, tensor<Nxi32>
    tt.store %q, %table : tensor<Nx!tt.ptr<TYPE>>
    %poison = ub.poison : i32
    %zero = arith.constant 0 : i32
    %no = arith.constant false
    %never = scf.if %no -> i32 { scf.yield %poison : i32 } else { scf.yield %zero : i32 }
    tt.store %counts, %never : !tt.ptr<i32>
    tt.return
  }
}
"""


@pytest.mark.parametrize("dtype", [torch.float32, torch.int8, torch.float16, torch.int64])
@pytest.mark.parametrize("size", [2, 16, 256])
def test_a_table_of_numbers(size, dtype, tmp_path):
    kind = {torch.float32: "f32", torch.int8: "i8", torch.float16: "f16", torch.int64: "i64"}[dtype]
    values = ((torch.arange(size) * 37) % 100 - 50).to(dtype)
    spelled = ", ".join(f"{v:e}" if dtype.is_floating_point else str(v) for v in values.tolist())
    text = _SOURCE.replace("VALUES", f"[{spelled}]").replace("TYPE", kind).replace("N", str(size))
    path = tmp_path / "table.ttir"
    path.write_text(text.replace("%out: !tt.ptr<f32>", f"%out: !tt.ptr<{kind}>"))
    kernel = triton.compile(str(path), target=GPUTarget("gxu", "1", 32))
    out, count = torch.zeros(size, dtype=dtype, device="gxu"), torch.ones(1, dtype=torch.int32, device="gxu")
    kernel[(1, 1, 1)](out, count)
    assert torch.equal(out.cpu(), values)
    assert count.item() == 0


@triton.jit
def filled(out, B: tl.constexpr):
    i = tl.arange(0, B)
    kind: tl.constexpr = out.dtype.element_ty
    tl.store(out + i, tl.full([B], 0.75, kind))
    tl.store(out + B + i, tl.full([B], -448.0, kind))
    tl.store(out + 2 * B + i, tl.full([B], float("nan"), kind))
    tl.store(out + 3 * B + i, tl.full([B], 2.0**-9, kind))


@pytest.mark.skipif(TRITON_VERSION < "3.7", reason="Triton 3.6 has no constants of 8-bit floats")
@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_constants_of_8_bit_floats(dtype):
    out = torch.zeros(4 * 16, dtype=dtype, device="gxu")
    filled[(1,)](out, B=16)
    expected = torch.tensor([0.75, -448.0, float("nan"), 2.0**-9]).repeat_interleave(16).to(dtype).float()
    assert torch.equal(out.cpu().float().isnan(), expected.isnan())
    assert torch.equal(out.cpu().float().nan_to_num(), expected.nan_to_num())
