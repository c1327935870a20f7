"""gxu-abi-test on the cuda engine: every promise of the header that a driver of NVIDIA's can keep is kept."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import runtime_abi as abi

PROGRAM = abi.ROOT / "gxu/bin/gxu-abi-test"


@pytest.mark.skipif(not PROGRAM.exists(), reason="gxu-abi-test was not built: it needs Boost.Test")
def test_promises_of_the_header(cuda_paths: dict[str, Path], tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    kernels = [("--kernel", str(cuda_paths["image"])), ("--symbol", "append_each")]
    kernels += [("--assert-symbol", "fail_assertion"), ("--fault-symbol", "write_to_bad_address")]
    kernels += [("--empty-symbol", "nothing")]
    options = [word for option in kernels for word in option]
    result = subprocess.run(
        [str(PROGRAM), "--json", str(report), *options, str(cuda_paths["library"])],
        env={**os.environ, "GXU_CUDA_DRIVER": str(cuda_paths["driver"])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stdout
    assert json.loads(report.read_text())
