"""The Triton side of the device `mini`: gxu's compiler and driver, under the device's name.

Kernels that Inductor generates for `mini` import this file, in compile workers too: it must not touch the device.
"""

import triton
from triton.backends.compiler import GPUTarget

from gxu.triton.compiler import GXUBackend
from gxu.triton.driver import GXUDriver

ARCHITECTURE, WARP_SIZE = 1, 32


class MiniCompiler(GXUBackend):
    """Inductor compiles for GPUTarget(<name of the device>, <compute capability>, <warp size>)."""

    @staticmethod
    def supports_target(target):
        return target.backend == "mini"


class MiniDriver(GXUDriver):
    """What Triton asks about the active device, and how it loads and launches kernels (inherited)."""

    @staticmethod
    def is_active():
        return True  # Triton wants exactly one active driver; gxu's own steps back for any other

    def get_current_target(self):
        return GPUTarget("mini", ARCHITECTURE, WARP_SIZE)

    def get_active_torch_device(self):
        import torch

        return torch.device("mini", self.get_current_device())

    def get_device_interface(self):
        import torch

        return torch.mini


# An installed package says this with an entry point of the group `triton.backends` instead.
triton.backends.backends.setdefault("mini", triton.backends.Backend(MiniCompiler, MiniDriver))
