"""Running Python in processes of its own. The fixture is `run_python` in conftest.py."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

RunPython = Callable[..., "subprocess.CompletedProcess[str]"]


def python_runner(folder: Path) -> RunPython:
    """`run("-c", code, env={...}, timeout=...)` runs `python -c code` in `folder`; an `env` value of None unsets it."""

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
            [sys.executable, *args], cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout
        )

    return run
