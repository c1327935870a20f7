"""Automatic mixed precision: CUDA's lists of operators, checked by PyTorch's own tests of them, and GradScaler."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

#: Operators of cuDNN alone.
CUDNN = {"aten::_cudnn_rnn", "aten::cudnn_convolution", "aten::cudnn_convolution_transpose"}

DTYPES = (torch.float16, torch.bfloat16)


def test_the_operators_with_a_policy_are_cudas() -> None:
    cuda = set(torch._C._dispatch_get_registrations_for_dispatch_key("AutocastCUDA"))
    assert set(torch._C._dispatch_get_registrations_for_dispatch_key("AutocastPrivateUse1")) == cuda - CUDNN
    assert len(cuda) > 100


@pytest.fixture(scope="module")
def lists() -> tuple[Any, Any]:
    """PyTorch's tests of autocasting on CUDA and their operators and arguments, here on gxu.

    Importing them forbids assignments to torch.backends' flags, which is undone.
    """
    flag = "__allow_nonbracketed_mutation_flag"
    before = getattr(torch.backends, flag)
    from torch.testing._internal.autocast_test_lists import AutocastTestLists, TestAutocast

    setattr(torch.backends, flag, before)
    return TestAutocast(), AutocastTestLists("gxu")


def entries(lists: tuple[Any, Any], name: str) -> list[Any]:
    found = getattr(lists[1], name)
    assert found
    return [entry for entry in found if not entry[0].startswith("cudnn") and entry[0] != "einsum"]


def check(lists: tuple[Any, Any], name: str, dtype: torch.dtype, run_as: torch.dtype, module: Any = torch) -> None:
    """Each operator gives the result of the call with its arguments cast to `run_as`, bit for bit."""
    for entry in entries(lists, name):
        op, args = entry[:2]
        extra = entry[2] if len(entry) > 2 and isinstance(entry[2], dict) else {}
        out_type = entry[2] if len(entry) > 2 and isinstance(entry[2], torch.dtype) else None
        lists[0]._run_autocast_outofplace(
            op, args, run_as, "gxu", out_type=out_type, module=module, add_kwargs=extra, amp_dtype=dtype
        )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_operators_in_lower_precision(lists: tuple[Any, Any], dtype: torch.dtype) -> None:
    check(lists, "torch_fp16", dtype, dtype)
    check(lists, "nn_fp16", dtype, dtype, torch._C._nn)
    check(lists, "linalg_fp16", dtype, dtype, torch._C._linalg)
    check(lists, "methods_fp16", dtype, dtype, None)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_operators_in_single_precision(lists: tuple[Any, Any], dtype: torch.dtype) -> None:
    check(lists, "torch_fp32", dtype, torch.float32)
    check(lists, "nn_fp32", dtype, torch.float32, torch._C._nn)
    check(lists, "methods_fp32", dtype, torch.float32, None)


def test_operators_that_promote(lists: tuple[Any, Any]) -> None:
    """Their arguments are of float16 and float32."""
    check(lists, "torch_need_autocast_promote", torch.float16, torch.float32)
    check(lists, "torch_expect_builtin_promote", torch.float16, torch.float32)
    check(lists, "methods_expect_builtin_promote", torch.float16, torch.float32, None)


def test_einsum_runs_in_lower_precision() -> None:
    """PyTorch's list has it in a form that its own tests skip."""
    left, right = torch.randn(3, 4, device="gxu"), torch.randn(4, 5, device="gxu")
    with torch.autocast("gxu"):
        result = torch.einsum("ij,jk->ik", left, right)
    assert torch.equal(result, left.half() @ right.half())


def test_binary_cross_entropy_is_refused() -> None:
    probability, target = torch.rand(4, device="gxu"), torch.rand(4, device="gxu")
    with torch.autocast("gxu"), pytest.raises(RuntimeError, match="binary_cross_entropy_with_logits"):
        F.binary_cross_entropy(probability, target)
    F.binary_cross_entropy(probability, target)


def test_supported_dtypes() -> None:
    assert torch.gxu.get_amp_supported_dtype() == [torch.bfloat16, torch.float16]
    assert torch.get_autocast_dtype("gxu") == torch.float16
    assert torch.amp.is_autocast_available("gxu")


def _trained(device: str, losses: list[float]) -> list[torch.Tensor]:
    """A few scaled steps of a small model; one of them meets an infinite gradient."""
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(5, 3, generator=generator).to(device).requires_grad_()
    bias = torch.randn(3, generator=generator).to(device).requires_grad_()
    optimizer = torch.optim.SGD([weight, bias], lr=0.1, momentum=0.9)
    scaler = torch.amp.GradScaler(device, init_scale=64.0, growth_interval=2)
    for step in range(6):
        x = torch.randn(7, 5, generator=generator)
        if step == 3:
            x[0, 0] = math.inf
        loss = (x.to(device) @ weight + bias).square().mean()
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_([weight, bias], 1.0)
        scaler.step(optimizer)
        scaler.update()
        losses.append(scaler.get_scale())
    return [weight.detach().cpu(), bias.detach().cpu()]


def test_grad_scaler_scales_and_skips_as_on_the_cpu() -> None:
    scales: dict[str, list[float]] = {"cpu": [], "gxu": []}
    expected = _trained("cpu", scales["cpu"])
    torch.testing.assert_close(_trained("gxu", scales["gxu"]), expected)
    assert scales["gxu"] == scales["cpu"]
    assert scales["gxu"][3] < scales["gxu"][2]  # the infinite step
    assert scales["gxu"][1] == 128.0


def test_grad_scaler_with_a_fused_optimizer() -> None:
    weight = torch.ones(4, device="gxu", requires_grad=True)
    optimizer = torch.optim.Adam([weight], lr=0.5, fused=True)
    scaler = torch.amp.GradScaler("gxu", init_scale=4.0)
    scaler.scale((weight * torch.tensor([1.0, math.inf, 1.0, 1.0], device="gxu")).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert torch.equal(weight.detach().cpu(), torch.ones(4))
    optimizer.zero_grad()
    scaler.scale(weight.sum()).backward()
    scaler.step(optimizer)
    torch.testing.assert_close(weight.detach().cpu(), torch.full((4,), 0.5))
