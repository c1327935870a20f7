"""The patches of what Inductor asks of CUDA, or of its one GPU, before it chooses splits, tiles and templates."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from gxu.inductor.compat.device_types import has_other_gpu, rebind
from gxu.inductor.device import DEVICE_TYPE

#: What kernels import so that their decorators are this device's.
HEURISTICS_IMPORT = "\nfrom gxu.inductor import heuristics as triton_heuristics, triton_helpers\n"


def patch_reduction_split_factor() -> None:
    """`InductorChoices.reduction_split_factor` thinks in threads per multiprocessor; Inductor takes one choices class
    for all devices (pytorch#189137), so other devices are passed on to torch's own."""
    from torch._inductor.choices import InductorChoices

    from gxu.inductor import choices

    original: Callable[..., int] = InductorChoices.reduction_split_factor
    if getattr(original, "_gxu", False):
        return

    @functools.wraps(original)
    def reduction_split_factor(
        device: torch.device, reduction_numel_hint: int, numel_hint: int, inner_reduction: bool
    ) -> int:
        if device.type == DEVICE_TYPE and choices.device_limits(device).has_grid_rule:
            return choices.reduction_split_factor(device, reduction_numel_hint, numel_hint, inner_reduction)
        return original(device, reduction_numel_hint, numel_hint, inner_reduction)

    reduction_split_factor._gxu = True  # type: ignore[attr-defined]
    InductorChoices.reduction_split_factor = staticmethod(reduction_split_factor)  # type: ignore[method-assign]


def patch_realize_heuristics() -> None:
    """`torch._inductor.ir.is_cpu` decides how much is computed again rather than kept in memory: on a CPU, results of
    exp, log and tanh that are used more than once are kept, where a GPU computes them again in each of its many threads
    (pytorch#189138). Cores are as few, and memory is as near, on a gxu device that has a grid rule.
    """
    from torch._inductor import ir

    from gxu.inductor import choices

    original: Callable[[Any], bool] = ir.is_cpu
    if getattr(original, "_gxu", False):
        return

    @functools.wraps(original)
    def is_cpu(x: Any) -> bool:
        if ir.get_device_type(x) != DEVICE_TYPE:
            return original(x)
        return choices.device_limits(torch.device(DEVICE_TYPE, 0)).has_grid_rule

    is_cpu._gxu = True  # type: ignore[attr-defined]
    ir.is_cpu = is_cpu  # type: ignore[assignment]


def patch_template_kernels() -> None:
    """Templates are for all devices and write their kernels by one class, `TritonTemplateKernel`, whatever class the
    device's scheduling names for its other kernels (pytorch#189137): gxu's import this device's heuristics, too."""
    from torch._inductor.select_algorithm import TritonTemplateKernel

    original: Callable[[], str] = TritonTemplateKernel.gen_common_triton_imports
    if getattr(original, "_gxu", False):
        return

    @functools.wraps(original)
    def gen_common_triton_imports(self: TritonTemplateKernel) -> str:
        device = self.output_node.get_device()
        return original() + (HEURISTICS_IMPORT if device is not None and device.type == DEVICE_TYPE else "")

    gen_common_triton_imports._gxu = True  # type: ignore[attr-defined]
    TritonTemplateKernel.gen_common_triton_imports = gen_common_triton_imports  # type: ignore[method-assign, assignment]


def patch_config_heuristics() -> None:
    """`InductorChoices.get_config_heuristics` knows the tiles of convolutions and attention for a fixed list of device
    types; Inductor takes one choices class for all devices (pytorch#189137), so other devices are passed on."""
    from torch._inductor.choices import InductorChoices

    original: Callable[..., Any] = InductorChoices.get_config_heuristics
    if getattr(original, "_gxu", False):
        return

    @functools.wraps(original)
    def get_config_heuristics(self: InductorChoices, device_type: str | None = "cuda") -> Any:
        if device_type == DEVICE_TYPE:
            from gxu.inductor.templates import GXUConfigHeuristic

            return GXUConfigHeuristic()
        return original(self, device_type)

    get_config_heuristics._gxu = True  # type: ignore[attr-defined]
    InductorChoices.get_config_heuristics = get_config_heuristics  # type: ignore[method-assign]


def patch_flex_decoding_split() -> None:
    """`flex_decoding.get_split_k` takes the number of multiprocessors from torch.cuda, which fails where there is no
    CUDA (pytorch#189138). It has no device argument: the graph that is being lowered tells."""
    from torch._inductor.kernel.flex import flex_decoding
    from torch._inductor.virtualized import V

    from gxu.inductor import templates

    original: Callable[..., int] = flex_decoding.get_split_k
    if getattr(original, "_gxu", False):
        return

    @functools.wraps(original)
    def get_split_k(batch: int, key_heads: int, keys: int) -> int:
        if DEVICE_TYPE in V.graph.device_types:
            return templates.decoding_splits(batch * key_heads)
        return original(batch, key_heads, keys)

    get_split_k._gxu = True  # type: ignore[attr-defined]
    flex_decoding.get_split_k = get_split_k


def patch_grouped_products() -> None:
    """`kernel.mm_grouped` asks torch.cuda whether its template runs, what shared memory its tiles fit, and how many
    programs to start (pytorch#189138). None of the three functions is told the device: the graph that is being lowered
    or, where there is one, an operand tells."""
    from torch._inductor.kernel import mm_grouped
    from torch._inductor.virtualized import V

    from gxu.inductor import templates

    can_use, prune, num_sms = mm_grouped.can_use_triton_kernel, mm_grouped.early_config_prune, mm_grouped.get_num_sms
    if getattr(can_use, "_gxu", False):
        return

    @functools.wraps(can_use)
    def can_use_triton_kernel(mat_a: Any, mat_b: Any, offs: Any, bias: Any, scale_result: Any) -> bool:
        if mat_a.get_device().type != DEVICE_TYPE:
            return can_use(mat_a, mat_b, offs, bias, scale_result)
        ragged = len(mat_a.get_size()) == 2 or len(mat_b.get_size()) == 2
        return bias is None and scale_result is None and (offs is not None) == ragged

    @functools.wraps(prune)
    def early_config_prune(g: Any, m: Any, dtsize: int, configs: Any, named_args: Any) -> Any:
        if DEVICE_TYPE in V.graph.device_types:
            return templates.grouped_configs()
        return prune(g, m, dtsize, configs, named_args)

    @functools.wraps(num_sms)
    def get_num_sms() -> int:
        return templates.min_programs() if DEVICE_TYPE in V.graph.device_types else num_sms()

    can_use_triton_kernel._gxu = True  # type: ignore[attr-defined]
    mm_grouped.can_use_triton_kernel = can_use_triton_kernel
    mm_grouped.early_config_prune = early_config_prune
    mm_grouped.get_num_sms = get_num_sms


def patch_is_big_gpu() -> None:
    """`torch._inductor.utils.is_big_gpu` wants 68 multiprocessors before it considers a template, and logs a warning
    where there are fewer (pytorch#189138). On gxu templates are measured against the library like anywhere else.

    A bare index means the one GPU of the machine: gxu, where torch knows no other.
    """
    from torch._inductor import utils

    original: Any = utils.is_big_gpu
    if getattr(original, "_gxu", False):
        return

    @functools.wraps(original)
    def is_big_gpu(index_or_device: int | torch.device = 0) -> bool:
        if isinstance(index_or_device, torch.device):
            is_gxu = index_or_device.type == DEVICE_TYPE
        else:
            is_gxu = not has_other_gpu()
        return True if is_gxu else original(index_or_device)

    is_big_gpu._gxu = True  # type: ignore[attr-defined]
    is_big_gpu.cache_clear = original.cache_clear  # type: ignore[attr-defined]
    utils.is_big_gpu = is_big_gpu  # type: ignore[assignment]
    rebind("is_big_gpu", original, is_big_gpu)
