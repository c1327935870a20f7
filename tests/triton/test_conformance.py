"""`python -m gxu conformance triton`: the command, what it counts, and cases that go wrong in every way."""

from __future__ import annotations

import json
import os
import time

import pytest

from gxu.cli.main import main
from gxu.conformance.case import Case, SkipCase, Status, execute
from gxu.conformance.report import summary
from gxu.conformance.runner import Runner
from gxu.conformance.triton import collect


def test_some_operators_conform(tmp_path):
    file = tmp_path / "counts.json"
    status = main(["conformance", "triton", "--operators", "sum,dot,add,cumsum", "--limit", "40", "--json", str(file)])
    counts = json.loads(file.read_text())
    assert status == 0, counts["failures"]
    assert sum(counts["total"].values()) == 40
    assert counts["total"]["passed"] >= 38
    assert set(counts["by_operator"]) == {"sum", "dot", "add", "cumsum"}
    for name, count in counts["total"].items():
        assert count == sum(operator[name] for operator in counts["by_operator"].values())


@pytest.mark.slow
def test_every_kind_of_operator_conforms(tmp_path):
    """A sample over the whole table; the command without --limit is the complete run."""
    file = tmp_path / "counts.json"
    assert main(["conformance", "triton", "--limit", "240", "--json", str(file)]) == 0, file.read_text()
    assert json.loads(file.read_text())["total"]["passed"] >= 220


def test_names_of_cases_are_unique_and_the_table_is_large():
    cases = collect()
    assert len({case.name for case in cases}) == len(cases) >= 3000
    operators = {case.operator for case in cases}
    assert {"sum", "dot", "cast", "atomic_cas", "sort", "histogram", "while", "randn", "descriptor"} <= operators


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--operators", "sum,nothing"], "no operator nothing"),
        (["--limit", "0"], "--limit must be positive"),
        (["--jobs", "-1"], "--jobs must be positive"),
        (["--json", "/does/not/exist/x.json"], "does not exist"),
    ],
)
def test_wrong_requests(arguments, message, capsys):
    assert main(["conformance", "triton", *arguments]) == 2
    assert message in capsys.readouterr().err


def _passes() -> None:
    pass


def _fails() -> None:
    raise AssertionError("3 and not 4")


def _skips() -> None:
    raise SkipCase("not accepted")


def _dies() -> None:
    os._exit(9)


def _hangs() -> None:
    time.sleep(1000)


def artificial() -> list[Case]:
    """A suite of every kind of case, which `test_runner` has executed in workers."""
    return [
        Case("good", "int8", "", _passes),
        Case("bad", "int8", "", _fails),
        Case("skip", "int8", "", _skips),
        Case("known", "int8", "", _fails, "a reason"),
        Case("cured", "int8", "", _passes, "a reason"),
        Case("crash", "int8", "first", _passes),
        Case("crash", "int8", "second", _dies),
        Case("crash", "int8", "third", _passes),
        Case("hang", "int8", "", _hangs),
        Case("last", "int8", "", _passes),
    ]


def test_strict_outcomes():
    statuses = [execute(case).status for case in artificial()[:5]]
    expected_failure = Status.EXPECTED_FAILURE
    assert statuses == [Status.PASSED, Status.FAILED, Status.SKIPPED, expected_failure, Status.FAILED]


def test_runner_survives_crashes_and_hangs(tmp_path, monkeypatch):
    suite = tmp_path / "artificial_suite.py"
    suite.write_text(
        "import importlib.util\n"
        f"spec = importlib.util.spec_from_file_location('artificial_cases', {__file__!r})\n"
        "module = importlib.util.module_from_spec(spec)\nspec.loader.exec_module(module)\n"
        "collect = module.artificial\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    cases = artificial()
    heard = []
    outcomes = Runner("artificial_suite", cases, range(len(cases)), 2, timeout=10.0).run(heard.append)
    assert [outcome.name for outcome in outcomes] == [case.name for case in cases]
    assert len(heard) == len(cases)
    counts = summary(outcomes)
    assert counts["total"] == {"passed": 4, "failed": 4, "skipped": 1, "expected_failures": 1}
    assert counts["by_operator"]["crash"] == {"passed": 2, "failed": 1, "skipped": 0, "expected_failures": 0}
    reasons = {failure["case"]: failure["reason"] for failure in counts["failures"]}
    assert "exit status 9" in reasons["crash int8 second"]
    assert "took more than 10 s" in reasons["hang int8"]
    assert "passes, although" in reasons["cured int8"]
    assert "3 and not 4" in reasons["bad int8"]
