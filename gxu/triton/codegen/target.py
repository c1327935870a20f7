"""The CPU that code is generated for."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import llvmlite
import llvmlite.binding as llvm

AVX512_BYTES = 64  # of a vector register, where the CPU has the F, BW, VL and DQ parts of AVX-512


@dataclass(frozen=True)
class Target:
    """``features`` is LLVM's feature string of the machine."""

    triple: str
    cpu: str
    features: str
    vector_bytes: int

    def has(self, feature: str) -> bool:
        """Whether the CPU has an LLVM feature, such as ``avx512bf16``."""
        return f"+{feature}" in self.features.split(",")

    def identity(self) -> str:
        versions = f"llvm{'.'.join(map(str, llvm.llvm_version_info))}/llvmlite{llvmlite.__version__}"
        return f"{self.triple}/{self.cpu}/{self.features}/{versions}"


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
    )
