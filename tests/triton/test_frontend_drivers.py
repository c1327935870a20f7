"""Two Triton drivers on one machine, and kernels that many threads launch at once."""

from __future__ import annotations

import threading

import pytest
import torch
import triton
import triton.language as tl
from process_helpers import RunPython
from triton.backends import Backend, backends
from triton.runtime.driver import DriverConfig

from gxu.triton.driver import GXUDriver


class OtherDriver:
    """A GPU's driver, as far as Triton asks before it makes one."""

    active = True

    @staticmethod
    def is_active() -> bool:
        return OtherDriver.active


@pytest.fixture
def another_driver(monkeypatch):
    monkeypatch.setitem(backends, "other", Backend(compiler=backends["gxu"].compiler, driver=OtherDriver))
    monkeypatch.setattr(OtherDriver, "active", True)
    monkeypatch.delenv("TRITON_DEFAULT_BACKEND", raising=False)


@pytest.mark.parametrize("name", ["compiler", "driver"])
def test_modules_of_the_backend_are_imported_before_triton(run_python: RunPython, name: str) -> None:
    result = run_python("-c", f"import gxu.triton.{name}, triton; print('gxu' in triton.backends.backends)")
    assert result.stdout == "True\n", result.stderr


def test_the_other_driver_is_kept(another_driver):
    assert not GXUDriver.is_active()
    assert isinstance(DriverConfig().active, OtherDriver)


def test_gxu_where_the_other_has_no_device(another_driver, monkeypatch):
    monkeypatch.setattr(OtherDriver, "active", False)
    assert GXUDriver.is_active()
    assert isinstance(DriverConfig().active, GXUDriver)


@pytest.mark.parametrize(("chosen", "driver"), [("gxu", GXUDriver), ("other", OtherDriver)])
def test_the_environment_chooses(another_driver, monkeypatch, chosen, driver):
    monkeypatch.setenv("TRITON_DEFAULT_BACKEND", chosen)
    assert GXUDriver.is_active() == (chosen == "gxu")
    assert isinstance(DriverConfig().active, driver)


@triton.jit
def count_under_lock(lock, total, log, rounds):
    for _ in range(rounds):
        while tl.atomic_cas(lock, 0, 1) == 1:
            pass
        value = tl.load(total, volatile=True)
        tl.store(total, value + 1)
        tl.atomic_add(log, 2)
        tl.atomic_xchg(lock, 0)


def test_threads_launch_kernels_with_locks():
    """8 threads, each on its stream: the lock makes an unguarded read, addition and write indivisible."""
    lock, total, log = (torch.zeros(1, dtype=torch.int32, device="gxu") for _ in range(3))
    # Compiled before the threads start: Triton's frontend calls ast.parse, which fails at random when several threads
    # are in it before Python 3.11.8 (python/cpython#106905).
    count_under_lock[(1,)](lock, total, log, 10)
    torch.gxu.synchronize()
    for tensor in (lock, total, log):
        tensor.zero_()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            with torch.gxu.stream(torch.gxu.Stream()):
                for _ in range(5):
                    count_under_lock[(4,)](lock, total, log, 10)
                torch.gxu.current_stream().synchronize()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert not failures
    assert not any(thread.is_alive() for thread in threads)
    assert total.item() == 8 * 5 * 4 * 10
    assert log.item() == 2 * total.item()
    assert lock.item() == 0
