"""What torch.nn.SyncBatchNorm calls, for the two parts of a batch. Processes have it in test_distributed.py."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

EPS, MOMENTUM = 1e-5, 0.1


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(7, 3), (6, 4, 5), (5, 3, 4, 2)], ids=str)
def test_two_parts_are_normalized_as_one(shape: tuple[int, ...], dtype: torch.dtype, affine: bool) -> None:
    channels = shape[1]
    whole = (torch.randn(shape) * 2 + 3).to(dtype)
    grad_out = torch.randn(shape).to(dtype)
    weight, bias = (torch.randn(channels), torch.randn(channels)) if affine else (None, None)
    running_mean, running_var = torch.randn(channels), torch.rand(channels)

    # The reference: one process, double precision.
    reference = whole.double().requires_grad_()
    parameters = [p.double().requires_grad_() if p is not None else None for p in (weight, bias)]
    expected_mean, expected_var = running_mean.double(), running_var.double()
    expected = F.batch_norm(reference, expected_mean, expected_var, *parameters, True, MOMENTUM, EPS)
    expected.backward(grad_out.double())

    sizes = (2, shape[0] - 2)
    parts, grads = ([part.gxu() for part in tensor.split(sizes)] for tensor in (whole, grad_out))
    gxu_weight, gxu_bias = (p.gxu() if p is not None else None for p in (weight, bias))
    statistics = [torch.batch_norm_stats(part, EPS) for part in parts]
    assert statistics[0][0].dtype == torch.float32
    counts = torch.tensor([part.numel() / channels for part in parts], device="gxu")
    means, invstds = (torch.stack(values) for values in zip(*statistics, strict=True))
    running = running_mean.gxu(), running_var.gxu()
    mean, invstd = torch.batch_norm_gather_stats_with_counts(parts[0], means, invstds, *running, MOMENTUM, EPS, counts)
    torch.testing.assert_close(running[0].cpu(), expected_mean.float())
    torch.testing.assert_close(running[1].cpu(), expected_var.float())

    tolerance = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}[dtype]
    outputs = [torch.batch_norm_elemt(part, gxu_weight, gxu_bias, mean, invstd, EPS) for part in parts]
    assert outputs[0].dtype == dtype
    torch.testing.assert_close(torch.cat(outputs).cpu().double(), expected.detach(), atol=2 * tolerance, rtol=tolerance)

    sums = [
        torch.batch_norm_backward_reduce(grad, part, mean, invstd, gxu_weight, True, affine, affine)
        for grad, part in zip(grads, parts, strict=True)
    ]
    sum_dy, sum_dy_xmu = (sum(values) for values in list(zip(*sums, strict=True))[:2])
    inputs = [
        torch.batch_norm_backward_elemt(grad, part, mean, invstd, gxu_weight, sum_dy, sum_dy_xmu, counts.int())
        for grad, part in zip(grads, parts, strict=True)
    ]
    assert reference.grad is not None
    torch.testing.assert_close(torch.cat(inputs).cpu().double(), reference.grad, atol=2 * tolerance, rtol=tolerance)
    for index, parameter in enumerate(parameters):
        if parameter is not None:
            assert parameter.grad is not None
            actual = sums[0][2 + index] + sums[1][2 + index]
            torch.testing.assert_close(actual.cpu().double(), parameter.grad, atol=1e-4, rtol=1e-4)


def test_channels_last_and_one_count() -> None:
    x = torch.randn(4, 3, 5, 2).to(memory_format=torch.channels_last)
    mean, invstd = torch.batch_norm_stats(x.gxu(), EPS)
    mean, invstd = torch.batch_norm_gather_stats(x.gxu(), mean[None], invstd[None], None, None, MOMENTUM, EPS, 40)
    result = torch.batch_norm_elemt(x.gxu(), None, None, mean, invstd, EPS)
    out = torch.empty(0, device="gxu")
    assert torch.batch_norm_elemt(x.gxu(), None, None, mean, invstd, EPS, out=out) is out
    assert result.stride() == x.stride()
    for actual in (result, out):
        torch.testing.assert_close(actual.cpu(), F.batch_norm(x, None, None, training=True), atol=1e-5, rtol=1e-5)


def test_inputs_without_channels_are_refused() -> None:
    with pytest.raises(RuntimeError, match="at least two dimensions"):
        torch.batch_norm_stats(torch.ones(3, device="gxu"), EPS)
