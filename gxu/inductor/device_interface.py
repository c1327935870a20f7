"""Dynamo's view of the gxu device: torch._dynamo.device_interface.DeviceInterface."""

from __future__ import annotations

from typing import Any

import torch
from torch._dynamo.device_interface import (
    DeviceInterface,
    caching_worker_current_devices,
    caching_worker_device_properties,
    register_interface_for_device,
)

import gxu

DEVICE_TYPE = "gxu"

#: `gxu:0` ... `gxu:15` get an interface of their own. Asking the runtime how many there are would load it into every
#: process that imports Dynamo; a name too many costs nothing, for its calls fail with the runtime's "invalid device".
MAX_INDEXED_DEVICES = 16


def device_index(device: torch.types.Device) -> int | None:
    """Index of a gxu device given as torch.device, string or integer; None stands for the current device."""
    if device is None or isinstance(device, int):
        return device
    device = torch.device(device)
    if device.type != DEVICE_TYPE:
        raise ValueError(f"expected a {DEVICE_TYPE} device, got {device}: pass 'gxu', 'gxu:<index>' or an index")
    return device.index


class GXUInterface(DeviceInterface):
    """Everything is `torch.gxu`'s own function, but for what Inductor asks in worker processes."""

    device = torch.gxu.device  # type: ignore[attr-defined, assignment]
    Event = torch.gxu.Event  # type: ignore[attr-defined, assignment]
    Stream = torch.gxu.Stream  # type: ignore[attr-defined, assignment]

    class Worker(DeviceInterface.Worker):
        """Queries of compile workers, which must not start the runtime: answers come from what the parent recorded."""

        @staticmethod
        def set_device(device: int) -> None:
            caching_worker_current_devices[DEVICE_TYPE] = device

        @staticmethod
        def current_device() -> int:
            if DEVICE_TYPE in caching_worker_current_devices:
                return caching_worker_current_devices[DEVICE_TYPE]
            return torch.gxu.current_device()  # type: ignore[attr-defined]

        @staticmethod
        def get_device_properties(device: torch.types.Device = None) -> Any:
            """Properties of `device`. Without one, in a process that has not used gxu (a compile worker warming its
            caches), None: the runtime stays unloaded, and kernels carry their device's properties in their source."""
            if device is None and not torch.gxu.is_initialized():  # type: ignore[attr-defined]
                return None
            if DEVICE_TYPE not in caching_worker_device_properties:
                caching_worker_device_properties[DEVICE_TYPE] = [
                    torch.gxu.get_device_properties(i)  # type: ignore[attr-defined]
                    for i in range(torch.gxu.device_count())  # type: ignore[attr-defined]
                ]
            index = device_index(device)
            if index is None:
                index = GXUInterface.Worker.current_device()
            return caching_worker_device_properties[DEVICE_TYPE][index]

    current_device = staticmethod(torch.gxu.current_device)  # type: ignore[attr-defined]
    set_device = staticmethod(torch.gxu.set_device)  # type: ignore[attr-defined]
    device_count = staticmethod(torch.gxu.device_count)  # type: ignore[attr-defined]
    stream = staticmethod(torch.gxu.stream)  # type: ignore[attr-defined]
    current_stream = staticmethod(torch.gxu.current_stream)  # type: ignore[attr-defined]
    set_stream = staticmethod(torch.gxu.set_stream)  # type: ignore[attr-defined]
    synchronize = staticmethod(torch.gxu.synchronize)  # type: ignore[attr-defined]
    memory_allocated = staticmethod(torch.gxu.memory_allocated)  # type: ignore[attr-defined]
    get_raw_stream = staticmethod(gxu._C.get_raw_stream)
    exchange_device = staticmethod(gxu._C.exchange_device)
    maybe_exchange_device = staticmethod(gxu._C.maybe_exchange_device)

    @staticmethod
    def _set_stream_by_id(stream_id: int, device_index: int, device_type: int) -> None:
        stream = torch.Stream(stream_id=stream_id, device_index=device_index, device_type=device_type)
        torch.gxu.set_stream(stream)  # type: ignore[attr-defined]

    @staticmethod
    def is_available() -> bool:
        return torch.gxu.is_available()  # type: ignore[attr-defined]

    @classmethod
    def get_device_properties(cls, device: torch.types.Device = None) -> Any:
        return torch.gxu.get_device_properties(device)  # type: ignore[attr-defined]

    @staticmethod
    def get_compute_capability(device: torch.types.Device = None) -> int | str:
        """The architecture in Triton's target, GPUTarget(triton_backend, this, warp_size)."""
        arch = torch.gxu.get_device_properties(device).triton_arch  # type: ignore[attr-defined]
        return int(arch) if arch.isdecimal() else arch

    @staticmethod
    def is_bf16_supported(including_emulation: bool = False) -> bool:
        return True

    @classmethod
    def is_dtype_supported(cls, dtype: torch.dtype, including_emulation: bool = False) -> bool:
        return True

    @staticmethod
    def is_triton_capable(device: torch.types.Device = None) -> bool:
        return True

    @classmethod
    def raise_if_triton_unavailable(cls, device: torch.types.Device = None) -> None:
        """RuntimeError unless the Triton backend that the device names is installed."""
        import triton.backends

        wanted = torch.gxu.get_device_properties(device).triton_backend  # type: ignore[attr-defined]
        # Triton lists NVIDIA's backend under the vendor's name; its target is called cuda.
        wanted = {"cuda": "nvidia", "hip": "amd"}.get(wanted, wanted)
        if wanted not in triton.backends.backends:
            raise RuntimeError(
                f"torch.compile on gxu needs the Triton backend '{wanted}', found {sorted(triton.backends.backends)}: "
                "install the package that provides it (torch-gxu provides 'gxu') and restart Python"
            )


def register_device_interface() -> None:
    """Registers the interface for `gxu` and for every `gxu:<index>`."""
    register_interface_for_device(DEVICE_TYPE, GXUInterface)
    for index in range(MAX_INDEXED_DEVICES):
        register_interface_for_device(f"{DEVICE_TYPE}:{index}", GXUInterface)
