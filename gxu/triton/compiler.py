"""Triton's compiler plugin for gxu: options, stages, and the pipeline from Triton IR to a kernel image.

The stages, each kept in ``kernel.asm`` under its name:

    ttir    Triton IR after the target-independent passes
    ttgir   the same, and only there where a file was given: where the compilation of a .ttgir file starts
    loops   the loop form: which nests compute what (gxu/triton/lowering)
    llir    LLVM IR (gxu/triton/codegen)
    asm     the machine code as assembler text
    cubin   the kernel image: an ELF shared object (the name is the one that Inductor looks for)
"""

from __future__ import annotations

import functools
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from triton import knobs
from triton._C.libtriton import ir, passes
from triton.backends.compiler import BaseBackend, GPUTarget, Language

from .compat import patch_sass
from .image import seal
from .recursion import deep_nesting

_TOO_DEEP = (
    "the gxu Triton backend does not support branches and loops nested this deep (each elif lies in the last, and what "
    "follows an early return does, too); split the kernel, or choose by a number that a table holds"
)


@dataclass(frozen=True)
class GXUOptions:
    """Options of one compilation, with the names that Triton's frontend, its launcher and Inductor read."""

    num_warps: int = 1
    num_ctas: int = 1
    num_stages: int = 1
    warp_size: int = 32
    debug: bool = False
    sanitize_overflow: bool = False
    sanitize_memory: bool = False
    enable_fp_fusion: bool = True
    supported_fp8_dtypes: tuple[str, ...] = ("fp8e4b15", "fp8e4b8", "fp8e4nv", "fp8e5", "fp8e5b16")
    deprecated_fp8_dot_operand_dtypes: tuple[str, ...] = ()
    default_dot_input_precision: str = "ieee"
    allowed_dot_input_precisions: tuple[str, ...] = ("ieee", "tf32", "tf32x3", "bf16x3", "bf16x6")
    max_num_imprecise_acc_default: int = 0
    extern_libs: Any = ()
    backend_name: str = "gxu"
    arch: str = ""
    ir_override: str | None = None
    instrumentation_mode: str = ""
    launch_cooperative_grid: bool = False
    # Hints to GPUs of several makes, as num_warps is one: kernels and their tuning lists name them, nobody here asks.
    maxnreg: int | None = None
    launch_pdl: bool = False
    ptx_version: int | None = None
    ptx_options: str | None = None
    enable_reflect_ftz: bool = True
    waves_per_eu: int = 0
    matrix_instr_nonkdim: int = 0
    kpack: int = 1
    allow_flush_denorm: bool = False
    schedule_hint: str = "none"
    # Set by the launcher: the kernel is given one tensor for two arguments (analysis/overlap.py).
    arguments_alias: bool = False

    def __post_init__(self) -> None:
        if self.num_warps <= 0 or self.num_warps & (self.num_warps - 1):
            # The class and the words of Triton's own targets, which callers that try many settings look for.
            raise AssertionError(f"num_warps must be a power of 2, not {self.num_warps}")
        if isinstance(self.extern_libs, dict):
            object.__setattr__(self, "extern_libs", tuple(self.extern_libs.items()))

    def hash(self) -> str:
        key = "_".join(f"{name}-{value}" for name, value in sorted(self.__dict__.items()))
        return hashlib.sha256(key.encode()).hexdigest()


@functools.cache
def source_hash() -> str:
    """Hash of the compiler's own sources: a change of any stage must miss the kernel cache."""
    digest = hashlib.sha256()
    root = Path(__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


class GXUBackend(BaseBackend):
    """Compiles for ``GPUTarget("gxu", ...)``: on the host engine, code for this machine's CPU."""

    binary_ext = "cubin"

    def __init__(self, target: GPUTarget) -> None:
        super().__init__(target)
        self.from_file = False
        patch_sass()

    @staticmethod
    def supports_target(target: GPUTarget) -> bool:
        return bool(target.backend == "gxu")

    def hash(self) -> str:
        from .codegen.target import host_target

        return f"gxu-{source_hash()}-{host_target().identity()}"

    def get_target_name(self, options: GXUOptions) -> str:
        return f"gxu:{self.target.arch}"

    def parse_options(self, opts: dict[str, Any]) -> GXUOptions:
        known = {k: opts[k] for k in GXUOptions.__dataclass_fields__ if opts.get(k) is not None}
        known.setdefault("arch", str(self.target.arch))
        known.setdefault("enable_fp_fusion", knobs.language.default_fp_fusion)
        # As on other targets, debug mode checks integer arithmetic; without it, that would not be an assertion.
        known.setdefault("sanitize_overflow", bool(known.get("debug")))
        known.setdefault("sanitize_memory", os.environ.get("GXU_SANITIZE") == "1")
        return GXUOptions(**known)

    def pack_metadata(self, metadata: Any) -> tuple[int, int, int]:
        return metadata.num_warps, metadata.num_ctas, metadata.shared

    def get_codegen_implementation(self, options: GXUOptions) -> dict[str, Any]:
        from .float8e4b15 import convert_custom_types

        return {"convert_custom_types": convert_custom_types, "min_dot_size": lambda lhs, rhs: (1, 1, 1)}

    def get_module_map(self) -> dict[str, ModuleType]:
        from . import libdevice

        return {"triton.language.extra.libdevice": libdevice}

    def load_dialects(self, context: Any) -> None:
        """Triton's own dialects are all that is needed. Those of a file are loaded before the stages are asked for."""
        self.from_file = True

    def add_stages(self, stages: dict[str, Any], options: GXUOptions, language: Language) -> None:
        if language != Language.TRITON:
            raise NotImplementedError(
                "the gxu Triton backend compiles Triton kernels, not Gluon ones: Gluon layouts describe a GPU's "
                "registers; write the kernel in triton.language"
            )
        stages["ttir"] = lambda module, metadata: self.make_ttir(module, metadata, options)
        if self.from_file or (options.ir_override or "").endswith(".ttgir"):
            stages["ttgir"] = lambda module, metadata: module
        stages["loops"] = lambda module, metadata: self.make_loops(module, metadata, options)
        stages["llir"] = self.make_llir
        stages["asm"] = self.make_asm
        stages["cubin"] = self.make_image
        if knobs.runtime.add_stages_inspection_hook is not None:
            knobs.runtime.add_stages_inspection_hook(self, stages, options, language, None)

    @staticmethod
    def make_ttir(module: Any, metadata: dict[str, Any], options: GXUOptions) -> Any:
        manager = ir.pass_manager(module.context)
        manager.enable_debug()
        passes.common.add_inliner(manager)
        passes.ttir.add_rewrite_tensor_pointer(manager)
        passes.ttir.add_rewrite_tensor_descriptor_to_pointer(manager)
        passes.common.add_canonicalizer(manager)
        passes.ttir.add_combine(manager)
        passes.ttir.add_reorder_broadcast(manager)
        passes.common.add_cse(manager)
        passes.ttir.add_triton_licm(manager)
        passes.common.add_symbol_dce(manager)
        passes.ttir.add_loop_unroll(manager)  # loops that ask for it by loop_unroll_factor
        manager.run(module, "make_ttir")
        return module

    @staticmethod
    def make_loops(module: Any, metadata: dict[str, Any], options: GXUOptions) -> LoopForm:
        from .analysis.overlap import conflicts, let_arguments_meet
        from .codegen.kernel import KernelWriter
        from .codegen.target import host_target
        from .errors import UnsupportedError
        from .ir.reader import read_module
        from .lowering.branches import select_branches
        from .lowering.dot_scaled import expand_scaled_dots
        from .lowering.hypercubes import flatten_hypercubes
        from .lowering.inline_assembly import expand_inline_assembly
        from .lowering.layouts import drop_layouts
        from .lowering.maps import expand_maps
        from .lowering.refuse import refuse_gpu_only
        from .lowering.structure import structure

        name = module.get_entry_func_name()
        # Any attribute without a dialect's prefix makes the printer use MLIR's generic form, which has one grammar.
        module.set_attr("generic", ir.builder(module.context).get_unit_attr())
        try:
            with deep_nesting():
                program = read_module(module.str())
                function = program.kernel(name)
                structure(program, function)
                refuse_gpu_only(function, num_ctas=options.num_ctas, cooperative=options.launch_cooperative_grid)
                drop_layouts(function)
                expand_inline_assembly(function)
                expand_maps(function)
                expand_scaled_dots(function)
                flatten_hypercubes(function)
                select_branches(function)
                if options.arguments_alias:
                    let_arguments_meet(function)
                kernel = KernelWriter(
                    function, host_target(), fp_fusion=options.enable_fp_fusion, sanitize=options.sanitize_memory
                ).write()
        except UnsupportedError as error:
            raise error.in_kernel(name) from None
        except RecursionError:
            raise UnsupportedError(f"kernel {name}: {_TOO_DEEP}") from None
        metadata.update(
            name=name,
            shared=1,  # nominal: programs that work out how many kernels fit divide by it
            global_scratch_size=0,
            global_scratch_align=1,
            profile_scratch_size=0,
            profile_scratch_align=1,
            scratch_bytes=kernel.scratch_bytes,
            conflicts=[] if options.arguments_alias else conflicts(function),
        )
        return LoopForm(kernel.loops, kernel.llvm)

    @staticmethod
    def make_llir(kernel: LoopForm, metadata: dict[str, Any]) -> Any:
        return _machine_code().optimise(kernel.llvm)

    @staticmethod
    def make_asm(module: Any, metadata: dict[str, Any]) -> str:
        text: str = _machine_code().assembly(module)
        return text

    @staticmethod
    def make_image(assembly: str, metadata: dict[str, Any]) -> bytes:
        return seal(_machine_code().shared_object(assembly, metadata["name"]))


class LoopForm:
    """What the ``loops`` stage hands on: prints as the loop form, and carries the LLVM IR written from it."""

    def __init__(self, text: str, llvm: str) -> None:
        self.text = text
        self.llvm = llvm

    def __str__(self) -> str:
        return self.text


@functools.cache
def _machine_code() -> Any:
    from .codegen.machine import MachineCode
    from .codegen.target import host_target

    return MachineCode(host_target())
