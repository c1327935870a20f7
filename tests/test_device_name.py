"""GXU_DEVICE_NAME and the entry-point group `gxu.device`: the same device under another name."""

from __future__ import annotations

from pathlib import Path

import pytest
from process_helpers import RunPython

EVERYTHING = """
import io, sys, torch
import torch.nn as nn

assert torch._C._get_privateuse1_backend_name() == "mychip"
assert torch.accelerator.current_accelerator().type == "mychip"
try:
    torch.device("gxu")
except RuntimeError:
    pass
else:
    raise AssertionError("the device has its old name, too")

torch.manual_seed(0)
x = torch.randn(37, 19)
y = x.to("mychip")
assert str(y.device) == "mychip:0" and y.is_mychip and x.mychip().device == y.device
torch.testing.assert_close((y @ y.T).relu().cpu(), (x @ x.T).relu())
stream = torch.mychip.Stream()
assert str(stream).startswith("torch.mychip.Stream(device=mychip:0"), stream
with torch.mychip.stream(stream):
    z = y * 2
stream.synchronize()
torch.testing.assert_close(z.cpu(), x * 2)
assert torch.mychip.memory_allocated() > 0
assert torch.Generator("mychip").device.type == "mychip"

model = nn.Sequential(nn.Linear(19, 33), nn.GELU(), nn.Linear(33, 5))
expected = model(x)
on_device = model.to("mychip")
with torch.no_grad():
    torch.testing.assert_close(torch.compile(on_device, fullgraph=True)(y).cpu(), expected, atol=1e-5, rtol=1e-5)
from torch._inductor.utils import run_and_get_code
outputs, (code, *_) = run_and_get_code(torch.compile(lambda t: (t.sin() * 2).softmax(-1), fullgraph=True), y)
assert "mychip" in code and "torch.gxu" not in code, code
torch.testing.assert_close(outputs.cpu(), (x.sin() * 2).softmax(-1))

with torch.autocast("mychip", dtype=torch.bfloat16):
    assert on_device(y).dtype == torch.bfloat16

graph = torch.mychip.Graph()
with torch.mychip.graph(graph):
    captured = y + 1
graph.replay()
torch.testing.assert_close(captured.cpu(), x + 1)

with torch.profiler.profile() as profile:
    (y + y).sum().item()
assert any("add" in event.key for event in profile.key_averages())

buffer = io.BytesIO()
torch.save({"y": y, "model": on_device.state_dict()}, buffer)
buffer.seek(0)
loaded = torch.load(buffer)
assert loaded["y"].device.type == "mychip" and torch.equal(loaded["y"].cpu(), x)
buffer.seek(0)
assert torch.load(buffer, map_location="cpu")["y"].device.type == "cpu"

def sentence(call):
    try:
        call()
    except Exception as error:
        return str(error)
    raise AssertionError("no error")

for call in (
    lambda: torch.empty(1, device="mychip:7"),
    lambda: torch.mychip.synchronize("cpu"),
    lambda: torch.mychip.no_such_thing,
    lambda: torch.Generator("mychip").set_state(torch.zeros(3, dtype=torch.uint8)),
):
    text = sentence(call)
    assert "mychip" in text and "gxu:" not in text and "torch.gxu" not in text, text
print("all is well")
"""

CPP_WRAPPER = """
import torch
import torch._inductor.config as config

x = torch.randn(8, 6)

def function(t):
    return torch.softmax(t @ t.T, -1).view(torch.int32) + torch.ones(8, device=t.device).sum()

with torch.no_grad(), config.patch(cpp_wrapper=True):
    y = torch.compile(function, fullgraph=True)(x.to("mychip"))
assert y.device.type == "mychip"
torch.testing.assert_close(y.cpu(), torch.compile(function, backend="eager")(x.to("mychip")).cpu(), rtol=1e-6, atol=0)
print("all is well")
"""


def test_everything_works_under_another_name(run_python: RunPython) -> None:
    result = run_python("-c", EVERYTHING, env={"GXU_DEVICE_NAME": "mychip"})
    assert result.returncode == 0 and result.stdout.endswith("all is well\n"), result.stdout + result.stderr


@pytest.mark.slow
def test_cpp_wrapper_under_another_name(run_python: RunPython) -> None:
    result = run_python("-c", CPP_WRAPPER, env={"GXU_DEVICE_NAME": "mychip"})
    assert result.returncode == 0 and result.stdout.endswith("all is well\n"), result.stdout + result.stderr


@pytest.mark.slow
def test_doctor_checks_the_device_that_there_is(run_python: RunPython) -> None:
    result = run_python("-m", "gxu", "doctor", env={"GXU_DEVICE_NAME": "mychip"})
    assert result.returncode == 0, result.stdout + result.stderr
    assert "torch.mychip" in result.stdout


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("cuda", "GXU_DEVICE_NAME is 'cuda', which is another device of PyTorch's: choose a name of your own"),
        ("My Chip", "GXU_DEVICE_NAME is 'My Chip': PyTorch takes lower-case letters and '_' for a device's name"),
    ],
)
def test_wrong_names_are_refused(run_python: RunPython, name: str, sentence: str) -> None:
    result = run_python("-c", "import gxu", env={"GXU_DEVICE_NAME": name, "TORCH_DEVICE_BACKEND_AUTOLOAD": "0"})
    assert result.returncode == 1
    assert result.stderr.rstrip().endswith(sentence)


def make_package(folder: Path, name: str, device: str) -> None:
    """An installed package that names the device and sets an environment variable before there is one."""
    code = f"import os\ndef configure():\n    os.environ['GXU_DEVICE_COUNT'] = '3'\n    print({name!r})\n"
    (folder / f"{name}.py").write_text(code)
    information = folder / f"{name}-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[gxu.device]\n{device} = {name}:configure\n")


def test_an_installed_package_names_the_device(run_python: RunPython, tmp_path: Path) -> None:
    make_package(tmp_path, "vendor_one", "mychip")
    code = "import torch; print(torch.empty(1, device='mychip').device, torch.mychip.device_count())"
    result = run_python("-c", code, env={"PYTHONPATH": str(tmp_path), "GXU_DEVICE_NAME": None})
    assert result.stdout == "vendor_one\nmychip:0 3\n", result.stderr
    code = "import torch; print(torch.empty(1, device='gxu').device, torch.gxu.device_count())"
    result = run_python("-c", code, env={"PYTHONPATH": str(tmp_path), "GXU_DEVICE_NAME": "gxu"})
    assert result.stdout == "gxu:0 1\n", result.stderr


def test_two_packages_need_a_decision(run_python: RunPython, tmp_path: Path) -> None:
    make_package(tmp_path, "vendor_one", "mychip")
    make_package(tmp_path, "vendor_two", "yourchip")
    environment = {"PYTHONPATH": str(tmp_path), "GXU_DEVICE_NAME": None, "TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}
    result = run_python("-c", "import gxu", env=environment)
    assert "several packages name gxu's device: mychip (vendor_one:configure), yourchip" in result.stderr
    assert "set GXU_DEVICE_NAME to the one to use" in result.stderr
    code = "import gxu, torch; print(torch.empty(1, device='yourchip').device)"
    result = run_python("-c", code, env={**environment, "GXU_DEVICE_NAME": "yourchip"})
    assert result.stdout == "vendor_two\nyourchip:0\n", result.stderr
