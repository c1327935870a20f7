"""Inductor's Triton templates on gxu: which tiles each is tried with, by Inductor's template-heuristic registry.

A product is compiled from a template only with max_autotune, and only where the template, epilogue and prologue fused,
was measured to be faster than the library's operator.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch._inductor import config as inductor_config
from torch._inductor.kernel.bmm import bmm_template
from torch._inductor.kernel.mm import mm_template
from torch._inductor.kernel.mm_grouped import Config as GroupedConfig
from torch._inductor.kernel.mm_plus_mm import mm_plus_mm_template
from torch._inductor.template_heuristics.registry import register_template_heuristic
from torch._inductor.template_heuristics.triton import (
    AddMMConfigMixin,
    BaseConfigHeuristic,
    FlexBwDConfig,
    FlexConfig,
    FlexDecodeConfig,
    INT8MMTemplateConfigMixin,
    MMPlusMMTemplateConfigMixin,
    MMTemplateConfigMixin,
    ScaledMMConfigMixin,
)
from torch._inductor.virtualized import V

from gxu.inductor import config, template_tiles
from gxu.inductor.block_sizes import next_power_of_2
from gxu.inductor.device import DEVICE_TYPE

if TYPE_CHECKING:
    from triton import Config

T = TypeVar("T")


def min_programs() -> int:
    """Fewest programs that a template's grid should have: one for each of the host engine's threads."""
    return config.min_template_programs or torch.get_num_threads()


def _hints(m: Any, n: Any, k: Any) -> tuple[int, int, int]:
    hint = V.graph.sizevars.optimization_hint
    return int(hint(m)), int(hint(n)), int(hint(k))


def decoding_splits(pairs: int) -> int:
    """`template_tiles.decoding_splits` for the host engine's threads."""
    return template_tiles.decoding_splits(pairs, min_programs())


def grouped_configs() -> list[GroupedConfig]:
    """Tiles of grouped products. Every program walks over tiles of all groups: there are as many as threads."""
    return [
        GroupedConfig({"BLOCK_M": m, "BLOCK_N": n, "BLOCK_K": k, "NUM_CONSUMER_GROUPS": 1}, num_stages=1, num_warps=1)
        for m, n, k in template_tiles.GROUPED
    ]


def _candidates(tiles: Sequence[T]) -> Sequence[T]:
    """Attention has no library call to compete with: without max_autotune the first tile is taken unmeasured."""
    return tiles if inductor_config.max_autotune else tiles[:1]


class GXUConfigHeuristic(BaseConfigHeuristic):
    """Tiles of `gxu.inductor.template_tiles`, one warp, one stage."""

    def _configs(self, tiles: Any) -> Iterator[Config]:
        for tile in tiles:
            yield self.triton_config(
                1,
                1,
                BLOCK_M=tile.block_m,
                BLOCK_N=tile.block_n,
                BLOCK_K=tile.block_k,
                GROUP_M=template_tiles.GROUP_M,
                hint_override=None,
            )

    def _product_configs(self, m: Any, n: Any, k: Any, **_: Any) -> Iterator[Config]:
        return self._configs(template_tiles.product(*_hints(m, n, k), min_programs()))

    def _exhaustive_configs(self, m: Any, n: Any, k: Any, **_: Any) -> Iterator[Config]:
        return self._configs(template_tiles.exhaustive(*_hints(m, n, k)))

    def _convolution_configs(self, m: Any, n: Any, k: Any, **_: Any) -> Iterator[Config]:
        return self._configs(template_tiles.convolution(*_hints(m, n, k)))

    def get_mm_configs(self) -> Any:
        return self._product_configs

    def get_exhaustive_mm_configs(self) -> Any:
        return self._exhaustive_configs

    def get_conv_configs(self) -> Any:
        return self._convolution_configs

    def get_flex_attn_fwd_configs(self, head_dim: int, dtype: torch.dtype) -> list[FlexConfig]:
        return [FlexConfig(m, n, 1, 1) for m, n in _candidates(template_tiles.ATTENTION)]

    def get_flex_attn_bwd_configs(self, head_dim: int, dtype: torch.dtype) -> list[FlexBwDConfig]:
        return [FlexBwDConfig(m, n, n, m, 1, 1) for m, n in _candidates(template_tiles.ATTENTION_BACKWARD)]

    def get_flex_decode_configs(self, head_dim: int, dtype: torch.dtype) -> list[FlexDecodeConfig]:
        return [FlexDecodeConfig(n, 1, 1) for n in _candidates(template_tiles.DECODING)]


class GXUProductHeuristic(MMTemplateConfigMixin, GXUConfigHeuristic):
    """mm and bmm."""


class GXUAddProductHeuristic(AddMMConfigMixin, GXUProductHeuristic):
    """addmm and baddbmm: alpha, beta and what is added are the template's epilogue."""


class GXUScaledProductHeuristic(ScaledMMConfigMixin, GXUConfigHeuristic):
    """_scaled_mm: the scales are the template's epilogue."""


class GXUIntegerProductHeuristic(INT8MMTemplateConfigMixin, GXUConfigHeuristic):
    """_int_mm: int8 operands, int32 result."""


class GXUProductPlusProductHeuristic(MMPlusMMTemplateConfigMixin, GXUConfigHeuristic):
    """a @ b + c @ d in one kernel."""

    def _product_configs(self, m: Any, n: Any, k: Any, **_: Any) -> Iterator[Config]:
        # torch's mixin drops tiles as long as the reduced dimension: they crashed the compiler of another device. Tiles
        # here are cut to the problem, and to less than that.
        rows, columns, summands = _hints(m, n, k)
        longest = max(template_tiles.MIN_BLOCK, next_power_of_2(summands) // 2)
        tiles = template_tiles.product(rows, columns, summands, min_programs())
        return self._configs(dict.fromkeys(t._replace(block_k=min(t.block_k, longest)) for t in tiles))


def register() -> None:
    """Registers the heuristics with Inductor. Idempotent; other devices' stay as they are."""
    for template, op_name, heuristic in (
        (mm_template, None, GXUProductHeuristic),
        (mm_template, "addmm", GXUAddProductHeuristic),
        (mm_template, "scaled_mm", GXUScaledProductHeuristic),
        (mm_template, "int_mm", GXUIntegerProductHeuristic),
        (mm_plus_mm_template, None, GXUProductPlusProductHeuristic),
        (bmm_template, None, GXUProductHeuristic),
        (bmm_template, "baddbmm", GXUAddProductHeuristic),
    ):
        register_template_heuristic(template.uid, DEVICE_TYPE, op_name=op_name)(heuristic)
