"""`python -m gxu`: arguments, errors, exit statuses, the doctor."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from process_helpers import ROOT, RunPython

from gxu.benchmarks.eager import METADATA_ONLY
from gxu.cli import demo, doctor
from gxu.cli.errors import UsageError
from gxu.cli.main import build_parser, main


def test_help_names_every_command(run_python: RunPython) -> None:
    result = run_python("-m", "gxu", "--help")
    assert result.returncode == 0
    assert {"demo", "doctor", "bench"} <= set(result.stdout.split())


@pytest.mark.parametrize("arguments", [[], ["no-such-command"], ["demo", "--model", "gpt-9"]])
def test_wrong_arguments_exit_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)
    assert exit_info.value.code == 2
    assert "usage:" in capsys.readouterr().err


def documented_commands() -> list[str]:
    """Those that README and docs/ print with nothing left open, as `[--json FILE]` leaves it."""
    found = set()
    for document in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for words in re.findall(r"python -m gxu ([a-z][^`\n#]+)", document.read_text()):
            if not re.search(r"\[|\||\.\.\.|SUITE|DEVICE|^new$", words):
                found.add(words.strip())
    assert len(found) > 8
    return sorted(found)


@pytest.mark.parametrize("command", documented_commands())
def test_commands_of_the_documents_exist(command: str) -> None:
    build_parser().parse_args(command.split())


def write(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


def bad_requests(folder: Path) -> dict[str, tuple[list[str], str]]:
    """Arguments of the demo, and what the one sentence must say."""
    return {
        "missing": (["--text", str(folder / "absent.txt")], "absent.txt: No such file or directory"),
        "folder": (["--text", str(folder)], "Is a directory"),
        "empty": (["--text", write(folder / "empty.txt", b"\n  \n")], "empty.txt has no text in it"),
        "one line": (["--text", write(folder / "one.txt", b"A line.\n")], "one.txt has one line"),
        "not utf-8": (["--text", write(folder / "latin1.txt", b"caf\xe9\n")], "byte 3 is not UTF-8"),
        "queries": (["--queries", str(folder / "none.txt")], "none.txt: No such file"),
        "mlp text": (["--model", "mlp", "--text", write(folder / "a.txt", b"A.\nB.\n")], "are for --model minilm"),
        "json folder": (["--json", str(folder)], "it is a folder"),
        "json nowhere": (["--json", str(folder / "no" / "a.json")], "does not exist; create it first"),
    }


@pytest.mark.parametrize(
    "case",
    ["missing", "folder", "empty", "one line", "not utf-8", "queries", "mlp text", "json folder", "json nowhere"],
)
def test_bad_request_is_one_sentence(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, expected = bad_requests(tmp_path)[case]
    assert main(["demo", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("gxu: ")
    assert expected in captured.err
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err


def test_own_text_is_looked_up_in_itself(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("one\n\ntwo\n  three  \nfour\n")
    assert demo.read_texts(path, None) == (["one", "two", "three"], ["one", "two", "three", "four"])
    path.write_text("one\ntwo\n")
    assert demo.read_texts(path, None) == (["one"], ["one", "two"])


def test_bundled_texts_are_those_of_the_examples() -> None:
    queries, sentences = demo.read_texts(None, None)
    assert len(sentences) >= 40
    assert len(queries) >= 3
    assert len(set(sentences)) == len(sentences)


def test_nearest_ignores_the_query_itself() -> None:
    import torch

    from gxu.cli.workloads import nearest

    a, b, c = torch.eye(3)
    close_to_a = torch.nn.functional.normalize(a + 0.1 * b, dim=0)
    embeddings = torch.stack([a, a, close_to_a, c])
    (match,) = nearest(["A"], ["A", "almost A", "C"], embeddings)
    assert match.sentence == "almost A"
    assert match.similarity == pytest.approx(float(a @ close_to_a))


def test_unwritable_json_is_found_before_the_work(tmp_path: Path) -> None:
    from gxu.cli.output import check_writable

    check_writable(tmp_path / "new.json")
    with pytest.raises(UsageError, match="is a folder"):
        check_writable(tmp_path)


@pytest.mark.slow
def test_doctor_passes_here(run_python: RunPython, tmp_path: Path) -> None:
    result = run_python("-m", "gxu", "doctor", "--json", "doctor.json")
    assert result.returncode == 0, result.stdout + result.stderr
    outcomes = json.loads((tmp_path / "doctor.json").read_text())
    assert [outcome["check"] for outcome in outcomes] == [check.name for check in doctor.CHECKS]
    assert all(outcome["ok"] and outcome["found"] for outcome in outcomes)


@pytest.mark.slow
def test_doctor_names_a_missing_runtime(run_python: RunPython, tmp_path: Path) -> None:
    missing = str(tmp_path / "libmissing.so")
    result = run_python("-m", "gxu", "doctor", "--json", "doctor.json", env={"GXU_RUNTIME": missing})
    assert result.returncode == 1
    outcomes = {outcome["check"]: outcome for outcome in json.loads((tmp_path / "doctor.json").read_text())}
    assert not outcomes["runtime library"]["ok"]
    assert missing in outcomes["runtime library"]["found"]
    assert "GXU_RUNTIME" in outcomes["runtime library"]["remedy"]
    assert outcomes["extension"]["ok"]


def test_doctor_reports_a_read_only_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    occupied = tmp_path / "occupied"
    occupied.write_text("a file where the folder should be")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(occupied))
    check = next(check for check in doctor.CHECKS if check.probe is doctor.caches)
    outcome = check.run()
    assert not outcome.ok
    assert str(occupied) in outcome.found
    assert "TORCHINDUCTOR_CACHE_DIR" in outcome.remedy


def test_doctor_compares_versions_with_the_declared_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = doctor.importlib.metadata.version
    monkeypatch.setattr(
        doctor.importlib.metadata, "version", lambda name: "2.1.0" if name == "torch" else installed(name)
    )
    with pytest.raises(doctor.CheckError, match=r"torch 2\.1\.0, but torch-gxu needs torch"):
        doctor.versions()


@pytest.mark.slow
def test_bench_eager_rows(run_python: RunPython, tmp_path: Path) -> None:
    sizes = ["64", str(1 << 20)]
    result = run_python("-m", "gxu", "bench", "eager", "--elements", *sizes, "--seconds", "0", "--json", "rows.json")
    assert result.returncode == 0, result.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert {row["elements"] for row in rows} == {64, 1 << 20}
    for row in rows:
        assert row["ratio"] == pytest.approx(row["cpu_us"] / row["gxu_us"])
        assert (row["bar"] is not None) == (row["elements"] == 1 << 20 and row["name"] not in METADATA_ONLY)
        assert row["name"] in result.stdout


def test_bench_rejects_no_elements(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "eager", "--elements", "0"]) == 2
    assert "want sizes of at least 1" in capsys.readouterr().err


@pytest.mark.slow
def test_bench_triton_rows(run_python: RunPython, tmp_path: Path) -> None:
    names = ["mean axis 1", "launch from Python"]
    arguments = ["--quick", "--filter", *names, "--json", "rows.json", "--plot", "rows.png"]
    result = run_python("-m", "gxu", "bench", "triton", *arguments)
    assert result.returncode == 0, result.stderr
    mean, launch = json.loads((tmp_path / "rows.json").read_text())
    assert [mean["name"], launch["name"]] == names
    assert mean["ratio"] == pytest.approx(min(mean["eager_us"], mean["inductor_us"]) / mean["gxu_us"])
    assert mean["device_us"] > 0
    assert launch["device_us"] is None
    assert launch["ratio"] == pytest.approx(launch["bound_us"] / launch["gxu_us"])
    assert (mean["bar"], launch["bar"]) == (1.0, pytest.approx(1 / 1.1))
    assert all(name in result.stdout for name in names)
    assert (tmp_path / "rows.png").read_bytes().startswith(b"\x89PNG")


def test_bench_triton_names_its_groups(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "triton", "--filter", "no such row"]) == 2
    error = capsys.readouterr().err
    assert "no row has that in its name or its group" in error
    assert "attention" in error


def test_wrong_numbers_get_no_time() -> None:
    from gxu.benchmarks.triton import comparison
    from gxu.benchmarks.triton.row import Settings, Work, WrongResultError
    from gxu.cli.output import make_progress

    timed = []
    work = Work(lambda: torch.ones(3, device="gxu"), lambda: timed.append(1) or torch.tensor([1.0, 1.0, 1.1]))
    case = comparison.at_least_torch("ones", "group", lambda: work)
    with pytest.raises(WrongResultError, match="ones: result 0 is not torch's"):
        case.measure(Settings(0.0, make_progress()))
    assert len(timed) == 1
