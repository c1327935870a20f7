"""The patches of torch's fixed lists of device types, so that gxu is among them."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FunctionType, SimpleNamespace
from typing import Any

import torch

from gxu.inductor.compat.versions import device_of_random_operator
from gxu.inductor.device import DEVICE_TYPE, device_module

_used = False


def mark_used() -> None:
    """Notes that code is being generated for gxu."""
    global _used
    _used = True


def is_used() -> bool:
    """Whether this process uses gxu: it has memory of the device, or code was generated for it.

    That the device is initialised says nothing: Dynamo initialises torch.accelerator for whatever it compiles. Dynamo
    asks this thousands of times for a model on the CPU, so it reads the allocator's empty list of segments and no
    statistics (2 us, and 490 us).
    """
    if not _used and device_module().is_initialized() and device_module().memory_snapshot(include_traces=False):
        mark_used()
    return _used


def rebind(name: str, original: Any, replacement: Any) -> None:
    """Rebinds `name` in every torch module that imported `original` under that name."""
    for module_name, module in list(sys.modules.items()):
        if module_name.startswith("torch.") and module is not None and vars(module).get(name) is original:
            setattr(module, name, replacement)


def patch_has_triton() -> None:
    """`torch.utils._triton.has_triton` knows a fixed list of device types, and Inductor asks it before it generates
    Triton code for any GPU-like device (pytorch#189138).

    It has no device argument. The answer stays torch's own, unless that is False and the process uses gxu: a process
    that only compiles for CPU sees no difference.
    """
    import torch.utils._triton as module

    original: Any = module.has_triton
    if getattr(original, "_gxu", False):
        return

    @functools.wraps(original)
    def has_triton() -> bool:
        return original() or is_used()

    has_triton._gxu = True  # type: ignore[attr-defined]
    has_triton.cache_clear = original.cache_clear  # type: ignore[attr-defined]
    module.has_triton = has_triton  # type: ignore[assignment]
    rebind("has_triton", original, has_triton)


def extend_gpu_types() -> None:
    """`torch._inductor.utils.GPU_TYPES` decides who gets device guards and alignment assumptions (pytorch#189135).

    Appending in place is a seam rather than a patch. `get_gpu_type()` picks one available member and asserts that there
    is no other: it is asked first, and its cached answer, the one for the machine without gxu, stays.

    This may run in the middle of an import of Inductor, so it imports nothing of Inductor but `utils`.
    """
    from torch._inductor import utils

    if DEVICE_TYPE in utils.GPU_TYPES:
        return
    utils.get_gpu_type()
    utils.GPU_TYPES.append(DEVICE_TYPE)


def has_other_gpu() -> bool:
    """Whether this machine has a GPU of a kind that torch knows by itself."""
    from torch._inductor import utils

    return any(getattr(torch, kind).is_available() for kind in utils.GPU_TYPES if kind != DEVICE_TYPE)


def keep_freezing_patterns() -> None:
    """The freezing passes trace their patterns on the first available member of `GPU_TYPES`, so they keep the list as
    it is without gxu."""
    from torch._inductor.fx_passes import freezing_patterns

    freezing_patterns.GPU_TYPES = [kind for kind in freezing_patterns.GPU_TYPES if kind != DEVICE_TYPE]


def extend_channels_last_devices() -> None:
    """Inductor lays graphs with convolutions out channels-last where the library is oneDNN, and asks a table of devices
    for that (pytorch#189135); elsewhere it goes by measurements of a GPU. Library calls of gxu are the CPU's.

    Only what `GraphLowering.decide_layout_opt` reads is extended: operators with weights packed by oneDNN, which the
    table stands for in other modules, are the CPU's alone.
    """
    from torch._inductor import graph

    if DEVICE_TYPE not in graph.SUPPORTED_MKLDNN_DEVICES:
        graph.SUPPORTED_MKLDNN_DEVICES = (*graph.SUPPORTED_MKLDNN_DEVICES, DEVICE_TYPE)


def patch_bmm_to_mm() -> None:
    """The joint-graph pass that makes one product of a batch of one asks for `get_gpu_type()` (pytorch#189135), which
    here is gxu unless there is another GPU."""
    from torch._inductor.fx_passes import joint_graph

    original: Callable[[], str] = joint_graph.get_gpu_type
    if getattr(original, "_gxu", False):
        return

    @functools.wraps(original)
    def get_gpu_type() -> str:
        return original() if has_other_gpu() else DEVICE_TYPE

    get_gpu_type._gxu = True  # type: ignore[attr-defined]
    joint_graph.get_gpu_type = get_gpu_type


def patch_flex_attention() -> None:
    """`torch.nn.attention.flex_attention` refuses devices outside a fixed set (pytorch#189135).

    Applied when that module is imported, for eager mode and for code that is compiled alike.
    """
    from torch.nn.attention import flex_attention as module

    original: Callable[..., None] = module._validate_device
    if getattr(original, "_gxu", False):
        return

    @functools.wraps(original)
    def _validate_device(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> None:
        if query.device.type != DEVICE_TYPE:
            original(query, key, value)

    _validate_device._gxu = True  # type: ignore[attr-defined]
    module._validate_device = _validate_device


def patch_rng_backend_select() -> None:
    """The random-state operators pick their implementation from a closed table of device types (pytorch#189135).

    Both the dispatcher's table and the tracing implementations, which hold the function in a closure, get one that
    knows gxu and passes other devices on.
    """
    from torch._C import DispatchKey
    from torch._prims import rng_prims
    from torch.fx.experimental.proxy_tensor import ProxyTorchDispatchMode

    # Beside each, the number of arguments (the state, the operator) before the operator's own.
    for operator, leading in ((rng_prims.run_and_save_rng_state, 1), (rng_prims.run_with_rng_state, 2)):
        original: Any = operator.py_kernels[DispatchKey.BackendSelect]
        if getattr(original, "_gxu", False):
            continue

        def select(
            *args: Any, _operator: Any = operator, _leading: int = leading, _original: Any = original, **kwargs: Any
        ) -> Any:
            if device_of_random_operator(args[_leading:], kwargs) == DEVICE_TYPE:
                return _operator.py_kernels[DispatchKey.PrivateUse1](*args, **kwargs)
            return _original(*args, **kwargs)

        select._gxu = True  # type: ignore[attr-defined]
        operator.py_kernels[DispatchKey.BackendSelect] = select
        operator._dispatch_cache.clear()
        for cell in operator.python_key_table[ProxyTorchDispatchMode].__closure__ or ():
            if cell.cell_contents is original:
                cell.cell_contents = select


def patch_associative_scan() -> None:
    """`associative_scan` takes combine_mode="pointwise", which becomes one kernel, on CUDA and XPU alone
    (pytorch#189135).

    The device types are a constant of a function inside it, which Dynamo reads from the code too: the code gets a
    longer constant.
    """
    from torch._higher_order_ops import associative_scan as function

    known, extended = ("cuda", "xpu"), ("cuda", "xpu", DEVICE_TYPE)

    def extend(code: CodeType) -> CodeType:
        constants: list[Any] = []
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                constants.append(extend(constant))
            else:
                constants.append(extended if constant == known else constant)
        return code.replace(co_consts=tuple(constants))

    function.__code__ = extend(function.__code__)


def patch_preserve_rng_state() -> None:
    """`torch._dynamo.utils.preserve_rng_state`, around what compiles and measures, keeps the random states of the CPU,
    CUDA and XPU (pytorch#189135). Measuring makes random inputs: without this, a function that is autotuned would
    change the numbers that the program draws next, and one found in the cache would not."""
    from torch._dynamo import utils
    from torch.utils._python_dispatch import _disable_current_modes

    original: Any = utils.preserve_rng_state
    if getattr(original, "_gxu", False):
        return

    @functools.wraps(original)
    @contextmanager
    def preserve_rng_state() -> Iterator[None]:
        with original():
            if not is_used():
                yield
                return
            with _disable_current_modes(), torch._C._DisableFuncTorch():
                state = device_module().get_rng_state()
            try:
                yield
            finally:
                with _disable_current_modes():
                    device_module().set_rng_state(state)

    preserve_rng_state._gxu = True  # type: ignore[attr-defined]
    utils.preserve_rng_state = preserve_rng_state  # type: ignore[assignment]
    rebind("preserve_rng_state", original, preserve_rng_state)


def patch_autotuning_log() -> None:
    """`DebugFormatter.log_autotuning_results` (`LOG_AUTOTUNE_RESULTS=1`) notes the name and number of CUDA devices,
    which fails where there is no CUDA (pytorch#189138). Graphs on gxu note gxu's: the same code, with torch.gxu in the
    place of torch.cuda."""
    from torch._inductor.debug import DebugFormatter
    from torch._inductor.virtualized import V

    original: Any = DebugFormatter.log_autotuning_results
    if getattr(original, "_gxu", False):
        return
    renamed = {**original.__globals__, "torch": SimpleNamespace(cuda=device_module())}
    on_gxu = FunctionType(original.__code__, renamed, original.__name__, original.__defaults__, original.__closure__)

    @functools.wraps(original)
    def log_autotuning_results(*args: Any, **kwargs: Any) -> None:
        (on_gxu if DEVICE_TYPE in V.graph.device_types else original)(*args, **kwargs)

    log_autotuning_results._gxu = True  # type: ignore[attr-defined]
    DebugFormatter.log_autotuning_results = log_autotuning_results  # type: ignore[method-assign]


def patch_is_compile_supported() -> None:
    """`torch._dynamo.utils.is_compile_supported` says no to devices outside a fixed list (pytorch#189135).

    Its one caller in torch, the store of a repro's inputs, has a list of its own: it hashes a storage by compiled code
    or by its bytes on the CPU, and for gxu it goes on doing the latter.
    """
    from torch._dynamo import utils
    from torch.utils import _content_store

    original: Any = utils.is_compile_supported
    if getattr(original, "_gxu", False):
        return
    original_hash: Any = _content_store.hash_storage

    @functools.wraps(original)
    def is_compile_supported(device_type: Any) -> Any:
        if torch.device(device_type).type != DEVICE_TYPE:
            return original(device_type)
        return original("cpu") and device_module().is_available()

    @functools.wraps(original_hash)
    def hash_storage(storage: torch.UntypedStorage, *, stable_hash: bool = False) -> Any:
        return original_hash(storage, stable_hash=stable_hash or storage.device.type == DEVICE_TYPE)

    is_compile_supported._gxu = True  # type: ignore[attr-defined]
    utils.is_compile_supported = is_compile_supported  # type: ignore[assignment]
    _content_store.hash_storage = hash_storage  # type: ignore[assignment]


def patch_opcheck() -> None:
    """`torch.library.opcheck` looks for an operator's autograd kernel under the keys of the CPU, CUDA and XPU alone,
    and fails on other devices (pytorch#189135). For tensors of gxu it asks for gxu's key.

    Applied when that module is imported.
    """
    from gxu.compat import with_gxu_for_cuda

    module: Any = importlib.import_module("torch.testing._internal.optests.autograd_registration")
    original: Any = module.autograd_registration_check
    if getattr(original, "_gxu", False):
        return

    renamed = with_gxu_for_cuda(original)  # where the key of CUDA goes before the CPU's

    @functools.wraps(original)
    def autograd_registration_check(op: Any, args: Any, kwargs: Any) -> None:
        leaves = torch.utils._pytree.arg_tree_leaves(*args, **kwargs)
        is_gxu = any(isinstance(leaf, torch.Tensor) and leaf.device.type == DEVICE_TYPE for leaf in leaves)
        (renamed if is_gxu else original)(op, args, kwargs)

    autograd_registration_check._gxu = True  # type: ignore[attr-defined]
    module.autograd_registration_check = autograd_registration_check
    rebind("autograd_registration_check", original, autograd_registration_check)
