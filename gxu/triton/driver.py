"""Triton's driver plugin for gxu: the active device and stream, loading of kernel images, and the launcher.

Nothing here touches the runtime before a kernel is loaded: compile workers import this module too.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Sequence
from typing import Any

from triton.backends.compiler import GPUTarget
from triton.backends.driver import DriverBase

from .image import check

# One character a parameter, as gxu._C.launch reads them.
_SIGNATURE = {
    "i1": "?",
    "u1": "?",
    "i8": "b",
    "i16": "h",
    "i32": "i",
    "i64": "l",
    "u8": "B",
    "u16": "H",
    "u32": "I",
    "u64": "L",
    "fp16": "e",
    "bf16": "y",
    "fp32": "f",
    "f32": "f",
    "fp64": "d",
    "constexpr": "-",
}
# A host-made tensor descriptor, for instance ``tensordesc<fp32[16,64]>``; the group is the block's shape.
_DESCRIPTOR = re.compile(r"tensordesc<[^\[>]*\[([^\]]*)\]")
# A kernel asks for warps as a hint to a GPU's scheduler; this target takes any number.
_MAX_THREADS = 1 << 20
# Registers of a thread, nominal: programs that work out how many kernels fit on a device divide by them.
_REGISTERS = 32


def packed_signature(types: Sequence[Any]) -> str:
    """The launch signature of a kernel's parameter types as Triton names them; tuples are flattened in order."""
    parts = []
    for kind in types:
        if isinstance(kind, (tuple, list)):
            parts.append(packed_signature(kind))
        elif kind.startswith("*"):
            parts.append("p")
        elif kind in _SIGNATURE:
            parts.append(_SIGNATURE[kind])
        elif descriptor := _DESCRIPTOR.match(kind):
            rank = descriptor[1].count(",") + 1
            # What the descriptor became in the kernel, then the shape and the strides that the frontend adds to it.
            flags = "??" if _descriptors_round() else "?"
            parts.append("p" + "l" * rank + "l" * rank + flags + "i" * rank + "l" * rank)
        else:
            raise TypeError(f"a kernel parameter of type {kind} cannot be passed to gxu")
    return "".join(parts)


def is_plain(kind: Any) -> bool:
    """Whether a parameter of this type is one argument of a launch: no tuple, no descriptor made on the host."""
    return isinstance(kind, str) and _DESCRIPTOR.match(kind) is None


def flatten(types: Sequence[Any], args: Sequence[Any]) -> list[Any]:
    """One entry for each character of ``packed_signature(types)``. A constexpr stays one entry, tuple or not."""
    flat: list[Any] = []
    for kind, arg in zip(types, args, strict=True):
        if isinstance(kind, (tuple, list)):
            flat += flatten(kind, arg)
        elif is_plain(kind):
            flat.append(arg)
        else:
            shape, strides = tuple(arg.shape), tuple(arg.strides)
            rounds = (getattr(arg, "round_f32_to_tf32", False),) if _descriptors_round() else ()
            flat += (arg.base, *shape, *strides, arg.padding == "nan", *rounds, *shape, *strides)
    return flat


@functools.cache
def _descriptors_round() -> bool:
    """Whether descriptors say if they round fp32 to tf32: since Triton 3.7, whose kernels have a parameter for that."""
    from triton.tools.tensor_descriptor import TensorDescriptor

    return hasattr(TensorDescriptor, "round_f32_to_tf32")


def make_launcher(src: Any, metadata: Any) -> Callable[..., None]:
    """What Triton calls to launch a compiled kernel."""
    if metadata.target.backend == "cpu":
        from . import cpu

        return cpu.make_launcher(src, metadata)
    # Which compiler made the image, whatever the target is called: a vendor's may be gxu's, too.
    if getattr(metadata, "backend_name", "gxu") != "gxu":
        from . import vendor

        return vendor.make_launcher(src, metadata)
    return launcher_of(src, metadata)


def launcher_of(src: Any, metadata: Any) -> Callable[..., None]:
    """The one launcher in C++, with the packed signature of this kernel.

    A function and not an object with ``__call__``, and the hooks looked at in it: a launch takes six microseconds, of
    which methods and calls in between were a fifteenth.
    """
    from gxu import _C

    from . import aliasing

    types = list(src.signature.values())
    flat = all(map(is_plain, types))
    signature = packed_signature(types)
    launch = _C.launch
    meets = aliasing.checker(aliasing.pairs(signature, metadata))
    version = aliasing.Version(src, metadata)

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
        # Triton's hook chains are objects even when nobody listens.
        if enter_hook is not None and getattr(enter_hook, "calls", True):
            enter_hook(launch_metadata)
        if grid_x and grid_y and grid_z:
            if not flat:
                args = tuple(flatten(types[: len(args)], args))
            if meets is not None and meets(args):
                function = version.function
            launch(function, grid_x, grid_y, grid_z, stream, signature, args)
        if exit_hook is not None and getattr(exit_hook, "calls", True):
            exit_hook(launch_metadata)

    run.signature = signature  # type: ignore[attr-defined]  # Inductor's launcher passes it on by itself
    return run


class GXUUtils:
    """What Triton asks of a device's driver library."""

    def get_device_properties(self, device: int) -> dict[str, Any]:
        from gxu import _C

        properties = _C.get_device_properties(device)
        return {
            "max_shared_mem": properties["shared_memory_per_block"],
            "max_num_regs": properties["regs_per_multiprocessor"],
            "multiprocessor_count": properties["multi_processor_count"],
            "warpSize": properties["warp_size"],
            "sm_clock_rate": properties["clock_rate_khz"],
            "mem_clock_rate": 0,
            "mem_bus_width": 0,
        }

    def load_binary(self, name: str, kernel: bytes, shared: int, device: int) -> tuple[int, int, int, int, int]:
        """(module, function, registers, spills, largest block) of a kernel image; the handles are the runtime's."""
        if current_target().backend != "gxu":
            from . import vendor

            return vendor.load_binary(name, kernel, shared, device)
        from gxu import _C

        check(kernel, name)
        module = _C.module_load_data(kernel, name)
        return module, _C.module_get_function(module, name), _REGISTERS, 0, _MAX_THREADS

    def unload_module(self, module: int) -> None:
        from gxu import _C

        _C.module_unload(module)


class GXUDriver(DriverBase):
    def __init__(self) -> None:
        self.utils = GXUUtils()
        self.launcher_cls = make_launcher

    @staticmethod
    def is_active() -> bool:
        """Whether gxu was chosen by TRITON_DEFAULT_BACKEND, or nothing was and no other driver is active."""
        chosen = os.environ.get("TRITON_DEFAULT_BACKEND")
        if chosen:
            return chosen == "gxu"
        from triton.backends import backends

        return not any(backend.driver.is_active() for name, backend in backends.items() if name != "gxu")

    def map_python_to_cpp_type(self, ty: str) -> str:
        raise NotImplementedError(f"gxu compiles no C++ launcher for a kernel, so type {ty!r} has no C++ name")

    def get_current_device(self) -> int:
        from gxu import _C

        device: int = _C.current_device()
        return device

    def set_current_device(self, device: int) -> None:
        from gxu import _C

        _C.set_device(device)

    def get_current_stream(self, device: int | None = None) -> int:
        from gxu import _C

        stream: int = _C.get_raw_stream(self.get_current_device() if device is None else device)
        return stream

    def get_current_target(self) -> GPUTarget:
        return current_target()

    def get_active_torch_device(self) -> Any:
        import torch

        from gxu._name import DEVICE_TYPE

        return torch.device(DEVICE_TYPE, self.get_current_device())

    def get_device_interface(self) -> Any:
        import torch

        from gxu._name import DEVICE_TYPE

        return torch.get_device_module(DEVICE_TYPE)

    def get_benchmarker(self) -> Callable[..., Any]:
        from triton.testing import do_bench

        return do_bench  # type: ignore[no-any-return]

    def get_empty_cache_for_benchmark(self) -> Any:
        """Larger than a last-level cache, so that clearing it leaves nothing of a kernel's inputs."""
        import torch

        from gxu._name import DEVICE_TYPE

        return torch.empty(64 * 1024 * 1024, dtype=torch.int, device=DEVICE_TYPE)

    def clear_cache(self, cache: Any) -> None:
        cache.zero_()


@functools.cache
def current_target() -> GPUTarget:
    """The target that the runtime's properties name. The host engine's is known without loading it."""
    if os.environ.get("GXU_RUNTIME", "host") in ("", "host"):
        return GPUTarget("gxu", 1, 32)
    from gxu import _C

    properties = _C.get_device_properties(0)
    arch = properties["triton_arch"]
    return GPUTarget(properties["triton_backend"], int(arch) if arch.isdigit() else arch, properties["warp_size"])


@functools.cache
def active_driver() -> GXUDriver:
    """The driver of this process."""
    return GXUDriver()
