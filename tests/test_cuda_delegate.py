"""Operators of a device whose memory PyTorch's cuda device reaches, without a GPU: see cuda_delegate_cases.py."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import runtime_shims
import torch
from process_helpers import ROOT, RunPython

TORCH = Path(torch.__file__).parent


def build_cuda_in_torch(folder: Path) -> Path:
    library = folder / "libcuda_in_torch.so"
    includes = [f"-isystem{TORCH / 'include'}", f"-isystem{TORCH / 'include/torch/csrc/api/include'}"]
    source = ROOT / "tests/cpp/cuda_in_torch.cpp"
    abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"
    libraries = [f"-L{TORCH / 'lib'}", f"-Wl,-rpath,{TORCH / 'lib'}", "-ltorch_cpu", "-lc10", "-ldl"]
    command = ["c++", "-std=c++20", "-O0", "-shared", "-fPIC", abi, *includes, str(source), "-o", str(library)]
    subprocess.run([*command, *libraries], check=True)
    return library


# PyTorch looks for CUDA's part when it is imported.
RUN = """
import ctypes, os, sys
ctypes.CDLL(os.environ["CUDA_IN_TORCH"])
import pytest
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", sys.argv[1]]))
"""


@pytest.mark.skipif(torch.version.cuda is not None, reason="the stand-in for CUDA's part is for a torch without it")
def test_operators(run_python: RunPython, tmp_path: Path) -> None:
    runtime = runtime_shims.build(tmp_path, runtime_shims.CUDA_DELEGATE, on_host_engine=True)
    environment = {"GXU_RUNTIME": str(runtime), "CUDA_IN_TORCH": str(build_cuda_in_torch(tmp_path))}
    cases = str(ROOT / "tests/cuda_delegate_cases.py")
    result = run_python("-c", RUN, cases, env=environment)
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
