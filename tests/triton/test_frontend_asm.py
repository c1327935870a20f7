"""``kernel.asm``: every stage is there, can be read, and names the lines of the kernel it comes from."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import pytest
import torch
import triton
import triton.language as tl


@triton.jit
def scaled_exponential(x):
    return tl.exp(x * 2)  # helper


@triton.jit
def softmax(x, out, n, B: tl.constexpr):  # kernel
    row = tl.program_id(0)
    i = tl.arange(0, B)
    v = tl.load(x + row * n + i, i < n, -float("inf"))  # load
    e = scaled_exponential(v - tl.max(v, 0))  # exponential
    total = tl.sum(e, 0)  # sum
    tl.store(out + row * n + i, e / total, i < n)  # store


def line_of(comment: str) -> int:
    for number, line in enumerate(Path(__file__).read_text().splitlines(), 1):
        if line.endswith(f"# {comment}"):
            return number
    raise AssertionError(comment)


@pytest.fixture(scope="module")
def compiled() -> Any:
    x = torch.randn(5, 100, device="gxu")
    out = torch.zeros_like(x)
    kernel = softmax[(5,)](x, out, 100, B=128)
    torch.testing.assert_close(out.cpu(), torch.softmax(x.cpu() * 2, 1))
    return kernel


def test_every_stage_is_there(compiled):
    assert {"source", "ttir", "loops", "llir", "asm", "cubin"} <= set(compiled.asm)
    assert compiled.asm["cubin"] == compiled.kernel
    assert compiled.kernel.startswith(b"\x7fELF")
    assert all(isinstance(compiled.asm[stage], str) for stage in ("ttir", "loops", "llir", "asm"))
    assert "tt.reduce" in compiled.asm["ttir"]
    assert "reduce arith.maxnumf" in compiled.asm["loops"]
    llvm.parse_assembly(compiled.asm["llir"]).verify()
    assert re.search(r"^softmax:", compiled.asm["asm"], re.MULTILINE)


def test_loop_form_names_lines(compiled):
    lines = compiled.asm["loops"].splitlines()
    for statement, comment in (
        ("reduce arith.maxnumf", "exponential"),
        ("reduce arith.addf", "sum"),
        ("store", "store"),
    ):
        (line,) = [line for line in lines if statement in line]
        assert line.endswith(f"// {__file__}:{line_of(comment)}")


def test_llvm_ir_names_lines(compiled):
    text = compiled.asm["llir"]
    places = {
        number: int(line) for number, line in re.findall(r"^!(\d+) = !DILocation\(line: (\d+)", text, re.MULTILINE)
    }
    assert f'filename: "{Path(__file__).name}", directory: "{Path(__file__).parent}"' in text
    assert f"line: {line_of('kernel')}, " in text.split("DISubprogram", 1)[1].splitlines()[0]

    def lines_of(instruction: str) -> set[int]:
        return {places[m] for m in re.findall(rf"{instruction}.*!dbg !(\d+)$", text, re.MULTILINE)}

    assert lines_of("load <") == {
        line_of("load"),
        line_of("store"),
    }  # the store reads what was kept of the exponentials
    assert lines_of("masked.load") == {line_of("load")}
    assert lines_of("= fmul") == {line_of("exponential")}
    assert line_of("sum") in lines_of("= fadd")
    assert lines_of("masked.store") == {line_of("store")}


def test_assembler_text_names_lines(compiled):
    text = compiled.asm["asm"]
    assert re.search(rf'^\s*\.file\s+1 "{Path(__file__).parent}" "{Path(__file__).name}"', text, re.MULTILINE)
    named = {int(line) for line in re.findall(r"^\s*\.loc\s+1 (\d+)", text, re.MULTILINE)}
    assert {line_of(comment) for comment in ("load", "exponential", "sum", "store")} <= named


def test_the_binary_is_the_assembler_text(compiled, tmp_path):
    """What was printed is what runs: an assembler that is not ours makes the same code of it."""
    text, image = tmp_path / "kernel.s", tmp_path / "kernel.so"
    text.write_text(compiled.asm["asm"])
    image.write_bytes(compiled.kernel)
    try:
        subprocess.run(["as", "-gdwarf-5", text, "-o", tmp_path / "kernel.o"], check=True, capture_output=True)
        subprocess.run(["ld", "-shared", "-o", tmp_path / "theirs.so", tmp_path / "kernel.o"], check=True)
        ours, theirs = (
            subprocess.run(
                ["objdump", "-d", "--no-show-raw-insn", "-j", ".text", path], check=True, capture_output=True, text=True
            ).stdout
            for path in (image, tmp_path / "theirs.so")
        )
    except FileNotFoundError:
        pytest.skip("binutils are not installed")

    def mnemonics(listing: str) -> list[str]:
        found = re.findall(r"^\s*[0-9a-f]+:\s+(\S+)", listing, re.MULTILINE)
        return [name for name in found if not name.startswith("nop") and name not in ("cs", "data16", "xchg")]

    assert len(mnemonics(ours)) > 50
    assert mnemonics(ours) == mnemonics(theirs)


def test_stages_are_the_cache_s_files(compiled):
    files = {Path(path).suffix[1:]: Path(path) for path in compiled.metadata_group.values()}
    for stage in ("ttir", "loops", "llir", "asm"):
        assert files[stage].read_text() == compiled.asm[stage]


_ODD_NAMES = """
import torch, triton, triton.language as tl

@triton.jit
def copy(x):
    i = tl.arange(0, 64)
    tl.store(x + i, tl.load(x + i) + 1)

x = torch.zeros(64, device="gxu")
kernel = copy[(1,)](x)
assert x.sum().item() == 64
assert f"{__file__}:7" in kernel.asm["loops"]
assert ".loc" in kernel.asm["asm"]
"""


@pytest.mark.parametrize("name", ["two words.py", "quote'.py", "Käse.py", "brackets(1).py", "back\\slash.py"])
def test_file_names_of_every_kind(tmp_path, name):
    script = tmp_path / name
    script.write_text(_ODD_NAMES, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, script],
        env={**os.environ, "TRITON_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_kernel_compiled_from_its_ir(compiled, tmp_path):
    """``triton.compile`` of a ``.ttir`` file, as a user who edited the IR runs it."""
    file = tmp_path / "softmax.ttir"
    file.write_text(compiled.asm["ttir"])
    kernel = triton.compile(str(file))
    # Names of values are the file's, so only what they are used for can be compared.
    assert [line.split()[-1] for line in kernel.asm["loops"].splitlines()] == [
        line.split()[-1] for line in compiled.asm["loops"].splitlines()
    ]


def test_a_dump_of_all_stages(tmp_path, monkeypatch):
    """TRITON_KERNEL_DUMP=1 writes every stage, and says of the one that only NVIDIA has where to look instead."""
    monkeypatch.setenv("TRITON_KERNEL_DUMP", "1")
    monkeypatch.setenv("TRITON_ALWAYS_COMPILE", "1")
    monkeypatch.setenv("TRITON_DUMP_DIR", str(tmp_path))
    signature = {"x": "*fp32", "out": "*fp32", "n": "i32", "B": "constexpr"}
    compiled = triton.compile(triton.compiler.ASTSource(softmax, signature, {"B": 64}))
    files = {path.suffix[1:]: path for path in tmp_path.rglob("*.*")}
    assert {"ttir", "loops", "llir", "asm", "cubin", "sass"} <= set(files)
    assert files["cubin"].read_bytes() == compiled.asm["cubin"]
    assert "objdump -d" in files["sass"].read_text()
    assert compiled.asm["sass"] == files["sass"].read_text()


@triton.jit
def assumed(out, n, B: tl.constexpr):
    tl.assume(n > 3)
    for i in tl.range(0, B, loop_unroll_factor=4):
        tl.atomic_add(out + i, n)


def test_what_the_kernel_asks_of_the_compiler(monkeypatch):
    """An assumption reaches LLVM, a loop is unrolled as often as it says, and knobs and hooks of Triton's count."""
    seen = []

    def hook(backend=None, stages=None, options=None, language=None, capability=None):
        if stages is not None:
            seen.append(list(stages))
        return "key", "hash"

    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "0")
    monkeypatch.setattr(triton.knobs.runtime, "add_stages_inspection_hook", hook)
    out = torch.zeros(8, dtype=torch.int32, device="gxu")
    kernel = assumed[(1,)](out, 5, B=8)
    assert out.tolist() == [5] * 8
    assert "call void @llvm.assume" in kernel.asm["llir"]
    assert kernel.asm["ttir"].count("tt.atomic_rmw") == 4
    assert kernel.metadata.enable_fp_fusion is False
    assert assumed[(1,)](out, 6, B=8, enable_fp_fusion=True).metadata.enable_fp_fusion is True
    assert seen[0][:2] == ["ttir", "loops"]
