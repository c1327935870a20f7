"""The patches of how Inductor computes products.

Those with a result of another dtype, `torch.mm(a, b, out_dtype=torch.float32)` and the like: Inductor's lowerings of
them are for CUDA and XPU by name (pytorch#189135), and some of its decompositions of products leave `out_dtype` out, so
that the result is rounded to the operands' type and has it. And products with a vector, which its decompositions make
sums wherever coordinate descent is on, as with max-autotune, without measuring the library's operator.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, MutableMapping
from typing import Any

import torch

from gxu.inductor.device import DEVICE_TYPE

aten = torch.ops.aten


def _replace(table: MutableMapping[Any, Any], operator: Any, is_gxu: Callable[[Any], bool], own: Any) -> None:
    """Has `own` in the place of what `table` has for `operator`, where `is_gxu` holds for the first argument."""
    original = table.get(operator)
    if getattr(original, "_gxu", False):
        return

    def choose(first: Any, *args: Any, **kwargs: Any) -> Any:
        if is_gxu(first):
            return own(first, *args, **kwargs)
        return NotImplemented if original is None else original(first, *args, **kwargs)

    choose._gxu = True  # type: ignore[attr-defined]
    table[operator] = choose


def _is_tensor_on_gxu(tensor: torch.Tensor) -> bool:
    return tensor.device.type == DEVICE_TYPE


def _is_node_on_gxu(node: Any) -> bool:
    return bool(node.get_device().type == DEVICE_TYPE)


def _keep(*args: Any, **kwargs: Any) -> Any:
    """The operator has a lowering."""
    return NotImplemented


def _add_product(product: torch.Tensor, added: torch.Tensor, beta: Any, alpha: Any) -> torch.Tensor:
    result = product if alpha == 1 else product * alpha
    if beta == 0:
        return result
    added = added.to(product.dtype)
    return result + (added if beta == 1 else added * beta)


def _addmm(
    self: torch.Tensor, mat1: torch.Tensor, mat2: torch.Tensor, out_dtype: torch.dtype, beta: Any = 1, alpha: Any = 1
) -> torch.Tensor:
    return _add_product(torch.mm(mat1, mat2, out_dtype=out_dtype), self, beta, alpha)


def _baddbmm(
    self: torch.Tensor,
    batch1: torch.Tensor,
    batch2: torch.Tensor,
    out_dtype: torch.dtype,
    beta: Any = 1,
    alpha: Any = 1,
) -> torch.Tensor:
    return _add_product(torch.bmm(batch1, batch2, out_dtype=out_dtype), self, beta, alpha)


def patch_shapes_of_product_dtypes() -> None:
    """torch's decomposition of `baddbmm`, and torch 2.11's of `addmm`, which tell shapes, take the `out_dtype` of these
    overloads for `beta`, and fail on every device. They are looked up where a size is symbolic, and registered as
    kernels for other sizes."""
    from torch._decomp import decomposition_table

    for operator, own in ((aten.addmm.dtype, _addmm), (aten.baddbmm.dtype, _baddbmm)):
        if "out_dtype" not in inspect.signature(decomposition_table[operator]).parameters:
            _replace(decomposition_table, operator, _is_tensor_on_gxu, own)
            _register_fake(operator, own)
    # torch 2.11 has no shapes for this one, which the FX wrapper calls.
    if not torch._C._dispatch_has_kernel_for_dispatch_key("aten::bmm.dtype_out", "Meta"):
        _register_fake(aten.bmm.dtype_out, lambda *_, out: out)


def _register_fake(operator: Any, own: Callable[..., Any]) -> None:
    from torch._subclasses.fake_impls import op_implementations_dict

    def fake(mode: Any, operator: Any, self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if not _is_tensor_on_gxu(self):
            return NotImplemented
        with mode:
            return own(self, *args, **kwargs)

    op_implementations_dict.setdefault(operator, fake)


def patch_product_flops() -> None:
    """`FlopCounterMode`, by which max_autotune reports its candidates, takes the `out_dtype` of a product for its
    result's shape, and fails on every device."""
    from torch.utils.flop_counter import flop_registry

    def without_dtype(formula: Any) -> Callable[..., Any]:
        return lambda *args, **kwargs: formula(*(a for a in args if not isinstance(a, torch.dtype)), **kwargs)

    for operator in (aten.addmm, aten.bmm, aten.baddbmm):
        _replace(flop_registry, operator, _is_tensor_on_gxu, without_dtype(flop_registry[operator]))


def patch_product_dtypes() -> None:
    """Lowers products with an `out_dtype` on gxu: the operator or, with max_autotune, also the product's template."""
    from torch._inductor import decomposition, lowering
    from torch._inductor.kernel.bmm import bmm_template
    from torch._inductor.kernel.mm import aten_mm_dtype, mm_template
    from torch._inductor.select_algorithm import ExternKernelChoice
    from torch._inductor.template_heuristics.aten import ATenConfigHeuristics
    from torch._inductor.template_heuristics.registry import register_template_heuristic

    if getattr(lowering.lowerings[aten.mm.dtype], "_gxu", False):
        return
    patch_shapes_of_product_dtypes()
    patch_product_flops()
    # In C++, torch's own choice calls a function of CUDA by name, which no wrapper declares.
    bmm_dtype = ExternKernelChoice(
        torch.bmm, "at::bmm_dtype_out", name=f"{DEVICE_TYPE}_bmm_dtype", op_overload=aten.bmm.dtype_out
    )
    for operator, own in (
        (aten.mm.dtype, _keep),
        (aten.bmm.dtype, _keep),
        (aten.addmm.dtype, _addmm),
        (aten.baddbmm.dtype, _baddbmm),
    ):
        _replace(decomposition.decompositions, operator, _is_tensor_on_gxu, own)
    for operator, extern, template, name in (
        (aten.mm.dtype, aten_mm_dtype, mm_template, "mm"),
        (aten.bmm.dtype, bmm_dtype, bmm_template, "bmm"),
    ):
        register_template_heuristic(extern.uid, DEVICE_TYPE)(ATenConfigHeuristics)
        _replace(lowering.lowerings, operator, _is_node_on_gxu, _lowering(extern, template, name))


def _lowering(extern: Any, template: Any, name: str) -> Callable[..., Any]:
    from torch._inductor.kernel.mm_common import _is_static_problem, mm_args
    from torch._inductor.kernel_inputs import MMKernelInputs
    from torch._inductor.utils import use_aten_gemm_kernels, use_triton_template
    from torch._inductor.virtualized import V

    def lower(mat1: Any, mat2: Any, out_dtype: torch.dtype) -> Any:
        *_, layout, mat1, mat2 = mm_args(mat1, mat2, out_dtype=out_dtype)
        inputs = MMKernelInputs([mat1, mat2], out_dtype=out_dtype)
        templates = [extern] if use_aten_gemm_kernels() else []
        if _is_static_problem(layout)[1] and use_triton_template(layout, check_max_autotune=True):
            templates.append(template)
        overrides = {extern.uid: {"out_dtype": out_dtype}}
        choices = V.choices.get_template_configs(inputs, templates, name, kwarg_overrides=overrides)
        return _fastest(name, choices, inputs.nodes(), layout)

    return lower


def _fastest(name: str, choices: list[Any], operands: list[Any], layout: Any, **options: Any) -> Any:
    from torch._inductor.select_algorithm import autotune_select_algorithm

    node = autotune_select_algorithm(name, choices, operands, layout, **options)
    return node[0] if isinstance(node, tuple) else node  # torch 2.11 returns the node alone


def patch_vector_products() -> None:
    """Measures products with a vector on gxu: the library's operator against the sum, `vector_products.SumChoice`."""
    from torch._inductor import decomposition, lowering
    from torch._inductor.kernel.bmm import aten_bmm
    from torch._inductor.kernel.mm import aten_mm

    for operator, extern, name in ((aten.mm.default, aten_mm, "mm"), (aten.bmm.default, aten_bmm, "bmm")):
        decompose, lower = decomposition.decompositions[operator], lowering.lowerings[operator]
        _replace(decomposition.decompositions, operator, _is_tensor_on_gxu, _keep_vectors(decompose))
        _replace(lowering.lowerings, operator, _is_node_on_gxu, _vector_lowering(lower, extern, name))


def _keep_vectors(decompose: Callable[..., Any]) -> Callable[..., Any]:
    """The decomposition, but for products that `_vector_lowering` measures."""
    from torch._inductor import config
    from torch.fx.experimental.symbolic_shapes import statically_known_true

    def decompose_others(mat1: torch.Tensor, mat2: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        is_vector = statically_known_true(mat1.shape[-2] == 1) or statically_known_true(mat2.shape[-1] == 1)
        if config.coordinate_descent_tuning and is_vector and statically_known_true(mat1.shape[-1] != 1):
            return NotImplemented
        return decompose(mat1, mat2, *args, **kwargs)

    return decompose_others


def _vector_lowering(original: Callable[..., Any], extern: Any, name: str) -> Callable[..., Any]:
    from torch._inductor import config
    from torch._inductor.kernel.mm_common import mm_args
    from torch._inductor.kernel_inputs import MMKernelInputs
    from torch._inductor.utils import use_aten_gemm_kernels
    from torch._inductor.virtualized import V

    from gxu.inductor import vector_products

    def lower(mat1: Any, mat2: Any, out_dtype: torch.dtype | None = None, **kwargs: Any) -> Any:
        tuned = config.coordinate_descent_tuning or config.max_autotune or config.max_autotune_gemm
        if out_dtype is not None or kwargs or not tuned or not vector_products.has_sum(mat1, mat2):
            return original(mat1, mat2, out_dtype, **kwargs)
        *_, layout, mat1, mat2 = mm_args(mat1, mat2)
        inputs = MMKernelInputs([mat1, mat2])
        library = [extern] if use_aten_gemm_kernels() else []
        choices = V.choices.get_template_configs(inputs, library, name)
        choices.append(vector_products.SumChoice(inputs.nodes(), layout))
        # Chosen now: a choice that is left to the scheduler is one between templates.
        return _fastest(name, choices, inputs.nodes(), layout, return_multi_template=False)

    return lower
