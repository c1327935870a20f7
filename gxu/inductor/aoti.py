"""AOTInductor on gxu: what a package needs of the process that loads it.

The requirements are written into the package's metadata; `csrc/aoti/package.cpp` compares them when it is loaded.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch._inductor import config as inductor_config

from gxu import _C
from gxu.inductor.device import device_module

#: Instruction sets, as /proc/cpuinfo names them, that compilers choose by. Other flags do not matter to a package.
_INSTRUCTION_SETS = re.compile(r"avx|amx|fma$|f16c|bmi|sse4|popcnt|vaes|gfni|vpclmul|movbe|asimd|sve|i8mm|bf16|fphp")


def _instruction_sets() -> list[str]:
    """Those that this machine's CPU has: the wrapper is compiled for it, and so are the host engine's kernels."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, flags = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return sorted(flag for flag in flags.split() if _INSTRUCTION_SETS.match(flag))
    return []


def requirements() -> dict[str, str]:
    """Metadata of a package that is being compiled on this machine for the current device."""
    properties = _C.get_device_properties(device_module().current_device())
    return {
        "GXU_TORCH_VERSION": torch.__version__,
        "GXU_SHIM_VERSION": str(_C.SHIM_VERSION),
        "GXU_ABI_VERSION": str(_C.ABI_VERSION),
        "GXU_TARGET": f"{properties['triton_backend']}:{properties['triton_arch']}",
        "GXU_CPU_FLAGS": " ".join(_instruction_sets()),
    }


def record_requirements() -> None:
    """Adds the requirements to the metadata that Inductor writes into the next package."""
    inductor_config.aot_inductor.metadata.update(requirements())
