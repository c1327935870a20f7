"""What docs/debugging.md describes: each of PyTorch's debugging tools works on gxu."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from process_helpers import RunPython

MODEL = """
import torch

def normalise(x, weight):
    mean = x.mean(-1, keepdim=True)
    scaled = (x - mean) * weight
    return torch.topk(torch.relu(scaled @ scaled.t()).sum(0), 3)[0]

x, weight = torch.randn(64, 200, device="gxu"), torch.randn(200, device="gxu")
torch.compile(normalise)(x, weight).cpu()
"""

ONE_PROCESS = {"TORCHINDUCTOR_COMPILE_THREADS": "1"}


@pytest.mark.slow
def test_logs_traces_and_generated_files(run_python: RunPython, tmp_path: Path) -> None:
    script = tmp_path / "model.py"
    script.write_text(MODEL)
    env = {
        **ONE_PROCESS,
        "TORCH_LOGS": "output_code,schedule,fusion,perf_hints",
        "TORCH_COMPILE_DEBUG": "1",
        "INDUCTOR_PROVENANCE": "1",
        "TORCHINDUCTOR_BENCHMARK_KERNEL": "1",
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache"),
        "TRITON_CACHE_DIR": None,
    }
    done = run_python(str(script), env=env)
    assert done.returncode == 0, done.stderr
    log = done.stderr
    assert re.search(r"\[__fusion\] fusing op\d+ with op\d+", log)
    assert "[__schedule] Schedule:" in log
    assert "[__perf_hints] Using FallbackKernel: torch.ops.aten.topk" in log
    assert "Output code written to:" in log and "triton_heuristics.persistent_reduction(" in log

    (folder,) = tmp_path.glob("torch_compile_debug/run_*/torchinductor/model__0_inference_0.0")
    wanted = "fx_graph_readable.py fx_graph_runnable.py fx_graph_transformed.py ir_pre_fusion.txt ir_post_fusion.txt"
    for name in wanted.split():
        assert (folder / name).stat().st_size > 0, name
    provenance = json.loads((folder / "inductor_provenance_tracking_node_mappings.json").read_text())
    kernels = provenance["cppCodeToPost"]
    (fused,) = (kernel for kernel, nodes in kernels.items() if {"mean", "mul", "sub"} <= set(nodes))
    assert fused.startswith("triton_")
    assert any(kernel.startswith("extern_kernels.mm") for kernel in kernels)

    # The generated code, and the graph, each by itself.
    done = run_python(str(folder / "output_code.py"), "-k", env={**ONE_PROCESS, "TORCHINDUCTOR_BENCHMARK_KERNEL": "1"})
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if "GB/s" in line]
    assert len(lines) == sum(kernel.startswith("triton_") for kernel in kernels)
    assert all(float(match[1]) >= 0 for line in lines if (match := re.search(r"([\d.]+)ms", line)))


ASSERTS = """
import torch
import torch._inductor.config as config

def error_of(call):
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}".replace("\\n", " ")
    return "no error"

x = torch.tensor([1.0, -1.0], device="gxu")
outside = torch.tensor([0, 12], device="gxu")
negative = torch.tensor([-1, -3], device="gxu")
index = torch.compile(lambda x, i: x[i] * 2)
print(error_of(lambda: index(x, outside).cpu()))
print(error_of(lambda: index(x, negative).cpu()))
print(error_of(lambda: torch.compile(lambda x, i: x.clone().index_put_((i,), x))(x, outside).cpu()))
# The device goes on after an error, and an index from the end is no error.
print(index(x, torch.tensor([-1, 0], device="gxu")).tolist())

def log(x):
    return torch.log(x) + 1

print(error_of(lambda: torch.compile(log)(x).cpu()))
with config.patch(nan_asserts=True):
    torch._dynamo.reset()
    print(error_of(lambda: torch.compile(log)(x).cpu()))
with config.patch(runtime_triton_nan_asserts=True):
    torch._dynamo.reset()
    print(error_of(lambda: torch.compile(log)(x).cpu()))
"""


def test_index_and_nan_asserts(run_python: RunPython) -> None:
    done = run_python("-c", ASSERTS, env=ONE_PROCESS)
    assert done.returncode == 0, done.stderr
    outside, negative, put, fine, unchecked, wrapper, kernel = done.stdout.splitlines()
    for error in (outside, negative, put):
        assert "kernel 'triton_" in error and "index out of bounds" in error and ".py:" in error, error
    assert fine == "[-2.0, 2.0]"
    assert unchecked == "no error"
    assert wrapper.startswith("AssertionError")
    assert "kernel 'triton_" in kernel and "NaN or Inf found" in kernel


BROKEN = """
import torch
import torch._inductor.config as config

config.triton.inject_relu_bug_TESTING_ONLY = "runtime_error"
x = torch.randn(64, 200, device="gxu")
torch.compile(lambda x: torch.relu(x).cos())(x).cpu()
"""


@pytest.mark.extended
def test_a_failing_graph_is_dumped_as_a_program(run_python: RunPython, tmp_path: Path) -> None:
    env = {**ONE_PROCESS, "TORCHDYNAMO_REPRO_AFTER": "aot", "TORCHDYNAMO_REPRO_LEVEL": "1"}
    done = run_python("-c", BROKEN, env=env)
    assert done.returncode == 1
    assert "injected assert fail" in done.stderr
    program = tmp_path / "repro.py"
    assert "device(type='gxu', index=0)" in program.read_text()
    # The program makes the same inputs and fails in the same way.
    done = run_python(str(program), "run", env=ONE_PROCESS)
    assert done.returncode == 1
    assert "injected assert fail" in done.stderr
