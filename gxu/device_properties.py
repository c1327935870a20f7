"""What the runtime reports about a device."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from gxu import _C


@dataclasses.dataclass(frozen=True)
class DeviceProperties:
    """Properties of a device, under torch.cuda's names where it has one. Sizes are in bytes."""

    name: str
    uuid: str
    major: int
    minor: int
    total_memory: int
    multi_processor_count: int
    warp_size: int
    max_threads_per_block: int
    max_threads_per_multi_processor: int
    regs_per_multiprocessor: int
    shared_memory_per_block: int
    shared_memory_per_multiprocessor: int
    L2_cache_size: int
    #: Per compute unit.
    L1_cache_size: int
    clock_rate_khz: int
    #: Programs that a grid is best at most, or a multiple of; 0: no preference.
    max_grid_size: int
    #: 0: no preference.
    preferred_num_warps: int
    #: Width of one vector register; 0: not meaningful.
    vector_bytes: int
    #: The CPU may dereference device pointers.
    host_accessible: bool
    #: Kernels of two streams may run at the same time.
    concurrent_kernels: bool
    #: Triton's GPUTarget(triton_backend, triton_arch, warp_size).
    triton_backend: str
    triton_arch: str
    #: PyTorch device type that runs operators on the device's memory, or "".
    delegate: str

    # torch.cuda's properties have these names as well.
    @property
    def max_threads_per_multiprocessor(self) -> int:
        return self.max_threads_per_multi_processor

    @property
    def shared_memory_per_block_optin(self) -> int:
        return self.shared_memory_per_block

    @property
    def clock_rate(self) -> int:
        """kHz, as torch.cuda reports it."""
        return self.clock_rate_khz

    @property
    def is_integrated(self) -> bool:
        return self.host_accessible


@functools.cache
def query(index: int) -> DeviceProperties:
    """Properties of the device `index`; RuntimeError where there is none."""
    properties: dict[str, Any] = _C.get_device_properties(index)
    return DeviceProperties(**properties)
