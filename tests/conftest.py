"""Fixtures and switches of the whole test suite."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

# Compiled code of earlier runs must not decide what a test sees, and a run must not fill the user's caches. Set before
# anything imports torch, which reads them; subprocesses inherit them.
SESSION_CACHES = Path(tempfile.mkdtemp(prefix="gxu-tests-"))
os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(SESSION_CACHES / "inductor")
os.environ["TRITON_CACHE_DIR"] = str(SESSION_CACHES / "triton")
os.environ["HF_HUB_OFFLINE"] = "1"

ROOT = Path(__file__).resolve().parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--extended", action="store_true", help="also run the tests that take minutes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--extended"):
        return
    skip = pytest.mark.skip(reason="takes minutes: run with --extended")
    for item in items:
        if "extended" in item.keywords:
            item.add_marker(skip)


def pytest_unconfigure() -> None:
    shutil.rmtree(SESSION_CACHES, ignore_errors=True)


@pytest.fixture(autouse=True)
def seed() -> None:
    import torch

    torch.manual_seed(0)


@pytest.fixture
def fresh_caches() -> Iterator[None]:
    """Empty Inductor and Triton caches, on disk and in memory, and a Dynamo that has compiled nothing."""
    import torch
    from torch._inductor.utils import fresh_cache

    torch._dynamo.reset()
    with fresh_cache():
        yield
    torch._dynamo.reset()


RunPython = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run_python(tmp_path: Path) -> RunPython:
    """Runs `python ARGS` in a process of its own: `run_python("-c", code, env={...}, timeout=...)`.

    The working directory is an empty folder, so that nothing is imported from the checkout by accident. An `env` value
    of None removes that variable.
    """

    def run(
        *args: str, env: Mapping[str, str | None] | None = None, timeout: float = 240
    ) -> subprocess.CompletedProcess[str]:
        environment = dict(os.environ)
        for name, value in (env or {}).items():
            if value is None:
                environment.pop(name, None)
            else:
                environment[name] = value
        return subprocess.run(
            [sys.executable, *args], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=timeout
        )

    return run
