"""Kernel code generation for gxu: torch._inductor.codegen.triton with this device's heuristics."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import sympy
from torch._inductor.codegen.simd_kernel_features import SIMDKernelFeatures
from torch._inductor.codegen.triton import TritonKernel, TritonScheduling
from torch._inductor.codegen.triton_split_scan import TritonSplitScanKernel
from torch._inductor.virtualized import V

from gxu.inductor import block_sizes, choices, compat, complex_copies
from gxu.inductor.heuristics import CONTIGUOUS_KEY, LIMITS_KEY, NUMELS_KEY, SORTS_KEY


class GXUTritonKernel(TritonKernel):
    """A Triton kernel whose decorator is `gxu.inductor.heuristics`', and which tells it what it needs to know.

    The functions that it calls are `gxu.inductor.triton_helpers`'.
    """

    @classmethod
    @lru_cache(None)
    def gen_common_triton_imports(cls) -> str:
        return super().gen_common_triton_imports() + compat.HEURISTICS_IMPORT

    @classmethod
    def inductor_meta_common(cls) -> dict[str, Any]:
        limits = choices.device_limits(V.graph.get_current_device_or_throw())
        return {**super().inductor_meta_common(), LIMITS_KEY: limits.to_meta()}

    def inductor_meta_per_kernel(self) -> dict[str, Any]:
        return {**super().inductor_meta_per_kernel(), **self._own_meta()}

    def codegen_kernel(self, name: str | None = None) -> str:
        with compat.meta_per_kernel(self, self._own_meta):
            code: str = super().codegen_kernel(name)
            return code

    def _own_meta(self) -> dict[str, Any]:
        meta: dict[str, Any] = {NUMELS_KEY: self._static_numels()}
        if self.inside_reduction and not self.persistent_reduction:
            meta[CONTIGUOUS_KEY] = choices.is_contiguous_reduction(self.features)
        if self.features.contains_op("sort"):
            meta[SORTS_KEY] = True
        return meta

    def _static_numels(self) -> dict[str, int]:
        """Extents of the dimensions that are known now: size hints are rounded up to powers of two."""
        numels = {prefix: V.graph.sizevars.simplify(numel) for prefix, numel in self.numels.items()}
        return {prefix: int(numel) for prefix, numel in numels.items() if isinstance(numel, (int, sympy.Integer))}

    def codegen_static_numels(self, code: Any) -> None:
        super().codegen_static_numels(code)
        # Triton takes a number from 2^31 to 2^32 for an unsigned one of 32 bits, and a loop up to it for no loop at all
        # (the bound is compared as if it had a sign). What follows is of 64 bits there.
        for prefix, numel in self._static_numels().items():
            if 2**31 <= numel < 2**32 and (self.inside_reduction or not prefix.startswith("r")):
                code.writeline(f"{prefix}numel = tl.full([], {numel}, tl.int64)")

    def max_block(self, prefix: str) -> int:
        # Inductor drops the mask of a dimension whose extent is a multiple of this: it must bound what
        # gxu.inductor.block_sizes chooses, which is more than torch's own limit.
        if self.fixed_config:
            return self.fixed_config[f"{prefix.upper()}BLOCK"]
        return block_sizes.MAX_BLOCK[prefix.upper()]

    def should_use_persistent_reduction(self) -> bool:
        device = V.graph.get_current_device_or_throw()
        if not choices.device_limits(device).has_grid_rule:
            return super().should_use_persistent_reduction()
        return self.inside_reduction and choices.should_use_persistent_reduction(self.features, device)

    def should_use_cooperative_reduction(self) -> bool:
        # Programs may run one after another on one thread: they must never wait for each other.
        return False


class GXUSplitScanKernel(TritonSplitScanKernel, GXUTritonKernel):
    """A scan whose row is cut among programs that wait for each other's sums.

    The Triton backend starts the programs of such a kernel in order, so that they wait for earlier ones only.
    """


class GXUTritonScheduling(TritonScheduling):
    """Schedules and generates `GXUTritonKernel`s."""

    kernel_type: type[Any] = GXUTritonKernel
    split_scan_kernel_type: type[Any] = GXUSplitScanKernel

    def _emit_kernel_to_wrapper(self, wrapper: Any, kernel: Any, src_code: str, *args: Any, **kwargs: Any) -> None:
        # As the generated file will have it. torch gives a kernel to a compile worker before that file is executed, and
        # again when it is: of a template, whose empty lines differ, it would not recognise it. Two workers then write
        # two contents to one path, and one that has compiled the other's may find another function on a line.
        super()._emit_kernel_to_wrapper(wrapper, kernel, f"\n{src_code.strip()}\n", *args, **kwargs)

    def can_fuse(self, node1: Any, node2: Any) -> bool:
        if complex_copies.writes_complex(node1) or complex_copies.writes_complex(node2):
            return False
        return not compat.mixes_split_scan(node1, node2) and bool(super().can_fuse(node1, node2))

    can_fuse_vertical = can_fuse
    can_fuse_horizontal = can_fuse

    def codegen_node(self, node: Any) -> None:
        copy = complex_copies.copy_of(node)
        if copy is None:
            super().codegen_node(node)
            return
        node.mark_run()
        self.codegen_comment([node], None)
        complex_copies.generate(copy)
        self.free_buffers_in_scheduler()

    def create_kernel_choices(
        self, kernel_features: SIMDKernelFeatures, kernel_args: list[Any], kernel_kwargs: dict[str, Any]
    ) -> list[TritonKernel]:
        if not any(node.is_split_scan() for node in kernel_features.scheduler_nodes()):
            return super().create_kernel_choices(kernel_features, kernel_args, kernel_kwargs)
        kernel_kwargs["override_cooperative_reduction"] = False
        kernel_type = self.split_scan_kernel_type
        kernel_kwargs = V.choices.triton_kernel_kwargs(kernel_type, kernel_features, kernel_args, kernel_kwargs)
        return [kernel_type(*kernel_args, **kernel_kwargs)]
