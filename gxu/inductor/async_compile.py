"""How generated code has its kernels compiled: torch._inductor.async_compile, which starts no workers in vain."""

from __future__ import annotations

from typing import Any

from torch._inductor import async_compile
from torch._inductor.async_compile import CompiledTritonKernels
from torch._inductor.codecache import StaticAutotunerFuture

from gxu.inductor.device import DEVICE_TYPE


class AsyncCompile(async_compile.AsyncCompile):
    """Starts the compile workers for the first kernel that has to be compiled.

    torch's asks whether they are ready, which starts them, before it looks whether the kernel came with the graph from
    a cache. They import torch, Triton and gxu: a second of another core's time in each process that compiles nothing.
    """

    _is_cached = False

    def triton(self, kernel_name: str, source_code: str, device_str: str = DEVICE_TYPE) -> Any:
        self._is_cached = isinstance(CompiledTritonKernels.get(source_code), StaticAutotunerFuture)
        return super().triton(kernel_name, source_code, device_str)

    def use_process_pool(self) -> bool:  # type: ignore[override]  # torch's is a class's method, called on instances
        return not self._is_cached and bool(async_compile.AsyncCompile.use_process_pool())
