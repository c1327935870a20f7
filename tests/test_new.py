"""`python -m gxu new`: a vendor's package that builds, installs and passes its own tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from process_helpers import RunPython


@pytest.mark.slow
def test_package_installs_and_passes_its_own_tests(run_python: RunPython, tmp_path: Path) -> None:
    source, site = tmp_path / "source", tmp_path / "site"
    result = run_python("-m", "gxu", "new", "my_chip", "--directory", str(source))
    assert result.returncode == 0, result.stderr
    install = ["install", "--no-build-isolation", "--no-deps", "--no-index", "-q", "--target", str(site), str(source)]
    subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", *install], check=True, timeout=200)
    assert (site / "torch_my_chip/lib/libgxu_runtime_my_chip.so").exists()
    # From the installed package, not from the folder with its sources.
    tests = str(source / "tests")
    arguments = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", tests]
    result = run_python(*arguments, env={"PYTHONPATH": str(site), "GXU_DEVICE_NAME": None, "GXU_MEMORY_LIMIT": "1G"})
    assert result.returncode == 0, result.stdout + result.stderr
    assert "5 passed" in result.stdout
    result = run_python("-c", "import torch_my_chip.triton.compiler", env={"PYTHONPATH": str(site)})
    assert result.returncode == 0, result.stderr
    # As porting.md does: the library goes beside the sources.
    assert not (source / "torch_my_chip/lib").exists()
    editable = [
        "install",
        "--no-build-isolation",
        "--no-deps",
        "--no-index",
        "-q",
        "--prefix",
        str(tmp_path / "prefix"),
    ]
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *editable, "-e", str(source)]
    subprocess.run(command, check=True, timeout=200)
    assert (source / "torch_my_chip/lib/libgxu_runtime_my_chip.so").exists()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("My Chip", "the name is 'My Chip': PyTorch takes lower-case letters, with '_' between them"),
        ("chip2", "the name is 'chip2': PyTorch takes lower-case letters, with '_' between them"),
        ("cuda", "the name is 'cuda', which PyTorch or Python uses already: choose one of your own"),
        ("class", "the name is 'class', which PyTorch or Python uses already: choose one of your own"),
        ("nn", "the name is 'nn', which PyTorch or Python uses already: choose one of your own"),
        ("opencl", "the name is 'opencl', which PyTorch or Python uses already: choose one of your own"),
        ("sum", "the name is 'sum', which PyTorch or Python uses already: choose one of your own"),
        ("leaf", "the name is 'leaf', which PyTorch or Python uses already: choose one of your own"),
        ("nvidia", "the name is 'nvidia', which PyTorch or Python uses already: choose one of your own"),
        ("a" * 32, f"the name is '{'a' * 32}', 32 letters: choose one of at most 31"),
    ],
)
def test_wrong_names_are_refused(run_python: RunPython, tmp_path: Path, name: str, sentence: str) -> None:
    result = run_python("-m", "gxu", "new", name, "--directory", str(tmp_path / "new"))
    assert (result.returncode, result.stderr) == (2, f"gxu: {sentence}\n")
    assert not (tmp_path / "new").exists()


def test_an_existing_folder_is_left_alone(run_python: RunPython, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    result = run_python("-m", "gxu", "new", "mychip", "--directory", str(tmp_path))
    assert result.returncode == 2
    assert result.stderr == f"gxu: {tmp_path} exists already: name another folder with --directory, or remove it\n"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    result = run_python("-m", "gxu", "new", "mychip", "--directory", str(tmp_path / "file/new"))
    assert result.returncode == 2
    assert result.stderr.startswith("gxu: cannot write ") and result.stderr.count("\n") == 1
