"""Kernels that a vendor's Triton backend compiled, such as Triton's own for NVIDIA: loading them, and launching them
through the runtime as that backend's compiler expects.

A compiled kernel has the parameters that its source has without the constants, then a pointer to scratch memory of the
launch and one for profiles (``global_scratch_size`` and ``profile_scratch_size`` of its metadata, bytes a program; null
where that is 0). A program is a cluster of ``num_ctas`` blocks of ``num_warps`` warps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from triton.runtime import _allocation

from gxu.triton import driver

# Kernel attributes of gxu_runtime.h and gxu_function_attributes.h.
_MAX_THREADS_PER_BLOCK = 0
_LOCAL_SIZE_BYTES = 3
_NUM_REGS = 4
_MAX_DYNAMIC_SHARED_MEMORY = 8
_CLUSTER_WIDTH = 11
_COOPERATIVE = 14
_PROGRAMMATIC_SERIALIZATION = 15

# In the order of a kernel's parameters: the size of the metadata, and who allocates.
_SCRATCH = (("global_scratch", "_allocator"), ("profile_scratch", "_profile_allocator"))


def load_binary(name: str, kernel: bytes, shared: int, device: int) -> tuple[int, int, int, int, int]:
    """(module, function, registers, spilled registers, largest block) of a kernel image, whose launches take `shared`
    bytes of shared memory; the handles are the runtime's. RuntimeError where the runtime does not take the image."""
    from gxu import _C

    module = _C.module_load_data(kernel, name)
    function = _C.module_get_function(module, name)
    if shared:
        _C.func_set_attribute(function, _MAX_DYNAMIC_SHARED_MEMORY, shared)
    registers = _C.func_get_attribute(function, _NUM_REGS) or 0
    spills = (_C.func_get_attribute(function, _LOCAL_SIZE_BYTES) or 0) // 4
    largest = _C.func_get_attribute(function, _MAX_THREADS_PER_BLOCK)
    return module, function, registers, spills, largest or _C.get_device_properties(device)["max_threads_per_block"]


def _launch_attributes(metadata: Any) -> list[tuple[int, int]]:
    """What launches of a kernel ask for beside their grid: attributes and values of its function."""
    wanted = (
        (_CLUSTER_WIDTH, getattr(metadata, "num_ctas", 1), 1),
        (_COOPERATIVE, int(getattr(metadata, "launch_cooperative_grid", False)), 0),
        (_PROGRAMMATIC_SERIALIZATION, int(getattr(metadata, "launch_pdl", False)), 0),
    )
    return [(attribute, value) for attribute, value, usual in wanted if value != usual]


def _scratch(metadata: Any) -> list[tuple[int, int, Any]]:
    """(bytes a block, alignment, Triton's variable with the allocator) for each scratch parameter."""
    return [
        (getattr(metadata, f"{name}_size"), getattr(metadata, f"{name}_align"), getattr(_allocation, allocator))
        for name, allocator in _SCRATCH
        if hasattr(metadata, f"{name}_size")
    ]


def _reject_tensor_maps(src: Any, metadata: Any) -> None:
    maps = [meta for meta in getattr(metadata, "tensordesc_meta", None) or () if meta]
    if maps:
        raise NotImplementedError(
            f"kernel {src.fn.__name__} takes a tensor descriptor that was made on the host, which hardware of "
            f"{metadata.target.backend}:{metadata.target.arch} wants as a tensor map; make it in the kernel, with "
            "tl.make_tensor_descriptor"
        )


class _Arguments:
    """One entry for each character of the launch signature, from what Triton passes to a launcher."""

    def __init__(self, types: Sequence[Any]) -> None:
        self.types = types
        self.plain = all(isinstance(kind, str) and not kind.startswith("tensordesc") for kind in types)

    def __call__(self, args: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(args) if self.plain else tuple(driver.flatten(self.types, args))


def make_launcher(src: Any, metadata: Any) -> Callable[..., None]:
    """What Triton calls to launch a compiled kernel.

    Where launches need no scratch memory, Inductor reads `signature` and `direct` of it and goes to `gxu._C.launch`
    itself: `direct` has the rest of the signature, the arguments for it as source, the threads of a program and the
    bytes of its shared memory.
    """
    from gxu import _C

    _reject_tensor_maps(src, metadata)
    types = list(src.signature.values())
    arguments = _Arguments(types)
    scratch = _scratch(metadata)
    signature = driver.packed_signature(types)
    full_signature = signature + "p" * len(scratch)
    attributes = _launch_attributes(metadata)
    blocks = getattr(metadata, "num_ctas", 1)
    threads = metadata.num_warps * metadata.target.warp_size
    shared = metadata.shared
    launch = _C.launch
    prepared: set[int] = set()

    def prepare(function: int) -> None:
        for attribute, value in attributes:
            _C.func_set_attribute(function, attribute, value)
        prepared.add(function)

    def run(
        grid_x: int,
        grid_y: int,
        grid_z: int,
        stream: int,
        function: int,
        packed_metadata: Any,
        launch_metadata: Any,
        enter_hook: Any,
        exit_hook: Any,
        *args: Any,
    ) -> None:
        if enter_hook is not None and getattr(enter_hook, "calls", True):
            enter_hook(launch_metadata)
        if grid_x and grid_y and grid_z:
            if attributes and function not in prepared:
                prepare(function)
            grid = grid_x * blocks
            memory = [
                allocator.get()(grid * grid_y * grid_z * size, align, stream) if size else None
                for size, align, allocator in scratch
            ]
            values = (*arguments(args), *memory)
            launch(function, grid, grid_y, grid_z, stream, full_signature, values, threads, shared)
        if exit_hook is not None and getattr(exit_hook, "calls", True):
            exit_hook(launch_metadata)

    if arguments.plain and not attributes and not any(size for size, _, _ in scratch):
        run.signature = signature  # type: ignore[attr-defined]
        run.direct = ("p" * len(scratch), "None, " * len(scratch), threads, shared)  # type: ignore[attr-defined]
    return run
