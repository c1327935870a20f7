"""Triton's kernel cache: another process finds what this one compiled, and a changed compiler finds nothing."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import triton  # noqa: F401 (it imports the compiler, and cannot be imported by it)
from triton_helpers import TRITON_VERSION

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
    assert {".ttir", ".loops", ".llir", ".asm", ".cubin", ".json"} <= kept
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


def test_the_key_covers_cpu_compiler_sources_and_options(monkeypatch):
    from triton.backends.compiler import GPUTarget
    from triton.runtime.cache import get_cache_key

    from gxu.triton import compiler
    from gxu.triton.codegen import target

    backend = compiler.GXUBackend(GPUTarget("gxu", 1, 32))
    host = target.host_target()

    class Source:
        def hash(self) -> str:
            return "source"

    def key(**options: object) -> str:
        return get_cache_key(Source(), backend, backend.parse_options(options), env_vars={})

    keys = [key(), key(num_warps=2), key(enable_fp_fusion=False), key(debug=True), key(sanitize_memory=True)]
    changes = ({"cpu": "another"}, {"features": host.features + ",+new"}, {"triple": "riscv64"}, {"versions": "llvm99"})
    for change in changes:
        changed = dataclasses.replace(host, **change)
        with monkeypatch.context() as patch:
            patch.setattr(target, "host_target", lambda changed=changed: changed)
            keys.append(key())
    with monkeypatch.context() as patch:
        patch.setattr(compiler, "source_hash", lambda: "changed")
        keys.append(key())
    assert len(set(keys)) == len(keys)
    assert key() == keys[0]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="names features of x86 CPUs")
def test_what_llvm_says_of_the_cpu_is_kept_for_one_cpu_and_llvmlite(monkeypatch, tmp_path):
    from gxu.triton.codegen import target

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    asked = []
    answer = target._ask_llvm()
    monkeypatch.setattr(target, "_ask_llvm", lambda: asked.append(1) or answer)
    host_target = target.host_target.__wrapped__
    assert host_target() == host_target() == answer
    assert len(asked) == 1
    with monkeypatch.context() as patch:
        patch.setattr(target.importlib.metadata, "version", lambda name: "99")
        host_target()
    assert len(asked) == 2
    cpuinfo = Path("/proc/cpuinfo").read_text()
    read_text = Path.read_text
    for other, times in ((cpuinfo.replace("MHz\t\t: ", "MHz\t\t: 9"), 2), (cpuinfo.replace("sse2", "sse99"), 3)):
        with monkeypatch.context() as patch:

            def read(path: Path, *args: object, other: str = other, **options: object) -> str:
                return other if path.name == "cpuinfo" else read_text(path, *args, **options)

            patch.setattr(Path, "read_text", read)
            host_target()
        assert len(asked) == times
    for kept in tmp_path.rglob("target.json"):
        kept.write_text("{")
    assert host_target() == answer
    assert len(asked) == 4


_LAUNCH = """
import sys
import torch, triton, triton.language as tl

@triton.jit
def add_one(x, BLOCK: tl.constexpr):
    at = x + tl.arange(0, BLOCK)
    tl.store(at, tl.load(at) + 1)

x = torch.zeros(16, device="gxu")
add_one[(1,)](x, BLOCK=16)
assert x.cpu().tolist() == [1.0] * 16
print("llvmlite" in sys.modules)
"""


def test_a_process_that_finds_its_kernels_does_not_load_llvm(run_python, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(_LAUNCH)
    runs = [run_python(str(script), env={"TRITON_CACHE_DIR": str(tmp_path / "cache")}) for _ in range(2)]
    assert [run.stdout.split()[-1:] for run in runs] == [["True"], ["False"]], [run.stderr for run in runs]


_COMPILE_TEN = """
import sys, time
import torch, triton, triton.language as tl

@triton.jit
def shared(x, n, A: tl.constexpr, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    v = tl.load(x + i, i < n)
    for _ in tl.static_range(A):
        v = v * 2 + tl.exp(v * 0)
    tl.store(x + i, v, i < n)

print("ready", flush=True)
sys.stdin.readline()
for a in range(10):
    x = torch.ones(50, device="gxu")
    shared[(1,)](x, 50, A=a, B=64)
    assert (x == 2 ** (a + 1) - 1).all().item(), (a, x)
print("done", flush=True)
"""


def _start(script: Path, cache: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(script)],
        env={**os.environ, "TRITON_CACHE_DIR": str(cache)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _release(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None and process.stdin is not None
    assert process.stdout.readline() == "ready\n"
    process.stdin.write("go\n")
    process.stdin.flush()


def test_processes_share_an_empty_cache(tmp_path):
    script, cache = tmp_path / "ten.py", tmp_path / "cache"
    script.write_text(_COMPILE_TEN)
    processes = [_start(script, cache) for _ in range(6)]
    for process in processes:
        _release(process)
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert out.endswith("done\n")
    assert not [path for path in cache.rglob("*") if "tmp" in path.name]
    folders = [path.parent for path in cache.rglob("shared.cubin")]
    assert len(folders) == 10
    for folder in folders:
        assert (folder / "__grp__shared.json").exists()


def test_killed_processes_leave_a_usable_cache(tmp_path):
    script, cache = tmp_path / "ten.py", tmp_path / "cache"
    script.write_text(_COMPILE_TEN)
    for delay in (0.02, 0.06, 0.15):
        process = _start(script, cache)
        _release(process)
        deadline = time.monotonic() + 60
        # Not rglob: it fails where the process under test removes a folder just then.
        while not list(cache.glob("*/shared.ttir")) and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    process = _start(script, cache)
    _release(process)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert len(list(cache.rglob("__grp__shared.json"))) == 10


@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_a_damaged_image_is_one_sentence(run_python, tmp_path, damage):
    script, cache = tmp_path / "compile_one.py", tmp_path / "cache"
    script.write_text(_COMPILE)
    done = run_python(str(script), env={"TRITON_CACHE_DIR": str(cache)})
    assert done.returncode == 0, done.stderr
    (image,) = cache.rglob("cached.cubin")
    content = image.read_bytes()
    middle = len(content) // 2
    image.write_bytes(
        {
            "truncated": content[:middle],
            "flipped": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        }[damage]
    )
    done = run_python(str(script), env={"TRITON_CACHE_DIR": str(cache)})
    assert done.returncode == 1  # an exception, not a signal
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("RuntimeError: the image of kernel cached (")
    assert "is damaged; delete the Triton cache" in last
    done = run_python(str(script), env={"TRITON_CACHE_DIR": str(cache), "TRITON_ALWAYS_COMPILE": "1"})
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(TRITON_VERSION < "3.7", reason="Triton 3.6 fails on a damaged group of files")
def test_damaged_metadata_is_compiled_again(run_python, tmp_path):
    script, cache = tmp_path / "compile_one.py", tmp_path / "cache"
    script.write_text(_COMPILE)
    done = run_python(str(script), env={"TRITON_CACHE_DIR": str(cache)})
    assert done.returncode == 0, done.stderr
    (group,) = cache.rglob("__grp__cached.json")
    group.write_text("{")
    done = run_python(str(script), env={"TRITON_CACHE_DIR": str(cache)})
    assert done.stdout.strip() == "[False]", done.stderr
