"""GXU_SANITIZE=1: what is reported, that nothing bad happens, and that good kernels stay clean."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from process_helpers import python_runner

SCRIPT = Path(__file__).with_name("sanitizer_cases.py")


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    run = python_runner(tmp_path_factory.mktemp("sanitizer"))
    done = run(str(SCRIPT), env={"GXU_SANITIZE": "1"})
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _line(marker: str) -> int:
    lines = SCRIPT.read_text().splitlines()
    (found,) = [number for number, line in enumerate(lines, 1) if line.endswith(f"# line: {marker}")]
    return found


# Case, kernel, access, program, marker of the line, place of the address.
_BAD = [
    (
        "masked_load_past_the_end",
        "copy_masked",
        "load of 4",
        "(3, 0, 0)",
        "masked load",
        "0 bytes past the end of",
        4000,
    ),
    ("load_before_the_start", "copy_masked", "load of 4", "(0, 0, 0)", "masked load", "20 bytes before", 256),
    ("store_past_the_end", "store_all", "store of 4", "(0, 2, 1)", "store", "0 bytes past the end of", 1532),
    ("strided_load", "strided", "load of 4", "(0, 0, 0)", "strided", "0 bytes past the end of", 756),
    ("indirect_load", "indirect", "load of 4", "(0, 0, 0)", "indirect", "399999744 bytes past the end of", 256),
    ("atomic_add", "add_up", "atomic operation of 4", "(0, 0, 0)", "atomic", "4 bytes before", 36),
    ("atomic_cas", "swap", "atomic operation of 4", "(0, 0, 0)", "cas", "0 bytes past the end of", 4),
    ("scalar_load", "scalar", "load of 4", "(0, 0, 0)", "scalar", "8 bytes past the end of", 40),
    ("block_pointer", "blocks", "load of 4", "(0, 0, 0)", "block", "0 bytes past the end of", 244),
    (
        "pinned_tensor_past_the_end",
        "copy_masked",
        "load of 4",
        "(0, 0, 0)",
        "masked load",
        "0 bytes past the end of",
        400,
    ),
    (
        "host_tensor_past_the_end",
        "copy_masked",
        "load of 4",
        "(0, 0, 0)",
        "masked load",
        "0 bytes past the end of",
        400,
    ),
]


@pytest.mark.parametrize(("case", "kernel", "access", "program", "marker", "place", "size"), _BAD)
def test_first_bad_access_is_reported(outcomes, case, kernel, access, program, marker, place, size):
    """Once, with everything that helps to find it; loads gave `other` or 0, and stores did not happen."""
    found = outcomes[case]
    expected = (
        rf"kernel '{kernel}' failed: invalid {re.escape(access)} bytes at address {found['address']:#x} in program "
        rf"{re.escape(program)} at .*sanitizer_cases\.py:{_line(marker)}: {place} "
        rf"the (nearest allocation|allocation of its pointer argument), {size} bytes at {found['base']:#x}"
    )
    assert found["error"] is not None
    assert re.search(expected, found["error"]), found["error"]
    assert found["again"] is None
    assert found["right"]


@pytest.mark.parametrize(
    ("case", "marker"),
    [
        ("store_into_the_neighbour", "store"),
        ("null_pointer", "masked load"),
        ("waits_for_other_memory", "wait"),
        ("freed_tensor", "masked load"),
        ("freed_tensor_before_a_new_one", "masked load"),
        ("freed_tensor_through_a_table", "table"),
    ],
)
def test_access_to_other_memory_is_reported(outcomes, case, marker):
    found = outcomes[case]
    assert found["error"] is not None
    assert f"at address {found['address']:#x} " in found["error"]
    assert f"sanitizer_cases.py:{_line(marker)}: " in found["error"]
    freed = f"; it is in memory that was freed, 256 bytes at {found['address']:#x}"
    assert (freed in found["error"]) == case.startswith("freed")
    assert found["right"]


def test_gather_index_is_reported(outcomes):
    found = outcomes["gather_index"]
    assert found["error"] is not None
    assert "index -2 of a gather in program (0, 0, 0) at " in found["error"]
    assert f"sanitizer_cases.py:{_line('gather')} is outside the 64 elements of its axis" in found["error"]
    assert found["right"]


@pytest.mark.parametrize(
    "case",
    [
        "masked_is_clean",
        "checked_block_pointer_is_clean",
        "tensor_freed_after_the_launch_is_clean",
        "table_of_addresses_is_clean",
        "view_reaches_its_whole_storage",
        "host_tensors_are_clean",
        "compiled_graph_is_clean",
    ],
)
def test_allowed_accesses_are_clean(outcomes, case):
    assert outcomes[case]["error"] is None
    assert outcomes[case]["right"]
