"""A conformance run that was interrupted goes on where it was."""

from __future__ import annotations

from pathlib import Path

from gxu.cli.main import main
from gxu.conformance.case import Case, Outcome, Status
from gxu.conformance.progress import Progress


def case(operator: str, expected_failure: str = "") -> Case:
    return Case(operator, "int8", "static", lambda: None, expected_failure)


def test_only_what_is_settled_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "progress"
    names = ("passed", "failed", "skipped", "mended", "listed now")
    cases = [case(name) for name in names]
    progress = Progress(path, cases)
    assert not progress.settled
    for number, status in enumerate((Status.PASSED, Status.FAILED, Status.SKIPPED, Status.FAILED, Status.PASSED)):
        progress.record(Outcome(cases[number].operator, cases[number].name, status, "why"))
    progress.record(Outcome("mended", cases[3].name, Status.PASSED))
    with path.open("a") as file:
        file.write('{"operator": "cut o')
    again = Progress(path, [*cases[:4], case("listed now", "a reason")])
    assert {number: outcome.status for number, outcome in again.settled.items()} == {
        0: Status.PASSED,
        2: Status.SKIPPED,
        3: Status.PASSED,
    }


def test_settled_cases_are_counted_and_not_run(tmp_path: Path) -> None:
    progress, counts = tmp_path / "progress", tmp_path / "counts.json"
    line = '{"operator": "add", "case": "add %s static", "status": "passed", "message": ""}\n'
    progress.write_text("".join(line % dtype for dtype in ("float32", "int64")))
    arguments = ["--operators", "add", "--dtypes", "float32,int64", "--variants", "static"]
    assert main(["conformance", "compile", *arguments, "--progress", str(progress), "--json", str(counts)]) == 0
    assert '"passed": 2' in counts.read_text()
