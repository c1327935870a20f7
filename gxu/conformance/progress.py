"""Outcomes of a run kept in a file as they are known, so that a run that was interrupted goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from gxu.conformance.case import Case, Outcome, Status


class Progress:
    """A file of JSON lines, one for each outcome; the last one of a case counts.

    Cases that passed or were skipped are not asked again. Those that failed are, since what made them fail may have
    been mended, and so are those that have become expected failures.
    """

    def __init__(self, path: Path, cases: Sequence[Case]) -> None:
        self.path = path
        self.settled: dict[int, Outcome] = {}
        known = _read(path)
        for number, case in enumerate(cases):
            outcome = known.get(case.name)
            if outcome is None:
                continue
            expected = bool(case.expected_failure)
            if outcome.status is Status.SKIPPED or (outcome.status is Status.PASSED and not expected):
                self.settled[number] = outcome

    def record(self, outcome: Outcome) -> None:
        line = {"operator": outcome.operator, "case": outcome.name, "status": outcome.status.value}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**line, "message": outcome.message}) + "\n")


def _read(path: Path) -> dict[str, Outcome]:
    """The outcomes by the names of their cases. A last line that was cut off is no outcome."""
    outcomes: dict[str, Outcome] = {}
    if not path.exists():
        return outcomes
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        outcomes[entry["case"]] = Outcome(entry["operator"], entry["case"], Status(entry["status"]), entry["message"])
    return outcomes
