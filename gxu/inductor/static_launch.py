"""Compiled kernels as Inductor's caches keep them: what a launch needs, and nothing of Triton's frontend.

The counterpart of torch._inductor.runtime.static_triton_launcher, which knows CUDA, ROCm and XPU. Triton's
`CompiledKernel` cannot be pickled, so a process that finds a graph in Inductor's cache would execute the source of each
of its kernels, have Triton read and hash the function's syntax tree, and look the image up by that: 6 ms of CPU time a
kernel, of which this leaves 1. A `StaticCompileResult` is stored with the graph (torch._inductor.triton_bundler) and
comes back ready to be launched. The key of the graph covers what the image depends on (gxu.inductor.cache_identity).

Compile workers make these too: nothing here touches the runtime before a kernel is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch._inductor import config as inductor_config
from torch._inductor.runtime.cache_dir_utils import triton_cache_dir
from torch._inductor.runtime.hints import HeuristicType
from torch._inductor.runtime.triton_compat import knobs
from torch._inductor.runtime.triton_heuristics import (
    StaticTritonCompileResult,
    TritonCompileResult,
    get_constexprs,
    triton_hash_to_path_key,
)

from gxu.triton.driver import active_driver, is_plain, packed_signature

IMAGE = ".cubin"


def _has_hooks(*names: str) -> bool:
    """Whether anybody listens to one of these of Triton's hooks, which may be a function or a chain of them."""
    hooks = () if knobs is None else (getattr(knobs.runtime, name, None) for name in names)
    return any(hook is not None and getattr(hook, "calls", True) for hook in hooks)


class StaticKernel:
    """A kernel's image and the shape of its parameters: what `gxu.inductor.autotuner` builds launchers from.

    `signature` is `gxu.triton.driver.packed_signature`'s. `cubin_raw` and `cubin_path` are named as torch's caches
    know them; both are None once the kernel is loaded.
    """

    def __init__(self, binary: Any, image: Path) -> None:
        function = binary.src.fn
        self.name: str = binary.metadata.name
        self.hash: str = binary.hash
        self.shared: int = binary.metadata.shared
        self.arg_names: list[str] = list(function.arg_names)
        self.constexprs: list[int] = list(get_constexprs(function))
        self.signature = packed_signature(list(binary.src.signature.values()))
        self.file = image.name
        self.cubin_path: Path | None = image
        self.cubin_raw: bytes | None = binary.asm[IMAGE[1:]]
        self.module: int | None = None
        self.function: int | None = None
        self.n_regs = self.n_spills = 0

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "module": None, "function": None, "cubin_path": None}

    def load(self, device: int) -> None:
        """Loads the image, once. RuntimeError where its file is damaged."""
        if self.function is not None:
            return
        assert self.cubin_path is not None
        image = self.cubin_path.read_bytes() if self.cubin_raw is None else self.cubin_raw
        loaded = active_driver().utils.load_binary(self.name, image, self.shared, device)
        self.module, self.function, self.n_regs, self.n_spills, _ = loaded
        self.cubin_path = self.cubin_raw = None

    def close(self) -> None:
        """Unloads the image: torch calls this for the candidates that lost an autotuning."""
        module, self.module, self.function = self.module, None, None
        if module is not None:
            active_driver().utils.unload_module(module)

    def __del__(self) -> None:
        try:  # noqa: SIM105  (when Python ends, the module's names, contextlib among them, may be gone)
            self.close()
        except Exception:
            pass


class StaticCompileResult(StaticTritonCompileResult):  # type: ignore[type-arg]  # torch 2.11's has no parameter
    """A compiled configuration of a kernel that torch can store with a graph."""

    #: Makes torch's own launcher of this configuration from the kernel's source. The autotuner sets it in the process
    #: that launches.
    make_full_launcher: Callable[[], Any] | None = None
    _full_launcher: Any = None

    @staticmethod
    def of(result: Any, heuristic_type: HeuristicType) -> StaticCompileResult | None:
        """`result`, which Triton compiled, in this form. None where it needs what only Triton's own has: another
        backend's launcher, a packed descriptor, hooks, IR for a C++ wrapper, or where torch's settings ask for it."""
        if not isinstance(result, TritonCompileResult) or not inductor_config.use_static_cuda_launcher:
            return None
        user_defined = heuristic_type == HeuristicType.USER_AUTOTUNE
        if user_defined and not getattr(inductor_config, "static_launch_user_defined_triton_kernels", False):
            return None
        if inductor_config.cpp_wrapper or result.inductor_meta.get("store_cubin"):
            return None
        binary: Any = result.kernel
        metadata = binary.metadata
        if metadata.target.backend != "gxu" or getattr(metadata, "backend_name", "gxu") != "gxu":
            return None
        if not all(map(is_plain, binary.src.signature.values())):
            return None
        if _has_hooks("launch_enter_hook", "launch_exit_hook", "kernel_load_start_hook", "kernel_load_end_hook"):
            return None
        image = next((Path(path) for name, path in binary.metadata_group.items() if name.endswith(IMAGE)), None)
        if image is None or image != _image_path(result.compile_meta, binary.hash, image.name):
            return None  # another cache manager of Triton's keeps it: torch would not find it again
        return StaticCompileResult(
            StaticKernel(binary, image), result.config, result.compile_meta, result.inductor_meta
        )

    def __getstate__(self) -> dict[str, Any]:
        dropped = ("make_full_launcher", "_full_launcher")
        return {name: value for name, value in self.__dict__.items() if name not in dropped}

    def reload_cubin_path(self) -> None:
        """Finds the image again. RuntimeError where it is missing or not wanted: torch then compiles the source."""
        if knobs is not None and knobs.compilation.always_compile:
            raise RuntimeError("TRITON_ALWAYS_COMPILE is set")
        path = _image_path(self.compile_meta, self.kernel.hash, self.kernel.file)
        if self.kernel.cubin_raw is None and not path.exists():
            raise RuntimeError(f"the kernel's image {path} is missing")
        self.kernel.cubin_path = path

    @property
    def is_loaded(self) -> bool:
        """Whether the kernel was loaded by this: not where hooks looked at loads, as Triton's own kernel tells them."""
        return self.kernel.function is not None

    def make_launcher(self) -> Any:
        from gxu.inductor.autotuner import build_launcher

        if _has_hooks("kernel_load_start_hook", "kernel_load_end_hook"):
            return self._get_full_launcher()
        if self.kernel.function is None and self.kernel.cubin_path is None:
            self.reload_cubin_path()
        self.kernel.load(self.compile_meta.get("device") or 0)
        launcher: Any = build_launcher(self, self._launch_with_hooks)
        launcher.config = self.config
        launcher.n_regs, launcher.n_spills = self.kernel.n_regs, self.kernel.n_spills
        launcher.shared = self.kernel.shared
        launcher.cache_hash = triton_hash_to_path_key(self.kernel.hash)
        launcher.store_cubin = False
        launcher._is_static = True
        return launcher

    def _launch_with_hooks(self, *args: Any, stream: int) -> None:
        """A launch that Triton's hooks look at: they are told what only Triton's own kernel knows."""
        self._get_full_launcher()(*args, stream=stream)

    def _get_full_launcher(self) -> Any:
        if self._full_launcher is None:
            assert self.make_full_launcher is not None
            self._full_launcher = self.make_full_launcher()
        return self._full_launcher


def _image_path(compile_meta: dict[str, Any], kernel_hash: str, file: str) -> Path:
    """Where Triton's default cache manager keeps an image, in the folder that torch stores and restores."""
    return Path(triton_cache_dir(compile_meta.get("device") or 0), triton_hash_to_path_key(kernel_hash), file)
