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

from gxu import _C
from gxu._device import get_device_index
from gxu.inductor.device import DEVICE_TYPE, compute_capability, device_module

_gxu = device_module()

#: `gxu:0` ... `gxu:15` get an interface of their own. Asking the runtime how many there are would load it into every
#: process that imports Dynamo; a name too many costs nothing, for its calls fail with the runtime's "invalid device".
MAX_INDEXED_DEVICES = 16


class GXUInterface(DeviceInterface):
    """Everything is `torch.gxu`'s own function, but for what Inductor asks in worker processes."""

    device = _gxu.device  # type: ignore[assignment]
    Event = _gxu.Event  # type: ignore[assignment]
    Stream = _gxu.Stream  # type: ignore[assignment]

    class Worker(DeviceInterface.Worker):
        """Queries of compile workers, which must not start the runtime: answers come from what the parent recorded."""

        @staticmethod
        def set_device(device: int) -> None:
            caching_worker_current_devices[DEVICE_TYPE] = device

        @staticmethod
        def current_device() -> int:
            if DEVICE_TYPE in caching_worker_current_devices:
                return caching_worker_current_devices[DEVICE_TYPE]
            return _gxu.current_device()

        @staticmethod
        def get_device_properties(device: torch.types.Device = None) -> Any:
            """Properties of `device`. Without one, in a process that has not used gxu (a compile worker warming its
            caches), None: the runtime stays unloaded, and kernels carry their device's properties in their source."""
            if device is None and not _gxu.is_initialized():
                return None
            if DEVICE_TYPE not in caching_worker_device_properties:
                caching_worker_device_properties[DEVICE_TYPE] = [
                    _gxu.get_device_properties(i) for i in range(_gxu.device_count())
                ]
            index = GXUInterface.Worker.current_device() if device is None else get_device_index(device)
            return caching_worker_device_properties[DEVICE_TYPE][index]

    current_device = staticmethod(_gxu.current_device)
    set_device = staticmethod(_gxu.set_device)
    device_count = staticmethod(_gxu.device_count)
    stream = staticmethod(_gxu.stream)
    current_stream = staticmethod(_gxu.current_stream)
    set_stream = staticmethod(_gxu.set_stream)
    synchronize = staticmethod(_gxu.synchronize)
    memory_allocated = staticmethod(_gxu.memory_allocated)
    get_raw_stream = staticmethod(_C.get_raw_stream)
    exchange_device = staticmethod(_C.exchange_device)
    maybe_exchange_device = staticmethod(_C.maybe_exchange_device)

    @staticmethod
    def _set_stream_by_id(stream_id: int, device_index: int, device_type: int) -> None:
        stream = torch.Stream(stream_id=stream_id, device_index=device_index, device_type=device_type)
        _gxu.set_stream(stream)

    @staticmethod
    def is_available() -> bool:
        return _gxu.is_available()

    @classmethod
    def get_device_properties(cls, device: torch.types.Device = None) -> Any:
        return _gxu.get_device_properties(device)

    @staticmethod
    def get_compute_capability(device: torch.types.Device = None) -> int | str:
        """What Inductor needs of Triton's target: `gxu.inductor.device.compute_capability`."""
        properties = _gxu.get_device_properties(device)
        return compute_capability(properties.triton_backend, properties.triton_arch)

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

        wanted = _gxu.get_device_properties(device).triton_backend
        # Triton lists NVIDIA's backend under the vendor's name; its target is called cuda.
        wanted = {"cuda": "nvidia", "hip": "amd"}.get(wanted, wanted)
        if wanted not in triton.backends.backends:
            raise RuntimeError(
                f"torch.compile on {DEVICE_TYPE} needs the Triton backend '{wanted}', found "
                f"{sorted(triton.backends.backends)}: install the package that provides it (torch-gxu provides 'gxu') "
                "and restart Python"
            )


def register_device_interface() -> None:
    """Registers the interface for `gxu` and for every `gxu:<index>`."""
    register_interface_for_device(DEVICE_TYPE, GXUInterface)
    for index in range(MAX_INDEXED_DEVICES):
        register_interface_for_device(f"{DEVICE_TYPE}:{index}", GXUInterface)
