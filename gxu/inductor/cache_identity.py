"""What compiled code depends on beside the graph: gxu's sources, the runtime library, the processor, the device.

Inductor hashes nothing about a device that it does not know, so a cache could serve code of another driver or
compiler. The identity enters the FX-graph key as the `uuid` of the device's custom pass.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
from pathlib import Path
from typing import Any

import torch
import triton
from torch._inductor.custom_graph_pass import CustomGraphModulePass

import gxu
from gxu import _C
from gxu.inductor import compat
from gxu.inductor.device import DEVICE_TYPE

#: A library up to this size (bytes) is known by its contents, a larger one by its size and time of modification.
_HASHED_LIBRARY_SIZE = 64 << 20


def _sources_digest() -> str:
    """Digest of the Python sources that generate or compile code."""
    package = Path(gxu.__file__).parent
    digest = hashlib.sha256()
    for path in sorted([*(package / "inductor").rglob("*.py"), *(package / "triton").rglob("*.py")]):
        digest.update(path.relative_to(package).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _library_identity(path: Path) -> str:
    if not path.is_file():
        return "missing"
    stat = path.stat()
    if stat.st_size > _HASHED_LIBRARY_SIZE:
        return f"{path}:{stat.st_size}:{stat.st_mtime_ns}"
    return hashlib.sha256(path.read_bytes()).hexdigest()


@functools.cache
def _processor() -> str:
    """Model and instruction sets of the CPU, which the host engine's kernels are compiled for."""
    wanted = ("model name", "flags", "Features", "CPU part")
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(line for line in lines if line.partition(":")[0].strip() in wanted)


@functools.cache
def identity() -> tuple[str, ...]:
    """Everything that a cached graph for gxu depends on. Reads files only: the runtime stays unloaded."""
    return (
        f"sources:{_sources_digest()}",
        f"runtime:{_library_identity(Path(_C.runtime_path()))}",
        f"abi:{_C.ABI_VERSION}",
        f"processor:{hashlib.sha256(_processor().encode()).hexdigest()}",
        f"sanitize:{os.environ.get('GXU_SANITIZE') == '1'}",
        f"torch:{torch.__version__} triton:{triton.__version__}",
    )


def _device_properties(index: int) -> dict[str, Any]:
    return _C.get_device_properties(index)


#: Properties that say nothing about the code that is generated.
_IRRELEVANT = {"uuid", "total_memory"}


def devices() -> tuple[str, ...]:
    """What the devices report. Empty before the runtime is loaded: nothing was compiled for them then, and asking
    would load it in programs that compile for the CPU alone."""
    if not _C.is_initialized():
        return ()
    return tuple(
        str(sorted((key, value) for key, value in _device_properties(index).items() if key not in _IRRELEVANT))
        for index in range(_C.device_count())
    )


class GXUBackendPass(CustomGraphModulePass):
    """The device's custom pass: moves small constructors to the device, and carries the cache identity."""

    def __call__(self, gm: torch.fx.GraphModule) -> None:
        from torch._inductor import config as inductor_config
        from torch._inductor.fx_passes.post_grad import ConstructorMoverPass

        values = (node.meta.get("val") for node in gm.graph.nodes)
        if not any(isinstance(value, torch.Tensor) and value.device.type == "cpu" for value in values):
            return
        # Inductor runs this for `get_gpu_type()` only, which gxu is not. Scalars that stay on the CPU would keep the
        # kernels that read them out of captured graphs, where those are cut at what cannot be captured.
        cut_graphs = bool(inductor_config.triton.cudagraphs and inductor_config.graph_partition)
        updater = compat.fake_tensor_updater(gm)
        ConstructorMoverPass(DEVICE_TYPE, allow_inputs=cut_graphs, allow_outputs=cut_graphs)(gm.graph)
        updater.incremental_update()

    def uuid(self) -> Any:
        return (*identity(), *devices())
