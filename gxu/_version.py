"""The version of this package and the versions of torch that it works with."""

from __future__ import annotations

import re
from pathlib import Path

__version__ = "0.1.0"

#: First supported (major, minor) of torch, and the first one after the supported ones: docs/versions.md.
SUPPORTED_TORCH = ((2, 11), (2, 14))

#: Written by setup.py.
_BUILT_WITH = Path(__file__).parent / "share" / "built_with_torch"


def check_torch_version(found: str) -> None:
    """ImportError unless `found`, torch's version string, lies in the supported range and has the minor version that
    the extension was compiled against: torch's C++ interface changes with each.
    """
    first, end = SUPPORTED_TORCH
    version = _minor(found)
    if version is None or not first <= version < end:
        wanted = f">={first[0]}.{first[1]},<{end[0]}.{end[1]}"
        raise ImportError(
            f"torch-gxu {__version__} needs torch {wanted}, but found torch {found}; install another of the two."
        )
    built_with = _BUILT_WITH.read_text() if _BUILT_WITH.exists() else found
    if _minor(built_with) != version:
        raise ImportError(
            f"this torch-gxu {__version__} was built with torch {built_with}, but found torch {found}; "
            "build it again with the torch that is installed (pip install . --no-build-isolation)."
        )


def _minor(version: str) -> tuple[int, int] | None:
    match = re.match(r"(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2])) if match else None
