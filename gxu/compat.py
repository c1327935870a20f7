"""Patches of torch outside its compiler, and of safetensors: what no registration function reaches.

Each is idempotent, answers for gxu alone, names the upstream request that would make it unnecessary, and has a test
that fails when the patched symbol changes. Those of Dynamo and Inductor are in gxu/inductor/compat.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import operator
import sys
import unittest
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any

import torch

from gxu import _C, dlpack, tensor_types
from gxu._device import get_device_index
from gxu._name import DEVICE_TYPE

_DATA_PARALLEL_ERROR = (
    "torch.nn.DataParallel does not support gxu devices: use torch.nn.parallel.DistributedDataParallel, with one "
    "process for each device"
)

#: The class of graphs for all accelerators: torch 2.11 has none, and so no torch.accelerator.Graph.
AcceleratorGraph: Any = torch._C._acceleratorGraph if hasattr(torch._C, "_acceleratorGraph") else _C.Graph


def patch_dlpack() -> None:
    """`Tensor.__dlpack_device__` compares the device with the name "privateuse1", which no renamed backend has
    (pytorch#195815), and `Tensor.__dlpack__` copies device memory for consumers on the CPU that could read it."""
    original_device: Any = torch.Tensor.__dlpack_device__
    if getattr(original_device, "_gxu", False):
        return
    original_export: Any = torch.Tensor.__dlpack__

    @functools.wraps(original_device)
    def dlpack_device(self: torch.Tensor) -> Any:
        return dlpack.device_of(self) if self.device.type == DEVICE_TYPE else original_device(self)

    @functools.wraps(original_export)
    def export(self: torch.Tensor, **kwargs: Any) -> Any:
        if self.device.type == DEVICE_TYPE:
            alias = dlpack.host_alias(self, kwargs.get("dl_device"), kwargs.get("copy"))
            if alias is not None:
                return original_export(alias, **{**kwargs, "stream": None})
        return original_export(self, **kwargs)

    dlpack_device._gxu = True  # type: ignore[attr-defined]
    torch.Tensor.__dlpack_device__ = dlpack_device  # type: ignore[method-assign]
    torch.Tensor.__dlpack__ = export  # type: ignore[method-assign]


def patch_data_parallel() -> None:
    """DataParallel takes every accelerator for one that it supports, and then misses CUDA's functions
    (`torch._C._scatter`) in the middle of the first call. There is no hook for a backend to say no.

    A model on the CPU is passed through, as without an accelerator.
    """
    # Its function has the module's name in torch.nn.parallel.
    module: Any = importlib.import_module("torch.nn.parallel.data_parallel")
    original: Any = module._get_available_device_type
    if getattr(original, "_gxu", False):
        return
    original_init: Any = torch.nn.DataParallel.__init__

    @functools.wraps(original)
    def _get_available_device_type() -> str | None:
        device_type: str | None = original()
        if device_type == DEVICE_TYPE:
            raise RuntimeError(_DATA_PARALLEL_ERROR)
        return device_type

    @functools.wraps(original_init)
    def init(self: Any, module: torch.nn.Module, device_ids: Any = None, *args: Any, **kwargs: Any) -> None:
        if original() == DEVICE_TYPE and not device_ids and not any(_is_on_gxu(module)):
            torch.nn.Module.__init__(self)
            self.module = module
            self.device_ids = []
            return
        original_init(self, module, device_ids, *args, **kwargs)

    _get_available_device_type._gxu = True  # type: ignore[attr-defined]
    module._get_available_device_type = _get_available_device_type
    torch.nn.DataParallel.__init__ = init  # type: ignore[method-assign]


def patch_convolution_format() -> None:
    """`torch._C._conv_determine_backend_memory_format` tells shape functions in which format a convolution leaves its
    results, and takes those of out-of-tree devices for contiguous (pytorch#189135). On gxu they are channels-last where
    the input or the weight is, as on the CPU: csrc/torch/convolution.cpp."""
    original: Any = torch._C._conv_determine_backend_memory_format
    if getattr(original, "_gxu", False):
        return

    def conv_determine_backend_memory_format(input: torch.Tensor, weight: torch.Tensor, backend: Any) -> Any:
        if input.device.type != DEVICE_TYPE:
            return original(input, weight, backend)
        from torch._prims_common import suggest_memory_format

        format = suggest_memory_format(input)
        return suggest_memory_format(weight) if format == torch.contiguous_format else format

    conv_determine_backend_memory_format._gxu = True  # type: ignore[attr-defined]
    torch._C._conv_determine_backend_memory_format = conv_determine_backend_memory_format


def _is_on_gxu(module: torch.nn.Module) -> Iterator[bool]:
    for tensor in (*module.parameters(), *module.buffers()):
        yield tensor.device.type == DEVICE_TYPE


def patch_linear_cross_entropy() -> None:
    """What `linear_cross_entropy` accumulates in, and how it cuts its batch, comes from a table of device types: the
    CPU and CUDA. Others get fp16 and bf16 sums, and there is no hook to add one. gxu takes the CPU's rows."""
    name = "torch.nn.modules.linear_cross_entropy_options"
    if importlib.util.find_spec(name) is None:
        return  # torch 2.11 has no linear_cross_entropy
    module: Any = importlib.import_module(name)
    options: Any = module.LinearCrossEntropyOptions
    original: Any = options._resolve_auto_acc_dtype
    if getattr(original, "_gxu", False):
        return

    @functools.wraps(original)
    def _resolve_auto_acc_dtype(dtype: torch.dtype, device: torch.device | None) -> torch.dtype | None:
        is_gxu = device is not None and device.type == DEVICE_TYPE
        resolved: torch.dtype | None = original(dtype, torch.device("cpu") if is_gxu else device)
        return resolved

    _resolve_auto_acc_dtype._gxu = True  # type: ignore[attr-defined]
    options._resolve_auto_acc_dtype = staticmethod(_resolve_auto_acc_dtype)
    defaults: dict[tuple[str, torch.dtype], Any] = module._AUTO_DEFAULTS
    defaults.update({(DEVICE_TYPE, dtype): row for (device, dtype), row in tuple(defaults.items()) if device == "cpu"})


def patch_memory_snapshot() -> None:
    """`torch.accelerator.memory._snapshot` takes every accelerator that is not XPU for CUDA."""
    module: Any = importlib.import_module("torch.accelerator.memory")
    original: Any = getattr(module, "_snapshot", None)
    if original is None:
        return  # torch 2.11's takes none
    if getattr(original, "_gxu", False):
        return

    @functools.wraps(original)
    def _snapshot(device: Any = None, augment_with_fx_traces: bool = False) -> dict[str, Any]:
        accelerator = torch.accelerator.current_accelerator()
        is_gxu = accelerator is not None and accelerator.type == DEVICE_TYPE
        owner: Any = torch.get_device_module(DEVICE_TYPE).memory if is_gxu else None
        function = original if owner is None else owner._snapshot
        snapshot: dict[str, Any] = function(device, augment_with_fx_traces=augment_with_fx_traces)
        return snapshot

    _snapshot._gxu = True  # type: ignore[attr-defined]
    module._snapshot = _snapshot


def patch_profiler_names() -> None:
    """Tables of averages may be sorted, and stacks exported, by `self_gxu_time_total` and the like, as by CUDA's and
    XPU's names for what the profiler calls `self_device_time_total`; its list of devices is fixed."""
    module: Any = importlib.import_module("torch.autograd.profiler_util")
    events: Any = module.EventList
    original: Any = events.supported_export_stacks_metrics
    if getattr(original, "_gxu", False):
        return
    for name in (
        "device_time",
        "device_time_total",
        "self_device_time_total",
        "device_memory_usage",
        "self_device_memory_usage",
    ):
        setattr(module.FormattedTimesMixin, name.replace("device", DEVICE_TYPE), property(operator.attrgetter(name)))

    @functools.wraps(original)
    def supported_export_stacks_metrics(self: Any) -> list[str]:
        return [*original(self), f"self_{DEVICE_TYPE}_time_total"]

    supported_export_stacks_metrics._gxu = True  # type: ignore[attr-defined]
    events.supported_export_stacks_metrics = supported_export_stacks_metrics


def patch_safetensors() -> None:
    """safetensors knows the names of devices at compile time, and takes other accelerators by number alone.

    Applied when that package is imported.
    """
    module: Any = importlib.import_module("safetensors")
    original: Any = module.safe_open
    if getattr(original, "_gxu", False):
        return

    @functools.wraps(original, updated=())
    def safe_open(filename: Any, framework: Any, device: Any = "cpu", **kwargs: Any) -> Any:
        if isinstance(device, (str, torch.device)) and str(device).partition(":")[0] == DEVICE_TYPE:
            device = get_device_index(device)
        return original(filename, framework, device, **kwargs)

    safe_open._gxu = True  # type: ignore[attr-defined]
    module.safe_open = safe_open
    loader = sys.modules.get("safetensors.torch")
    if loader is not None:
        loader.safe_open = safe_open  # type: ignore[attr-defined]


def patch_default_process_group_backend() -> None:
    """A group's default backend, which DistributedDataParallel and `destroy_process_group` ask for, is gloo where
    `init_process_group()` chose the backend itself, and none for "cpu:gloo,gxu:gxuccl", whatever was registered
    (pytorch#189193). With a backend for gxu it is that one, as it is CUDA's for groups with CUDA."""
    if not torch.distributed.is_available():
        return
    group: Any = torch.distributed.ProcessGroup
    original: Any = group._register_backend
    if getattr(original, "_gxu", False):
        return

    @functools.wraps(original)
    def _register_backend(self: Any, device: torch.device, backend_type: Any, *args: Any, **kwargs: Any) -> None:
        original(self, device, backend_type, *args, **kwargs)
        if device.type == DEVICE_TYPE:
            self._set_default_backend(backend_type)

    _register_backend._gxu = True  # type: ignore[attr-defined]
    group._register_backend = _register_backend


def patch_default_tensor_type() -> None:
    """`torch.set_default_tensor_type` knows the types of the CPU and of CUDA, and takes others for types of integers.
    A type of gxu stands for what the function's deprecation names instead: a default dtype and a default device.
    `torch.Tensor(...)`, which goes by the type alone, stays on the CPU."""
    original: Any = torch.set_default_tensor_type
    if getattr(original, "_gxu", False):
        return
    is_set = False

    @functools.wraps(original)
    def set_default_tensor_type(t: Any, /) -> None:
        nonlocal is_set
        if isinstance(t, str) and t.startswith(f"torch.{DEVICE_TYPE}."):
            t = getattr(torch.get_device_module(DEVICE_TYPE), t.rpartition(".")[2])
        is_gxu = isinstance(t, tensor_types.TensorType)
        # For a type of gxu, PyTorch's function gives the warning, and its error for types of integers.
        original(getattr(torch, t.__name__.rpartition(".")[2]) if is_gxu else t)
        if is_gxu or is_set:
            torch.set_default_device(DEVICE_TYPE if is_gxu else None)
        is_set = is_gxu

    set_default_tensor_type._gxu = True  # type: ignore[attr-defined]
    torch.set_default_tensor_type = set_default_tensor_type


class _Overlay:
    """A module with some of its attributes replaced."""

    def __init__(self, module: Any, **replaced: Any) -> None:
        self._module = module
        vars(self).update(replaced)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def with_gxu_for_cuda(function: Any, **replaced: Any) -> Any:
    """The same function of torch with gxu's names in the place of CUDA's, and some of its globals replaced."""
    names = {"cuda": DEVICE_TYPE, "cuda:": f"{DEVICE_TYPE}:", "AutogradCUDA": "AutogradPrivateUse1"}

    def rename(constant: Any) -> Any:
        if isinstance(constant, CodeType):
            return constant.replace(co_consts=rename(constant.co_consts))
        if isinstance(constant, tuple):
            return tuple(map(rename, constant))
        return names.get(constant, constant) if isinstance(constant, str) else constant

    scope = {**function.__globals__, **replaced}
    return FunctionType(rename(function.__code__), scope, function.__name__, function.__defaults__)


def with_models_of_gxu(function: Any) -> Any:
    """The same function with gxu, and gxu's class that runs models, in the place of CUDA and CUDA's."""
    runners = _Overlay(torch._C._aoti, AOTIModelContainerRunnerCuda=_C.AOTIModelContainerRunner)
    return with_gxu_for_cuda(function, torch=_Overlay(torch, _C=_Overlay(torch._C, _aoti=runners)))


def patch_aot_load() -> None:
    """`torch._export.aot_load` loads the library of a model for CUDA, XPU, MPS and the CPU (pytorch#189137)."""
    module: Any = importlib.import_module("torch._export")
    original: Any = module.aot_load
    if getattr(original, "_gxu", False):
        return

    @functools.wraps(original)
    def aot_load(so_path: str, device: str) -> Any:
        is_gxu = device.partition(":")[0] == DEVICE_TYPE
        return (with_models_of_gxu(original) if is_gxu else original)(so_path, device)

    aot_load._gxu = True  # type: ignore[attr-defined]
    module.aot_load = aot_load


def patch_inductor_test_helpers() -> None:
    """`torch.testing._internal.inductor_utils` tells PyTorch's Inductor tests which GPU they run on, from a fixed list
    (pytorch#189135). On a machine that has none of these they run on gxu, as they would after `import torch` on a
    machine with CUDA. What asks for CUDA by name stays skipped.

    Applied when that module is imported, which only tests do.
    """
    module: Any = importlib.import_module("torch.testing._internal.inductor_utils")
    device = getattr(torch, DEVICE_TYPE)
    if module.HAS_GPU or module.HAS_MPS or not device.is_available():
        return
    from torch.testing._internal.common_device_type import PrivateUse1TestBase

    from gxu.inductor import compat

    # Modules of tests define their Triton kernels if there is Triton for some device, and ask before they use one.
    compat.mark_used()
    module.GPU_TYPE = DEVICE_TYPE
    module.HAS_TRITON = module.HAS_GPU = module.HAS_GPU_AND_TRITON = True
    module.HAS_MULTIGPU = device.device_count() >= 2
    module.RUN_GPU = PrivateUse1TestBase in module._desired_test_bases
    module.requires_gpu = module.requires_triton = functools.partial(unittest.skipIf, False, "")


def patch_triton_test_helpers() -> None:
    """The decorator that wants some GPU in the sister module of `patch_inductor_test_helpers`."""
    module: Any = importlib.import_module("torch.testing._internal.triton_utils")
    if module.HAS_GPU:
        module.requires_gpu_and_triton = unittest.skipUnless(module.HAS_GPU, "requires gpu and triton")


def apply() -> None:
    patch_dlpack()
    patch_data_parallel()
    patch_linear_cross_entropy()
    patch_memory_snapshot()
    patch_convolution_format()
    patch_profiler_names()
    patch_default_process_group_backend()
    patch_default_tensor_type()
    patch_aot_load()
