"""`python -m gxu doctor`: each check finds what it is there for. That all pass here is in test_cli.py."""

from __future__ import annotations

import argparse
import json
from typing import Any

import pytest
import torch

from gxu.cli import doctor


def outcome(name: str) -> doctor.Outcome:
    (check,) = (check for check in doctor.CHECKS if check.name == name)
    result = check.run()
    assert result.ok == (not result.remedy)
    return result


def broken() -> str:
    raise doctor.CheckError("broken on purpose")


@pytest.mark.parametrize("probe", [lambda: "fine", broken])
def test_json_without_a_file_is_the_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], probe: Any
) -> None:
    monkeypatch.setattr(doctor, "CHECKS", (doctor.Check("first", probe, "mend it"),))
    parser = argparse.ArgumentParser()
    doctor.add_arguments(parser)
    status = doctor.run(parser.parse_args(["--json"]))
    (printed,) = json.loads(capsys.readouterr().out)
    assert status == (probe is broken)
    assert printed["check"] == "first" and printed["ok"] == (probe is not broken)
    assert printed["remedy"] == ("mend it" if probe is broken else "")


def test_every_snippet_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    from gxu.inductor.device_op_overrides import GXUDeviceOpOverrides

    assert outcome("device op overrides").ok
    assert outcome("  import_get_raw_stream_as").found == "from gxu._C import get_raw_stream as get_raw_stream"
    assert outcome("  device_guard").found == "torch.gxu._DeviceGuard(0)"
    assert "lines)" in outcome("  kernel_driver").found
    monkeypatch.delattr(GXUDeviceOpOverrides, "synchronize")  # torch's own raises NotImplementedError
    assert outcome("  synchronize").found == "NotImplementedError"


def test_a_method_that_torch_added_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor.codegen.common import DeviceOpOverrides

    monkeypatch.setattr(DeviceOpOverrides, "cpp_new_snippet", lambda self: "", raising=False)
    assert "cpp_new_snippet" in outcome("device op overrides").found


def test_missing_functions_of_the_device_module(monkeypatch: pytest.MonkeyPatch) -> None:
    assert outcome("device module").ok
    monkeypatch.delattr(torch.gxu, "get_rng_state")
    assert outcome("device module").found == "torch.gxu has no get_rng_state"


def test_an_interface_that_accepts_any_index(monkeypatch: pytest.MonkeyPatch) -> None:
    from gxu.inductor.device_interface import GXUInterface

    assert outcome("device interface").ok
    monkeypatch.setattr(GXUInterface, "exchange_device", staticmethod(lambda index: 0))
    count = torch.gxu.device_count()
    assert f"exchange_device({count}) was accepted" in outcome("device interface").found


def test_registrations_that_inductor_drops_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import utils
    from torch._inductor.codegen import common
    from torch.utils import _triton

    for name in ("scheduling", "Python wrapper", "C++ wrapper", "FX wrapper", "GPU type", "has_triton"):
        assert outcome(name).ok, name
    registered = common.device_codegens["gxu"]
    nothing = type(registered)(lambda scheduler: None, None, None, None)  # type: ignore[arg-type]
    with monkeypatch.context() as patch:
        patch.setitem(common.device_codegens, "gxu", nothing)
        for name in ("Python wrapper", "C++ wrapper", "FX wrapper"):
            assert not outcome(name).ok, name
        assert not outcome("scheduling").ok
    with monkeypatch.context() as patch:
        patch.setattr(utils, "GPU_TYPES", ["cuda"])
        assert "omit device guards" in outcome("GPU type").found
    with monkeypatch.context() as patch:
        patch.setattr(_triton, "has_triton", lambda: False)
        assert not outcome("has_triton").ok


def test_another_active_triton_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver

    class Other:
        def get_current_target(self) -> GPUTarget:
            return GPUTarget("cuda", 90, 32)

    assert outcome("Triton driver").ok
    monkeypatch.setattr(driver, "_active", Other())
    assert outcome("Triton driver").found == "the active Triton driver is Other, for cuda"
    assert "TRITON_DEFAULT_BACKEND" in outcome("Triton driver").remedy
