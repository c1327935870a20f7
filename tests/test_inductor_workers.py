"""Kernels compiled in Inductor's worker processes: every way to start them, and what a failure looks like."""

from __future__ import annotations

import pytest
from process_helpers import RunPython

# Compiles with the pool ready from the start, so that kernels do go through it.
COMPILE_IN_POOL = """
import torch, gxu
import torch._inductor.config as config
from gxu import _C
from torch._inductor import async_compile
from torch._inductor.async_compile import AsyncCompile
from torch._inductor.runtime import triton_heuristics
config.force_disable_caches = True
assert config.compile_threads == 2
AsyncCompile.warm_pool()
AsyncCompile.wait_pool_ready()
assert AsyncCompile.use_process_pool()

in_parent = []
compile_here = triton_heuristics.CachingAutotuner._precompile_config
def record(self, *args):
    in_parent.append(self)
    return compile_here(self, *args)
triton_heuristics.CachingAutotuner._precompile_config = record

x = torch.randn(100, 300)
def fn(x):
    return torch.sin(x) + 1, x.softmax(-1), x.sum(0)

for result, wanted in zip(torch.compile(fn, fullgraph=True)(x.to("gxu")), fn(x)):
    torch.testing.assert_close(result.cpu(), wanted, rtol=1e-4, atol=1e-4)
print("compiled in this process:", len(in_parent), "launched:", _C.launch_count())
"""


@pytest.mark.parametrize("method", ["subprocess", "fork", "spawn"])
def test_kernels_compile_in_workers(run_python: RunPython, method: str) -> None:
    env = {
        "TORCHINDUCTOR_COMPILE_THREADS": "2",
        "TORCHINDUCTOR_WORKER_START": method,
        "TRITON_CACHE_DIR": None,
    }
    # Spawned workers import the main module: without a guard it would compile again.
    body = "".join(f"    {line}\n" for line in COMPILE_IN_POOL.splitlines())
    done = run_python("-c", f"def main():\n{body}\nif __name__ == '__main__':\n    main()\n", env=env)
    assert done.returncode == 0, done.stderr
    words = done.stdout.splitlines()[-1].split()
    assert words[4] == "0", "kernels were compiled in the parent"
    assert int(words[-1]) >= 2
