"""The patches of the C++ wrapper: the device it writes for, and what its code is compiled with."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gxu
from gxu.inductor.device import DEVICE_TYPE


def patch_cpp_wrapper_gpu_type() -> None:
    """`CppWrapperGpu` writes code for `get_gpu_type()`, which is one of PyTorch's own devices (pytorch#189135). For a
    graph that is on gxu the answer there is gxu."""
    from torch._inductor.codegen import cpp_wrapper_gpu
    from torch._inductor.virtualized import V

    original: Callable[[], str] = cpp_wrapper_gpu.get_gpu_type
    if getattr(original, "_gxu", False):
        return

    @functools.wraps(original)
    def get_gpu_type() -> str:
        return DEVICE_TYPE if DEVICE_TYPE in V.graph.device_types else original()

    get_gpu_type._gxu = True  # type: ignore[attr-defined]
    cpp_wrapper_gpu.get_gpu_type = get_gpu_type  # type: ignore[assignment]


def patch_cpp_build_options() -> None:
    """`get_cpp_torch_device_options` gives a C++ compiler the headers and libraries of cuda, xpu and mps only
    (pytorch#189137); generated code for gxu needs gxu's."""
    from torch._inductor import cpp_builder

    original: Callable[..., tuple[list[str], ...]] = cpp_builder.get_cpp_torch_device_options
    if getattr(original, "_gxu", False):
        return

    @functools.wraps(original)
    def get_cpp_torch_device_options(device_type: str, *args: Any, **kwargs: Any) -> tuple[list[str], ...]:
        options = original(device_type, *args, **kwargs)
        if device_type != DEVICE_TYPE:
            return options
        package = Path(gxu.__file__).parent
        definitions, include_dirs, cflags, ldflags, library_dirs, libraries, passthrough = options
        # The second folder has what models of AOTInductor include as <cuda.h>: see torch/.../aoti_include/gxu.h.
        include_dirs = [str(package / "include"), str(package / "include" / "gxu_as_cuda"), *include_dirs]
        library_dirs = [str(package / "lib"), *library_dirs]
        libraries = ["gxu_torch", *libraries]
        return definitions, include_dirs, cflags, ldflags, library_dirs, libraries, passthrough

    get_cpp_torch_device_options._gxu = True  # type: ignore[attr-defined]
    cpp_builder.get_cpp_torch_device_options = get_cpp_torch_device_options  # type: ignore[assignment]


def patch_cpp_wrapper_header() -> None:
    """torch precompiles the header that C++ wrappers include by the device's name; gxu's is gxu.h under any name."""
    from torch._inductor import codecache

    original: Any = codecache._get_cpp_wrapper_header
    if getattr(original, "_gxu", False):
        return

    @functools.wraps(original)
    def header(device: str, *args: Any, **kwargs: Any) -> str:
        return original("gxu" if device == DEVICE_TYPE else device, *args, **kwargs)

    header._gxu = True  # type: ignore[attr-defined]
    codecache._get_cpp_wrapper_header = header


def patch_compiled_aoti() -> None:
    """`CompiledAOTI`, a model that AOTInductor compiled with `enable_autograd_for_aot`, loads its library for CUDA, XPU
    and the CPU (pytorch#189137)."""
    from torch._inductor.output_code import CompiledAOTI

    from gxu.compat import with_models_of_gxu

    original: Any = CompiledAOTI.__post_init__
    if getattr(original, "_gxu", False):
        return

    @functools.wraps(original)
    def post_init(self: Any) -> None:
        (with_models_of_gxu(original) if self.device_type.partition(":")[0] == DEVICE_TYPE else original)(self)

    post_init._gxu = True  # type: ignore[attr-defined]
    CompiledAOTI.__post_init__ = post_init  # type: ignore[method-assign]
