"""The same kernels, compiled for CPUs with narrower vectors than this machine's, give the same results."""

from __future__ import annotations

import platform

import pytest

_SCRIPT = """
import sys
sys.path.insert(0, sys.argv[2])
import llvmlite.binding as llvm
from gxu.triton.codegen import target

own = target.host_target()
cpu, features, vector_bytes = {
    "x86-64-v3": ("haswell", "+avx2,+fma,+f16c,+bmi,+bmi2,+lzcnt,+popcnt", 32),
    "x86-64-v2": ("nehalem", "+sse4.2,+popcnt", 16),
}[sys.argv[1]]
narrow = target.Target(**{**own.__dict__, "cpu": cpu, "features": features, "vector_bytes": vector_bytes})
target.host_target = lambda: narrow
import pytest
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "--rootdir", sys.argv[2], *sys.argv[3:]]))
"""


@pytest.mark.extended
@pytest.mark.skipif(platform.machine() != "x86_64", reason="names x86 CPUs")
@pytest.mark.parametrize("level", ["x86-64-v3", "x86-64-v2"])
@pytest.mark.parametrize(
    "file",
    [
        "elementwise",
        "conversions",
        "math",
        "reduce",
        "memory",
        "values",
        "control_flow",
        "random_kernels",
        "transposes",
    ],
)
def test_narrower_vectors(level, file, run_python, request):
    here = request.path.parent
    done = run_python("-c", _SCRIPT, level, str(here), str(here / f"test_{file}.py"), timeout=600)
    assert done.returncode == 0, done.stdout[-6000:]
