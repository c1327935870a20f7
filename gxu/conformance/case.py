"""One case of a conformance suite, and what can become of it."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum


class Status(Enum):
    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    EXPECTED_FAILURE = "expected_failures"


class SkipCase(Exception):  # noqa: N818
    """Raised by a case that cannot be asked: the reference, or the language's frontend, does not accept it."""


@dataclass(frozen=True)
class Case:
    """`run()` returns if the device is right and raises if not. Cases with one `group` share compiled kernels.

    `expected_failure` is the reason why the case cannot pass; the case fails if it passes nonetheless.
    """

    operator: str
    dtype: str
    variant: str
    run: Callable[[], None]
    expected_failure: str = ""

    @property
    def group(self) -> tuple[str, str]:
        return self.operator, self.dtype

    @property
    def name(self) -> str:
        return " ".join(part for part in (self.operator, self.dtype, self.variant) if part)


def expect(case: Case, known: Mapping[str, str]) -> Case:
    """`case`, with the reason of the first pattern (as a shell's) in `known` that its name matches."""
    for pattern, reason in known.items():
        if fnmatch.fnmatchcase(case.name, pattern):
            return dataclasses.replace(case, expected_failure=reason)
    return case


@dataclass(frozen=True)
class Outcome:
    operator: str
    name: str
    status: Status
    message: str = ""


def execute(case: Case) -> Outcome:
    """Runs one case here; only an end of the process escapes."""
    try:
        case.run()
    except SkipCase as skip:
        return Outcome(case.operator, case.name, Status.SKIPPED, str(skip))
    except Exception as error:
        text = f"{type(error).__name__}: {error}".strip()
        if case.expected_failure:
            return Outcome(case.operator, case.name, Status.EXPECTED_FAILURE, case.expected_failure)
        return Outcome(case.operator, case.name, Status.FAILED, text)
    if case.expected_failure:
        message = f"passes, although it is listed as an expected failure: {case.expected_failure}"
        return Outcome(case.operator, case.name, Status.FAILED, message)
    return Outcome(case.operator, case.name, Status.PASSED)
