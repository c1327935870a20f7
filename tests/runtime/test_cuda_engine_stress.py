"""Many threads on the cuda engine and the stand-in: tests/cpp/stress.cpp under the address and thread sanitizers."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import cuda_engine
import pytest
import runtime_abi as abi

SOURCES = [path for folder in ("common", "cuda") for path in sorted((abi.ROOT / "csrc/runtime" / folder).glob("*.cpp"))]
STRESS = abi.ROOT / "tests/cpp/stress.cpp"


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags", [["-fsanitize=address,undefined", "-fno-sanitize-recover=all"], ["-fsanitize=thread"]]
)
def test_stress_under_sanitizer(tmp_path: Path, flags: list[str]) -> None:
    flags = [*flags, "-g1", "-fno-omit-frame-pointer"]
    driver_folder = tmp_path / "driver"
    driver_folder.mkdir()
    driver = cuda_engine.build_fake_driver(driver_folder, flags)
    objects = cuda_engine.compile_objects([*SOURCES, STRESS], tmp_path, flags)
    program = cuda_engine.link(objects, tmp_path / "stress", flags)
    result = subprocess.run(
        [str(program), str(cuda_engine.build_kernels(tmp_path)), "40"],
        # The stand-in's streams are threads that never end, and what they hold is not lost.
        env={**os.environ, "GXU_CUDA_DRIVER": str(driver), "ASAN_OPTIONS": "detect_leaks=0"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-6000:]
    assert result.stdout == "8 threads, 40 rounds: ok\n"
    assert result.stderr == ""
