"""Inductor's choices for gxu: how a reduction is split, and whether its rows are kept.

torch's own (`torch._inductor.choices`) think in threads and streaming multiprocessors.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING

import sympy
import torch
from torch._inductor import config as inductor_config
from torch._inductor.virtualized import V

from gxu.inductor import block_sizes, config
from gxu.inductor.device import DEVICE_TYPE, device_module

if TYPE_CHECKING:
    from torch._inductor.codegen.simd_kernel_features import SIMDKernelFeatures


@functools.cache
def _properties(device: torch.device) -> object:
    # Kernels of CPU graphs (gxu.inductor.cpu) run on the first device, which is the same cores.
    return device_module().get_device_properties(device if device.type == DEVICE_TYPE else 0)


def device_limits(device: torch.device) -> block_sizes.DeviceLimits:
    """What block sizes depend on, for a gxu device, or for the CPU where the device is its cores."""
    limits = block_sizes.limits_of(_properties(device), config.min_elements_per_program)
    return limits if config.use_grid_rule else replace(limits, max_grid_size=0)


def is_contiguous_reduction(features: SIMDKernelFeatures) -> bool:
    """Whether the reduced dimension is the contiguous one for most of what the kernel's reductions read.

    Inductor's reduction hint does not say: it is DEFAULT for every reduction with many outputs.
    """
    inner = outer = 0
    for node in features.reduction_nodes():
        body = node._body
        reduced = [v for v in body.reduce_vars if isinstance(v, sympy.Symbol)]
        kept = [v for v in body.iter_vars if isinstance(v, sympy.Symbol)]
        if not reduced:
            continue
        for index in body.get_read_exprs():
            strides = V.graph.sizevars.stride_hints(index, [*reduced, *kept])
            inner += 1 in strides[: len(reduced)]
            outer += 1 in strides[len(reduced) :]
    return inner >= outer


def should_use_persistent_reduction(features: SIMDKernelFeatures, device: torch.device) -> bool:
    """Rows of a known length along the contiguous dimension are kept in the tile, up to what the L2 cache holds."""
    if not inductor_config.triton.persistent_reductions:
        return False
    reduction_numel = V.graph.sizevars.simplify(features.reduction_numel)
    if not isinstance(reduction_numel, (int, sympy.Integer)):
        return False
    limits = device_limits(device)
    return block_sizes.fits_persistent(int(reduction_numel), limits) and is_contiguous_reduction(features)


def reduction_split_factor(
    device: torch.device, reduction_numel_hint: int, numel_hint: int, inner_reduction: bool
) -> int:
    """`InductorChoices.reduction_split_factor` for gxu."""
    return block_sizes.reduction_split_factor(
        reduction_numel_hint, numel_hint, inner_reduction, device_limits(device), config.min_elements_per_split
    )
