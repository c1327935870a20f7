"""Pools of PyTorch's CUDA allocator for graphs of a device whose operators run on PyTorch's cuda kernels.

Those kernels take the memory of their results from CUDA's allocator. What a capture takes of it must not be given to
others while the graph lives, so it comes from a pool that the graph holds, as in torch.cuda.graph.
"""

from __future__ import annotations

import weakref

import torch

from gxu import _C

PoolHandle = tuple[int, int]

#: CUDA's pool for each of gxu's: graphs that share one share the other.
_pools: dict[PoolHandle, PoolHandle] = {}


class CudaPool:
    """The part in a CUDA pool that one graph has, from its capture until it is reset or collected."""

    def __init__(self, device: int, pool: PoolHandle) -> None:
        self.device, self.handle = device, _pools.setdefault(pool, torch.cuda.graph_pool_handle())
        self._is_open = True
        # Of all threads: backward passes run on one of their own.
        torch._C._cuda_beginAllocateToPool(device, self.handle)
        _C.count_open_cuda_pools(1)
        self._release = weakref.finalize(self, torch._C._cuda_releasePool, device, self.handle)

    def close(self) -> None:
        """The capture has ended: CUDA's memory comes from where it came before. The second call does nothing."""
        if self._is_open:
            self._is_open = False
            _C.count_open_cuda_pools(-1)
            torch._C._cuda_endAllocateToPool(self.device, self.handle)

    def release(self) -> None:
        """The graph does not need the memory any more."""
        self.close()
        self._release()


def open_pool(pool: PoolHandle) -> CudaPool | None:
    """A part in the CUDA pool for the gxu pool `pool`, on the current device; None where operators do not run there."""
    if not torch.backends.cuda.is_built():
        return None
    device = _C.current_device()
    return CudaPool(device, pool) if _C.delegates_to_cuda(device) else None
