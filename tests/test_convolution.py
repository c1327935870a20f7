"""Convolutions: values, and the memory format of results, which eager mode, shape functions and graphs agree on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

FORMATS = {2: torch.channels_last, 3: torch.channels_last_3d}
#: Dimensions, channels in and out, groups, transposed.
CASES = [(1, 4, 6, 2, False), (2, 5, 7, 1, False), (2, 6, 6, 6, False), (2, 4, 3, 1, True), (3, 3, 5, 1, False)]


def operands(case: tuple[int, int, int, int, bool], dtype: torch.dtype) -> tuple[Tensor, Tensor, dict[str, Any]]:
    dims, channels, results, groups, transposed = case
    shape = (channels, results // groups) if transposed else (results, channels // groups)
    x, weight = torch.randn(2, channels, *[9, 11, 8][:dims]), torch.randn(*shape, *[3] * dims)
    options = {
        "bias": None, "stride": [2] * dims, "padding": [1] * dims, "dilation": [1] * dims, "transposed": transposed,
        "output_padding": [0] * dims, "groups": groups,
    }  # fmt: skip
    return x.to(dtype), weight.to(dtype), options


def fake_strides(run: Any, tensors: list[Tensor]) -> list[tuple[int, ...]]:
    """Strides of the results of `run` by PyTorch's shape functions."""
    with FakeTensorMode() as mode:
        return [result.stride() for result in run(*(mode.from_tensor(tensor) for tensor in tensors))]


def captured_strides(run: Any, tensors: list[Tensor]) -> tuple[list[tuple[int, ...]], list[Tensor]]:
    graph = torch.gxu.GXUGraph()
    with torch.gxu.graph(graph):
        results = run(*tensors)
    graph.replay()
    return [result.stride() for result in results], results


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("last", ["neither", "input", "weight"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_format_of_results(case: tuple[int, int, int, int, bool], last: str, dtype: torch.dtype) -> None:
    x, weight, options = operands(case, dtype)
    format = FORMATS.get(case[0], torch.contiguous_format) if last != "neither" else torch.contiguous_format
    tensors = [x.to("gxu"), weight.to("gxu")]
    if case[0] > 1 and last != "neither":
        index = 0 if last == "input" else 1
        tensors[index] = tensors[index].to(memory_format=format)

    def forward(x: Tensor, weight: Tensor) -> list[Tensor]:
        return [torch.ops.aten.convolution(x, weight, **options)]

    (result,) = forward(*tensors)
    assert result.is_contiguous(memory_format=format)
    assert fake_strides(forward, tensors) == [result.stride()]
    strides, replayed = captured_strides(forward, tensors)
    assert strides == [result.stride()]
    exact = torch.ops.aten.convolution(x.double(), weight.double(), **options)
    tolerance = {"rtol": 2e-2, "atol": 2e-2} if dtype == torch.bfloat16 else {"rtol": 1e-4, "atol": 1e-4}
    for value in (result, replayed[0]):
        torch.testing.assert_close(value.cpu().double(), exact, **tolerance)

    gradient = torch.randn(exact.shape).to(dtype)

    def backward(gradient: Tensor, x: Tensor, weight: Tensor) -> list[Tensor]:
        rest = {key: value for key, value in options.items() if key != "bias"}
        return list(
            torch.ops.aten.convolution_backward(
                gradient, x, weight, bias_sizes=[exact.shape[1]], output_mask=[True, True, True], **rest
            )
        )

    results = backward(gradient.to("gxu"), *tensors)
    assert fake_strides(backward, [gradient.to("gxu"), *tensors]) == [result.stride() for result in results]
    strides, replayed = captured_strides(backward, [gradient.to("gxu"), *tensors])
    assert strides == [result.stride() for result in results]
    references = backward(gradient.double(), x.double(), weight.double())
    for values in (results, replayed):
        for value, reference in zip(values, references, strict=True):
            scale = float(reference.abs().max())
            torch.testing.assert_close(
                value.cpu().double(), reference, rtol=tolerance["rtol"], atol=tolerance["atol"] * max(scale, 1.0)
            )


def test_compiled_convolutions_stay_channels_last() -> None:
    """No format changes between the convolutions of a compiled model, as for the CPU."""
    from torch._inductor.utils import run_and_get_code

    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3, bias=False), torch.nn.BatchNorm2d(16), torch.nn.ReLU(),
        torch.nn.Conv2d(16, 24, 1, bias=False), torch.nn.BatchNorm2d(24), torch.nn.ReLU(),
    ).eval()  # fmt: skip
    x = torch.randn(2, 3, 13, 15)
    exact = model.double()(x.double())
    model = model.float().to("gxu")
    with torch.no_grad():
        result, (code,) = run_and_get_code(torch.compile(model), x.to("gxu"))
    torch.testing.assert_close(result.cpu().double(), exact, rtol=1e-4, atol=1e-4)
    # One kernel brings the input to the format and one the weight, and one follows each convolution.
    assert code.count("@triton.jit") == 4
    assert "(2, 16, 11, 13), (2288, 1, 208, 16)" in code


def test_format_on_other_devices_is_torchs() -> None:
    x, weight, options = operands(CASES[1], torch.float32)
    last = x.to(memory_format=torch.channels_last)

    def forward(x: Tensor, weight: Tensor) -> list[Tensor]:
        return [torch.ops.aten.convolution(x, weight, **options)]

    assert fake_strides(forward, [last, weight]) == [forward(last, weight)[0].stride()]
    assert torch._C._conv_determine_backend_memory_format(last, weight, torch._C._ConvBackend.Overrideable) == (
        torch.contiguous_format
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_traces_of_torchscript() -> None:
    """`torch.jit.trace` records convolutions by an operator of their own."""
    layers = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.ConvTranspose2d(4, 2, 3))
    x = torch.randn(2, 3, 8, 9)
    expected = torch.autograd.grad(layers(x).square().sum(), [*layers.parameters()])
    traced = torch.jit.trace(layers.to("gxu"), x.to("gxu"))
    y = x.flip(0).to("gxu")
    assert "aten::_convolution" in str(traced.inlined_graph)
    torch.testing.assert_close(traced(y), layers(y))
    result = torch.autograd.grad(traced(x.to("gxu")).square().sum(), [*layers.parameters()])
    for gradient, reference in zip(result, expected, strict=True):
        torch.testing.assert_close(gradient.cpu(), reference, rtol=1e-4, atol=1e-4)
