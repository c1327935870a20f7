"""A Triton backend `cpu` on the host engine: kernels on plain CPU tensors, finished when the launch returns.

Opt-in: the import makes it known to Triton. Inductor's `cpu_backend = "triton"` asks for it by this name
(gxu/inductor/cpu.py).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.backends.driver import DriverBase

from .compiler import GXUBackend
from .driver import GXUDriver, active_driver, launcher_of

_thread = threading.local()


class CPUBackend(GXUBackend):
    """Compiles for GPUTarget("cpu", ...)."""

    @staticmethod
    def supports_target(target: GPUTarget) -> bool:
        return bool(target.backend == "cpu")


class CPUDriver(DriverBase):
    """The driver that stands beside `CPUBackend` in Triton's table, and never the default one.

    gxu's own driver runs both kinds of kernels, telling them apart by the target they were compiled for, and counts as
    this one: `torch._inductor.runtime.triton_helpers.set_driver_to_cpu` then leaves it active, where a driver of the
    CPU's own would stay active and take the next kernel on gxu.
    """

    def __new__(cls) -> Any:
        return active_driver()

    @staticmethod
    def is_active() -> bool:
        return False


CPUDriver.register(GXUDriver)


def _stream() -> Any:
    """The queue of this thread's kernels: threads wait neither for each other's nor for work on the gxu device."""
    if not hasattr(_thread, "stream"):
        import torch

        from gxu import _C

        properties = _C.get_device_properties(0)
        if properties["triton_backend"] != "gxu" or properties["host_accessible"] != 1:
            raise RuntimeError(
                f"Triton kernels on CPU tensors need the host engine, but the runtime library is {_C.runtime_path()}: "
                "unset GXU_RUNTIME, or leave torch._inductor.config.cpu_backend at 'cpp'"
            )
        _thread.stream = torch.Stream(device="gxu:0")
    return _thread.stream


def make_launcher(src: Any, metadata: Any) -> Callable[..., None]:
    """What Triton calls to run a kernel that was compiled for the CPU; the stream that it is given does not matter."""
    enqueue = launcher_of(src, metadata)

    def run(grid_x: int, grid_y: int, grid_z: int, stream: int, *launch: Any) -> None:
        own = _stream()
        enqueue(grid_x, grid_y, grid_z, own.stream_id, *launch)
        own.synchronize()

    return run


def register() -> None:
    """Gives Triton the backend `cpu`, unless another package has. Idempotent."""
    triton.backends.backends.setdefault("cpu", triton.backends.Backend(CPUBackend, CPUDriver))


register()
