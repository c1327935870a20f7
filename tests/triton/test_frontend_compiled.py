"""Kernels compiled by hand and launched as compiled kernels; options that other targets know."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import triton
import triton.language as tl
from triton import knobs
from triton.tools.tensor_descriptor import TensorDescriptor


@triton.jit
def add(x, y, out, n, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(out + i, tl.load(x + i, i < n) + tl.load(y + i, i < n), i < n)


@triton.jit
def double(source, target, B: tl.constexpr):
    target.store([0], source.load([0]) * 2)


SIGNATURE = {"x": "*fp32", "y": "*fp32", "out": "*fp32", "n": "i32", "B": "constexpr"}


def operands(n: int = 1000) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.randn(n, device="gxu"), torch.randn(n, device="gxu"), torch.full((n,), -7.0, device="gxu")


@pytest.mark.parametrize("constants", [(64,), ()], ids=["all arguments", "without the constant"])
def test_compiled_from_its_source(constants: tuple[int, ...]) -> None:
    source = triton.compiler.ASTSource(fn=add, signature=SIGNATURE, constexprs={"B": 64})
    kernel = triton.compile(source, options={"num_warps": 8})
    assert kernel.metadata.num_warps == 8
    x, y, out = operands()
    kernel[(16, 1, 1)](x, y, out, 1000, *constants)
    assert torch.equal(out.cpu(), x.cpu() + y.cpu())


def test_only_constants_at_the_end_may_be_left_out() -> None:
    x, y, out = operands()
    kernel = add.warmup(x, y, out, 1, B=64, grid=(1,))  # an n of 1 is a constant of the kernel, too
    kernel[(1, 1, 1)](x, y, out)
    torch.gxu.synchronize()
    assert out[0] == x[0] + y[0]
    assert (out[1:] == -7).all()
    with pytest.raises(TypeError, match="expected a tuple of 5 arguments, as many as the signature 'ppp--' has"):
        kernel[(1, 1, 1)](x, y)
    with pytest.raises(TypeError, match="expected a tuple of 5 arguments"):
        kernel[(1, 1, 1)](x, y, out, 1, 64, 2)


def test_descriptors_without_the_constant() -> None:
    x, out = torch.randn(64, device="gxu"), torch.empty(64, device="gxu")
    tiles = TensorDescriptor.from_tensor(x, [64]), TensorDescriptor.from_tensor(out, [64])
    kernel = double.warmup(*tiles, B=64, grid=(1,))
    kernel[(1, 1, 1)](*tiles)
    assert torch.equal(out.cpu(), x.cpu() * 2)


def test_preloaded_from_what_the_cache_hook_wrote() -> None:
    written: list[Any] = []
    with knobs.runtime.scope():
        knobs.runtime.jit_cache_hook = lambda **arguments: written.append(arguments["compile"]["specialization_data"])
        add.device_caches.clear()
        kernel = add.warmup(torch.float32, torch.float32, torch.float32, 1000, B=32, grid=(1,))
    add.device_caches.clear()
    assert add.preload(written[0]).hash == kernel.hash
    x, y, out = operands()
    add[(32,)](x, y, out, 1000, B=32)
    assert torch.equal(out.cpu(), x.cpu() + y.cpu())


def test_hints_to_gpus_of_all_makes_are_taken() -> None:
    nvidia: dict[str, Any] = {"maxnreg": 64, "launch_pdl": True, "ptx_options": "-O1", "enable_reflect_ftz": False}
    amd: dict[str, Any] = {"waves_per_eu": 2, "matrix_instr_nonkdim": 16, "kpack": 2, "schedule_hint": "attention"}
    configs = [triton.Config({"B": 64, **hints}, num_warps=4) for hints in (nvidia, amd)]
    tuned = triton.autotune(configs, key=[], do_bench=lambda call, quantiles: (call(), [1.0, 1.0, 1.0])[1])(add)
    x, y, out = operands()
    tuned[lambda meta: (triton.cdiv(1000, meta["B"]),)](x, y, out, 1000)
    assert torch.equal(out.cpu(), x.cpu() + y.cpu())
    with pytest.raises(KeyError, match="waves"):
        add[(16,)](x, y, out, 1000, B=64, waves=2)
