"""The compile suite: PyTorch's own database of operators (OpInfo) under `torch.compile`, against eager CPU.

A case is one operator, one dtype and one way to compile it, with some samples of the database. What Inductor's own CPU
backend does not get right either is skipped: it is asked where the device's result is not eager's.
"""

from __future__ import annotations

from gxu.conformance.case import Case, expect
from gxu.conformance.compile.known import EXPECTED_FAILURES


def collect() -> list[Case]:
    """All cases, in the same order in every process; each case's expected failure is filled in from `known.py`."""
    from gxu.conformance.compile import operators

    return [expect(case, EXPECTED_FAILURES) for case in operators.cases()]
