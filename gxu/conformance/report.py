"""Counts the outcomes of a suite: the totals, by operator, and what did not pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from gxu.conformance.case import Outcome, Status

#: Messages are cut here: compilers quote whole kernels.
LONGEST_MESSAGE = 600


def summary(outcomes: Iterable[Outcome]) -> dict[str, Any]:
    """`total` and `by_operator` count each status; the other entries list cases with their reasons."""
    total: Counter[str] = Counter()
    by_operator: dict[str, Counter[str]] = {}
    listed: dict[Status, list[dict[str, str]]] = {status: [] for status in Status}
    for outcome in outcomes:
        total[outcome.status.value] += 1
        by_operator.setdefault(outcome.operator, Counter())[outcome.status.value] += 1
        message = outcome.message[:LONGEST_MESSAGE]
        listed[outcome.status].append({"case": outcome.name, "reason": message})
    return {
        "total": _counts(total),
        "by_operator": {operator: _counts(count) for operator, count in sorted(by_operator.items())},
        "failures": listed[Status.FAILED],
        "expected_failures": listed[Status.EXPECTED_FAILURE],
        "skips": listed[Status.SKIPPED],
    }


def _counts(counter: Counter[str]) -> dict[str, int]:
    return {status.value: counter[status.value] for status in Status}
