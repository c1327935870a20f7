"""torch.gxu: the device module, with the names that users of torch.cuda expect.

Nothing here starts the runtime before a function needs a device: is_available, device_count, manual_seed and the like
can be called before a fork.
"""

from __future__ import annotations

import atexit
import threading
import time
from typing import Any

import torch

from gxu import _C, amp, device_properties, graphs, memory, nvtx, random, streams
from gxu._device import (
    DeviceLike,
    device,
    device_of,
    get_device_index,
    set_device,
)
from gxu._device import (
    _DeviceGuard as _DeviceGuard,
)
from gxu._name import DEVICE_TYPE
from gxu.amp import get_amp_supported_dtype, is_autocast_available
from gxu.device_properties import DeviceProperties
from gxu.graphs import (
    CUDAGraph,
    Graph,
    GXUGraph,
    graph,
    graph_pool_handle,
    is_current_stream_capturing,
    make_graphed_callables,
)
from gxu.memory import (
    MemPool,
    caching_allocator_alloc,
    caching_allocator_delete,
    empty_cache,
    get_allocator_backend,
    get_per_process_memory_fraction,
    ipc_collect,
    list_gpu_processes,
    max_memory_allocated,
    max_memory_cached,
    max_memory_reserved,
    mem_get_info,
    memory_allocated,
    memory_cached,
    memory_reserved,
    memory_snapshot,
    memory_stats,
    memory_stats_as_nested_dict,
    memory_summary,
    reset_accumulated_memory_stats,
    reset_max_memory_allocated,
    reset_max_memory_cached,
    reset_peak_memory_stats,
    set_per_process_memory_fraction,
    use_mem_pool,
)
from gxu.random import (
    get_rng_state,
    get_rng_state_all,
    initial_seed,
    manual_seed,
    manual_seed_all,
    seed,
    seed_all,
    set_rng_state,
    set_rng_state_all,
)
from gxu.streams import (
    Event,
    ExternalStream,
    Stream,
    StreamContext,
    current_stream,
    default_stream,
    set_stream,
    stream,
    synchronize,
)
from gxu.tensor_types import (
    BFloat16Tensor,
    BoolTensor,
    ByteTensor,
    CharTensor,
    DoubleTensor,
    FloatTensor,
    HalfTensor,
    IntTensor,
    LongTensor,
    ShortTensor,
)

__all__ = [
    "AcceleratorError",
    "BFloat16Tensor",
    "BoolTensor",
    "ByteTensor",
    "CUDAGraph",
    "CharTensor",
    "DeviceProperties",
    "DoubleTensor",
    "Event",
    "ExternalStream",
    "FloatTensor",
    "GXUGraph",
    "Graph",
    "HalfTensor",
    "IntTensor",
    "LongTensor",
    "MemPool",
    "OutOfMemoryError",
    "ShortTensor",
    "Stream",
    "StreamContext",
    "amp",
    "caching_allocator_alloc",
    "caching_allocator_delete",
    "can_device_access_peer",
    "current_device",
    "current_stream",
    "default_generators",
    "default_stream",
    "device",
    "device_count",
    "device_memory_used",
    "device_of",
    "empty_cache",
    "get_allocator_backend",
    "get_amp_supported_dtype",
    "get_arch_list",
    "get_device_capability",
    "get_device_name",
    "get_device_properties",
    "get_per_process_memory_fraction",
    "get_rng_state",
    "get_rng_state_all",
    "get_stream_from_external",
    "graph",
    "graph_pool_handle",
    "graphs",
    "init",
    "initial_seed",
    "ipc_collect",
    "is_autocast_available",
    "is_available",
    "is_bf16_supported",
    "is_current_stream_capturing",
    "is_initialized",
    "is_tf32_supported",
    "list_gpu_processes",
    "make_graphed_callables",
    "manual_seed",
    "manual_seed_all",
    "max_memory_allocated",
    "max_memory_cached",
    "max_memory_reserved",
    "mem_get_info",
    "memory",
    "memory_allocated",
    "memory_cached",
    "memory_reserved",
    "memory_snapshot",
    "memory_stats",
    "memory_stats_as_nested_dict",
    "memory_summary",
    "nvtx",
    "random",
    "reset_accumulated_memory_stats",
    "reset_max_memory_allocated",
    "reset_max_memory_cached",
    "reset_peak_memory_stats",
    "seed",
    "seed_all",
    "set_device",
    "set_per_process_memory_fraction",
    "set_rng_state",
    "set_rng_state_all",
    "set_stream",
    "stream",
    "streams",
    "synchronize",
    "use_mem_pool",
]

AcceleratorError = torch.AcceleratorError
OutOfMemoryError = torch.OutOfMemoryError

#: One generator a device; empty until the runtime is started.
default_generators: tuple[torch.Generator, ...] = ()

_initialization_lock = threading.RLock()


def is_available() -> bool:
    """True where a runtime library can be loaded and reports a device."""
    return device_count() > 0


def is_initialized() -> bool:
    """True once something has used a device in this process."""
    return _C.is_initialized()


def _is_in_bad_fork() -> bool:
    """True in a child that was forked after its parent had started the runtime: gxu cannot be used there."""
    return _C.is_in_bad_fork()


def init() -> None:
    """Starts the runtime; everything that needs a device does so by itself."""
    _lazy_init()


def _lazy_init() -> None:
    global default_generators
    _C.init()
    if default_generators:
        return
    with _initialization_lock:
        if not default_generators:
            generators = tuple(_C.default_generator(index) for index in range(_C.device_count()))
            random.seed_new_generators()
            atexit.register(_let_autograd_threads_finish)
            default_generators = generators


def _let_autograd_threads_finish() -> None:
    """Gives autograd's thread of the device the GIL once more before the interpreter goes.

    `backward` returns before that thread has dropped its last references to Python objects. Where the interpreter is
    being finalized at that moment, CPython ends the thread from within a destructor, and the process aborts.
    """
    time.sleep(0.002)


def device_count() -> int:
    """Number of devices, 0 where there is no usable runtime."""
    return _C.device_count_or_zero()


def current_device() -> int:
    """Index of this thread's current device."""
    return _C.current_device()


def get_device_properties(device: DeviceLike = None) -> DeviceProperties:
    """What the runtime reports about `device`, the current one where None."""
    return device_properties.query(get_device_index(device))


def get_device_name(device: DeviceLike = None) -> str:
    return get_device_properties(device).name


def get_device_capability(device: DeviceLike = None) -> tuple[int, int]:
    """(major, minor) of the device."""
    properties = get_device_properties(device)
    return properties.major, properties.minor


def get_arch_list() -> list[str]:
    """Triton targets of the devices in this machine, as `backend:arch`."""
    targets = (get_device_properties(index) for index in range(device_count()))
    return sorted({f"{target.triton_backend}:{target.triton_arch}" for target in targets})


def can_device_access_peer(device: DeviceLike, peer_device: DeviceLike) -> bool:
    """True where kernels on `device` can read the memory of `peer_device`."""
    return _C.can_access_peer(get_device_index(device), get_device_index(peer_device))


def get_stream_from_external(data_ptr: int, device: DeviceLike = None) -> Stream:
    """The stream behind a gxuStream_t that somebody else created and keeps alive."""
    return ExternalStream(data_ptr, device)


def is_bf16_supported(including_emulation: bool = True) -> bool:
    """True: kernels compute bf16 in fp32 where the hardware has no instructions for it."""
    return True


def is_tf32_supported() -> bool:
    """False: products of float32 are computed in float32."""
    return False


def device_memory_used(device: DeviceLike = None) -> int:
    """Bytes of the device that are in use, by this process and by others."""
    free, total = memory.mem_get_info(device)
    return total - free


def __getattr__(name: str) -> Any:
    """`_initialized`, by which torch.utils.checkpoint decides whether there are random states to save, and the names
    that Inductor's device discovery reads: four, whose module takes a second to import."""
    if name == "_initialized":
        return is_initialized()
    from gxu.inductor import activation

    if name in activation.DISCOVERED_NAMES:
        return activation.discovered(name)
    raise AttributeError(f"module 'torch.{DEVICE_TYPE}' has no attribute '{name}'")
