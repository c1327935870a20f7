"""When gxu registers itself with Dynamo and Inductor: as soon as either is imported, and not before.

`import torch` autoloads gxu long before anybody compiles anything, so importing Dynamo or Inductor there would cost a
second. Inductor's own discovery (it reads `torch.gxu.Scheduling` and three more names) comes too late for what Dynamo
asks first, and it drops the cache identity. `install` therefore watches for the import of the modules that come
first in each: registration runs right after their body, as if they ended with `import gxu`.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import logging
import sys
from collections.abc import Callable, Sequence
from types import ModuleType

from gxu._name import DEVICE_TYPE

log = logging.getLogger(__name__)


def _register_device_interface() -> None:
    from gxu.inductor import compat
    from gxu.inductor.device_interface import register_device_interface

    register_device_interface()
    # Dynamo asks it when it meets a user's Triton kernel, before anything of Inductor is imported.
    compat.patch_has_triton()
    compat.patch_shapes_of_product_dtypes()


def _register_trace_rules() -> None:
    from gxu.inductor.trace_rules import register

    register()


def _register_streams_and_devices() -> None:
    from gxu.inductor.trace_rules import register_streams_and_devices

    register_streams_and_devices()


def _register_benchmarker() -> None:
    from gxu.inductor.benchmarking import register

    register()


def _register_autotuning() -> None:
    """For the processes that only measure: they import this module alone, and nothing that registers the device."""
    from gxu.inductor import compat

    if "torch._inductor.compile_fx" not in sys.modules:
        compat.extend_gpu_types()


def _keep_freezing_patterns() -> None:
    from gxu.inductor import compat

    compat.keep_freezing_patterns()


def _accept_flex_attention() -> None:
    from gxu.inductor import compat

    compat.patch_flex_attention()


def _accept_cudagraphs_backend() -> None:
    from gxu.inductor import compat

    compat.patch_cudagraphs_backend()


def _accept_opcheck() -> None:
    from gxu.inductor import compat

    compat.patch_opcheck()


def _offer_to_inductor_tests() -> None:
    from gxu import compat

    compat.patch_inductor_test_helpers()


def _offer_to_triton_tests() -> None:
    from gxu import compat

    compat.patch_triton_test_helpers()


def _name_device_to_safetensors() -> None:
    from gxu import compat

    compat.patch_safetensors()


def _let_environment_choose_triton_driver() -> None:
    from gxu.triton.compat import patch_default_backend

    patch_default_backend()


def _register_inductor() -> None:
    from gxu.inductor.registration import register

    register()


#: Module whose import triggers a registration, and the registration.
_TRIGGERS: dict[str, Callable[[], None]] = {
    "torch._dynamo.device_interface": _register_device_interface,
    "torch._dynamo.trace_rules": _register_trace_rules,
    "torch._dynamo.convert_frame": _register_streams_and_devices,
    "torch._dynamo.backends.cudagraphs": _accept_cudagraphs_backend,
    "torch._inductor.runtime.benchmarking": _register_benchmarker,
    "torch._inductor.autotune_process": _register_autotuning,
    "torch._inductor.fx_passes.freezing_patterns": _keep_freezing_patterns,
    "torch._inductor.compile_fx": _register_inductor,
    "torch.nn.attention.flex_attention": _accept_flex_attention,
    "torch.testing._internal.optests.autograd_registration": _accept_opcheck,
    "torch.testing._internal.inductor_utils": _offer_to_inductor_tests,
    "torch.testing._internal.triton_utils": _offer_to_triton_tests,
    "safetensors": _name_device_to_safetensors,
    "triton.runtime.driver": _let_environment_choose_triton_driver,
}


def _run(name: str) -> None:
    """Registers for the module `name`; a failure is logged, because it must not break compilation for other devices."""
    try:
        _TRIGGERS[name]()
    except Exception:
        log.exception(
            "gxu could not register itself after the import of %s: what needs that will not work on gxu", name
        )


class _RegistrationFinder(importlib.abc.MetaPathFinder):
    """Finds the trigger modules as Python would, and has their loader run the registration after the module's body."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in _TRIGGERS:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            _run(fullname)
            _run_finished()

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


_finder = _RegistrationFinder()

#: Trigger modules that were being imported when gxu was: Triton, which Dynamo imports, finds gxu by its entry point.
_unfinished: list[str] = []


def _is_finished(name: str) -> bool:
    return not getattr(sys.modules[name].__spec__, "_initializing", False)


def _run_finished() -> None:
    """Registers for what has been imported in the meantime; the last trigger comes before anything is compiled."""
    for name in filter(_is_finished, tuple(_unfinished)):
        _unfinished.remove(name)
        _run(name)


def discovered(name: str) -> type:
    """The class that Inductor's automatic discovery reads from `torch.gxu` under this name.

    RuntimeError where gxu cannot be registered: discovery takes that as "no such device", and other devices compile on.
    """
    try:
        from gxu.inductor.registration import DISCOVERED
    except Exception as error:
        log.exception("gxu could not import its Inductor backend: torch.compile will not work on gxu")
        raise RuntimeError(f"torch.{DEVICE_TYPE}.{name} is not available: {error}") from error
    return DISCOVERED[name]


#: The names that Inductor reads: the device module's `__getattr__` answers them with `discovered`.
DISCOVERED_NAMES = ("Scheduling", "PythonWrapperCodegen", "CppWrapperCodegen", "WrapperFxCodegen")


def install() -> None:
    """Registers with whatever of Dynamo and Inductor is already imported, and arranges it for the rest. Idempotent."""
    if _finder in sys.meta_path:
        return
    _unfinished.extend(name for name in _TRIGGERS if name in sys.modules)
    _run_finished()
    sys.meta_path.insert(0, _finder)
