"""tl.device_print: the lines that stand on standard output."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from functools import partial

from gxu.conformance.case import Case
from gxu.conformance.triton.data import FLOATS, INTEGERS, generator, sample, torch_type
from gxu.conformance.triton.execution import kernel_of, launch

_PRINT = """@triton.jit
def kernel(x, B: tl.constexpr, HEX: tl.constexpr):
    i = tl.arange(0, B)
    tl.device_print("value", tl.load(x + tl.program_id(0) * B + i), hex=HEX)
"""
_BLOCK = 8


def cases() -> Iterator[Case]:
    for dtype in (*INTEGERS, *FLOATS):
        yield Case("device_print", dtype, "", partial(_check, dtype, False))
    for dtype in INTEGERS:
        yield Case("device_print", dtype, "hex", partial(_check, dtype, True))


def _check(name: str, hexadecimal: bool) -> None:
    dtype = torch_type(name)
    x = sample(2 * _BLOCK, dtype, generator("print", name, hexadecimal), "near" if dtype.is_floating_point else "all")
    kernel = kernel_of(_PRINT)
    text = _standard_output_of(lambda: launch(kernel, (2,), x, B=_BLOCK, HEX=hexadecimal))
    digits = dtype.itemsize * 2
    wanted = set()
    for at, number in enumerate(x.tolist()):
        shown = f"{number:f}" if dtype.is_floating_point else f"{number}"
        if hexadecimal:
            shown = f"0x{number & (1 << 4 * digits) - 1:0{digits}x}"
        wanted.add(f"pid ({at // _BLOCK}, 0, 0) idx ({at % _BLOCK}) value: {shown}")
    lines = [line for line in text.splitlines() if line.startswith("pid")]
    if len(lines) != 2 * _BLOCK or set(lines) != wanted:
        raise AssertionError(f"printed {sorted(set(lines) - wanted)[:2]}, and not {sorted(wanted - set(lines))[:2]}")


def _standard_output_of(call: Callable[[], object]) -> str:
    """What `call` writes to this process's file descriptor 1, which kernels print to."""
    with tempfile.TemporaryFile() as file:
        before = os.dup(1)
        try:
            os.dup2(file.fileno(), 1)
            call()
        finally:
            os.dup2(before, 1)
            os.close(before)
        file.seek(0)
        return file.read().decode()
