"""Inductor's CPU-through-Triton mode with gxu's Triton backend: plain CPU tensors, no device.

    import gxu.inductor.cpu
    torch._inductor.config.cpu_backend = "triton"

The import gives Triton a backend `cpu` (gxu/triton/cpu.py), and Inductor a scheduling of CPU graphs that goes by the
setting. With `cpu_backend = "cpp"`, torch's default, CPU graphs compile as they did. The C++ wrapper has no such mode.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch._inductor import config
from torch._inductor.codegen.common import (
    get_scheduling_for_device,
    get_wrapper_codegen_for_device,
    init_backend_registration,
    register_backend_for_device,
)
from torch._inductor.codegen.triton_split_scan import TritonSplitScanKernel
from torch._inductor.custom_graph_pass import CustomGraphModulePass
from torch._inductor.virtualized import V
from torch.utils._triton import has_triton

import gxu.triton.cpu  # noqa: F401  (makes Triton's backend known)
from gxu.inductor import compat
from gxu.inductor.cache_identity import devices, identity
from gxu.inductor.scheduling import GXUTritonKernel, GXUTritonScheduling


class CPUTritonKernel(GXUTritonKernel):
    """A gxu kernel whose source makes the backend `cpu` known: it is compiled in worker processes, too."""

    @classmethod
    @lru_cache(None)
    def gen_common_triton_imports(cls) -> str:
        return super().gen_common_triton_imports() + "import gxu.triton.cpu\n"

    def codegen_kernel(self, name: str | None = None) -> str:
        if V.graph.cpp_wrapper:
            raise NotImplementedError(
                "cpu_backend='triton' was asked for together with cpp_wrapper=True or AOTInductor, which gxu does not "
                "offer for CPU graphs: set torch._inductor.config.cpu_backend = 'cpp' for them"
            )
        return super().codegen_kernel(name)


class CPUSplitScanKernel(TritonSplitScanKernel, CPUTritonKernel):
    """As `gxu.inductor.scheduling.GXUSplitScanKernel`."""


class CPUTritonScheduling(GXUTritonScheduling):
    """Schedules and generates `CPUTritonKernel`s."""

    kernel_type: type[Any] = CPUTritonKernel
    split_scan_kernel_type = CPUSplitScanKernel


class _CacheIdentity(CustomGraphModulePass):
    """Changes nothing; puts the compiler, the runtime and the processor into the cache key of CPU graphs."""

    def __call__(self, gm: torch.fx.GraphModule) -> None:
        pass

    def uuid(self) -> Any:
        return (*identity(), *devices())


def _register() -> None:
    init_backend_registration()
    scheduling: Any = get_scheduling_for_device("cpu")

    def by_setting(scheduler: Any) -> Any:
        return CPUTritonScheduling(scheduler) if config.cpu_backend == "triton" else scheduling(scheduler)

    register_backend_for_device(
        "cpu",
        by_setting,
        get_wrapper_codegen_for_device("cpu"),  # type: ignore[arg-type]
        get_wrapper_codegen_for_device("cpu", cpp_wrapper=True),
        get_wrapper_codegen_for_device("cpu", fx_wrapper=True),
        device_custom_pass=_CacheIdentity(),
    )
    compat.apply()
    has_triton.cache_clear()  # it knows the backend `cpu`, but was perhaps asked before there was one


_register()
