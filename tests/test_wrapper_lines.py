"""Every kind of line that torch's wrapper.py defines, in each of gxu's three wrappers: generated, and right."""

from __future__ import annotations

import re
from typing import Any
from unittest import mock

import pytest
import torch
from inductor_helpers import assert_close, in_double, to_device
from torch._inductor import config as inductor_config
from torch._inductor.codegen import wrapper as upstream
from torch._inductor.codegen.wrapper_fxir import FxConverter
from torch._inductor.utils import run_and_get_code, set_customized_partition_wrappers
from torch.utils import _pytree as pytree
from wrapper_graphs import ROWS, Row

#: Lines that no graph on gxu has, and why.
NOT_ON_GXU = {
    "EnterDeviceContextManagerWithStreamInfoLine": "graphs with streams of torch.cuda",
    "ExitDeviceContextManagerWithStreamInfoLine": "graphs with streams of torch.cuda",
    "EnterCudaStreamContextLine": "graphs with streams of torch.cuda",
    "ExitCudaStreamContextLine": "graphs with streams of torch.cuda",
    "ExternKernelMultiOutLine": "custom operators with an out variant of several outputs, on cuda only",
}


def compile_and_check(row: Row, wrapper: str) -> tuple[str, set[str]]:
    """The generated code and the names of the lines it was made of; asserts that the numbers are right."""
    kinds: set[str] = set()
    graphs: list[str] = []
    plan, convert = upstream.PythonWrapperCodegen.run_wrapper_ir_passes, FxConverter.generate

    def record(self: Any) -> None:
        kinds.update(type(line).__name__ for line in self.lines)

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
    code, kinds = compile_and_check(row, wrapper)
    wanted = set(row.lines)
    if wrapper == "fx" and "EnterSubgraphLine" in wanted:
        wanted = {"ConditionalLine"}  # FX has one line for the whole of it
    if wrapper == "cpp":
        wanted -= {"MultiOutputLine"}  # C functions write all of their outputs
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


def test_graph_partition() -> None:
    """Only Python code is cut into partitions, for whoever wraps them."""
    wrapped: list[Any] = []

    def wrap(partition: Any, metadata: Any) -> Any:
        wrapped.append(partition)
        return partition

    args = torch.randn(9), torch.randn(9)
    row = Row("partition", lambda x, y: ((x + 1).cpu(), y * 3), lambda: args, (), "", "", "", {"graph_partition": True})
    set_customized_partition_wrappers(wrap)
    try:
        code, _ = compile_and_check(row, "python")
    finally:
        set_customized_partition_wrappers(None)
    assert "def partition_0(args" in code
    assert wrapped


def test_table_is_complete() -> None:
    """A class that a new torch adds belongs into the table, or into the list of those that gxu never has."""
    defined = {
        name
        for name, value in vars(upstream).items()
        if isinstance(value, type) and issubclass(value, upstream.WrapperLine) and name.endswith("Line")
    }
    abstract = {"WrapperLine", "MemoryPlanningLine", "ConditionalLine", "FreeLine", "NullLine", "AssertDivByZeroLine"}
    covered = {name for row in ROWS for name in row.lines}
    assert defined - covered - abstract == set(NOT_ON_GXU)
