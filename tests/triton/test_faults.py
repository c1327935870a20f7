"""Kernels that the hardware stops: a sticky error of the device, and a Python process that lives on."""

from __future__ import annotations

import signal

import pytest

_PREAMBLE = """
import faulthandler, os, signal, sys, threading
import torch, triton, triton.language as tl
from gxu.triton.driver import active_driver
triton.runtime.driver.set_active(active_driver())

@triton.jit
def write_at(x, shift, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(x + i + shift, i.to(tl.float32))

def said(run):
    try:
        run()
    except RuntimeError as error:
        return str(error)
    return "no error"

x = torch.zeros(4096, device="gxu")
"""

# Nothing is mapped 64 TiB from the heap, and the sum is an address that the processor accepts.
_FAULT = """
shift = ((64 << 40) - x.data_ptr()) // 4
write_at[(64,)](x, shift, B=64)
"""


@pytest.mark.parametrize("threads", [1, 4])
def test_fault_is_a_sticky_error(run_python, tmp_path, threads):
    script = tmp_path / "fault.py"
    script.write_text(
        _PREAMBLE
        + "write_at[(64,)](x, 0, B=64)\nprint(torch.equal(x.cpu(), torch.arange(4096.0)))"
        + _FAULT
        + """
first, second = said(torch.gxu.synchronize), said(torch.gxu.synchronize)
print("kernel 'write_at' failed" in first, "SIGSEGV at address 0x4" in first, first == second)
for run in (
    lambda: write_at[(1,)](x, 0, B=64),
    lambda: x.cpu(),
    lambda: x + 1,
    lambda: torch.empty(1 << 28, device="gxu"),
    lambda: torch.gxu.current_stream().synchronize(),
):
    print("gxuErrorLaunchFailed" in said(run), "SIGSEGV" in said(run))
print((torch.ones(3) @ torch.ones(3)).item())
"""
    )
    done = run_python(str(script), env={"OMP_NUM_THREADS": str(threads), "GXU_SANITIZE": None})
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["True", "True True True", *["True True"] * 5, "3.0"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_fault_with_faulthandler(run_python, tmp_path, when):
    """Python's own handler may be installed before the engine's or after it."""
    enable = "faulthandler.enable()\n"
    script = tmp_path / "fault.py"
    script.write_text(
        (enable if when == "before" else "").join(["import faulthandler\n", _PREAMBLE])
        + "write_at[(1,)](x, 0, B=64)\ntorch.gxu.synchronize()\n"
        + (enable if when == "after" else "")
        + _FAULT
        + "print('SIGSEGV' in said(torch.gxu.synchronize))\n"
    )
    done = run_python(str(script), env={"GXU_SANITIZE": None})
    assert done.returncode == 0, done.stderr
    assert done.stdout == "True\n"


@pytest.mark.parametrize("handler", ["", "faulthandler.enable()\n"])
def test_fault_outside_of_kernels_still_ends_the_process(run_python, tmp_path, handler):
    script = tmp_path / "fault.py"
    script.write_text(
        "import faulthandler\n"
        + handler
        + _PREAMBLE
        + "write_at[(1,)](x, 0, B=64)\ntorch.gxu.synchronize()\nprint('ready', flush=True)\n"
        + "import ctypes\nctypes.string_at(8)\nprint('not reached')\n"
    )
    done = run_python(str(script), env={"GXU_SANITIZE": None})
    assert done.returncode == -signal.SIGSEGV
    assert done.stdout == "ready\n"
    assert ("Fatal Python error: Segmentation fault" in done.stderr) == bool(handler)


def test_signal_that_was_sent_is_not_a_fault(run_python, tmp_path):
    """A handler that Python code installed gets what other processes, or this one, send."""
    script = tmp_path / "fault.py"
    script.write_text(
        "import signal\ngot = []\nsignal.signal(signal.SIGFPE, lambda number, frame: got.append(number))\n"
        + _PREAMBLE
        + "write_at[(1,)](x, 0, B=64)\ntorch.gxu.synchronize()\nos.kill(os.getpid(), signal.SIGFPE)\n"
        + "print(got == [signal.SIGFPE])\n"
    )
    done = run_python(str(script))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "True\n"


def test_fault_in_a_thread_without_a_stack_for_handlers(run_python, tmp_path):
    script = tmp_path / "fault.py"
    script.write_text(
        _PREAMBLE
        + _FAULT
        + """
errors = []
thread = threading.Thread(target=lambda: errors.append(said(torch.gxu.synchronize)))
thread.start()
thread.join()
print("SIGSEGV" in errors[0], "SIGSEGV" in said(torch.gxu.synchronize))
"""
    )
    done = run_python(str(script), env={"GXU_SANITIZE": None})
    assert done.returncode == 0, done.stderr
    assert done.stdout == "True True\n"
