"""Scans and binary searches that Inductor generates for gxu, against eager CPU in double precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch._inductor.utils import run_and_get_code

SCANS: dict[str, tuple[Callable[..., Any], Callable[[], torch.Tensor]]] = {
    "rows": (lambda x: x.cumsum(1) + 1, lambda: torch.randn(33, 777)),
    "columns": (lambda x: x.cumsum(0) * 2, lambda: torch.randn(33, 77)),
    "product": (lambda x: x.cumprod(1), lambda: torch.rand(5, 41) + 0.5),
    "logcumsumexp": (lambda x: x.logcumsumexp(1), lambda: torch.randn(5, 2001) * 9),
    "cummax": (lambda x: torch.cummax(x, 1), lambda: torch.randn(9, 300).index_fill(1, torch.tensor([77]), torch.nan)),
    "cummin of integers": (lambda x: torch.cummin(x, 0), lambda: torch.randint(-9, 9, (300, 9))),
    "bool": (lambda x: (x > 0).cumsum(0), lambda: torch.randn(2000)),
}


@pytest.mark.parametrize("name", SCANS)
def test_scan(name: str) -> None:
    function, make = SCANS[name]
    torch.manual_seed(1)
    x = make()
    wide = x.double() if x.is_floating_point() else x
    got, (code,) = run_and_get_code(torch.compile(function, fullgraph=True), x.to("gxu"))
    assert "tl.associative_scan" in code
    torch.testing.assert_close(
        got, function(wide), rtol=1e-5, atol=1e-5, check_dtype=False, check_device=False, equal_nan=True
    )


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.float64, torch.float16], ids=str)
def test_split_scan(dtype: torch.dtype) -> None:
    """Few long rows: several programs share a row, and wait for each other."""
    torch.manual_seed(2)
    x = torch.randint(0, 3, (2, 150_001)).to(dtype) if dtype != torch.float16 else torch.rand(2, 150_001).half()
    function = (lambda x: x.cumsum(1)) if dtype != torch.float16 else (lambda x: x.logcumsumexp(1))
    got, (code,) = run_and_get_code(torch.compile(function, fullgraph=True), x.to("gxu"))
    assert "triton_heuristics.split_scan" in code
    assert "'gxu_limits'" in code
    wanted = function(x.double())
    tolerance = 2e-3 if dtype == torch.float16 else 0
    torch.testing.assert_close(got.cpu().double(), wanted.double(), rtol=tolerance, atol=tolerance)


def test_split_scan_beside_reductions() -> None:
    torch.manual_seed(4)
    x = torch.randn(1 << 18, dtype=torch.float64)
    function = lambda x: (x.sum(), x.argmax(), x.cumsum(0), x.amin())  # noqa: E731
    got, (code,) = run_and_get_code(torch.compile(function, fullgraph=True), x.to("gxu"))
    assert "triton_heuristics.split_scan" in code
    torch.testing.assert_close(got, function(x), check_device=False)


@pytest.mark.parametrize("right", [False, True])
@pytest.mark.parametrize("boundaries", [1, 37])
def test_bucketize(boundaries: int, right: bool) -> None:
    torch.manual_seed(3)
    edges = torch.randint(-9, 9, (boundaries,)).float().sort()[0]
    x = torch.cat([torch.randn(1001) * 5, edges, torch.tensor([torch.inf, -torch.inf])])
    function = lambda x, edges: torch.bucketize(x, edges, right=right) + 1  # noqa: E731
    got, (code,) = run_and_get_code(torch.compile(function, fullgraph=True), x.to("gxu"), edges.to("gxu"))
    assert "bucketize_binary_search" in code
    assert torch.equal(got.cpu(), function(x, edges))


def _to_sort(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    """Random values with ties, and each kind of special one."""
    if dtype == torch.bool:
        return torch.rand(shape) > 0.5
    if dtype.is_floating_point:
        x = torch.randn(shape).mul(9).round().div(3).to(dtype)
        special = [torch.nan, torch.inf, -torch.inf, -0.0, 0.0, -torch.nan]
    else:
        limits = torch.iinfo(dtype)
        x = torch.randint(max(limits.min, -(2**40)), min(limits.max, 2**40), shape).to(dtype)
        special = [limits.max, limits.min, limits.max, limits.min]
    x.view(-1)[: len(special)] = torch.tensor(special, dtype=dtype)
    return x.view(-1)[torch.randperm(x.numel())].view(shape)


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("shape", [(33, 7), (2, 300)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.uint8, torch.int64, torch.bool])
def test_sort(dtype: torch.dtype, shape: tuple[int, int], descending: bool) -> None:
    torch.manual_seed(4)
    x = _to_sort(dtype, *shape)
    dim = 0 if shape[0] > shape[1] else 1

    def function(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return torch.sort(x, dim=dim, stable=True, descending=descending)

    got, (code,) = run_and_get_code(torch.compile(function, fullgraph=True), x.to("gxu"))
    assert "triton_helpers.sort_with_index" in code and "aten.sort.stable(" not in code
    for result, wanted in zip(got, function(x), strict=True):
        torch.testing.assert_close(result.cpu(), wanted, rtol=0, atol=0, equal_nan=True)


def test_sort_of_long_rows_is_left_to_the_operator() -> None:
    x = torch.randn(3, 2000)
    got, (code,) = run_and_get_code(torch.compile(torch.sort, fullgraph=True), x.to("gxu"))
    assert "aten.sort.stable(" in code or "aten.sort.default(" in code
    for result, wanted in zip(got, torch.sort(x), strict=True):
        assert torch.equal(result.cpu(), wanted)
