"""gxu-abi-test: the host engine keeps every promise, and a library that breaks one is found out."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import runtime_abi as abi

PROGRAM = abi.ROOT / "gxu/bin/gxu-abi-test"

CASES = re.compile(r"^(\w+)/(\w+)( \(optional\))?$", re.MULTILINE)


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = {"GXU_DEVICE_COUNT": "2", "GXU_MEMORY_LIMIT": "256M", **environment}
    return subprocess.run(
        [str(PROGRAM), *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


@pytest.fixture(scope="module")
def broken_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp("broken") / "libbroken.so"
    command = ["g++", "-std=c++20", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-pthread"]
    source = str(abi.ROOT / "tests/cpp/broken_runtime.cpp")
    link = ["-Wl,--no-as-needed", str(abi.LIBRARY), f"-Wl,-rpath,{abi.LIBRARY.parent}", "-ldl"]
    subprocess.run([*command, f"-I{abi.HEADER.parent}", source, *link, "-o", str(library)], check=True)
    return library


def test_host_engine_keeps_every_promise(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    result = run("--strict", "--json", str(report), str(abi.LIBRARY))
    assert result.returncode == 0, result.stdout + result.stderr
    content = json.loads(report.read_text())
    assert content["library"] == str(abi.LIBRARY) and len(content["devices"]) == 2
    assert {case["outcome"] for case in content["cases"]} == {"kept"}
    listed = CASES.findall(run("--list").stdout)
    assert [(case["group"], case["name"]) for case in content["cases"]] == [case[:2] for case in listed]


def test_every_function_of_the_header_is_called() -> None:
    declared = set(re.findall(r"^GXU_API [^(]*?(gxu\w+)\(", abi.HEADER.read_text(), re.MULTILINE))
    cases = "".join(path.read_text() for path in (abi.ROOT / "csrc/abi_test/cases").glob("*.cpp"))
    called = set(re.findall(r"\brt\.(gxu\w+)", cases))
    assert declared == set(abi.PROTOTYPES)
    assert declared <= called, declared - called


@pytest.mark.parametrize(
    ("promise", "case"),
    [
        ("version", "start/version"),
        ("init_flags", "start/init_flags"),
        ("error_names", "errors/names"),
        ("last_error_stays", "errors/last_error"),
        ("wrong_device", "devices/wrong_devices"),
        ("uuid", "devices/uuid"),
        ("device_synchronize_returns_at_once", "devices/synchronize"),
        ("malloc_waits", "memory/malloc_does_not_wait"),
        ("alignment", "memory/alignment"),
        ("free_does_not_wait", "memory/free_waits"),
        ("double_free", "memory/wrong_frees"),
        ("pinned_copy_waits", "copies/pinned_copies_are_enqueued"),
        ("copy_loses_a_byte", "copies/directions"),
        ("unchecked_ranges", "copies/wrong_ranges"),
        ("no_order", "streams/order"),
        ("all_streams_non_blocking", "streams/default_stream_first"),
        ("query_waits", "streams/query"),
        ("synchronize_returns_at_once", "streams/synchronize"),
        ("event_wait_is_lost", "events/wait"),
        ("event_records_once", "events/recorded_again"),
        ("time_in_seconds", "events/elapsed_time"),
        ("time_without_sign", "events/negative_time"),
        ("host_function_at_once", "host_functions/in_order"),
        ("kernel_not_found", "modules/functions"),
        ("last_program_is_lost", "modules/grid"),
        ("one_dimension", "modules/grid_dimensions"),
        ("parameters_are_wanted", "modules/no_parameters"),
        ("first_failure_is_lost", "failed_kernels/first_of_several"),
        ("one_capture_number", "graphs/numbers"),
        ("second_replay_is_lost", "graphs/capture"),
        ("capture_of_the_default_stream", "graphs/begin_errors"),
        ("crash", "ipc/shared_memory"),
    ],
)
def test_a_broken_promise_is_found(broken_library: Path, promise: str, case: str) -> None:
    whole = run("--strict", "--only", case, str(broken_library))
    assert whole.returncode == 0, whole.stdout + whole.stderr
    result = run("--strict", "--patience", "1", "--only", case, str(broken_library), GXU_BREAK=promise)
    assert result.returncode == 1, result.stdout + result.stderr
    assert f"case {case}" in result.stdout and "1 broken" in result.stdout


def test_a_case_that_hangs_or_crashes_leaves_the_others(broken_library: Path) -> None:
    cases = "streams/order,devices/synchronize,devices/uuid"
    result = run("--timeout", "2", "--only", cases, str(broken_library), GXU_BREAK="hang")
    assert result.returncode == 1
    assert "did not come to an end in time" in result.stdout and "0 kept, 3 broken" in result.stdout, result.stdout
    crash = run(
        "--only", "ipc/shared_memory,ipc/owner_has_ended,threads/one_stream", str(broken_library), GXU_BREAK="crash"
    )
    assert crash.returncode == 1 and "Aborted" in crash.stdout and "1 kept, 2 broken" in crash.stdout, crash.stdout


def test_promises_of_the_host_engine_alone_are_optional(broken_library: Path) -> None:
    result = run("--only", "memory/wrong_frees", str(broken_library), GXU_BREAK="double_free")
    assert result.returncode == 0
    assert "0 broken, 1 not offered" in result.stdout


def test_without_a_kernel_launches_are_skipped_with_a_reason(broken_library: Path, tmp_path: Path) -> None:
    program = tmp_path / "bin/gxu-abi-test"  # away from the images that come with it
    program.parent.mkdir()
    program.write_bytes(PROGRAM.read_bytes())
    program.chmod(0o755)
    command = [str(program), "--only", "modules,failed_kernels", str(abi.LIBRARY)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert result.returncode == 0, result.stdout
    assert "needs a kernel of the device: give --kernel and --symbol" in result.stdout
    assert "needs a kernel that fails: give --assert-symbol" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "name the runtime LIBRARY to test, or --list"),
        (("/nonexistent/lib.so",), "cannot open shared object file"),
        (("lib.so", "second.so"), "one LIBRARY, not also 'second.so'"),
        (("--only", "no_such_case", "lib.so"), "no case is named 'no_such_case': see --list"),
        (("--kernel", "image", "lib.so"), "--kernel and --symbol go together"),
        (("--timeout", "soon", "lib.so"), "--timeout is 'soon': give a number above 0"),
    ],
)
def test_wrong_requests_get_one_sentence(arguments: tuple[str, ...], sentence: str) -> None:
    result = run(*arguments)
    assert result.returncode == 2
    assert sentence in result.stderr and result.stderr.count("\n") == 1


def test_a_library_without_the_functions_is_named(tmp_path: Path) -> None:
    library = tmp_path / "libempty.so"
    subprocess.run(["gcc", "-shared", "-x", "c", "/dev/null", "-o", str(library)], check=True)
    result = run(str(library))
    assert result.returncode == 1
    assert "lacks 50 functions of gxu_runtime.h" in result.stdout and "gxuMalloc" in result.stdout


def test_console_command_checks_the_bundled_engine_by_default() -> None:
    """With one device and all of the machine's memory, as a person runs it."""
    environment = {k: v for k, v in os.environ.items() if k not in ("GXU_DEVICE_COUNT", "GXU_MEMORY_LIMIT")}
    command = [sys.executable, "-m", "gxu.cli.abi_test"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.startswith(f"{abi.LIBRARY}: ABI version")
