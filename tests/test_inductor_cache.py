"""Compiled graphs are found again in another process, and only where everything they depend on is the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from process_helpers import RunPython

# Compiles a small model and prints the cache counters; IDENTITY stands in for a change of gxu or of its runtime.
COMPILE = """
import json, os
import torch, gxu
from gxu import _C
from gxu.inductor import cache_identity
from torch._dynamo.utils import counters
from gxu.triton.compiler import GXUBackend

compiled = []
make_image = GXUBackend.make_image
def record(assembly, metadata):
    compiled.append(metadata["name"])
    return make_image(assembly, metadata)
GXUBackend.make_image = staticmethod(record)

if "LOAD" in os.environ:
    loaded = torch.compiler.load_cache_artifacts(open(os.environ["LOAD"], "rb").read())
    assert loaded.inductor_artifacts or loaded.aot_autograd_artifacts, loaded
if "IDENTITY" in os.environ:
    real = cache_identity.identity()
    cache_identity.identity = lambda: (*real, os.environ["IDENTITY"])
torch.manual_seed(0)
x = torch.randn(64, 384)
weight = torch.randn(384)

def fn(x, w):
    return torch.nn.functional.layer_norm(x, (384,), w).softmax(-1), x.sum(0)

wanted = fn(x, weight)
results = torch.compile(fn, fullgraph=True)(x.to("gxu"), weight.to("gxu"))
torch.gxu.synchronize()
difference = max((r.cpu() - w).abs().max().item() for r, w in zip(results, wanted))
if "SAVE" in os.environ:
    open(os.environ["SAVE"], "wb").write(torch.compiler.save_cache_artifacts()[0])
print(json.dumps({
    "compiled": len(compiled),
    "hits": counters["inductor"]["fxgraph_cache_hit"],
    "misses": counters["inductor"]["fxgraph_cache_miss"],
    "autograd_hits": counters["aot_autograd"]["autograd_cache_hit"],
    "launches": _C.launch_count(),
    "difference": difference,
}))
"""


@pytest.fixture
def compile_in_process(run_python: RunPython, tmp_path: Path) -> Any:
    def run(**env: str) -> dict[str, Any]:
        caches = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache"), "TRITON_CACHE_DIR": None}
        done = run_python("-c", COMPILE, env={**caches, "TORCH_WARM_POOL": "0", **env})
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout.splitlines()[-1])
        assert result["difference"] < 1e-4
        assert result["launches"] == 2
        return result

    return run


@pytest.mark.slow
def test_hits_and_misses(compile_in_process: Any, tmp_path: Path) -> None:
    from gxu import _C

    def found(**env: str) -> bool:
        result = compile_in_process(**env)
        hits = result["hits"] + result["autograd_hits"]
        assert (hits == 0) == (result["misses"] == 1)
        return hits > 0

    assert not found()
    assert found()
    # Another identity is a miss, and is cached in its own right; so is another configuration.
    assert not found(IDENTITY="another runtime")
    assert found(IDENTITY="another runtime")
    assert not found(GXU_MIN_ELEMENTS_PER_PROGRAM="1024")
    # So is the next version of the runtime library: here the same one, and a byte that nobody reads.
    library = tmp_path / "libgxu_runtime_next.so"
    library.write_bytes(Path(_C.runtime_path()).read_bytes() + b"!")
    assert not found(GXU_RUNTIME=str(library))


@pytest.mark.slow
def test_artifacts_carry_everything(compile_in_process: Any, tmp_path: Path) -> None:
    """Artifacts saved by one process give another, whose caches are empty, the graph and the kernels' images."""
    artifacts = str(tmp_path / "artifacts")
    saved = compile_in_process(SAVE=artifacts)
    assert saved["compiled"] == 2 and saved["misses"] == 1
    loaded = compile_in_process(LOAD=artifacts, TORCHINDUCTOR_CACHE_DIR=str(tmp_path / "elsewhere"))
    assert loaded["hits"] + loaded["autograd_hits"] > 0 and loaded["misses"] == 0
    assert loaded["compiled"] == 0


def test_identity_covers_sources_runtime_and_processor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import shutil

    import gxu
    from gxu import _C
    from gxu.inductor import cache_identity

    uncached = cache_identity.identity.__wrapped__
    reference = uncached()
    assert uncached() == reference

    library = tmp_path / "libgxu_runtime_other.so"
    library.write_bytes(b"another library")
    monkeypatch.setenv("GXU_RUNTIME", str(library))
    assert uncached() != reference
    library.write_bytes(b"its next version")
    other = uncached()
    library.unlink()
    assert len({reference, other, uncached()}) == 3
    monkeypatch.delenv("GXU_RUNTIME")

    copy = tmp_path / "gxu"
    shutil.copytree(Path(gxu.__file__).parent, copy, ignore=shutil.ignore_patterns("*.so", "__pycache__", "lib"))
    monkeypatch.setattr(gxu, "__file__", str(copy / "__init__.py"))
    assert uncached() == reference
    with (copy / "triton" / "compiler.py").open("a") as source:
        source.write("# changed\n")
    assert uncached() != reference
    monkeypatch.undo()

    monkeypatch.setattr(cache_identity, "_processor", lambda: "another processor")
    assert uncached() != reference
    monkeypatch.undo()

    _C.init()
    uuid = cache_identity.GXUBackendPass().uuid
    reference_uuid = uuid()
    assert uuid() == reference_uuid
    properties = _C.get_device_properties(0)
    for changed in ({"name": "another device"}, {"L2_cache_size": 4096}, {"triton_arch": "2"}, {"max_grid_size": 0}):
        device = {**properties, **changed}
        monkeypatch.setattr(cache_identity, "_device_properties", lambda index, device=device: device)
        assert uuid() != reference_uuid, changed
    # What says nothing about code does not matter.
    device = {**properties, "total_memory": 1, "uuid": "00000000-0000-0000-0000-000000000000"}
    monkeypatch.setattr(cache_identity, "_device_properties", lambda index: device)
    assert uuid() == reference_uuid
    monkeypatch.undo()
    assert any(str(_C.ABI_VERSION) in part for part in reference)
