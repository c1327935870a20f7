"""Registers gxu with Inductor."""

from __future__ import annotations

from torch._inductor.codegen.common import register_backend_for_device

from gxu.inductor import compat, config, cpp_wrapper, device_op_overrides, rng, templates
from gxu.inductor.cache_identity import GXUBackendPass
from gxu.inductor.cpp_wrapper import GXUCppWrapper
from gxu.inductor.device import DEVICE_TYPE
from gxu.inductor.device_interface import register_device_interface
from gxu.inductor.fx_wrapper import GXUWrapperFxCodegen
from gxu.inductor.scheduling import GXUTritonScheduling
from gxu.inductor.wrapper import GXUPythonWrapperCodegen

#: The names that Inductor's automatic discovery reads from the device module, `torch.gxu`.
DISCOVERED = {
    "Scheduling": GXUTritonScheduling,
    "PythonWrapperCodegen": GXUPythonWrapperCodegen,
    "CppWrapperCodegen": GXUCppWrapper,
    "WrapperFxCodegen": GXUWrapperFxCodegen,
}

_backend_pass = GXUBackendPass()


def register() -> None:
    """Registers the device with Inductor. Idempotent; touches neither the runtime nor other devices."""
    register_device_interface()
    device_op_overrides.register()
    cpp_wrapper.register()
    register_backend_for_device(
        DEVICE_TYPE,
        GXUTritonScheduling,
        GXUPythonWrapperCodegen,
        GXUCppWrapper,
        GXUWrapperFxCodegen,
        device_custom_pass=_backend_pass,
        device_custom_config=config,  # type: ignore[arg-type]
    )
    rng.register()
    templates.register()
    compat.apply()
