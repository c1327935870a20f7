"""`python -m gxu doctor`: checks the installation from the bottom up, one line each, with a remedy where one fails."""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from rich import box
from rich.table import Table

from gxu.cli.output import check_writable, make_console, write_json

HELP = "check the installation: versions, runtime library, registration, caches, one compiled kernel"

ENTRY_POINTS = {"torch.backends": "gxu", "triton.backends": "gxu"}


class CheckError(Exception):
    """What a check found; its remedy is the check's own."""


@dataclass(frozen=True)
class Outcome:
    check: str
    ok: bool
    found: str
    remedy: str


@dataclass(frozen=True)
class Check:
    """`probe` returns what it found, or raises: CheckError, or whatever the probed code raises."""

    name: str
    probe: Callable[[], str]
    remedy: str

    def run(self) -> Outcome:
        try:
            return Outcome(self.name, True, self.probe(), "")
        except Exception as error:
            text = str(error).strip() or type(error).__name__
            return Outcome(self.name, False, text.splitlines()[0], self.remedy)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the outcome of each check to FILE")


def run(args: argparse.Namespace) -> int:
    if args.json is not None:
        check_writable(args.json)
    console = make_console()
    outcomes = [check.run() for check in CHECKS]
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("", "check", "found"):
        table.add_column(title)
    for outcome in outcomes:
        found = outcome.found if outcome.ok else f"{outcome.found}\n-> {outcome.remedy}"
        table.add_row("ok" if outcome.ok else "FAIL", outcome.check, found)
    console.print(table)
    failed = sum(not outcome.ok for outcome in outcomes)
    console.print(f"{failed} of {len(outcomes)} checks failed" if failed else f"all {len(outcomes)} checks passed")
    if args.json is not None:
        write_json(args.json, [asdict(outcome) for outcome in outcomes])
    return 1 if failed else 0


def versions() -> str:
    """Versions of what decides whether gxu works, against what the installed distribution declares."""
    from packaging.requirements import Requirement

    found = {name: importlib.metadata.version(name) for name in ("torch-gxu", "torch", "triton", "llvmlite", "numpy")}
    for text in importlib.metadata.requires("torch-gxu") or []:
        requirement = Requirement(text)
        version = found.get(requirement.name)
        if version is not None and not requirement.specifier.contains(version, prereleases=True):
            raise CheckError(f"{requirement.name} {version}, but torch-gxu needs {requirement}")
    return ", ".join(f"{name} {version}" for name, version in found.items()) + f", Python {platform.python_version()}"


def entry_points() -> str:
    missing = [
        group for group, name in ENTRY_POINTS.items() if name not in importlib.metadata.entry_points(group=group).names
    ]
    if missing:
        raise CheckError(f"no entry point gxu in {' and '.join(missing)}")
    return ", ".join(ENTRY_POINTS)


def extension() -> str:
    from gxu import _C

    return Path(_C.__file__).name


def runtime_library() -> str:
    from gxu import _C

    _C.init()
    abi = "{}.{}".format(*divmod(_C.runtime_version(), 1000))
    return f"{_C.runtime_path()}, ABI {abi}: {_C.device_count()} x {_C.get_device_properties(0)['name']}"


def device_module() -> str:
    import torch

    name = torch._C._get_privateuse1_backend_name()
    if name != "gxu":
        raise CheckError(f"PrivateUse1 is named {name!r}")
    module = torch.get_device_module("gxu")
    if not module.is_available():
        raise CheckError("torch.gxu.is_available() is False")
    return f"torch.gxu, {module.device_count()} device(s)"


def device_interface() -> str:
    from torch._dynamo.device_interface import get_interface_for_device

    interface = get_interface_for_device("gxu")
    interface.raise_if_triton_unavailable("gxu:0")
    return interface.__name__


def inductor() -> str:
    import torch._inductor.compile_fx  # noqa: F401  (gxu registers itself when this is imported)
    from torch._inductor.codegen.common import (
        get_device_op_overrides,
        get_scheduling_for_device,
        get_wrapper_codegen_for_device,
        init_backend_registration,
    )
    from torch._inductor.utils import is_gpu

    init_backend_registration()
    scheduling, wrapper = get_scheduling_for_device("gxu"), get_wrapper_codegen_for_device("gxu")
    if scheduling is None or wrapper is None:
        raise CheckError(f"scheduling {scheduling}, wrapper {wrapper}")
    if not is_gpu("gxu"):
        raise CheckError("Inductor does not count gxu among its GPU types, so it would omit device guards")
    parts = [getattr(scheduling, "__name__", repr(scheduling)), getattr(wrapper, "__name__", repr(wrapper))]
    return ", ".join([*parts, type(get_device_op_overrides("gxu")).__name__])


def triton_driver() -> str:
    from triton.backends import backends

    if "gxu" not in backends:
        raise CheckError(f"Triton knows the backends {', '.join(sorted(backends)) or 'none'}")
    return f"{backends['gxu'].compiler.__module__}, {backends['gxu'].driver.__module__}"


def caches() -> str:
    from torch._inductor.runtime.cache_dir_utils import cache_dir
    from triton import knobs

    folders = {"Inductor": Path(cache_dir()), "Triton": Path(knobs.cache.dir)}
    for name, folder in folders.items():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise CheckError(f"{name}'s cache folder {folder} is not writable: {error.strerror}") from None
    return ", ".join(str(folder) for folder in folders.values())


def compile_and_run() -> str:
    """Compiles a softmax for gxu from nothing, runs it and compares it with the CPU."""
    import torch
    from torch._inductor.utils import fresh_cache

    from gxu import _C

    def softmax(x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(x * 2.0, dim=-1)

    x = torch.linspace(-3, 3, 64 * 100).reshape(64, 100)
    with fresh_cache():
        launched = _C.launch_count()
        actual = torch.compile(softmax, fullgraph=True)(x.to("gxu")).cpu()
        launched = _C.launch_count() - launched
    difference = float((actual - softmax(x)).abs().max())
    if launched < 1:
        raise CheckError("the compiled function launched no kernel on gxu")
    if difference > 1e-5:
        raise CheckError(f"a compiled softmax differs from the CPU's by {difference:.1e}")
    return f"{launched} kernel(s) launched, largest difference from the CPU {difference:.1e}"


REINSTALL = "reinstall: pip install --force-reinstall --no-deps torch-gxu, or make build in a checkout"

CHECKS = (
    Check("versions", versions, "install the versions that torch-gxu declares (docs/versions.md)"),
    Check("entry points", entry_points, REINSTALL),
    Check("extension", extension, REINSTALL + "; after a change of torch it must be built again"),
    Check("runtime library", runtime_library, "set GXU_RUNTIME to host, cuda, or the path of a runtime library"),
    Check("device module", device_module, "unset TORCH_DEVICE_BACKEND_AUTOLOAD=0 or import gxu; remove other devices"),
    Check("device interface", device_interface, REINSTALL),
    Check("Inductor registration", inductor, REINSTALL),
    Check("Triton backend", triton_driver, REINSTALL + "; triton's own installation must be complete"),
    Check("caches", caches, "set TORCHINDUCTOR_CACHE_DIR and TRITON_CACHE_DIR to writable folders"),
    Check("compile and run", compile_and_run, "see the lines above; TORCH_LOGS=output_code shows the generated code"),
)
