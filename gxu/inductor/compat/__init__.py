"""The only patches of Dynamo and Inductor that gxu makes: what no registration function reaches.

Each is idempotent, answers for gxu alone, names the upstream request that would make it unnecessary, and has a test in
tests/test_compat.py that fails when the patched symbol changes. `gxu.inductor.activation` says when they are applied.
One subject a file; `versions` has what differs between releases of torch.
"""

from __future__ import annotations

from gxu.inductor.compat.captures import patch_cudagraphs, patch_cudagraphs_backend
from gxu.inductor.compat.compilation import patch_frame_stack, patch_fx_numbers
from gxu.inductor.compat.cpp import (
    patch_compiled_aoti,
    patch_cpp_build_options,
    patch_cpp_wrapper_gpu_type,
    patch_cpp_wrapper_header,
)
from gxu.inductor.compat.device_types import (
    extend_channels_last_devices,
    extend_gpu_types,
    has_other_gpu,
    is_used,
    keep_freezing_patterns,
    mark_used,
    patch_associative_scan,
    patch_autotuning_log,
    patch_bmm_to_mm,
    patch_flex_attention,
    patch_has_triton,
    patch_is_compile_supported,
    patch_opcheck,
    patch_preserve_rng_state,
    patch_rng_backend_select,
)
from gxu.inductor.compat.heuristics import (
    HEURISTICS_IMPORT,
    patch_config_heuristics,
    patch_flex_decoding_split,
    patch_grouped_products,
    patch_is_big_gpu,
    patch_realize_heuristics,
    patch_reduction_split_factor,
    patch_template_kernels,
)
from gxu.inductor.compat.products import (
    patch_product_dtypes,
    patch_shapes_of_product_dtypes,
    patch_vector_products,
)
from gxu.inductor.compat.versions import (
    NEWER_OP_OVERRIDES,
    fake_tensor_updater,
    inlined_when_called,
    is_left_out_of_fx,
    keep_steady_launcher,
    meta_per_kernel,
    mixes_split_scan,
    patch_benchmarker,
    patch_fx_kernels,
    register_device_context,
)

__all__ = [
    "HEURISTICS_IMPORT",
    "NEWER_OP_OVERRIDES",
    "apply",
    "extend_gpu_types",
    "fake_tensor_updater",
    "has_other_gpu",
    "inlined_when_called",
    "is_left_out_of_fx",
    "is_used",
    "keep_freezing_patterns",
    "keep_steady_launcher",
    "mark_used",
    "meta_per_kernel",
    "mixes_split_scan",
    "patch_benchmarker",
    "patch_cudagraphs_backend",
    "patch_flex_attention",
    "patch_has_triton",
    "patch_opcheck",
    "patch_shapes_of_product_dtypes",
    "register_device_context",
]


def apply() -> None:
    """Applies every patch; a second call does nothing."""
    extend_gpu_types()
    extend_channels_last_devices()
    patch_has_triton()
    patch_is_big_gpu()
    patch_realize_heuristics()
    patch_template_kernels()
    patch_config_heuristics()
    patch_flex_decoding_split()
    patch_grouped_products()
    patch_rng_backend_select()
    patch_preserve_rng_state()
    patch_autotuning_log()
    patch_reduction_split_factor()
    patch_cpp_wrapper_gpu_type()
    patch_bmm_to_mm()
    patch_cpp_build_options()
    patch_cudagraphs()
    patch_associative_scan()
    patch_cpp_wrapper_header()
    patch_product_dtypes()
    patch_vector_products()
    patch_is_compile_supported()
    patch_compiled_aoti()
    patch_fx_kernels()
    patch_frame_stack()
    patch_fx_numbers()
