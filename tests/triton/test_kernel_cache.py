"""Triton's kernel cache: another process finds what this one compiled, and a changed compiler finds nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

_COMPILE = """
import sys
import torch, triton, triton.language as tl
from triton import knobs

events = []
knobs.compilation.listener = lambda **info: events.append((info["src"].name, info["cache_hit"]))
if len(sys.argv) > 1:
    from gxu.triton import compiler
    compiler.source_hash = lambda: sys.argv[1]

@triton.jit
def cached(x, n, B: tl.constexpr):
    i = tl.arange(0, B)
    tl.store(x + i, tl.load(x + i, i < n) * 3, i < n)

x = torch.ones(50, device="gxu")
cached[(1,)](x, 50, B=64)
assert (x == 3).all().item()
print([hit for name, hit in events if name == "cached"])
"""


@pytest.fixture
def compile_in_process(run_python, tmp_path):
    script = tmp_path / "compile_one.py"
    script.write_text(_COMPILE)

    def run(*args: str) -> str:
        done = run_python(str(script), *args, env={"TRITON_CACHE_DIR": str(tmp_path / "cache")})
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


def test_other_processes_hit_and_changed_compilers_miss(compile_in_process, tmp_path):
    assert compile_in_process() == "[False]"
    assert compile_in_process() == "[True]"
    assert compile_in_process("changed") == "[False]"
    assert compile_in_process("changed") == "[True]"
    kept = {path.suffix for path in (tmp_path / "cache").rglob("cached.*")}
    assert {".ttir", ".loops", ".llir", ".cubin", ".json"} <= kept
    metadata = json.loads(next((tmp_path / "cache").rglob("cached.json")).read_text())
    assert metadata["name"] == "cached"
    assert metadata["target"]["backend"] == "gxu"


def test_every_source_file_counts(tmp_path, monkeypatch):
    from gxu.triton import compiler

    root = tmp_path / "triton"
    for path in sorted(Path(compiler.__file__).parent.rglob("*.py")):
        copy = root / path.relative_to(Path(compiler.__file__).parent)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    monkeypatch.setattr(compiler, "__file__", str(root / "compiler.py"))
    original = compiler.source_hash.__wrapped__()
    seen = {original}
    for path in sorted(root.rglob("*.py")):
        before = path.read_bytes()
        path.write_bytes(before + b"\n# changed\n")
        seen.add(compiler.source_hash.__wrapped__())
        path.write_bytes(before)
    assert compiler.source_hash.__wrapped__() == original
    assert len(seen) == 1 + len(list(root.rglob("*.py")))
