"""The CPU that code is generated for."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass

import llvmlite
import llvmlite.binding as llvm

# Of the last cache, where the system does not say.
_USUAL_CACHE_BYTES = 32 << 20
AVX512_BYTES = 64  # of a vector register, where the CPU has the F, BW, VL and DQ parts of AVX-512


@dataclass(frozen=True)
class Target:
    """``features`` is LLVM's feature string of the machine, ``cache_bytes`` the size of its last cache."""

    triple: str
    cpu: str
    features: str
    vector_bytes: int
    cache_bytes: int = _USUAL_CACHE_BYTES

    @property
    def stores_past_caches(self) -> bool:
        """Whether whole vectors can be stored without reading their cache lines, and a fence orders such stores."""
        return self.triple.startswith("x86_64")

    def has(self, feature: str) -> bool:
        """Whether the CPU has an LLVM feature, such as ``avx512bf16``."""
        return f"+{feature}" in self.features.split(",")

    def identity(self) -> str:
        versions = f"llvm{'.'.join(map(str, llvm.llvm_version_info))}/llvmlite{llvmlite.__version__}"
        return f"{self.triple}/{self.cpu}/{self.features}/{self.cache_bytes}/{versions}"


@functools.cache
def host_target() -> Target:
    """The machine that this process runs on."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
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
        _cache_bytes(),
    )


def _cache_bytes() -> int:
    """Bytes of the last cache that the system knows of."""
    names = [name for name in ("SC_LEVEL3_CACHE_SIZE", "SC_LEVEL2_CACHE_SIZE") if name in os.sysconf_names]
    return next((size for name in names if (size := os.sysconf(name)) > 0), _USUAL_CACHE_BYTES)
