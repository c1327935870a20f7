"""Products with one row or one column: as sums or as the library's operator, measured while compiling.

Which of the two is faster is not tested; most tests leave no choice.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from inductor_helpers import assert_close, in_double, to_device
from torch import Tensor
from torch._inductor import config as inductor_config
from torch._inductor.utils import run_and_get_code
from torch.torch_version import TorchVersion

from gxu.inductor.vector_products import SumChoice

pytestmark = pytest.mark.filterwarnings("ignore:TypedStorage is deprecated", "ignore:dynamo_pgo force disabled")

TUNED = {"max_autotune": True, "coordinate_descent_tuning": True, "force_disable_caches": True}
SUM = {**TUNED, "test_configs.autotune_choice_name_regex": "sum"}
LIBRARY = {**TUNED, "test_configs.autotune_choice_name_regex": "mm"}

#: What each chooses, and whether the library is called then.
CHOICES = pytest.mark.parametrize(("options", "calls"), [(SUM, False), (LIBRARY, True)], ids=["sum", "library"])


@pytest.fixture
def sums(monkeypatch: pytest.MonkeyPatch) -> list[SumChoice]:
    """The sums that were chosen."""
    chosen: list[SumChoice] = []
    lower = SumChoice.output_node

    def output_node(self: SumChoice) -> Any:
        chosen.append(self)
        return lower(self)

    monkeypatch.setattr(SumChoice, "output_node", output_node)
    return chosen


def compile_and_check(fn: Callable[..., Any], *args: Any, dynamic: bool = False, **options: Any) -> str:
    """Compares the compiled `fn` with itself in double precision on the CPU; returns the code of the graph."""
    torch._dynamo.reset()
    with inductor_config.patch({**TUNED, **options}):
        compiled = torch.compile(fn, fullgraph=True, dynamic=dynamic)
        result, code = run_and_get_code(compiled, *to_device(args, "gxu"))
    assert_close(result, fn(*in_double(args)))
    return str(code[-1]) if code else ""  # last: a candidate that is measured has code of its own. FX's has none.


def operand(*size: int, dtype: torch.dtype = torch.float32, transposed: bool = False) -> Tensor:
    if dtype.is_floating_point:
        return torch.randn(*size[:-2], size[-1], size[-2]).to(dtype).mT if transposed else torch.randn(*size).to(dtype)
    return torch.randint(-9, 9, size).to(dtype)


@CHOICES
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("sizes", [(1, 33, 17), (70, 129, 1), (1, 20, 1), (3, 1, 40, 9), (3, 9, 40, 1)], ids=str)
def test_products(
    sizes: tuple[int, ...], dtype: torch.dtype, transposed: bool, options: dict[str, Any], calls: bool
) -> None:
    *batch, m, k, n = sizes
    left = operand(*batch, m, k, dtype=dtype, transposed=transposed)
    right = operand(*batch, k, n, dtype=dtype, transposed=transposed)
    code = compile_and_check(torch.matmul, left, right, **options)
    assert ("extern_kernels." in code) == calls


def test_both_are_measured(capsys: pytest.CaptureFixture[str]) -> None:
    # Max-autotune makes a sum of such a product before anything is measured, where nothing keeps it from that.
    compile_and_check(torch.mm, operand(1, 64), operand(64, 48))
    report = capsys.readouterr().err
    assert "AUTOTUNE mm(1x64, 64x48)" in report
    assert "  mm " in report and "  sum_" in report


@pytest.mark.parametrize("options", [{}, {"coordinate_descent_tuning": True}], ids=str)
def test_untuned_and_other_products_are_left_alone(options: dict[str, Any]) -> None:
    untuned = {"max_autotune": False, "coordinate_descent_tuning": False}
    assert "extern_kernels.mm" in compile_and_check(torch.mm, operand(1, 64), operand(64, 48), **untuned)
    library = {**untuned, **options, "max_autotune_gemm_backends": "ATEN"}
    assert "extern_kernels.mm" in compile_and_check(torch.mm, operand(2, 64), operand(64, 48), **library)
    # An outer product is elementwise; torch 2.11 calls the library.
    outer = compile_and_check(torch.mm, operand(5, 1), operand(1, 7), **library)
    assert ("extern_kernels." in outer) == (TorchVersion(torch.__version__) < (2, 12))


def test_sum_of_nan_and_infinity(sums: list[SumChoice]) -> None:
    row = torch.tensor([[1.0, float("inf"), 2.0, float("nan")]])
    matrix = torch.eye(4)
    matrix[:, 3] = 0
    compile_and_check(torch.mm, row, matrix, **SUM)
    compile_and_check(torch.mm, torch.full((1, 3), float("inf")), torch.ones(3, 2), **SUM)
    assert len(sums) == 2


def test_sum_fuses_with_what_follows(sums: list[SumChoice]) -> None:
    def fn(row: Tensor, matrix: Tensor, bias: Tensor) -> Tensor:
        return torch.relu(row @ matrix + bias) * 2

    code = compile_and_check(fn, operand(1, 100), operand(100, 60, transposed=True), operand(60), **SUM)
    assert code.count("async_compile.triton(") == len(sums) == 1


@CHOICES
@pytest.mark.parametrize("wrapper", [{"cpp_wrapper": True}, {"fx_wrapper": True, "compile_threads": 1}], ids=str)
def test_wrappers(wrapper: dict[str, Any], options: dict[str, Any], calls: bool, sums: list[SumChoice]) -> None:
    compile_and_check(lambda a, b: (a @ b).sin(), operand(1, 50), operand(50, 30), **options, **wrapper)
    assert bool(sums) != calls


@CHOICES
def test_aoti(tmp_path: Path, options: dict[str, Any], calls: bool, sums: list[SumChoice]) -> None:
    class Model(torch.nn.Module):
        def forward(self, row: Tensor, matrix: Tensor) -> Tensor:
            return (row @ matrix).sin()

    args = operand(1, 50), operand(50, 30)
    exported = torch.export.export(Model(), tuple(arg.to("gxu") for arg in args))
    path = torch._inductor.aoti_compile_and_package(
        exported, package_path=str(tmp_path / "model.pt2"), inductor_configs=options
    )
    assert bool(sums) != calls
    loaded = torch._inductor.aoti_load_package(path)
    assert_close(loaded(*(arg.to("gxu") for arg in args)), Model()(*in_double(args)))


@CHOICES
def test_dynamic_sizes(options: dict[str, Any], calls: bool, sums: list[SumChoice]) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(lambda a, b: torch.relu(a @ b), fullgraph=True, dynamic=True)
    with inductor_config.patch(options):
        for k, n in ((20, 30), (31, 7), (1000, 65)):
            args = operand(1, k), operand(k, n)
            assert_close(compiled(*to_device(args, "gxu")), torch.relu(torch.mm(*in_double(args))))
    assert bool(sums) != calls


@torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True)
def test_sizes_that_are_not_known_while_compiling() -> None:
    def fn(row: Tensor, matrix: Tensor) -> Tensor:
        kept = row[row > 0]
        return kept.unsqueeze(0) @ matrix[: kept.shape[0]]

    compile_and_check(fn, operand(40), operand(40, 6))


def test_gradients() -> None:
    def fn(row: Tensor, matrix: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad((row @ matrix).sin().sum(), (row, matrix))

    row, matrix = operand(1, 50), operand(50, 30)
    expected = fn(*(tensor.double().requires_grad_() for tensor in (row, matrix)))
    torch._dynamo.reset()
    with inductor_config.patch(TUNED):
        compiled = torch.compile(lambda a, b: (a @ b).sin().sum(), fullgraph=True)
        args = [tensor.to("gxu").requires_grad_() for tensor in (row, matrix)]
        assert_close(torch.autograd.grad(compiled(*args), args), expected)


@pytest.mark.parametrize("sizes", [(1, 0, 4), (1, 4, 0), (0, 4, 1)], ids=str)
def test_empty(sizes: tuple[int, int, int]) -> None:
    m, k, n = sizes
    compile_and_check(torch.mm, operand(m, k), operand(k, n))


def test_integers_and_complex_numbers() -> None:
    left, right = operand(1, 30, dtype=torch.int64), operand(30, 8, dtype=torch.int64)
    for options in (TUNED, SUM):
        torch._dynamo.reset()
        with inductor_config.patch(options):
            compiled = torch.compile(torch.mm, fullgraph=True)
            assert torch.equal(compiled(left.to("gxu"), right.to("gxu")).cpu(), left @ right)
    complex_args = torch.randn(1, 30, dtype=torch.complex64), torch.randn(30, 8, dtype=torch.complex64)
    torch._dynamo.reset()
    with inductor_config.patch(TUNED):
        result = torch.compile(torch.mm)(*(arg.to("gxu") for arg in complex_args))
    torch.testing.assert_close(result.cpu(), torch.mm(*complex_args))


def test_deterministic_mode_takes_the_library() -> None:
    assert "extern_kernels.mm" in compile_and_check(torch.mm, operand(1, 64), operand(64, 48), deterministic=True)
