"""`python -m gxu doctor`: checks the installation from the bottom up, one line each, with a remedy where one fails."""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import json
import os
import platform
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from gxu._name import DEVICE_TYPE
from gxu.cli.output import check_writable, make_console, write_json

#: Value of --json without a file.
STDOUT = Path("-")

HELP = "check the installation: versions, runtime library, registration, caches, one compiled kernel"

ENTRY_POINTS = {"torch.backends": "gxu", "triton.backends": "gxu"}

#: What PyTorch, Dynamo and Inductor call on a device module.
DEVICE_MODULE_FUNCTIONS = (
    "is_available is_initialized device_count current_device set_device device synchronize "
    "get_device_properties get_device_capability manual_seed manual_seed_all get_rng_state set_rng_state "
    "Stream Event current_stream set_stream stream get_amp_supported_dtype _is_in_bad_fork "
    "memory_allocated max_memory_allocated memory_stats empty_cache reset_peak_memory_stats"
).split()

#: Methods of torch's DeviceOpOverrides, and arguments to ask them with.
OP_OVERRIDES: dict[str, tuple[Any, ...]] = {
    "import_get_raw_stream_as": ("get_raw_stream",),
    "set_device": (0,),
    "synchronize": (),
    "device_guard": (0,),
    "current_stream": (),
    "stream_handle": ("stream0",),
    "cpp_device_guard": (),
    "cpp_aoti_device_guard": (),
    "cpp_stream_guard": (),
    "cpp_aoti_stream_guard": (),
    "cpp_getStreamFromExternal": (),
    "kernel_header": (),
    "kernel_driver": (),
    "cpp_stream_type": (),
    "aoti_get_stream": (),
    "cpp_kernel_type": (),
    "cpp_device_ptr": (),
    "tma_descriptor_helpers": (),
    "cpp_scratch": (0,),
}


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
    parser.add_argument(
        "--json",
        type=Path,
        nargs="?",
        const=STDOUT,
        metavar="FILE",
        help="also write the outcome of each check to FILE; without FILE, print it instead of the table",
    )


def run(args: argparse.Namespace) -> int:
    if args.json not in (None, STDOUT):
        check_writable(args.json)
    outcomes = [check.run() for check in CHECKS]
    failed = sum(not outcome.ok for outcome in outcomes)
    if args.json == STDOUT:
        print(json.dumps([asdict(outcome) for outcome in outcomes], indent=2))
        return 1 if failed else 0
    console = make_console()
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("", "check", "found"):
        table.add_column(title)
    for outcome in outcomes:
        found = outcome.found if outcome.ok else f"{outcome.found}\n-> {outcome.remedy}"
        table.add_row("ok" if outcome.ok else "FAIL", outcome.check, found)
    console.print(table)
    console.print(f"{failed} of {len(outcomes)} checks failed" if failed else f"all {len(outcomes)} checks passed")
    if args.json is not None:
        write_json(args.json, [asdict(outcome) for outcome in outcomes])
    return 1 if failed else 0


def versions() -> str:
    """Versions of what decides whether gxu works, against what the installed distribution declares."""
    from packaging.requirements import Requirement

    # Kernels for an engine with a vendor's own Triton backend do not go through llvmlite.
    is_host = os.environ.get("GXU_RUNTIME", "host") in ("", "host")
    names = ("torch-gxu", "torch", "triton", *(("llvmlite",) if is_host else ()), "numpy")
    found = {name: importlib.metadata.version(name) for name in names}
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


def privateuse1_name() -> str:
    import torch

    name = torch._C._get_privateuse1_backend_name()
    if name != DEVICE_TYPE:
        raise CheckError(f"PrivateUse1 is named {name!r}")
    return name


def device_module() -> str:
    import torch

    module = torch.get_device_module(DEVICE_TYPE)
    missing = [name for name in DEVICE_MODULE_FUNCTIONS if not callable(getattr(module, name, None))]
    if missing:
        raise CheckError(f"torch.{DEVICE_TYPE} has no {', '.join(missing)}")
    if not module.is_available():
        raise CheckError(f"torch.{DEVICE_TYPE}.is_available() is False")
    return f"torch.{DEVICE_TYPE}, {len(DEVICE_MODULE_FUNCTIONS)} functions, {module.device_count()} device(s)"


def device_interface() -> str:
    """Asks Dynamo's interface everything that Inductor asks it, and makes it refuse a device that does not exist."""
    from torch._dynamo.device_interface import get_interface_for_device

    interface = get_interface_for_device(DEVICE_TYPE)
    if get_interface_for_device(f"{DEVICE_TYPE}:0") is not interface:
        raise CheckError(f"{DEVICE_TYPE}:0 has another interface than {DEVICE_TYPE}")
    count, current = interface.device_count(), interface.current_device()
    properties = interface.get_device_properties(current)
    if interface.Worker.get_device_properties(current) != properties:
        raise CheckError("compile workers are told other properties than the device's")
    if interface.exchange_device(current) != current or interface.maybe_exchange_device(-1) != current:
        raise CheckError("exchange_device does not return the current device")
    try:
        interface.exchange_device(count)
    except Exception:
        pass
    else:
        interface.exchange_device(current)
        raise CheckError(f"exchange_device({count}) was accepted, with {count} device(s)")
    start, end = interface.Event(enable_timing=True), interface.Event(enable_timing=True)
    start.record()
    end.record()
    end.synchronize()
    if start.elapsed_time(end) < 0:
        raise CheckError("time between two events is negative")
    interface.get_raw_stream(current)
    capability = interface.get_compute_capability()
    return f"{interface.__name__}, capability {capability}, {properties.multi_processor_count} multiprocessors, events"


def triton_capable() -> str:
    from torch._dynamo.device_interface import get_interface_for_device

    interface = get_interface_for_device(DEVICE_TYPE)
    if not interface.is_triton_capable(f"{DEVICE_TYPE}:0"):
        raise CheckError("is_triton_capable() is False")
    interface.raise_if_triton_unavailable(f"{DEVICE_TYPE}:0")
    return "is_triton_capable, raise_if_triton_unavailable"


def _register_with_inductor() -> None:
    import torch._inductor.compile_fx  # noqa: F401  (gxu registers itself when this is imported)
    from torch._inductor.codegen.common import init_backend_registration

    init_backend_registration()


def op_override(name: str) -> str:
    """The snippet that the method `name` returns, its first line where it has several."""
    _register_with_inductor()
    from torch._inductor.codegen.common import TritonScratchWorkspace, get_device_op_overrides

    arguments = OP_OVERRIDES[name]
    if name == "cpp_scratch":
        arguments = (*arguments, TritonScratchWorkspace(size=0, generate_dtype_str=lambda: "uint8"))
    snippet = getattr(get_device_op_overrides(DEVICE_TYPE), name)(*arguments)
    if isinstance(snippet, tuple):
        snippet = snippet[0][0]
    lines = [line.strip() for line in snippet.strip().splitlines()]
    if not lines:
        return "(nothing)"
    return lines[0] if len(lines) == 1 else f"{lines[0].rstrip(chr(92)).strip()} ... ({len(lines)} lines)"


def all_op_overrides() -> str:
    """That torch's class has no method that this command does not ask, and those it asks but what is newer."""
    _register_with_inductor()
    from torch._inductor.codegen.common import DeviceOpOverrides, get_device_op_overrides

    from gxu.inductor.compat import NEWER_OP_OVERRIDES

    methods = {name for name, value in vars(DeviceOpOverrides).items() if callable(value) and name[0] != "_"}
    if unknown := (methods | NEWER_OP_OVERRIDES) ^ OP_OVERRIDES.keys():
        raise CheckError(f"torch's DeviceOpOverrides differs in {', '.join(sorted(unknown))}")
    return f"{type(get_device_op_overrides(DEVICE_TYPE)).__name__}, {len(methods)} methods"


def scheduling() -> str:
    _register_with_inductor()
    from torch._inductor import ir
    from torch._inductor.codegen.common import get_scheduling_for_device

    found = get_scheduling_for_device(DEVICE_TYPE)
    if found is None or not ir.is_triton(DEVICE_TYPE):
        raise CheckError(f"Inductor has {found} for {DEVICE_TYPE}, which is no class derived from TritonScheduling")
    return getattr(found, "__name__", repr(found))


def wrapper(kind: str) -> str:
    _register_with_inductor()
    from torch._inductor.codegen.common import get_wrapper_codegen_for_device

    found = get_wrapper_codegen_for_device(DEVICE_TYPE, cpp_wrapper=kind == "C++", fx_wrapper=kind == "FX")
    if found is None:
        raise CheckError(f"Inductor has no {kind} wrapper for {DEVICE_TYPE}")
    return getattr(found, "__name__", repr(found))


def gpu_type() -> str:
    _register_with_inductor()
    from torch._inductor.utils import is_gpu

    if not is_gpu(DEVICE_TYPE):
        raise CheckError(f"Inductor does not count {DEVICE_TYPE} among its GPU types, so it would omit device guards")
    return f"is_gpu({DEVICE_TYPE!r})"


def has_triton() -> str:
    """Asked with a tensor on the device: before one there is nothing, gxu leaves torch's answer as it is."""
    _register_with_inductor()
    import torch
    from torch.utils import _triton

    tensor = torch.empty(1, device=DEVICE_TYPE)
    if not _triton.has_triton():
        raise CheckError("has_triton() is False, so Inductor would refuse to compile")
    return f"has_triton() with a tensor on {tensor.device}"


def _triton_backend_name() -> str:
    """The backend that compiles for the target which the device's properties name."""
    from gxu import _C

    target: str = _C.get_device_properties(0)["triton_backend"]
    # Triton lists these two under their vendors' names.
    return {"cuda": "nvidia", "hip": "amd"}.get(target, target)


def triton_backend() -> str:
    from triton.backends import backends

    name = _triton_backend_name()
    if name not in backends:
        raise CheckError(f"the device wants {name}, and Triton knows {', '.join(sorted(backends)) or 'none'}")
    return f"{backends[name].compiler.__module__}, {backends[name].driver.__module__}"


def triton_driver() -> str:
    from triton.compiler.compiler import make_backend
    from triton.runtime import driver

    from gxu import _C

    target = driver.active.get_current_target()
    if target.backend != _C.get_device_properties(0)["triton_backend"]:
        raise CheckError(f"the active Triton driver is {type(driver.active).__name__}, for {target.backend}")
    return f"{type(driver.active).__name__}, {target}, {type(make_backend(target)).__name__}"


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
        actual = torch.compile(softmax, fullgraph=True)(x.to(DEVICE_TYPE)).cpu()
        launched = _C.launch_count() - launched
    difference = float((actual - softmax(x)).abs().max())
    if launched < 1:
        raise CheckError(f"the compiled function launched no kernel on {DEVICE_TYPE}")
    if difference > 1e-5:
        raise CheckError(f"a compiled softmax differs from the CPU's by {difference:.1e}")
    return f"{launched} kernel(s) launched, largest difference from the CPU {difference:.1e}"


REINSTALL = "reinstall: pip install --force-reinstall --no-deps torch-gxu, or make build in a checkout"

OTHER_BACKEND = "unset TORCH_DEVICE_BACKEND_AUTOLOAD and GXU_REGISTER, or import gxu; remove other PrivateUse1 devices"
OTHER_TORCH = "install the torch version that torch-gxu declares (docs/versions.md)"

CHECKS = (
    Check("versions", versions, OTHER_TORCH.replace("torch version", "versions")),
    Check("entry points", entry_points, REINSTALL),
    Check("extension", extension, REINSTALL + "; after a change of torch it must be built again"),
    Check("runtime library", runtime_library, "set GXU_RUNTIME to host, cuda, or the path of a runtime library"),
    Check("PrivateUse1 name", privateuse1_name, OTHER_BACKEND),
    Check("device module", device_module, OTHER_BACKEND),
    Check("device interface", device_interface, REINSTALL),
    Check("Triton capability", triton_capable, "install the Triton backend that the device names"),
    Check("device op overrides", all_op_overrides, OTHER_TORCH),
    *(Check(f"  {name}", functools.partial(op_override, name), OTHER_TORCH) for name in OP_OVERRIDES),
    Check("scheduling", scheduling, REINSTALL),
    *(Check(f"{kind} wrapper", functools.partial(wrapper, kind), REINSTALL) for kind in ("Python", "C++", "FX")),
    Check("GPU type", gpu_type, REINSTALL),
    Check("has_triton", has_triton, "unset TORCHINDUCTOR_TRITON_DISABLE_DEVICE_DETECTION; " + REINSTALL),
    Check("Triton backend", triton_backend, REINSTALL + "; triton's own installation must be complete"),
    Check("Triton driver", triton_driver, "unset TRITON_DEFAULT_BACKEND, or set it to gxu"),
    Check("caches", caches, "set TORCHINDUCTOR_CACHE_DIR and TRITON_CACHE_DIR to writable folders"),
    Check("compile and run", compile_and_run, "see the lines above; TORCH_LOGS=output_code shows the generated code"),
)
