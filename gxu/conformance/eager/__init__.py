"""The eager suite: PyTorch's own database of operators (OpInfo), on the device and on the CPU, with the same inputs.

A case is one operator, one dtype, one way to call it, with all samples that the database has for these. Samples that
the CPU refuses count for nothing; a case of which the CPU refuses all is skipped.
"""

from __future__ import annotations

import importlib

from gxu.conformance.case import Case, expect
from gxu.conformance.eager.known import EXPECTED_FAILURES

MODULES = ("operators", "sparse", "modules", "optimizers")


def collect() -> list[Case]:
    """All cases, in the same order in every process; each case's expected failure is filled in from `known.py`."""
    cases: list[Case] = []
    for name in MODULES:
        cases += importlib.import_module(f"{__name__}.{name}").cases()
    return [expect(case, EXPECTED_FAILURES) for case in cases]
