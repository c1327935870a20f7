"""benchmarks/gpu_check.py: what it does with steps that fail or take too long, and what it installs."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def gpu_check() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_check", ROOT / "benchmarks/gpu_check.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_check"] = module  # its data classes look their module up
    spec.loader.exec_module(module)
    return module


def shell(gpu_check: ModuleType, name: str, script: str, limit: float = 30, rows: Path | None = None) -> object:
    return gpu_check.Step(name, ("/bin/sh", "-c", script), limit, None if rows is None else str(rows))


def test_every_end_of_a_step(gpu_check: ModuleType, tmp_path: Path) -> None:
    rows = tmp_path / "rows.json"
    steps = [
        shell(gpu_check, "good", f"echo fine; echo '[1]' > {rows}", rows=rows),
        shell(gpu_check, "bad", "echo why >&2; exit 3"),
        # Its child holds the output open, too.
        shell(gpu_check, "slow", "echo begun; sleep 60 & wait", limit=gpu_check.LEAST),
        gpu_check.Step("absent", (str(tmp_path / "no such program"),), 30),
    ]
    start = time.monotonic()
    results = [gpu_check.run(step, tmp_path, {}, start + 100) for step in steps]
    results.append(gpu_check.run(steps[0], tmp_path, {}, time.monotonic() + gpu_check.LEAST - 1))
    assert time.monotonic() - start < 50
    assert [result.status for result in results] == ["passed", "failed", "timed out", "failed", "not run"]
    assert results[0].rows == [1]
    assert not rows.exists()
    assert (results[1].output, results[2].output) == ("why\n", "begun\n")

    args = argparse.Namespace(runtime="cuda", against="cuda")
    gpu_check.write(tmp_path, args, results)
    report = json.loads((tmp_path / "report.json").read_text())
    assert [step["name"] for step in report["steps"]] == ["good", "bad", "slow", "absent", "good"]
    assert report["steps"][0]["rows"] == [1]
    text = (tmp_path / "report.txt").read_text()
    assert "== slow: timed out" in text
    assert "== good: not run\nno time was left" in text


def test_steps_in_the_order_of_their_worth(gpu_check: ModuleType, tmp_path: Path) -> None:
    args = argparse.Namespace(runtime="cuda", against="cuda")
    steps = gpu_check.measurements(tmp_path, tmp_path, args)
    names = ["machine", "ABI report", "doctor", "tests", "demo", "models", "launches", "triton", "eager", "memory"]
    assert [step.name for step in steps] == names
    assert steps[1].command[1].endswith("gxu/lib/libgxu_runtime_cuda.so")
    assert all((ROOT / test).exists() for test in gpu_check.TESTS)
    assert all("--against" in step.command for step in steps[5:])
    args.against = "cpu"
    rehearsal = gpu_check.measurements(tmp_path, tmp_path, args)
    alone = [step.name for step in rehearsal[5:] if "--against" not in step.command]
    assert alone == ["triton", "memory"]  # torch has neither for the CPU


def test_files_of_tests_run_side_by_side(
    gpu_check: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_check, "WORK", tmp_path)
    monkeypatch.setattr(gpu_check, "cores", lambda: 16)
    monkeypatch.setattr(gpu_check.importlib.util, "find_spec", lambda name: None)
    assert gpu_check.spread() == (), "without pytest-xdist one after another"
    (tmp_path / "packages/xdist").mkdir(parents=True)
    assert gpu_check.spread() == ("-n", "8", "--dist", "loadfile")


def test_what_is_installed(gpu_check: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_rich(name: str) -> str:
        if name == "rich":
            raise gpu_check.metadata.PackageNotFoundError(name)
        return {"PyYAML": "6.0.2", "pytest": "8.4.1", "numpy": "2.10.0rc1+local"}.get(name, "9999")

    monkeypatch.setattr(gpu_check.metadata, "version", no_rich)
    monkeypatch.setattr(gpu_check, "WHEELS", tmp_path)
    assert gpu_check.missing_packages() == ["rich"], "older versions are better than none"
    assert [step.name for step in gpu_check.preparation(tmp_path)] == ["sources", "dependencies", "gxu, compiled"]
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    (tmp_path / "torch_gxu-0.1.0-cp39-cp39-linux_x86_64.whl").touch()
    assert gpu_check.fitting_wheel() is None
    (tmp_path / f"torch_gxu-0.1.0-{tag}-{tag}-linux_x86_64.whl").touch()
    assert gpu_check.preparation(tmp_path)[-1].name == "gxu, from its wheel"
    for wheel in ("pyyaml-6.0.3-cp312-none-any.whl", "pytest-9.2.0-py3-none-any.whl", "numpy-2.4.6-cp312-none-any.whl"):
        (tmp_path / wheel).touch()
    assert gpu_check.missing_packages() == ["rich", "PyYAML", "pytest"]
    assert gpu_check.preparation(tmp_path)[1].command[-3:] == ("rich", "PyYAML", "pytest")
