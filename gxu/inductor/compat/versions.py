"""What differs between the releases of torch that gxu works with."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from gxu.inductor.device import DEVICE_TYPE

#: Methods of `DeviceOpOverrides` that torch 2.11 does not have: its wrappers never ask for them.
NEWER_OP_OVERRIDES = frozenset({"current_stream", "stream_handle"})


def patch_benchmarker(benchmark: Callable[..., float]) -> None:
    """torch 2.11 has no registry of benchmarkers: its `Benchmarker.benchmark` times all but the CPU with CUDA's.

    `benchmark` is what torch 2.13's `register_benchmarker` takes.
    """
    from torch._dynamo.utils import counters
    from torch._inductor import config
    from torch._inductor.runtime.benchmarking import Benchmarker

    original: Any = Benchmarker.benchmark
    if getattr(original, "_gxu", False):
        return

    @functools.wraps(original)
    def benchmark_on_gxu(
        self: Any, fn: Any, fn_args: Any = None, fn_kwargs: Any = None, device: Any = None, **kwargs: Any
    ) -> float:
        args, named = fn_args or (), fn_kwargs or {}
        if device is None and (fn_args is not None or fn_kwargs is not None):
            device = self.infer_device(*args, **named)
        if device is None or torch.device(device).type != DEVICE_TYPE:
            return original(self, fn, fn_args, fn_kwargs, device, **kwargs)
        warmup = kwargs.pop("warmup", config.inductor_default_autotune_warmup)
        rep = kwargs.pop("rep", config.inductor_default_autotune_rep)
        counters["inductor"][f"benchmarking.{type(self).__name__}.benchmark"] += 1
        return benchmark(self, lambda: fn(*args, **named), warmup=warmup, rep=rep, **kwargs)

    benchmark_on_gxu._gxu = True  # type: ignore[attr-defined]
    Benchmarker.benchmark = benchmark_on_gxu  # type: ignore[method-assign]


def fake_tensor_updater(module: torch.fx.GraphModule) -> Any:
    """Inductor's FakeTensorUpdater of a graph: torch 2.11's takes the graph itself, and later ones its module."""
    from torch._inductor.fx_utils import FakeTensorUpdater

    takes_graph = "graph" in inspect.signature(FakeTensorUpdater).parameters
    made: Any = FakeTensorUpdater
    return made(module.graph if takes_graph else module)


def inlined_when_called() -> set[str]:
    """Folders whose functions Dynamo inlines where compiled code calls them, though it compiles no frame of theirs.

    torch 2.11 keeps them in a set that it makes once.
    """
    from torch._dynamo import trace_rules

    if hasattr(trace_rules, "BUILTIN_INLINE_WHEN_CALLED"):
        return trace_rules.BUILTIN_INLINE_WHEN_CALLED
    folders: set[str] = trace_rules.get_mod_inlinelist()
    return folders


def device_of_random_operator(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """The device type for which Inductor saves a generator's state around an operator with these arguments.

    torch 2.11's answer is None for tensors on devices that it does not list.
    """
    from torch._prims import rng_prims

    found: str | None = rng_prims.get_device(args, kwargs)
    if found is None:
        found = next((arg.device.type for arg in args if isinstance(arg, torch.Tensor)), None)
    return found


@contextmanager
def meta_per_kernel(kernel: Any, own: Callable[[], dict[str, Any]]) -> Iterator[None]:
    """While the code of a Triton kernel is written: adds `own()` to what the kernel tells its heuristic.

    Later versions ask for `inductor_meta_per_kernel`. torch 2.11 has nothing but `inductor_meta_common`, which it calls
    on the kernel and on the class.
    """
    from torch._inductor.codegen.triton import TritonKernel

    if hasattr(TritonKernel, "inductor_meta_per_kernel"):
        yield
        return
    common = kernel.inductor_meta_common
    kernel.inductor_meta_common = lambda: {**common(), **own()}
    try:
        yield
    finally:
        del kernel.inductor_meta_common


def keep_steady_launcher(autotuner: Any) -> None:
    """What later autotuners do at the end of `run`, and torch 2.11's does not: keep what `_build_fast_launcher` makes
    of the launcher, once a kernel has one left and nobody looks at launches, until the kernel is pickled.

    `autotuner` is a subclass of Inductor's CachingAutotuner with `_build_fast_launcher` and `_cached_launcher`.
    """
    from torch._inductor.runtime import triton_heuristics

    if hasattr(triton_heuristics.CachingAutotuner, "_build_fast_launcher"):
        return
    original: Any = triton_heuristics.CachingAutotuner.run

    @functools.wraps(original)
    def run(self: Any, *args: Any, stream: Any, benchmark_run: bool = False, **kwargs: Any) -> Any:
        result = original(self, *args, stream=stream, benchmark_run=benchmark_run, **kwargs)
        is_steady = len(self.launchers) == 1 and not (
            benchmark_run
            or self.triton_interpret
            or self.dump_launch_params
            or self.dump_launch_tensors
            or triton_heuristics.autograd_profiler._is_profiler_enabled
            or triton_heuristics.get_active_debug_mode()
        )
        if self._cached_launcher is None and is_steady:
            launcher = self.launchers[0]
            self._cached_launcher = self._build_fast_launcher(launcher) or launcher
        return result

    def forgets(method: Any) -> Any:
        @functools.wraps(method)
        def forget(self: Any, *args: Any, **kwargs: Any) -> Any:
            self._cached_launcher = None
            return method(self, *args, **kwargs)

        return forget

    autotuner.run = run
    for name in ("prepare_for_pickle", "restore_after_unpickle"):
        setattr(autotuner, name, forgets(getattr(autotuner, name)))


def is_left_out_of_fx(line: Any) -> bool:
    """Whether the FX wrapper passes this line over: checks of sizes and strides, as later converters do. torch 2.11
    writes them as plain Python, which its converter refuses."""
    return isinstance(line, str) and line.startswith("assert_size_stride(")


def mixes_split_scan(node1: Any, node2: Any) -> bool:
    """Whether one is a scan whose row is cut among programs, and the other a reduction, which such a kernel cannot
    hold: torch 2.11 notes so, and fuses them all the same."""
    if node1.is_split_scan() == node2.is_split_scan():
        return False
    return bool((node2 if node1.is_split_scan() else node1).is_reduction())


def patch_fx_kernels() -> None:
    """torch 2.11's FX wrapper takes a kernel as a compile worker returns it, without the Python function that its graph
    runs; later ones load that again."""
    from torch._inductor.codegen.wrapper_fxir import FxConverter
    from torch._inductor.runtime.triton_heuristics import CachingAutotuner

    original: Any = FxConverter._import_kernel
    if hasattr(CachingAutotuner, "_ensure_kernel_loaded") or getattr(original, "_gxu", False):
        return

    @functools.wraps(original)
    def _import_kernel(self: Any, code: str, kernel_name: str) -> Any:
        kernel = original(self, code, kernel_name)
        if kernel.device_props.type == DEVICE_TYPE and kernel.fn.fn is None:
            kernel.fn = kernel._reload_kernel().fn
        return kernel

    _import_kernel._gxu = True  # type: ignore[attr-defined]
    FxConverter._import_kernel = _import_kernel  # type: ignore[method-assign]


def register_device_context(context: type, get_index: Callable[..., int], module_name: str) -> None:
    """Has Dynamo trace `with context(device)`, where `get_index` gives the index of `device`.

    torch 2.11 has no registry of such contexts: it asks whether a class is torch.cuda's.
    """
    from torch._dynamo.variables import ctx_manager
    from torch._dynamo.variables.user_defined import UserDefinedClassVariable

    has_registry = hasattr(ctx_manager, "register_device_context_manager")
    if has_registry and ctx_manager.get_device_context_manager(context) is not None:
        return
    base: Any = ctx_manager.AcceleratorDeviceIndexVariable if has_registry else _device_index_variable()

    class DeviceVariable(base):  # type: ignore[misc]
        """`context` in code that Dynamo traces."""

        _get_device_index_fn = staticmethod(get_index)

        def module_name(self) -> str:
            return module_name

        def fn_name(self) -> str:
            return context.__name__

        def python_type(self) -> type:
            return context

    if has_registry:
        ctx_manager.register_device_context_manager(context, DeviceVariable)
        return
    original: Any = UserDefinedClassVariable.call_function
    if getattr(original, "_gxu", False):
        return

    @functools.wraps(original)
    def call_function(self: Any, tx: Any, args: Any, kwargs: Any) -> Any:
        if self.value is context and not kwargs and len(args) == 1 and args[0].is_python_constant():
            return DeviceVariable.create(tx, args[0].as_python_constant())
        return original(self, tx, args, kwargs)

    call_function._gxu = True  # type: ignore[attr-defined]
    UserDefinedClassVariable.call_function = call_function  # type: ignore[method-assign]


def _device_index_variable() -> Any:
    """For torch 2.11, the base of later ones' contexts that change the current device."""
    from torch._dynamo.variables import ConstantVariable, ctx_manager

    class DeviceIndexVariable(ctx_manager.ContextWrappingVariable):
        _get_device_index_fn: Any

        @classmethod
        def create(cls, tx: Any, device: Any, **kwargs: Any) -> Any:
            return cls(target_values=[cls._get_device_index_fn(device, optional=True)], initial_values=None, **kwargs)

        def enter(self, tx: Any) -> Any:
            previous = torch._C._accelerator_exchangeDevice(*self.target_values)
            self.set_cleanup_hook(tx, lambda: torch._C._accelerator_maybeExchangeDevice(previous))
            exchange = torch._C._accelerator_exchangeDevice
            self.proxy = tx.output.create_node("call_function", exchange, (*self.target_values,), {})
            return ConstantVariable.create(None)

        def exit(self, tx: Any, *args: Any) -> Any:
            self.cleanup_assert()
            exchange = torch._C._accelerator_maybeExchangeDevice
            tx.output.create_node("call_function", exchange, (self.proxy,), {})
            return ConstantVariable.create(False)

    return DeviceIndexVariable
