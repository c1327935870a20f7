"""gxu.inductor.cpu: Inductor's `cpu_backend = "triton"` on plain CPU tensors."""

from __future__ import annotations

from pathlib import Path

from process_helpers import RunPython

COMPILE = """
import threading
import torch, triton
import triton.language as tl
import gxu.inductor.cpu
from gxu import _C
import torch._inductor.config as config
from torch._inductor.utils import run_and_get_code
from torch.testing import FileCheck, assert_close

def compiled_code(fn, *args, dynamic=None):
    torch._dynamo.reset()
    compiled = torch.compile(fn, fullgraph=True, dynamic=dynamic)
    launches = _C.launch_count()
    results, (code, *_) = run_and_get_code(compiled, *args)
    assert all(r.device.type == "cpu" for r in results)
    # The results are there when the call returns: nothing waits for them here.
    assert_close(results, fn(*args), rtol=1e-4, atol=1e-4)
    return compiled, code, _C.launch_count() - launches

torch.manual_seed(0)
x = torch.randn(100, 300)

def fn(x):
    return torch.sin(x) + 1, x.softmax(-1), x.sum(0)

# The import alone changes nothing: C++ as before.
_, code, launches = compiled_code(lambda x: (x + 1,), x)
assert launches == 0
assert "async_compile.cpp_pybinding(" in code and "triton_heuristics" not in code

config.cpu_backend = "triton"
_, code, launches = compiled_code(fn, x)
assert launches == 2
FileCheck().check("from gxu.inductor import heuristics as triton_heuristics").check("import gxu.triton.cpu").check(
    "type='cpu'").check("device_str='cpu'").check("empty_strided_cpu(").check(".run(").run(code)
assert "cpp_pybinding" not in code

# Split reductions, scans over many programs, products by the library, sizes that vary.
big = torch.randn(1 << 18, dtype=torch.float64)
_, _, launches = compiled_code(lambda x: (x.sum(), x.argmax(), x.cumsum(0)), big)
assert launches >= 3
w = torch.randn(300, 50)
compiled, code, _ = compiled_code(lambda x, w: (torch.relu(x @ w), (x * 2).amax(-1)), x, w, dynamic=True)
FileCheck().check("extern_kernels.mm(").run(code)
with torch._dynamo.config.patch(error_on_recompile=True):
    for rows in (3, 77):
        assert_close(compiled(x[:rows], w)[0], torch.relu(x[:rows] @ w), rtol=1e-4, atol=1e-4)

# Training.
a, b = (x.clone().requires_grad_() for _ in range(2))
def loss(x):
    return torch.nn.functional.layer_norm(torch.tanh(x), (300,), w[:, 0]).square().mean()
torch.compile(loss)(a).backward()
loss(b).backward()
assert_close(a.grad, b.grad)

# A user's kernel in a CPU graph.
@triton.jit
def double(source, target, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(target + at, tl.load(source + at, at < n) * 2, at < n)

def user(x):
    target = torch.empty_like(x)
    double[(triton.cdiv(x.numel(), 256),)](x, target, x.numel(), BLOCK=256)
    return (target + 1,)

assert_close(torch.compile(user, fullgraph=True)(x)[0], x * 2 + 1)

# gxu's own kernels, before and after, on the driver that was active: Triton's default.
assert type(triton.runtime.driver.active).__name__ == "GXUDriver"
on_gxu = torch.compile(fn)(x.to("gxu"))
assert_close([r.cpu() for r in on_gxu], list(fn(x)), rtol=1e-4, atol=1e-4)
target = torch.empty_like(on_gxu[0])
double[(120,)](on_gxu[0], target, target.numel(), BLOCK=256)
assert_close(target.cpu(), fn(x)[0] * 2, rtol=1e-4, atol=1e-4)

# Several threads at once.
pointwise = torch.compile(lambda x: x * 3 - 1)
pointwise(x)
errors = []
def many(seed):
    values = torch.randn(100, 300, generator=torch.Generator().manual_seed(seed))
    for _ in range(50):
        if not torch.allclose(pointwise(values), values * 3 - 1, atol=1e-5):
            errors.append(seed)
threads = [threading.Thread(target=many, args=(seed,)) for seed in range(4)]
[t.start() for t in threads]
[t.join() for t in threads]
assert not errors

with config.patch(cpp_wrapper=True):
    try:
        torch._dynamo.reset()
        torch.compile(fn)(x)
    except Exception as error:
        assert "cpu_backend='triton' was asked for together with cpp_wrapper=True" in str(error), error
    else:
        raise AssertionError("a C++ wrapper was made")
print("done")
"""


def test_compiles_cpu_graphs_with_triton(run_python: RunPython, tmp_path: Path) -> None:
    # In a file, because Triton reads the source of the user's kernel.
    script = tmp_path / "compile.py"
    script.write_text(COMPILE)
    done = run_python(str(script), env={"TORCHINDUCTOR_COMPILE_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "done"


def test_workers_know_the_backend(run_python: RunPython) -> None:
    """Kernels of CPU graphs compile in worker processes, which import gxu alone."""
    code = """
import torch, gxu.inductor.cpu
import torch._inductor.config as config
from torch._inductor.async_compile import AsyncCompile
from torch._inductor.runtime import triton_heuristics
config.cpu_backend, config.force_disable_caches = "triton", True
AsyncCompile.warm_pool()
AsyncCompile.wait_pool_ready()
def refuse(self, *args):
    raise AssertionError("compiled in the parent")
triton_heuristics.CachingAutotuner._precompile_config = refuse
x = torch.randn(40, 30)
torch.testing.assert_close(torch.compile(lambda x: x.cos() + 1)(x), x.cos() + 1)
print(gxu._C.launch_count())
"""
    env = {"TORCHINDUCTOR_COMPILE_THREADS": "2", "TORCHINDUCTOR_WORKER_START": "subprocess"}
    done = run_python("-c", code, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "1"


def test_needs_the_host_engine(run_python: RunPython) -> None:
    code = """
import torch, gxu.triton.cpu
from gxu import _C
properties = _C.get_device_properties(0)
_C.get_device_properties = lambda index: {**properties, "triton_backend": "cuda"}
try:
    gxu.triton.cpu._stream()
except RuntimeError as error:
    print(error)
"""
    done = run_python("-c", code)
    assert done.returncode == 0, done.stderr
    assert "need the host engine" in done.stdout and "unset GXU_RUNTIME" in done.stdout
