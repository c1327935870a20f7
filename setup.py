"""Builds the device `gxu/lib/libgxu_torch.so`, its Python module `gxu._C`, the engines `gxu/lib/libgxu_runtime_host.so`
and `gxu/lib/libgxu_runtime_cuda.so`, and `gxu/bin/gxu-abi-test`, which checks runtime libraries.

Metadata is in pyproject.toml. Needs torch, setuptools and a C++20 compiler (`CXX`, default g++); ninja is used where
it is installed. `MAX_JOBS` bounds the parallel compilers. Only changed sources are compiled again.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# The build imports torch, and torch would import whatever gxu is installed or half built here.
os.environ["TORCH_DEVICE_BACKEND_AUTOLOAD"] = "0"

import torch
from setuptools import Extension, setup
from setuptools.command.build_py import build_py
from torch.utils.cpp_extension import BuildExtension, CppExtension, include_paths, library_paths

if not torch.distributed.is_available():
    sys.exit(
        f"gxu needs a torch with torch.distributed, and torch {torch.__version__} was built without it: install a "
        "wheel of PyTorch's, or build torch with USE_DISTRIBUTED=1"
    )

ROOT = Path(__file__).resolve().parent
TORCH = Path(torch.__file__).parent

# Files that users of an installed gxu need and that live elsewhere in the sources.
PACKAGED_FILES = {
    **{f"csrc/runtime/{path.name}": f"gxu/include/{path.name}" for path in sorted((ROOT / "csrc/runtime").glob("*.h"))},
    "csrc/runtime/host/gxu_host_kernel.h": "gxu/include/gxu_host_kernel.h",
    "examples/sentences.txt": "gxu/share/sentences.txt",
    "examples/queries.txt": "gxu/share/queries.txt",
    "csrc/cmake/GxuConfig.cmake": "gxu/share/cmake/Gxu/GxuConfig.cmake",
    "csrc/abi_test/images/cuda.ptx": "gxu/share/abi_test/cuda",
    **{
        str(path.relative_to(ROOT)): f"gxu/include/{path.relative_to(ROOT / 'csrc/include')}"
        for path in sorted((ROOT / "csrc/include").rglob("*.h"))
    },
}

# Made by csrc/aoti/generate_c_shim.py for the installed torch: a source, and a header that users need.
GENERATED = f"build/generated-torch-{torch.__version__}"
C_SHIM_HEADER = "torch/csrc/inductor/aoti_torch/generated/c_shim_gxu.h"
PACKAGED_FILES[f"{GENERATED}/{C_SHIM_HEADER}"] = f"gxu/include/{C_SHIM_HEADER}"

# The torch that the extension is compiled against: gxu/_version.py refuses another one.
BUILT_WITH_TORCH = f"{GENERATED}/built_with_torch"
PACKAGED_FILES[BUILT_WITH_TORCH] = "gxu/share/built_with_torch"

# Linked last, so that it runs when everything else in the library has registered itself.
STARTUP = "csrc/torch/startup.cpp"

# Types of torch.gxu (PEP 561): beside the package, not in it.
STUB_FILES = [
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "torch-stubs").rglob("*.pyi")),
    "torch-stubs/py.typed",
]

WARNINGS = ["-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-missing-field-initializers"]


def files(pattern: str) -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for path in ROOT.glob(pattern))


# The part of csrc/torch that is for Python: `gxu._C`. C++ programs load the rest, libgxu_torch.so, without it; Python's
# functions exist in neither that library nor those programs: see csrc/torch/gil.h.
PYTHON_SOURCES = ["csrc/torch/launcher.cpp", *files("csrc/torch/**/*module.cpp")]


def default_jobs() -> int:
    """One compiler a core, but no more than memory allows: a translation unit with torch's headers takes about 2 GB."""
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(cores, memory // (2 << 30)))


os.environ.setdefault("MAX_JOBS", str(default_jobs()))


class SharedLibrary(Extension):
    """A shared library without Python in it, placed in the package under its plain file name."""

    file_name_suffix = ".so"
    compile_args: Sequence[str] = ()
    link_args: Sequence[str] = ()
    object_folder = ""


class RuntimeLibrary(SharedLibrary):
    """A library without torch in it either."""

    compile_args = ("-std=c++20", "-O3", "-g1", "-fPIC", "-fvisibility=hidden", "-pthread", *WARNINGS)
    link_args = ("-shared", "-pthread", "-ldl", "-Wl,--no-undefined")


class HostEngine(RuntimeLibrary):
    """Runs kernels on the team of threads that PyTorch's CPU operators use."""

    object_folder = "host"  # what the engines have in common is compiled with the flags of each

    compile_args = (*RuntimeLibrary.compile_args, "-fopenmp")
    link_args = (*RuntimeLibrary.link_args, "-fopenmp")


class KernelImage(SharedLibrary):
    """Kernels for the host engine, written in C."""

    file_name_suffix = ""
    compile_args = ("-x", "c", "-std=c99", "-O2", "-fPIC", "-Icsrc/runtime/host", "-Wall", "-Wextra")
    link_args = ("-shared",)


class Program(SharedLibrary):
    """An executable that knows runtime libraries by their header alone."""

    file_name_suffix = ""
    compile_args = ("-std=c++20", "-O0", "-fPIE", "-pthread", "-Wall", "-Wextra")
    link_args = ("-pie", "-pthread", "-ldl", "-Wl,--no-undefined")


class TorchLibrary(SharedLibrary):
    """A library on top of torch's C++ libraries. Its symbols are for `gxu._C` and for generated code."""

    compile_args = (
        *("-std=c++20", "-O2", "-g1", "-fPIC", "-fno-semantic-interposition", "-pthread", *WARNINGS),
        # torch's profiler is kineto, whose headers are in a folder of their own.
        *(f"-isystem{folder}" for folder in (*include_paths(), f"{TORCH}/include/kineto")),
    )
    link_args = (
        *("-shared", "-pthread", "-ldl", "-Wl,--no-undefined", "-Wl,-Bsymbolic-functions"),
        # In an installation torch lies beside gxu; a process that has loaded torch takes that.
        *(f"-L{folder}" for folder in library_paths()),
        *("-lc10", "-ltorch_cpu", "-ltorch", "-Wl,-rpath,$ORIGIN/../../torch/lib"),
    )


class Build(BuildExtension):
    def finalize_options(self) -> None:
        super().finalize_options()
        # pip names a fresh temporary folder for editable installs, where nothing would ever be up to date.
        tag = f"{sys.implementation.cache_tag}-torch-{torch.__version__}"
        self.build_temp = str(ROOT / "build" / f"temp-{tag}")

    def get_ext_filename(self, fullname: str) -> str:
        ext = self.ext_map.get(fullname)
        if isinstance(ext, SharedLibrary):
            return str(Path(*fullname.split("."))) + ext.file_name_suffix
        return super().get_ext_filename(fullname)

    def build_extension(self, ext: Extension) -> None:
        if isinstance(ext, SharedLibrary):
            self.build_library(ext)
        else:
            ext.extra_link_args = [*ext.extra_link_args, self.get_ext_fullpath("gxu.lib.libgxu_torch")]
            super().build_extension(ext)

    def build_library(self, ext: SharedLibrary) -> None:
        """Compiles and links `ext`; an object is made again when its source, a header or the command changed."""
        compiler = shlex.split(os.environ.get("CXX", "g++"))
        flags = shlex.split(os.environ.get("CXXFLAGS", ""))
        includes = [f"-I{ROOT / folder}" for folder in ext.include_dirs if folder.startswith(("csrc", "build"))]
        objects, commands = [], []
        for source in ext.sources:
            target = Path(self.build_temp, ext.object_folder, source).with_suffix(".o")
            target.parent.mkdir(parents=True, exist_ok=True)
            command = [*compiler, *ext.compile_args, *includes, *flags, "-MMD", "-c", source, "-o", str(target)]
            objects.append(str(target))
            if not up_to_date(target, command):
                commands.append((target, command))
        with ThreadPoolExecutor(int(os.environ["MAX_JOBS"])) as pool:
            list(pool.map(lambda item: compile_object(*item), commands))
        library = Path(self.get_ext_fullpath(ext.name))
        library.parent.mkdir(parents=True, exist_ok=True)
        ldflags = shlex.split(os.environ.get("LDFLAGS", ""))
        run([*compiler, *flags, *objects, *ldflags, *ext.link_args, f"-Wl,-soname,{library.name}", "-o", str(library)])

    def copy_extensions_to_source(self) -> None:
        super().copy_extensions_to_source()
        for source, target in PACKAGED_FILES.items():
            link = ROOT / target
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(os.path.relpath(ROOT / source, link.parent))

    def _get_inplace_equivalent(self, command: build_py, ext: Extension) -> tuple[str, str]:
        inplace, regular = super()._get_inplace_equivalent(command, ext)
        Path(inplace).parent.mkdir(parents=True, exist_ok=True)
        return inplace, regular


class BuildPython(build_py):
    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for source, target in {**PACKAGED_FILES, **{name: name for name in STUB_FILES}}.items():
            destination = Path(self.build_lib, target)
            destination.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / source, destination)


def up_to_date(target: Path, command: Sequence[str]) -> bool:
    """True if `target` was made by `command` and is newer than every file that the compiler read for it."""
    depfile, record = target.with_suffix(".d"), target.with_suffix(".cmd")
    if not (target.exists() and depfile.exists() and record.exists()) or record.read_text() != shlex.join(command):
        return False
    read = depfile.read_text().replace("\\\n", " ").split(":", 1)[1].split()
    made = target.stat().st_mtime_ns
    return all(Path(name).exists() and Path(name).stat().st_mtime_ns < made for name in read)


def compile_object(target: Path, command: Sequence[str]) -> None:
    run(command)
    target.with_suffix(".cmd").write_text(shlex.join(command))


def run(command: Sequence[str]) -> None:
    print(shlex.join(command), flush=True)
    try:
        subprocess.run(command, cwd=ROOT, check=True)
    except FileNotFoundError:
        sys.exit(f"building gxu needs a C++20 compiler: {command[0]!r} was not found; install g++ or set CXX")
    except subprocess.CalledProcessError as error:
        sys.exit(f"{command[0]} failed with exit status {error.returncode}; its messages are above")


def abi_test() -> list[SharedLibrary]:
    """`gxu-abi-test`, with the kernels that it runs on the host engine. Left out where Boost.Test is not installed."""
    folder = Path("csrc/abi_test")
    includes = [f"-I{folder}", "-Icsrc/runtime"]
    package = importlib.util.find_spec("boost_headers")
    if package is not None and package.origin is not None:
        includes += ["-isystem", str(Path(package.origin).parent / "include")]
    elif not Path("/usr/include/boost/test").is_dir():
        print("gxu-abi-test is left out: it needs Boost.Test, which `pip install boost-headers` brings")
        return []
    program = Program("gxu.bin.gxu-abi-test", sources=files(f"{folder}/**/*.cpp"), depends=files(f"{folder}/*.h"))
    program.compile_args = (*Program.compile_args, *includes)
    return [program, KernelImage("gxu.share.abi_test.gxu", sources=[f"{folder}/images/gxu.c"])]


def torch_sources() -> list[str]:
    """Sources of libgxu_torch.so, after generating those that are out of date."""
    generator, generated = Path("csrc/aoti/generate_c_shim.py"), Path(GENERATED, "c_shim_gxu.cpp")
    if not generated.exists() or generated.stat().st_mtime < generator.stat().st_mtime:
        run([sys.executable, str(generator), GENERATED])
        generated.touch()
    Path(BUILT_WITH_TORCH).write_text(torch.__version__)
    sources = {*files("csrc/torch/**/*.cpp"), *files("csrc/aoti/*.cpp"), str(generated)} - {*PYTHON_SOURCES, STARTUP}
    return [*sorted(sources), STARTUP]


os.chdir(ROOT)
HEADERS = files("csrc/torch/**/*.h") + files("csrc/include/**/*.h") + files("csrc/runtime/*.h")
setup(
    ext_modules=[
        HostEngine(
            "gxu.lib.libgxu_runtime_host",
            sources=files("csrc/runtime/common/*.cpp") + files("csrc/runtime/host/*.cpp"),
            include_dirs=["csrc/runtime"],
            depends=files("csrc/runtime/**/*.h"),
        ),
        RuntimeLibrary(
            "gxu.lib.libgxu_runtime_cuda",
            sources=files("csrc/runtime/common/*.cpp") + files("csrc/runtime/cuda/*.cpp"),
            include_dirs=["csrc/runtime"],
            depends=files("csrc/runtime/**/*.h"),
        ),
        *abi_test(),
        TorchLibrary(
            "gxu.lib.libgxu_torch",
            sources=torch_sources(),
            include_dirs=["csrc/runtime", "csrc", "csrc/include", GENERATED],
            depends=HEADERS,
        ),
        CppExtension(
            "gxu._C",
            sources=PYTHON_SOURCES,
            include_dirs=[str(ROOT / folder) for folder in ("csrc/runtime", "csrc", "csrc/include")],
            depends=HEADERS,
            extra_compile_args=["-std=c++20", "-O2", "-g1", "-fvisibility=hidden", *WARNINGS],
            extra_link_args=["-ldl", "-Wl,-rpath,$ORIGIN/lib"],
        ),
    ],
    cmdclass={"build_ext": Build, "build_py": BuildPython},
)
