"""The version of this package and the versions of torch that it works with."""

from __future__ import annotations

import re

__version__ = "0.1.0"

#: First supported (major, minor) of torch, and the first one after the supported ones.
SUPPORTED_TORCH = ((2, 13), (2, 14))


def check_torch_version(found: str) -> None:
    """ImportError unless `found`, torch's version string, lies in the supported range.

    The extension is compiled against one minor version of torch's C++ interface, and so works with no other.
    """
    match = re.match(r"(\d+)\.(\d+)", found)
    first, end = SUPPORTED_TORCH
    if match is None or not first <= (int(match[1]), int(match[2])) < end:
        wanted = f">={first[0]}.{first[1]},<{end[0]}.{end[1]}"
        raise ImportError(
            f"torch-gxu {__version__} needs torch {wanted}, but found torch {found}; install another of the two."
        )
