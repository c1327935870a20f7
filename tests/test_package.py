"""What `pip install .` installs: files, entry points, and a build that sees only its own sources."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from process_helpers import ROOT, RunPython

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_version_is_declared_once() -> None:
    import gxu

    assert gxu.__version__ == PROJECT["version"] == importlib.metadata.version("torch-gxu")


@pytest.mark.parametrize(("group", "value"), [("torch.backends", "gxu:_autoload"), ("triton.backends", "gxu.triton")])
def test_entry_points(group: str, value: str) -> None:
    (entry,) = importlib.metadata.entry_points(group=group, name="gxu")
    assert entry.value == value


def test_pinned_requirements_satisfy_the_declared_ones() -> None:
    from packaging.requirements import Requirement

    lines = [line for path in (ROOT / "requirements").glob("*.txt") for line in path.read_text().splitlines()]
    pins = {}
    for line in lines:
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            (specifier,) = requirement.specifier
            assert specifier.operator == "==", f"{line} is not pinned"
            pins[requirement.name] = specifier.version
    declared = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["demo"]
    for requirement in map(Requirement, declared):
        assert requirement.specifier.contains(pins[requirement.name]), f"{requirement} against {pins}"


def test_supported_torch_is_what_the_package_declares() -> None:
    from packaging.requirements import Requirement

    from gxu._version import SUPPORTED_TORCH

    (torch,) = (r for r in map(Requirement, PROJECT["dependencies"]) if r.name == "torch")
    first, end = (".".join(map(str, version)) for version in SUPPORTED_TORCH)
    assert str(torch.specifier) == str(Requirement(f"torch>={first},<{end}").specifier)


def test_import_torch_alone_gives_the_device(run_python: RunPython) -> None:
    code = "import torch; x = torch.ones(3, device='gxu'); print((x + 1).sum().item(), x.device)"
    result = run_python("-c", code)
    assert result.stdout == "6.0 gxu:0\n", result.stderr


def test_script_beside_the_checkout(tmp_path: Path) -> None:
    """A folder named gxu beside a script is no package, and must not be taken for one before the installed gxu."""
    checkout = tmp_path / "gxu"
    checkout.mkdir()
    script = tmp_path / "script.py"
    script.write_text("import torch; print(torch.ones(2, device='gxu').sum().item())")
    result = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert result.stdout == "2.0\n", result.stderr


@pytest.mark.extended
def test_wheel_builds_from_a_copy_and_works(tmp_path: Path, run_python: RunPython) -> None:
    source, target = tmp_path / "source", tmp_path / "site"
    ignore = shutil.ignore_patterns("build", "*.so", "include", "share", ".venv", ".git", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, source, ignore=ignore)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    wheel = [*pip, "wheel", "--no-build-isolation", "--no-deps", "-w", str(tmp_path), str(source)]
    subprocess.run(wheel, check=True, timeout=280)
    (archive,) = tmp_path.glob("torch_gxu-*.whl")
    names = set(zipfile.ZipFile(archive).namelist())
    expected = {
        "gxu/__init__.py",
        "gxu/_C.pyi",
        "gxu/py.typed",
        "gxu/include/gxu_native.h",
        "gxu/include/gxu_runtime.h",
        "gxu/include/gxu_host_kernel.h",
        "gxu/include/c10/gxu/GXUGuard.h",
        "gxu/include/torch/csrc/inductor/cpp_wrapper/gxu.h",
        "gxu/include/torch/csrc/inductor/aoti_torch/generated/c_shim_gxu.h",
        "gxu/lib/libgxu_runtime_host.so",
        "gxu/lib/libgxu_runtime_cuda.so",
        "gxu/lib/libgxu_torch.so",
        "gxu/share/cmake/Gxu/GxuConfig.cmake",
        "gxu/share/sentences.txt",
        "gxu/share/queries.txt",
        "gxu/triton/compiler.py",
        "gxu/inductor/registration.py",
        "torch-stubs/gxu/__init__.pyi",
        "torch-stubs/gxu/amp.pyi",
        "torch-stubs/py.typed",
    }
    assert expected <= names
    assert not [name for name in names if name.startswith(("tests/", "csrc/", "benchmarks/"))]
    subprocess.run([*pip, "install", "--no-deps", "--target", str(target), str(archive)], check=True, timeout=120)
    code = (
        "import torch, gxu\n"
        "x = torch.arange(1000.0, device='gxu')\n"
        "y = torch.compile(lambda x: (x * 2).sin())(x)\n"
        "assert torch.allclose(y.cpu(), (x.cpu() * 2).sin(), atol=1e-5)\n"
        "print(gxu.__file__)"
    )
    # The installed copy must be the one that torch finds, so the path comes before the environment's own packages.
    result = run_python("-c", code, env={"PYTHONPATH": str(target)})
    assert result.returncode == 0, result.stderr
    assert Path(result.stdout.strip()).is_relative_to(target)
