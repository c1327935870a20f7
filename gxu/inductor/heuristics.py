"""Launch configurations of Triton kernels on gxu: torch._inductor.runtime.triton_heuristics under this device's rules.

Every kernel that Inductor generates for gxu imports this module under the name `triton_heuristics` and decorates itself
with one of its functions. Each takes the arguments of torch's function of the same name and chooses one configuration
from `gxu.inductor.block_sizes`; a device without a grid rule gets torch's own candidates. Everything that is not
redefined here is torch's. Compile workers import this module too: it must not touch the runtime.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from torch._inductor.runtime import triton_heuristics as upstream
from torch._inductor.runtime.hints import ReductionHint
from torch._inductor.runtime.triton_heuristics import HeuristicType
from triton import Config

from gxu.inductor import block_sizes
from gxu.inductor.autotuner import DeviceCachingAutotuner, GXUCachingAutotuner

Decorator = Callable[[Any], Any]

#: Keys of a kernel's inductor_meta that bound a block from below, and the block.
_MINIMA = (("min_xblock", "XBLOCK"), ("min_rblock", "R0_BLOCK"))

#: Keys that `gxu.inductor.scheduling.GXUTritonKernel` adds to a kernel's inductor_meta.
LIMITS_KEY = "gxu_limits"
NUMELS_KEY = "gxu_numels"
CONTIGUOUS_KEY = "gxu_contiguous_reduction"
SORTS_KEY = "gxu_sorts"


#: torch's functions that are not redefined here and whose results decorate kernels.
_DECORATORS = ("cooperative_reduction", "fixed_config", "template", "user_autotune")


def _on_device(decorator: Decorator) -> Decorator:
    """A decorator of torch's whose kernels are compiled for this device's target."""

    def decorate(fn: Any) -> Any:
        autotuner = decorator(fn)
        # torch makes its own class; what the device's adds are methods alone.
        if type(autotuner) is upstream.CachingAutotuner:
            autotuner.__class__ = DeviceCachingAutotuner
        return autotuner

    return decorate


def __getattr__(name: str) -> Any:
    found = getattr(upstream, name)
    if name not in _DECORATORS:
        return found

    @functools.wraps(found)
    def on_device(*args: Any, **kwargs: Any) -> Any:
        return _on_device(found(*args, **kwargs))

    return on_device


def _limits(inductor_meta: Mapping[str, Any]) -> block_sizes.DeviceLimits | None:
    """The device's rule, as code generation recorded it; None where torch's own configurations are wanted."""
    recorded = inductor_meta.get(LIMITS_KEY)
    if recorded is None:
        return None
    limits = block_sizes.DeviceLimits.from_meta(recorded)
    return limits if limits.has_grid_rule else None


def _numels(size_hints: Mapping[str, int], inductor_meta: Mapping[str, Any]) -> dict[str, int]:
    """Extents of the kernel's dimensions. Size hints are rounded up to powers of two; static extents are exact."""
    exact = inductor_meta.get(NUMELS_KEY, {})
    return {prefix: exact.get(prefix, hint) for prefix, hint in size_hints.items()}


def _autotune(
    blocks: dict[str, int],
    limits: block_sizes.DeviceLimits,
    size_hints: dict[str, int],
    heuristic_type: HeuristicType,
    triton_meta: dict[str, Any],
    inductor_meta: dict[str, Any],
    filename: str | None,
) -> Decorator:
    minima = {block: inductor_meta.pop(key, None) or 1 for key, block in _MINIMA}
    blocks = {block: max(size, minima.get(block, 1)) for block, size in blocks.items()}
    wanted = inductor_meta.get("max_autotune") or inductor_meta.get("max_autotune_pointwise")
    # Which candidate wins may change how a sum is rounded.
    measured = wanted and not inductor_meta.get("deterministic")
    candidates = block_sizes.smaller(blocks, minima) if measured else [blocks]
    configs = [Config(tried, num_warps=limits.preferred_num_warps or 1, num_stages=1) for tried in candidates]
    return upstream.cached_autotune(
        size_hints,  # type: ignore[arg-type]
        configs,
        triton_meta=triton_meta,
        inductor_meta=inductor_meta,
        heuristic_type=heuristic_type,
        filename=filename,
        caching_autotuner_cls=GXUCachingAutotuner,
    )


def pointwise(
    size_hints: dict[str, int],
    triton_meta: dict[str, Any],
    tile_hint: Any = None,
    filename: str | None = None,
    min_elem_per_thread: int = 0,
    inductor_meta: dict[str, Any] | None = None,
    return_configs: bool = False,
) -> Any:
    """Elementwise kernels."""
    inductor_meta = {} if inductor_meta is None else inductor_meta
    limits = _limits(inductor_meta)
    if limits is None or return_configs or "combo_grid_meta" in inductor_meta:
        stock = upstream.pointwise(
            size_hints, triton_meta, tile_hint, filename, min_elem_per_thread, inductor_meta, return_configs
        )
        return stock if return_configs else _on_device(stock)
    blocks = block_sizes.pointwise(_numels(size_hints, inductor_meta), limits)
    return _autotune(blocks, limits, size_hints, HeuristicType.POINTWISE, triton_meta, inductor_meta, filename)


def reduction(
    size_hints: dict[str, int],
    reduction_hint: Any = False,
    triton_meta: dict[str, Any] | None = None,
    filename: str | None = None,
    inductor_meta: dict[str, Any] | None = None,
    return_configs: bool = False,
) -> Any:
    """Reductions that loop over the reduced dimension, and scans along it."""
    assert triton_meta is not None
    inductor_meta = {} if inductor_meta is None else inductor_meta
    limits = _limits(inductor_meta)
    if limits is None or return_configs or "combo_grid_meta" in inductor_meta:
        stock = upstream.reduction(size_hints, reduction_hint, triton_meta, filename, inductor_meta, return_configs)
        return stock if return_configs else _on_device(stock)
    inductor_meta["reduction_hint"] = reduction_hint
    contiguous = inductor_meta.get(CONTIGUOUS_KEY, reduction_hint == ReductionHint.INNER)
    blocks = block_sizes.reduction(_numels(size_hints, inductor_meta), limits, contiguous)
    return _autotune(blocks, limits, size_hints, HeuristicType.REDUCTION, triton_meta, inductor_meta, filename)


def persistent_reduction(
    size_hints: dict[str, int],
    reduction_hint: Any = False,
    triton_meta: dict[str, Any] | None = None,
    filename: str | None = None,
    inductor_meta: dict[str, Any] | None = None,
    return_configs: bool = False,
) -> Any:
    """Reductions that hold the whole reduced dimension in the tile."""
    assert triton_meta is not None
    inductor_meta = {} if inductor_meta is None else inductor_meta
    limits = _limits(inductor_meta)
    if limits is None or return_configs or "combo_grid_meta" in inductor_meta or inductor_meta.get("RSPLIT_SIZE"):
        stock = upstream.persistent_reduction(
            size_hints, reduction_hint, triton_meta, filename, inductor_meta, return_configs
        )
        return stock if return_configs else _on_device(stock)
    inductor_meta["reduction_hint"] = reduction_hint
    sorts = inductor_meta.get(SORTS_KEY, False)
    blocks = block_sizes.persistent_reduction(_numels(size_hints, inductor_meta), limits, sorts)
    if inductor_meta.get("no_x_dim"):
        blocks["XBLOCK"] = 1
    return _autotune(
        blocks, limits, size_hints, HeuristicType.PERSISTENT_REDUCTION, triton_meta, inductor_meta, filename
    )


def split_scan(
    size_hints: dict[str, int],
    reduction_hint: Any = False,
    triton_meta: dict[str, Any] | None = None,
    filename: str | None = None,
    inductor_meta: dict[str, Any] | None = None,
) -> Any:
    """Scans of few long rows, each cut into pieces for several programs."""
    assert triton_meta is not None
    inductor_meta = {} if inductor_meta is None else inductor_meta
    limits = _limits(inductor_meta)
    if limits is None:
        return _on_device(upstream.split_scan(size_hints, reduction_hint, triton_meta, filename, inductor_meta))
    if inductor_meta.get("no_x_dim"):
        size_hints["x"] = 1
    blocks = block_sizes.split_scan(_numels(size_hints, inductor_meta), limits, inductor_meta["min_split_scan_rblock"])
    return _autotune(blocks, limits, size_hints, HeuristicType.SPLIT_SCAN, triton_meta, inductor_meta, filename)


def foreach(
    triton_meta: dict[str, Any], filename: str | None = None, inductor_meta: dict[str, Any] | None = None
) -> Decorator:
    """Horizontally fused kernels, whose block sizes are fixed in their source."""
    inductor_meta = {} if inductor_meta is None else inductor_meta
    limits = _limits(inductor_meta)
    if limits is None:
        return _on_device(upstream.foreach(triton_meta, filename, inductor_meta))
    return upstream.cached_autotune(
        None,
        [Config({}, num_warps=limits.preferred_num_warps or 1, num_stages=1)],
        triton_meta=triton_meta,
        inductor_meta=inductor_meta,
        heuristic_type=HeuristicType.TEMPLATE,
        filename=filename,
        caching_autotuner_cls=GXUCachingAutotuner,
    )


__all__ = ["foreach", "persistent_reduction", "pointwise", "reduction", "split_scan"]
