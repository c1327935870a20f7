"""gxu is known to Dynamo and Inductor under every name that they ask for."""

from __future__ import annotations

import inspect

import pytest
import torch
import torch._inductor.compile_fx
from torch._dynamo.device_interface import DeviceGuard, DeviceInterface, get_interface_for_device
from torch._inductor.codegen import common
from torch._inductor.codegen.wrapper import PythonWrapperCodegen

from gxu.inductor.cpp_wrapper import GXUCppWrapper
from gxu.inductor.device_op_overrides import GXUDeviceOpOverrides
from gxu.inductor.fx_wrapper import GXUWrapperFxCodegen
from gxu.inductor.scheduling import GXUTritonScheduling
from gxu.inductor.wrapper import GXUPythonWrapperCodegen

INTERFACE = get_interface_for_device("gxu")


def test_interface_is_registered_for_every_name() -> None:
    assert get_interface_for_device("gxu:0") is INTERFACE
    assert get_interface_for_device(torch.device("gxu")) is INTERFACE
    assert get_interface_for_device(torch.device("gxu", 0)) is INTERFACE


def test_interface_implements_all_of_the_base() -> None:
    inherited = {
        name
        for name, member in vars(DeviceInterface).items()
        if not name.startswith("__") and getattr(INTERFACE, name) is getattr(DeviceInterface, name)
    }
    assert inherited == set()
    worker = vars(DeviceInterface.Worker)
    assert all(name in vars(INTERFACE.Worker) for name in worker if not name.startswith("__"))


def test_interface_answers() -> None:
    x = torch.ones(1 << 20, device="gxu")
    assert INTERFACE.is_available()
    assert INTERFACE.device_count() == torch.gxu.device_count()
    assert INTERFACE.current_device() == 0
    assert INTERFACE.memory_allocated() >= x.nbytes
    assert INTERFACE.get_compute_capability() == 1
    assert INTERFACE.get_device_properties().multi_processor_count == 48
    assert INTERFACE.get_device_properties("gxu:0") == INTERFACE.Worker.get_device_properties()
    assert INTERFACE.Worker.get_device_properties(0) == INTERFACE.Worker.get_device_properties(torch.device("gxu", 0))
    assert INTERFACE.Worker.current_device() == 0
    assert INTERFACE.is_triton_capable()
    INTERFACE.raise_if_triton_unavailable()
    assert INTERFACE.is_bf16_supported()
    assert all(INTERFACE.is_dtype_supported(t) for t in (torch.float64, torch.bfloat16, torch.float16))
    assert INTERFACE.get_raw_stream(0) == INTERFACE.current_stream().gxu_stream
    INTERFACE.synchronize()
    INTERFACE.synchronize("gxu:0")


def test_stream_and_event() -> None:
    assert issubclass(INTERFACE.Stream, torch.Stream)
    assert issubclass(INTERFACE.Event, torch.Event)
    stream = INTERFACE.Stream()
    with INTERFACE.stream(stream):
        assert INTERFACE.get_raw_stream(0) == stream.gxu_stream
        assert INTERFACE.current_stream() == stream
    assert INTERFACE.get_raw_stream(0) != stream.gxu_stream
    previous = INTERFACE.current_stream()
    INTERFACE._set_stream_by_id(stream.stream_id, stream.device_index, stream.device_type)
    assert INTERFACE.current_stream() == stream
    INTERFACE.set_stream(previous)


def test_device_guard() -> None:
    with DeviceGuard(INTERFACE, 0):
        assert INTERFACE.current_device() == 0
    assert INTERFACE.exchange_device(0) == 0
    assert INTERFACE.maybe_exchange_device(-1) == 0
    for exchange in (INTERFACE.exchange_device, INTERFACE.maybe_exchange_device):
        with pytest.raises(RuntimeError, match=r"invalid device|index"):
            exchange(99)


def test_a_device_of_another_type_is_refused() -> None:
    with pytest.raises(ValueError, match="cpu"):
        INTERFACE.Worker.get_device_properties("cpu")


def test_missing_triton_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    import triton.backends

    monkeypatch.setattr(triton.backends, "backends", {"nvidia": None})
    with pytest.raises(RuntimeError, match=r"needs the Triton backend 'gxu', found \['nvidia'\]"):
        INTERFACE.raise_if_triton_unavailable()


def test_op_overrides_implement_all_of_the_base() -> None:
    names = [name for name in vars(common.DeviceOpOverrides) if not name.startswith("__")]
    assert names
    assert [name for name in names if name not in vars(GXUDeviceOpOverrides)] == []
    overrides = common.get_device_op_overrides("gxu")
    assert isinstance(overrides, GXUDeviceOpOverrides)
    arguments = {"device_idx": 0, "name": "f", "stream_name": "s"}
    for name in names:
        parameters = inspect.signature(getattr(overrides, name)).parameters
        if name != "cpp_scratch":
            assert isinstance(getattr(overrides, name)(*(arguments[p] for p in parameters)), str)


def test_scratch_memory() -> None:
    workspace = common.TritonScratchWorkspace(size=64, generate_dtype_str=lambda: "at::kByte")
    lines, name = common.get_device_op_overrides("gxu").cpp_scratch(0, workspace, "kernel")  # type: ignore[misc]
    assert name == "kernel_scratch_0"
    assert any("64" in line and "grid_0" in line for line in lines)
    empty = common.TritonScratchWorkspace(size=0, generate_dtype_str=lambda: "at::kByte")
    assert common.get_device_op_overrides("gxu").cpp_scratch(1, empty) == (["void* scratch_1 = nullptr;"], "scratch_1")


def test_python_snippets_run() -> None:
    overrides = common.get_device_op_overrides("gxu")
    code = "\n".join(
        [
            "import torch",
            overrides.import_get_raw_stream_as("get_raw_stream"),
            f"with {overrides.device_guard(0)}:",
            f"    {overrides.set_device(0)}",
            f"    {overrides.synchronize()}",
            f"    stream = {overrides.current_stream()}",
            "raw = get_raw_stream(0)",
            f"handle = {overrides.stream_handle('stream')}",
        ]
    )
    scope: dict[str, object] = {}
    exec(code, scope)  # noqa: S102
    assert scope["raw"] == scope["handle"]


def test_backend_is_registered() -> None:
    assert common.get_scheduling_for_device("gxu") is GXUTritonScheduling
    assert common.get_wrapper_codegen_for_device("gxu") is GXUPythonWrapperCodegen
    assert common.get_wrapper_codegen_for_device("gxu", cpp_wrapper=True) is GXUCppWrapper
    assert common.get_wrapper_codegen_for_device("gxu", fx_wrapper=True) is GXUWrapperFxCodegen
    assert common.get_custom_backend_pass_for_device("gxu") is not None
    assert common.get_custom_backend_config_for_device("gxu") is not None


def test_discovery_finds_the_four_names() -> None:
    assert torch.gxu.Scheduling is GXUTritonScheduling
    assert torch.gxu.PythonWrapperCodegen is GXUPythonWrapperCodegen
    assert torch.gxu.CppWrapperCodegen is GXUCppWrapper
    assert torch.gxu.WrapperFxCodegen is GXUWrapperFxCodegen
    with pytest.raises(AttributeError, match="SomethingElse"):
        _ = torch.gxu.SomethingElse


def test_discovery_alone_suffices(run_python) -> None:  # type: ignore[no-untyped-def]
    """Whoever asks Inductor's registry before compile_fx is imported gets the backend, and the cache identity later."""
    code = """
import torch, gxu
from torch._inductor.codegen import common
common.init_backend_registration()
assert common.get_scheduling_for_device("gxu").__name__ == "GXUTritonScheduling"
import torch._inductor.compile_fx
assert common.get_custom_backend_pass_for_device("gxu") is not None
assert torch._inductor.utils.is_gpu("gxu")
"""
    done = run_python("-c", code)
    assert done.returncode == 0, done.stderr


def test_gxu_imported_after_inductor(run_python) -> None:  # type: ignore[no-untyped-def]
    code = """
import torch
import torch._inductor.compile_fx
import gxu
from torch._inductor.codegen import common
assert common.get_custom_backend_pass_for_device("gxu") is not None
assert torch._dynamo.device_interface.get_interface_for_device("gxu").__name__ == "GXUInterface"
"""
    done = run_python("-c", code, env={"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"})
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("first", ["torch._inductor.scheduler", "torch._inductor.codegen.triton"])
def test_any_part_of_inductor_may_be_imported_first(first: str, run_python) -> None:  # type: ignore[no-untyped-def]
    code = f"""
import {first}
from torch._inductor import compile_fx, utils
from torch._inductor.codegen import common
from torch._inductor.fx_passes import freezing_patterns
assert common.get_custom_backend_pass_for_device("gxu") is not None
assert "gxu" in utils.GPU_TYPES and "gxu" not in freezing_patterns.GPU_TYPES
"""
    done = run_python("-c", code)
    assert done.returncode == 0, done.stderr
    assert "could not register itself" not in done.stderr


def test_wrappers_delegate_subgraphs() -> None:
    assert issubclass(GXUPythonWrapperCodegen, PythonWrapperCodegen)
    with pytest.raises(AssertionError):
        GXUPythonWrapperCodegen.create(True, None, None)
