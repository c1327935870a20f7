"""Many threads on one engine: tests/cpp/stress.cpp as it ships, and under the address and thread sanitizers."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import runtime_abi as abi

SOURCES = [*(abi.ROOT / "csrc/runtime/common").glob("*.cpp"), *(abi.ROOT / "csrc/runtime/host").glob("*.cpp")]
STRESS = abi.ROOT / "tests/cpp/stress.cpp"
INCLUDES = [f"-I{abi.HEADER.parent}", f"-I{abi.KERNEL_INCLUDE}"]


def compile_all(sources: Sequence[Path], folder: Path, flags: Sequence[str]) -> list[str]:
    """Objects of the sources, compiled on all cores."""
    compiler = os.environ.get("CXX") or shutil.which("g++") or "c++"

    def compile_one(source: Path) -> str:
        target = folder / f"{source.stem}.o"
        command = [compiler, "-std=c++20", "-Wall", "-Wextra", "-pthread", *flags, *INCLUDES, "-c", str(source)]
        subprocess.run([*command, "-o", str(target)], check=True)
        return str(target)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(compile_one, sources))


def link(objects: Sequence[str], output: Path, flags: Sequence[str]) -> Path:
    compiler = os.environ.get("CXX") or shutil.which("g++") or "c++"
    subprocess.run([compiler, "-pthread", *objects, *flags, "-o", str(output)], check=True)
    return output


def run_stress(program: Path, folder: Path, rounds: int, **environment: str) -> None:
    kernels = abi.compile_kernels(abi.ROOT / "tests/cpp/kernels.c", folder / "kernels.so")
    result = subprocess.run(
        [str(program), str(kernels), str(rounds)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-6000:]
    assert result.stdout == f"8 threads, {rounds} rounds: ok\n"
    assert result.stderr == ""


@pytest.mark.parametrize("threads", ["1", "3"])
def test_stress(tmp_path: Path, threads: str) -> None:
    objects = compile_all([STRESS], tmp_path, ["-O1"])
    program = link(objects, tmp_path / "stress", [str(abi.LIBRARY), f"-Wl,-rpath,{abi.LIBRARY.parent}"])
    run_stress(program, tmp_path, 300, OMP_NUM_THREADS=threads)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sanitizer", "flags"),
    [
        ("address", ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fopenmp"]),
        # libgomp's barriers look like data races to the thread sanitizer: the engine brings a team of its own for it.
        ("thread", ["-fsanitize=thread", "-DGXU_NO_OPENMP"]),
    ],
)
def test_stress_under_sanitizer(tmp_path: Path, sanitizer: str, flags: list[str]) -> None:
    objects = compile_all([*SOURCES, STRESS], tmp_path, ["-O1", "-g1", "-fno-omit-frame-pointer", *flags])
    program = link(objects, tmp_path / f"stress_{sanitizer}", [*flags, "-ldl"])
    run_stress(program, tmp_path, 100, OMP_NUM_THREADS="3", TSAN_OPTIONS="halt_on_error=1")
