"""Fixtures and switches of the whole test suite."""

from __future__ import annotations

import faulthandler
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from process_helpers import RunPython, python_runner

# Compiled code of earlier runs must not decide what a test sees, and a run must not fill the user's caches. Set before
# anything imports torch, which reads them; subprocesses inherit them.
SESSION_CACHES = Path(tempfile.mkdtemp(prefix="gxu-tests-"))
os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(SESSION_CACHES / "inductor")
os.environ["TRITON_CACHE_DIR"] = str(SESSION_CACHES / "triton")
os.environ["HF_HUB_OFFLINE"] = "1"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--extended", action="store_true", help="also run the tests that take minutes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # What other tests keep, cached graphs for example, is memory that these would count.
    items.sort(key=lambda item: "counts_memory" not in item.keywords)
    if config.getoption("--extended"):
        return
    skip = pytest.mark.skip(reason="takes minutes: run with --extended")
    for item in items:
        if "extended" in item.keywords:
            item.add_marker(skip)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if "extended" in item.keywords:
        faulthandler.cancel_dump_traceback_later()  # the limit of the other tests: these have their own


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


@pytest.fixture
def run_python(tmp_path: Path) -> RunPython:
    """Runs Python in a process of its own, in an empty folder: nothing comes from the checkout by accident."""
    return python_runner(tmp_path)
