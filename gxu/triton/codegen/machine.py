"""LLVM IR to a shared object that the host engine loads."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
from pathlib import Path

import llvmlite.binding as llvm

from .target import Target

_lock = threading.Lock()
# Tables of lines and frames: for readers of the text, not for the image.
_FOR_DEBUGGERS = ("\\09.loc", "\\09.cfi_")


class MachineCode:
    """Optimises, assembles and links the modules of one target."""

    def __init__(self, target: Target) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        llvm.initialize_native_asmparser()
        self._triple = target.triple
        self._machine = llvm.Target.from_triple(target.triple).create_target_machine(
            cpu=target.cpu, features=target.features, opt=3, reloc="pic", codemodel="default"
        )

    def optimise(self, text: str) -> llvm.ModuleRef:
        """Verified and optimised. The loops are written in their final form: what is left is to clean up locally."""
        module = llvm.parse_assembly(text)
        module.verify()
        options = llvm.create_pipeline_tuning_options(speed_level=2)
        options.loop_vectorization = False
        options.slp_vectorization = False
        options.loop_unrolling = False
        options.loop_interleaving = False
        builder = llvm.create_pass_builder(self._machine, options)
        passes = llvm.create_new_function_pass_manager()
        passes.add_instruction_combine_pass()
        passes.add_simplify_cfg_pass()
        passes.add_new_gvn_pass()
        passes.add_instruction_combine_pass()
        for function in module.functions:
            if not function.is_declaration:
                passes.run(function, builder)
        return module

    def assembly(self, module: llvm.ModuleRef) -> str:
        """Assembler text, with the source line and the loop of each block as comments."""
        self._machine.set_asm_verbosity(True)
        text: str = self._machine.emit_assembly(module)
        return text

    def shared_object(self, assembly: str, name: str) -> bytes:
        """Assembler text as an ELF shared object. To assemble what was printed costs little next to its generation,
        and so the text is always at hand."""
        lines = [
            f'module asm "{line}"' for line in _quoted(assembly).splitlines() if not line.startswith(_FOR_DEBUGGERS)
        ]
        module = llvm.parse_assembly("\n".join([f'target triple = "{self._triple}"', *lines]))
        return link(self._machine.emit_object(module), name)


def _quoted(text: str) -> str:
    """Text as strings of LLVM IR hold it."""
    return text.replace("\\", "\\5C").replace('"', "\\22").replace("\t", "\\09")


def link(objects: bytes, name: str) -> bytes:
    """Links one object file into a shared object, with the linker that Triton carries, else with the system's."""
    with tempfile.TemporaryDirectory(prefix="gxu_link_") as folder:
        source, target = Path(folder) / "kernel.o", Path(folder) / "kernel.so"
        source.write_bytes(objects)
        if not _link_with_triton(source, target):
            linker = os.environ.get("GXU_LINKER", "ld")
            command = [linker, "-shared", "-o", str(target), str(source)]
            try:
                done = subprocess.run(command, capture_output=True, text=True, check=False)
            except FileNotFoundError as error:
                raise RuntimeError(
                    f"cannot link kernel {name}: no linker {linker!r}; install binutils or set GXU_LINKER"
                ) from error
            if done.returncode != 0:
                raise RuntimeError(f"cannot link kernel {name}: {done.stderr.strip()}")
        return target.read_bytes()


def _link_with_triton(source: Path, target: Path) -> bool:
    try:
        from triton._C.libtriton import amd
    except ImportError:
        return False
    linker = getattr(amd, "link_hsaco", None)
    if linker is None:
        return False
    # The bundled lld keeps global state.
    with _lock:
        linker(str(source), str(target))
    return target.exists()
