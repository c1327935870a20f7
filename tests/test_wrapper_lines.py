"""Every kind of line that torch's wrapper.py defines, in each of gxu's three wrappers: generated, and right."""

from __future__ import annotations

import re
from typing import Any
from unittest import mock

import pytest
import torch
from inductor_helpers import assert_close, in_double, to_device
from torch._C._distributed_c10d import _SymmetricMemory
from torch._dynamo.exc import BackendCompilerFailed
from torch._inductor import config as inductor_config
from torch._inductor.codegen import wrapper as upstream
from torch._inductor.codegen.wrapper_fxir import FxConverter
from torch._inductor.exc import InductorError
from torch._inductor.utils import run_and_get_code, run_and_get_cpp_code, set_customized_partition_wrappers
from torch.utils import _pytree as pytree
from wrapper_graphs import HAS_COMMUNICATION, ROWS, Row

#: Lines without a row here: abstract classes, and one that only FX's converter meets.
WITHOUT_ROW = {"WrapperLine", "MemoryPlanningLine", "ConditionalLine"}

#: Lines of AOTInductor's code alone, which have a test of their own.
OF_AOTINDUCTOR = {"AssertDivByZeroLine"}


#: How torch's wrappers end that have no partitions, where somebody asks for them.
NO_PARTITIONS = {"fx": InductorError, "cpp": BackendCompilerFailed}


def allocate_for_group(
    size: Any, stride: Any, dtype: torch.dtype, device: torch.device, group_name: str, alloc_id: int
) -> torch.Tensor:
    """Memory for a group of one process."""
    return torch.empty_strided(size, stride, dtype=dtype, device=device)


def compile_and_check(row: Row, wrapper: str) -> tuple[str, set[str]]:
    """The generated code and the names of the lines it was made of; asserts that the numbers are right."""
    kinds: set[str] = set()
    graphs: list[str] = []
    plan, convert = upstream.PythonWrapperCodegen.run_wrapper_ir_passes, FxConverter.generate

    def record(self: Any) -> None:
        kinds.update(kind.__name__ for line in self.lines for kind in type(line).__mro__)

    def run_passes(self: Any, is_inference: bool) -> None:
        record(self)
        plan(self, is_inference)
        record(self)

    def generate(self: Any) -> Any:
        gm = convert(self)
        graphs.append(gm.print_readable(print_output=False))
        return gm

    torch._dynamo.reset()
    args = row.args()
    options = {"cpp_wrapper": wrapper == "cpp", "fx_wrapper": wrapper == "fx", "force_disable_caches": True}
    with (
        mock.patch.object(_SymmetricMemory, "empty_strided_p2p", allocate_for_group),
        inductor_config.patch(options | dict(row.config)),
        torch._dynamo.config.patch(capture_scalar_outputs=True, capture_dynamic_output_shape_ops=True),
        mock.patch.object(upstream.PythonWrapperCodegen, "run_wrapper_ir_passes", run_passes),
        mock.patch.object(FxConverter, "generate", generate),
    ):
        compiled = torch.compile(row.fn, fullgraph=True, dynamic=row.dynamic)
        result, codes = run_and_get_code(compiled, *to_device(args, "gxu"))
        again = compiled(*to_device(args, "gxu"))
    reference = row.fn(*in_double(args))
    on_gxu = pytree.tree_map_only(torch.Tensor, lambda t: t.to("gxu"), (result, again))
    for outputs in on_gxu:
        assert_close(outputs, reference)
    torch._dynamo.reset()
    return "\n".join(graphs if wrapper == "fx" else codes), kinds


def check(row: Row, wrapper: str) -> None:
    if wrapper in row.errors:
        with pytest.raises(InductorError, match=row.errors[wrapper]):
            compile_and_check(row, wrapper)
        return
    code, kinds = compile_and_check(row, wrapper)
    wanted = set(row.lines)
    if wrapper == "fx" and "EnterSubgraphLine" in wanted:
        wanted = {"ConditionalLine"}  # FX has one line for the whole of it
    if wrapper == "cpp":
        # C functions write all of their outputs.
        wanted -= {"MultiOutputLine", "ExternKernelMultiOutLine"}
    assert wanted <= kinds
    pattern = getattr(row, wrapper)
    if pattern is None:
        assert row.without
    else:
        assert re.search(pattern, code), code


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_python(row: Row) -> None:
    check(row, "python")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_fx(row: Row) -> None:
    check(row, "fx")


@pytest.mark.extended
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_cpp(row: Row) -> None:
    check(row, "cpp")


@pytest.mark.skipif(not HAS_COMMUNICATION, reason="torch 2.11's operators cannot ask for symmetric memory")
def test_communication_buffer_without_symmetric_memory() -> None:
    """No runtime of gxu has symmetric memory, and torch says so."""
    (row,) = (row for row in ROWS if row.name == "communication_buffer")
    torch._dynamo.reset()
    with pytest.raises(RuntimeError, match="SymmetricMemory does not support device type gxu"):
        torch.compile(row.fn)(*to_device(row.args(), "gxu"))


@pytest.mark.parametrize("wrapper", ["python", "fx", pytest.param("cpp", marks=pytest.mark.extended)])
def test_graph_partition(wrapper: str) -> None:
    """Only Python code is cut into partitions, for whoever wraps them; torch's other wrappers fail there."""
    wrapped: list[Any] = []

    def wrap(partition: Any, metadata: Any) -> Any:
        wrapped.append(partition)
        return partition

    args = torch.randn(9), torch.randn(9)
    row = Row("partition", lambda x, y: ((x + 1).cpu(), y * 3), lambda: args, (), "", "", "", {"graph_partition": True})
    set_customized_partition_wrappers(wrap)
    try:
        if wrapper != "python":
            with pytest.raises(NO_PARTITIONS[wrapper]):
                compile_and_check(row, wrapper)
            return
        code, _ = compile_and_check(row, wrapper)
    finally:
        set_customized_partition_wrappers(None)
    assert "def partition_0(args" in code
    assert wrapped


@pytest.mark.extended
@pytest.mark.skipif(not hasattr(upstream, "AssertDivByZeroLine"), reason="torch 2.11 does not check divisors")
def test_division_by_zero_in_a_package() -> None:
    """Models of AOTInductor check the divisors of sizes."""

    class Model(torch.nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return x[: x.shape[0] // y.shape[0]].sin() * 2

    dynamic = torch.export.Dim.DYNAMIC
    args = torch.randn(12, 5, device="gxu"), torch.randn(4, 3, device="gxu")
    program = torch.export.export(Model(), args, dynamic_shapes=({0: dynamic}, {0: dynamic}))
    divisors: list[str] = []
    write = upstream.AssertDivByZeroLine.codegen

    def codegen(self: Any, code: Any) -> None:
        divisors.append(self.divisor)
        write(self, code)

    with mock.patch.object(upstream.AssertDivByZeroLine, "codegen", codegen):
        package, code = run_and_get_cpp_code(torch._inductor.aoti_compile_and_package, program)
    assert divisors
    assert re.search(rf'AOTI_TORCH_CHECK\({divisors[0]} != 0, "Integer floor division by zero"\)', code)
    x, y = torch.randn(21, 5), torch.randn(7, 3)
    result = torch._inductor.aoti_load_package(package)(x.to("gxu"), y.to("gxu"))
    torch.testing.assert_close(result.cpu(), x[:3].sin() * 2)


def test_table_is_complete() -> None:
    """A class that a new torch adds belongs into the table, or into the list of those that gxu never has."""
    defined = {
        name
        for name, value in vars(upstream).items()
        if isinstance(value, type) and issubclass(value, upstream.WrapperLine) and name.endswith("Line")
    }
    covered = {name for row in ROWS for name in row.lines}
    assert defined - covered == (WITHOUT_ROW | OF_AOTINDUCTOR) & defined
