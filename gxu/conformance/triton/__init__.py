"""The Triton suite: the whole language, operator by type by shape by mask, against the interpreter, numpy and torch.

Each module lists cases of one kind of operator. A case generates its kernel's source, launches it on random inputs and
compares (`comparison.Launch`). What Triton's frontend rejects is skipped.
"""

from __future__ import annotations

import importlib

from gxu.conformance.case import Case, expect
from gxu.conformance.triton.known import EXPECTED_FAILURES

MODULES = (
    "elementwise",
    "functions",
    "casts",
    "memory",
    "atomics",
    "reductions",
    "shapes",
    "dots",
    "scaled",
    "control",
    "random",
    "printing",
)


def collect() -> list[Case]:
    """All cases, in the same order in every process; each case's expected failure is filled in from `known.py`."""
    cases: list[Case] = []
    for name in MODULES:
        cases += importlib.import_module(f"{__name__}.{name}").cases()
    return [expect(case, EXPECTED_FAILURES) for case in cases]
