"""examples/minimal_backend: a device of its own name, compiled by the Triton backend, without gxu's own integration."""

from __future__ import annotations

import os

from process_helpers import ROOT, RunPython

FOLDER = str(ROOT / "examples" / "minimal_backend")

# Kernels compile in a worker process: generated code finds the Triton side by itself.
COMPILE = """
import mini_backend
import torch
from torch._inductor.async_compile import AsyncCompile
from torch._inductor.utils import run_and_get_code
from torch.testing import FileCheck, assert_close

assert not hasattr(torch, "gxu") and torch._C._get_privateuse1_backend_name() == "mini"
AsyncCompile.warm_pool()
AsyncCompile.wait_pool_ready()
assert AsyncCompile.use_process_pool()
torch.manual_seed(0)

def check(fn, *args, dynamic=None):
    # `args` lists the arguments of each call; returns the code of the first.
    torch._dynamo.reset()
    compiled = torch.compile(fn, fullgraph=True, dynamic=dynamic)
    first = None
    for call in args:
        actual, codes = run_and_get_code(compiled, *(x.to("mini:1") for x in call))
        first = codes if first is None else first
        assert actual.device == torch.device("mini:1")
        assert_close(actual.cpu(), fn(*call), rtol=1e-4, atol=1e-5)
    assert len(first) == 1
    return first[0]

x, w = torch.randn(33, 70), torch.randn(70, 50)
code = check(lambda x: torch.sin(x) * 2 + x.abs(), [x])
FileCheck().check("# Generated for the device mini").check("import mini_triton").check(
    "triton_heuristics.pointwise").check("type='mini', index=1").check("tl.store").check("device_str='mini'").check(
    "with torch.mini.device(1):").check("empty_strided((33, 70), (70, 1), device='mini'").check(
    "= get_raw_stream(1)").check_count(".run(", 1, exactly=True).run(code)
assert "_gxu" not in code

code = check(lambda x: x.softmax(-1), [x])
FileCheck().check("persistent_reduction").check("triton_helpers.max2").check_count(".run(", 1, exactly=True).run(code)

code = check(lambda x: (x * 2).sum(0), [x])
FileCheck().check("tl.sum").check(".run(").run(code)

code = check(lambda x, w: torch.relu(x @ w), [x, w])
FileCheck().check("triton_heuristics.pointwise").check("extern_kernels.mm(").check(".run(").run(code)

# One graph serves every size.
code = check(lambda x, w: torch.relu(x @ w).mean(-1), *([torch.randn(n, 70), w] for n in (7, 65, 130)), dynamic=True)
FileCheck().check("extern_kernels.mm(").check(", s").run(code)

# Training: a generated backward.
x = x.to("mini").requires_grad_()
torch.compile(lambda x: torch.tanh(x).square().sum())(x).backward()
t = torch.tanh(x.detach().cpu())
assert_close(x.grad.cpu(), 2 * t * (1 - t * t), rtol=1e-4, atol=1e-5)

interface = mini_backend.MiniInterface
assert interface.exchange_device(1) == 0 and interface.current_device() == 1
assert interface.maybe_exchange_device(-1) == 1 and interface.maybe_exchange_device(0) == 1
for bad in (2, 99, -1):
    try:
        interface.exchange_device(bad)
    except RuntimeError as error:
        assert f"mini:{bad} does not exist" in str(error)
    else:
        raise AssertionError(f"device {bad} was accepted")
start, end = (mini_backend.Event(enable_timing=True) for _ in range(2))
start.record()
sum(range(100000))
end.record()
assert 0 < start.elapsed_time(end) < 60000
print("done")
"""


def test_compiles_a_device_of_its_own(run_python: RunPython) -> None:
    done = run_python(
        "-c",
        COMPILE,
        env={
            "PYTHONPATH": os.pathsep.join(filter(None, [FOLDER, os.environ.get("PYTHONPATH")])),
            "TORCH_DEVICE_BACKEND_AUTOLOAD": "1",
            "GXU_DEVICE_COUNT": "2",
            "TORCHINDUCTOR_COMPILE_THREADS": "2",
            "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1",
        },
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "done"


def test_registers_nothing_of_its_own(run_python: RunPython) -> None:
    """GXU_REGISTER=0 leaves PrivateUse1 without a name, with the extension and the Triton backend at hand."""
    code = """
import torch, gxu, triton
from gxu import _C
print(torch._C._get_privateuse1_backend_name(), hasattr(torch, "gxu"), _C.device_count(), *triton.backends.backends)
"""
    done = run_python("-c", code, env={"GXU_REGISTER": "0"})
    assert done.returncode == 0, done.stderr
    name, registered, devices, *backends = done.stdout.split()
    assert (name, registered, devices) == ("privateuseone", "False", "1")
    assert "gxu" in backends
