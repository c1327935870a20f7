"""Cases that cannot pass, each with its reason. The suite is strict: one that passes must leave this table."""

from __future__ import annotations

import dataclasses
import fnmatch

from gxu.conformance.case import Case

#: Patterns (as a shell's) of case names, and the reason.
EXPECTED_FAILURES: dict[str, str] = {}


def expect(case: Case) -> Case:
    for pattern, reason in EXPECTED_FAILURES.items():
        if fnmatch.fnmatchcase(case.name, pattern):
            return dataclasses.replace(case, expected_failure=reason)
    return case
