"""Kernels compiled in Inductor's worker processes: every way to start them, and what a failure looks like."""

from __future__ import annotations

import os
from pathlib import Path

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


# Python runs this in every process that finds it: a worker that comes to the machine code dies there.
CRASH = """
import os, sys
if any("compile_worker" in argument for argument in sys.orig_argv):
    class Crash:
        def find_spec(self, name, path=None, target=None):
            if name == "gxu.triton.codegen.machine":
                os.abort()
    sys.meta_path.insert(0, Crash())
"""

COMPILE_WITH_CRASH = """
import torch
import torch._inductor.config as config
from torch._inductor.async_compile import AsyncCompile
config.force_disable_caches = True
AsyncCompile.warm_pool()
AsyncCompile.wait_pool_ready()
x = torch.randn(40, 30)
try:
    torch.compile(lambda x: x.cos() + 1)(x.to("gxu"))
except Exception as error:
    print(type(error).__name__, str(error).splitlines()[0])
# The process goes on, and compiles by itself.
torch._dynamo.reset()
with config.patch(compile_threads=1):
    torch.testing.assert_close(torch.compile(lambda x: x.cos() + 2)(x.to("gxu")).cpu(), x.cos() + 2)
"""


def test_a_crash_of_the_compiler_is_an_error_message(run_python: RunPython, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(CRASH)
    search = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    env = {"PYTHONPATH": search, "TORCHINDUCTOR_COMPILE_THREADS": "2", "TORCHINDUCTOR_WORKER_START": "subprocess"}
    done = run_python("-c", COMPILE_WITH_CRASH, env=env)
    assert done.returncode == 0, done.stderr
    message = done.stdout.splitlines()[0]
    assert message.startswith("InductorError")
    assert "exited unexpectedly" in message and "TORCHINDUCTOR_COMPILE_THREADS=1" in message


# Leaves at once: at its exit Python waits for a pool that has just been started, for minutes with torch 2.11 and Python
# 3.12, whatever the device.
COMPILE_TWICE = """
import os, torch
from torch._inductor.async_compile import AsyncCompile
x = torch.randn(40, 30)
torch.testing.assert_close(torch.compile(lambda x: x.cos() + 1)(x.to("gxu")).cpu(), x.cos() + 1)
found = torch._dynamo.utils.counters["inductor"]["async_compile_cache_hit"]
print("found:", found, "pools:", AsyncCompile.process_pool.cache_info().currsize, flush=True)
os._exit(0)
"""


def test_no_worker_is_started_for_kernels_from_a_cache(run_python: RunPython, tmp_path: Path) -> None:
    env = {
        "TORCHINDUCTOR_COMPILE_THREADS": "2",
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "inductor"),
        "TRITON_CACHE_DIR": str(tmp_path / "triton"),
    }
    cold, warm = (run_python("-c", COMPILE_TWICE, env=env) for _ in range(2))
    assert cold.returncode == warm.returncode == 0, cold.stderr + warm.stderr
    assert cold.stdout.splitlines()[-1] == "found: 0 pools: 1"
    assert warm.stdout.splitlines()[-1] == "found: 1 pools: 0"
