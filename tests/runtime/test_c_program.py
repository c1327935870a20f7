"""The plain C program under examples/ builds with the header and the library alone, and computes what it should."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
import runtime_abi as abi

EXAMPLE = abi.ROOT / "examples/c_program"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("c_program")
    command = ["make", "-f", str(EXAMPLE / "Makefile"), f"BUILD={folder}"]
    flags = "CFLAGS=-O2 -Wall -Wextra -Wpedantic -Werror"
    subprocess.run([*command, flags, "all"], cwd=folder, check=True, capture_output=True, text=True)
    return folder


def run(built: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(built / "diffusion"), *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_program_runs_and_agrees_with_its_own_reference(built: Path) -> None:
    result = run(built, str(built / "kernel.so"), "25")
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.startswith("device: GXU (host engine, ")
    found = re.search(r"25 steps on 37 x 19 x 11 cells in ([\d.]+) ms: heat ([\d.]+) of 1000", result.stdout)
    assert found, result.stdout
    assert float(found[1]) > 0
    assert float(found[2]) == pytest.approx(1000, abs=0.1), "no heat is lost"


def test_program_reports_a_missing_kernel_in_one_line(built: Path) -> None:
    result = run(built, str(built / "absent.so"))
    assert result.returncode == 1
    assert re.fullmatch(r"gxuModuleLoad.*: gxuErrorFileNotFound: cannot open the kernel image .*\n", result.stderr)


def test_program_reports_a_device_that_is_too_small(built: Path) -> None:
    result = run(built, str(built / "kernel.so"), GXU_MEMORY_LIMIT="4K")
    assert result.returncode == 1
    assert re.fullmatch(r"gxuMalloc.*: gxuErrorOutOfMemory: tried to allocate 30932 bytes .*\n", result.stderr)


def test_program_needs_no_cpp_or_torch(built: Path) -> None:
    """The header is C: the program's own dependencies are the engine, libm and libc."""
    listing = subprocess.run(["readelf", "-d", str(built / "diffusion")], check=True, capture_output=True, text=True)
    needed = re.findall(r"NEEDED.*\[(\w+)", listing.stdout)
    assert set(needed) <= {"libgxu_runtime_host", "libm", "libc"}
    assert "libgxu_runtime_host" in needed
