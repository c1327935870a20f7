"""The CPU that code is generated for."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

# Of the last cache, where the system does not say.
_USUAL_CACHE_BYTES = 32 << 20
AVX512_BYTES = 64  # of a vector register, where the CPU has the F, BW, VL and DQ parts of AVX-512
# What /proc/cpuinfo says of make and abilities, on x86 and on Arm; its other lines change while the system runs.
_LASTING = (
    "vendor_id", "cpu family", "model", "model name", "stepping", "flags",
    "CPU implementer", "CPU architecture", "CPU variant", "CPU part", "CPU revision", "Features",
)  # fmt: skip


@dataclass(frozen=True)
class Target:
    """``features`` is LLVM's feature string of the machine, ``versions`` those of LLVM and its Python interface.

    ``cache_bytes`` is the size of the machine's last cache.
    """

    triple: str
    cpu: str
    features: str
    vector_bytes: int
    versions: str = ""
    cache_bytes: int = _USUAL_CACHE_BYTES

    @property
    def stores_past_caches(self) -> bool:
        """Whether whole vectors can be stored without reading their cache lines, and a fence orders such stores."""
        return self.triple.startswith("x86_64")

    def has(self, feature: str) -> bool:
        """Whether the CPU has an LLVM feature, such as ``avx512bf16``."""
        return f"+{feature}" in self.features.split(",")

    def identity(self) -> str:
        return f"{self.triple}/{self.cpu}/{self.features}/{self.cache_bytes}/{self.versions}"


@functools.cache
def host_target() -> Target:
    """The machine that this process runs on.

    LLVM's answer is kept in Triton's cache: a process that finds its kernels there never loads LLVM (36 MB).
    """
    from triton.runtime.cache import get_cache_manager

    key = _processor()
    if key is None:
        return _ask_llvm()
    manager = get_cache_manager(key)
    path = manager.get_file("target.json")
    if path is not None:
        with contextlib.suppress(OSError, ValueError, TypeError):  # a damaged file, which is written again
            return Target(**json.loads(Path(path).read_text()))
    target = _ask_llvm()
    manager.put(json.dumps(asdict(target)), "target.json", binary=False)
    return target


def _processor() -> str | None:
    """A hash of what the system says of its processor, of llvmlite's version, and of this file; None where the system
    says nothing."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return None
    lasting = sorted({line for line in lines if line.partition(":")[0].strip() in _LASTING})
    if not lasting:
        return None
    parts = [*lasting, platform.machine(), importlib.metadata.version("llvmlite"), str(_cache_bytes())]
    parts.append(Path(__file__).read_text())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _ask_llvm() -> Target:
    import llvmlite
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    features = llvm.get_host_cpu_features()
    vector_bytes = 16
    if features.get("avx512f") and features.get("avx512bw") and features.get("avx512vl") and features.get("avx512dq"):
        vector_bytes = AVX512_BYTES
    elif features.get("avx2"):
        vector_bytes = 32
    return Target(
        llvm.get_process_triple(),
        llvm.get_host_cpu_name(),
        features.flatten(),
        vector_bytes,
        f"llvm{'.'.join(map(str, llvm.llvm_version_info))}/llvmlite{llvmlite.__version__}",
        _cache_bytes(),
    )


def _cache_bytes() -> int:
    """Bytes of the last cache that the system knows of."""
    names = [name for name in ("SC_LEVEL3_CACHE_SIZE", "SC_LEVEL2_CACHE_SIZE") if name in os.sysconf_names]
    return next((size for name in names if (size := os.sysconf(name)) > 0), _USUAL_CACHE_BYTES)
