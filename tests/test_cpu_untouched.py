"""Importing gxu leaves compilation for other devices as it was."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from process_helpers import RunPython

from gxu.inductor.trace_rules import IN_GRAPH_FUNCTIONS

# With WITH_GXU=0 as if gxu were not installed: neither torch nor triton finds its entry points.
IMPORT_TORCH = """
import importlib.metadata, os, sys

if os.environ["WITH_GXU"] == "0":
    distributions = importlib.metadata.distributions
    importlib.metadata.distributions = lambda **kw: (d for d in distributions(**kw) if d.name != "torch-gxu")
    sys.modules["gxu"] = None
import torch
"""

# Prints one digest per graph of everything that Inductor generates for it on the CPU.
COMPILE_FOR_CPU = (
    IMPORT_TORCH
    + """
import hashlib, json, re

if os.environ["WITH_GXU"] == "1":
    import gxu
import torch._inductor.config as config
from torch._inductor.utils import run_and_get_code

config.force_disable_caches = True
torch.manual_seed(0)
mlp = torch.nn.Sequential(torch.nn.Linear(32, 64), torch.nn.GELU(), torch.nn.LayerNorm(64), torch.nn.Linear(64, 8))
x = torch.randn(16, 32)

def train(x):
    loss = mlp(x).square().mean()
    loss.backward()
    return loss

def digest(codes):
    # Frozen parameters are commented with addresses.
    return hashlib.sha256(re.sub(r" [0-9a-f]{10,}\\n", "\\n", "".join(codes)).encode()).hexdigest()

graphs = {
    "pointwise": (lambda x: torch.sin(x) * x.t().contiguous().view(16, 32), x),
    "reduction": (lambda x: (x.softmax(-1), x.sum(), x.var(0)), torch.randn(1000, 700)),
    "training": (train, x),
    "scan": (lambda x: x.cumsum(0), torch.randn(4096)),
    "dropout": (lambda x: torch.nn.functional.dropout(x, 0.5), x),
}
digests = {}
for name, (fn, example) in graphs.items():
    torch._dynamo.reset()
    _, codes = run_and_get_code(torch.compile(fn), example)
    digests[name] = digest(codes)

torch._dynamo.reset()
with torch.no_grad(), config.patch(freezing=True):
    _, codes = run_and_get_code(torch.compile(mlp.eval()), x)
digests["freezing"] = digest(codes)

from torch._inductor.utils import get_gpu_type
from torch.utils._triton import has_triton

print(json.dumps({"code": digests, "get_gpu_type": get_gpu_type(), "has_triton": has_triton()}))
"""
)

# The same for models of the catalogue, inference and training; argv: the catalogue's file, and names. Nothing runs.
COMPILE_MODELS_FOR_CPU = (
    COMPILE_FOR_CPU[: COMPILE_FOR_CPU.index("from torch._inductor.utils import")]
    + """
import contextlib, importlib.util
import torch._functorch.config
from torch._inductor.utils import get_code

spec = importlib.util.spec_from_file_location("catalogue", sys.argv[1])
catalogue = sys.modules["catalogue"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(catalogue)
config.force_disable_caches = True
torch._functorch.config.force_non_lazy_backward_lowering = True
digests = {}
for model in catalogue.MODELS:
    for dtype in (torch.float32, torch.bfloat16):
        for training in (False, True) if model.training else (False,):
            if model.name not in sys.argv[2:]:
                continue
            module, inputs = catalogue.prepare(model, "cpu", dtype)
            compiled = torch.compile(module, dynamic=False)

            def call():
                # The generated code is replaced by nothing, and its results are missed.
                with torch.set_grad_enabled(training), contextlib.suppress(Exception):
                    compiled(*inputs)

            codes = get_code(call)
            digests[f"{model.name}, {dtype}, {training}"] = (
                len(codes),
                hashlib.sha256("".join(codes).encode()).hexdigest(),
            )
print(json.dumps(digests))
"""
)


@pytest.mark.slow
def test_generated_cpu_code_is_the_same(run_python: RunPython, tmp_path: Path) -> None:
    results = {}
    for with_gxu in ("0", "1"):
        # One cache directory for both: its path is part of the generated code, and nothing is read from it.
        env = {
            "WITH_GXU": with_gxu,
            "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "inductor"),
            "TORCH_WARM_POOL": "0",
        }
        done = run_python("-c", COMPILE_FOR_CPU, env=env)
        assert done.returncode == 0, done.stderr
        results[with_gxu] = json.loads(done.stdout.splitlines()[-1])
        # Warnings of torch name its files, and the folder that all is in may be called gxu.
        assert "gxu" not in done.stderr.replace(sys.prefix, ""), done.stderr
    assert results["1"] == results["0"]


@pytest.mark.extended
# MiniLM is BERT, and its weights are found by a module of gxu, which must not be imported.
@pytest.mark.parametrize(
    "names",
    [
        ("BERT", "GPT-2 prefill"),
        ("GPT-2 decode", "Llama prefill", "Llama decode"),
        ("T5", "Mamba"),
        ("ViT", "ResNet-50"),
        ("ConvNeXt", "Whisper encoder"),
    ],
    ids=lambda names: names[0],
)
def test_generated_cpu_code_of_models_is_the_same(
    names: tuple[str, ...], run_python: RunPython, tmp_path: Path
) -> None:
    from gxu.benchmarks.models import catalogue

    results = []
    for with_gxu in ("0", "1"):
        env = {"WITH_GXU": with_gxu, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "inductor"), "HF_HUB_OFFLINE": "1"}
        done = run_python("-c", COMPILE_MODELS_FOR_CPU, catalogue.__file__, *names, env=env, timeout=1200)
        assert done.returncode == 0, done.stderr
        results.append(json.loads(done.stdout.splitlines()[-1]))
    assert results[0] == results[1]
    rows = sum(4 if model.training else 2 for model in catalogue.MODELS if model.name in names)
    assert len(results[0]) == rows
    for row, (codes, _) in results[0].items():
        assert codes >= (2 if row.endswith("True") else 1), row


def test_import_is_lazy(run_python: RunPython) -> None:
    """Neither Dynamo, Inductor nor the Triton backend is imported, and the runtime is not started."""
    names = "print([m for m in sys.modules if m.startswith(('torch._inductor', 'torch._dynamo.', 'gxu.triton'))])"
    without = run_python("-c", f"import sys, torch; {names}", env={"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"})
    done = run_python("-c", f"import sys, torch, gxu; {names}; print(torch.gxu.is_initialized())")
    assert done.returncode == 0, done.stderr
    modules, initialized = done.stdout.splitlines()
    assert modules == without.stdout.strip()
    assert initialized == "False"


def test_a_broken_gxu_does_not_break_the_cpu(run_python: RunPython) -> None:
    """If gxu cannot register itself, that is logged, and torch.compile goes on for other devices."""
    code = """
import sys
import torch, gxu
sys.modules["gxu.inductor.registration"] = None  # its import fails
print(torch.compile(lambda x: x + 1)(torch.zeros(3)).tolist())
"""
    done = run_python("-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[1.0, 1.0, 1.0]"
    assert "gxu could not register itself" in done.stderr


DYNAMOS_FUNCTIONS = f"""{IMPORT_TORCH}
import torch._dynamo

print(len(torch._dynamo.trace_rules.get_torch_obj_rule_map()))
"""


@pytest.mark.parametrize("autoload", ["1", "0"])  # by torch, or by Triton while Dynamo is imported
def test_dynamo_knows_all_functions_that_it_knows_without_gxu(run_python: RunPython, autoload: str) -> None:
    counts = []
    for with_gxu in ("0", "1"):
        env = {"WITH_GXU": with_gxu, "TORCH_DEVICE_BACKEND_AUTOLOAD": autoload}
        done = run_python("-c", DYNAMOS_FUNCTIONS, env=env)
        assert done.returncode == 0 and "gxu" not in done.stderr.replace(sys.prefix, ""), done.stderr
        counts.append(int(done.stdout))
    assert counts[1] == counts[0] + len(IN_GRAPH_FUNCTIONS)  # torch.gxu's
