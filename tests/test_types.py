"""Types of torch.gxu, as a program that uses an installed gxu sees them."""

from __future__ import annotations

import inspect
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
import torch
from process_helpers import ROOT

CONSUMER = """
import torch
import torch.gxu
from torch.gxu.amp import GradScaler


def total_memory(index: int) -> int:
    with torch.gxu.device(index):
        free, total = torch.gxu.mem_get_info()
        properties = torch.gxu.get_device_properties(index)
        return min(total, properties.total_memory) - free


stream: torch.gxu.Stream = torch.gxu.Stream(priority=-1)
event = torch.gxu.Event(enable_timing=True)
with torch.gxu.stream(stream):
    event.record()
torch.gxu.manual_seed_all(1)
torch.gxu.set_rng_state(torch.gxu.get_rng_state("gxu:0"), 0)
reveal_type(torch.gxu.current_stream())
reveal_type(torch.gxu.memory_allocated())
reveal_type(torch.gxu.get_rng_state())
reveal_type(torch.ones(2))
reveal_type(torch.ones(2).gxu(0, non_blocking=True))
reveal_type(torch.ones(2).is_gxu)
reveal_type(torch.nn.Linear(2, 2).gxu())
with torch.gxu.amp.autocast(dtype=torch.bfloat16), torch.gxu.nvtx.range("forward"):
    scaler = torch.gxu.amp.GradScaler()
reveal_type(GradScaler)
reveal_type(torch.gxu.FloatTensor)
wrong: str = torch.gxu.device_count()
torch.gxu.set_device(3.5)
torch.gxu.no_such_function()
"""


@pytest.mark.slow
def test_programs_are_checked_against_torch_gxu(tmp_path: Path) -> None:
    """mypy, strict, in an environment that has the package and its stubs as a wheel puts them."""
    pytest.importorskip("mypy", reason="mypy, which checks the program, is not installed (requirements/dev.txt)")
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=False)
    python = environment / "bin" / "python"
    (packages,) = environment.glob("lib/python*/site-packages")
    for name in ("gxu", "torch-stubs"):
        (packages / name).symlink_to(ROOT / name)
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    program = tmp_path / "program.py"
    program.write_text(CONSUMER)
    command = [sys.executable, "-m", "mypy", "--strict", "--hide-error-context", "--no-pretty"]
    configuration = tmp_path / "mypy.ini"
    configuration.write_text("[mypy]\nplugins = gxu.mypy_plugin\n")
    options = ["--config-file", str(configuration), "--cache-dir", str(ROOT / ".mypy_cache")]
    result = subprocess.run(
        [*command, *options, "--python-executable", str(python), str(program)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=900,
    )
    lines = [line.partition(": ")[2] for line in result.stdout.splitlines()[:-1]]
    assert lines == [
        'note: Revealed type is "gxu.streams.Stream"',
        'note: Revealed type is "int"',
        'note: Revealed type is "torch._tensor.Tensor"',
        'note: Revealed type is "torch._tensor.Tensor"',
        'note: Revealed type is "torch._tensor.Tensor"',
        'note: Revealed type is "bool"',
        'note: Revealed type is "Any"',
        'note: Revealed type is "def (init_scale: float =, growth_factor: float =, backoff_factor: float =, '
        'growth_interval: int =, enabled: bool =) -> gxu.amp.GradScaler"',
        'note: Revealed type is "gxu.tensor_types.TensorType"',
        'error: Incompatible types in assignment (expression has type "int", variable has type "str")  [assignment]',
        'error: Argument 1 to "set_device" has incompatible type "float"; '
        'expected "device | str | int | None"  [arg-type]',
        'error: Module has no attribute "no_such_function"  [attr-defined]',
    ], result.stdout + result.stderr


def test_everything_public_is_annotated() -> None:
    for name in torch.gxu.__all__:
        value = getattr(torch.gxu, name)
        functions = [value]
        if inspect.isclass(value):
            functions = [member for key, member in vars(value).items() if inspect.isfunction(member) and key[0] != "_"]
        for function in functions:
            if not inspect.isfunction(function) or not function.__module__.startswith("gxu"):
                continue
            signature = inspect.signature(function)
            assert signature.return_annotation is not signature.empty, f"{name}: {function.__qualname__}"
            for parameter in list(signature.parameters.values()):
                assert parameter.name == "self" or parameter.annotation is not parameter.empty, f"{name}: {parameter}"


def test_module_can_be_imported_by_its_name() -> None:
    import torch.gxu as module

    assert module is torch.gxu
    assert (ROOT / "gxu" / "py.typed").exists()
