"""The only patches of torch that gxu makes: what no registration function reaches.

Each is idempotent, answers for gxu alone, names the upstream request that would make it unnecessary, and has a test in
tests/test_compat.py that fails when the patched symbol changes. `gxu.inductor.activation` says when they are applied.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from types import CodeType
from typing import Any

import torch

from gxu.inductor.device import DEVICE_TYPE, device_module

#: Methods of `DeviceOpOverrides` that torch 2.11 does not have: its wrappers never ask for them.
NEWER_OP_OVERRIDES = frozenset({"current_stream", "stream_handle"})

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


def _rebind(name: str, original: Any, replacement: Any) -> None:
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
    _rebind("has_triton", original, has_triton)


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


def patch_reduction_split_factor() -> None:
    """`InductorChoices.reduction_split_factor` thinks in threads per multiprocessor; Inductor takes one choices class
    for all devices (pytorch#189137), so other devices are passed on to torch's own."""
    from torch._inductor.choices import InductorChoices

    from gxu.inductor import choices

    original: Callable[..., int] = InductorChoices.reduction_split_factor
    if getattr(original, "_gxu", False):
        return

    @functools.wraps(original)
    def reduction_split_factor(
        device: torch.device, reduction_numel_hint: int, numel_hint: int, inner_reduction: bool
    ) -> int:
        if device.type == DEVICE_TYPE and choices.device_limits(device).has_grid_rule:
            return choices.reduction_split_factor(device, reduction_numel_hint, numel_hint, inner_reduction)
        return original(device, reduction_numel_hint, numel_hint, inner_reduction)

    reduction_split_factor._gxu = True  # type: ignore[attr-defined]
    InductorChoices.reduction_split_factor = staticmethod(reduction_split_factor)  # type: ignore[method-assign]


def patch_realize_heuristics() -> None:
    """`torch._inductor.ir.is_cpu` decides how much is computed again rather than kept in memory: on a CPU, results of
    exp, log and tanh that are used more than once are kept, where a GPU computes them again in each of its many threads
    (pytorch#189138). Cores are as few, and memory is as near, on a gxu device that has a grid rule.
    """
    from torch._inductor import ir

    from gxu.inductor import choices

    original: Callable[[Any], bool] = ir.is_cpu
    if getattr(original, "_gxu", False):
        return

    @functools.wraps(original)
    def is_cpu(x: Any) -> bool:
        if ir.get_device_type(x) != DEVICE_TYPE:
            return original(x)
        return choices.device_limits(torch.device(DEVICE_TYPE, 0)).has_grid_rule

    is_cpu._gxu = True  # type: ignore[attr-defined]
    ir.is_cpu = is_cpu  # type: ignore[assignment]


def patch_config_heuristics() -> None:
    """`InductorChoices.get_config_heuristics` knows the tiles of convolutions and attention for a fixed list of device
    types; Inductor takes one choices class for all devices (pytorch#189137), so other devices are passed on."""
    from torch._inductor.choices import InductorChoices

    original: Callable[..., Any] = InductorChoices.get_config_heuristics
    if getattr(original, "_gxu", False):
        return

    @functools.wraps(original)
    def get_config_heuristics(self: InductorChoices, device_type: str | None = "cuda") -> Any:
        if device_type == DEVICE_TYPE:
            from gxu.inductor.templates import GXUConfigHeuristic

            return GXUConfigHeuristic()
        return original(self, device_type)

    get_config_heuristics._gxu = True  # type: ignore[attr-defined]
    InductorChoices.get_config_heuristics = get_config_heuristics  # type: ignore[method-assign]


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


def patch_flex_decoding_split() -> None:
    """`flex_decoding.get_split_k` takes the number of multiprocessors from torch.cuda, which fails where there is no
    CUDA (pytorch#189138). It has no device argument: the graph that is being lowered tells."""
    from torch._inductor.kernel.flex import flex_decoding
    from torch._inductor.virtualized import V

    from gxu.inductor import templates

    original: Callable[..., int] = flex_decoding.get_split_k
    if getattr(original, "_gxu", False):
        return

    @functools.wraps(original)
    def get_split_k(batch: int, key_heads: int, keys: int) -> int:
        if DEVICE_TYPE in V.graph.device_types:
            return templates.decoding_splits(batch * key_heads)
        return original(batch, key_heads, keys)

    get_split_k._gxu = True  # type: ignore[attr-defined]
    flex_decoding.get_split_k = get_split_k


def patch_grouped_products() -> None:
    """`kernel.mm_grouped` asks torch.cuda whether its template runs, what shared memory its tiles fit, and how many
    programs to start (pytorch#189138). None of the three functions is told the device: the graph that is being lowered
    or, where there is one, an operand tells."""
    from torch._inductor.kernel import mm_grouped
    from torch._inductor.virtualized import V

    from gxu.inductor import templates

    can_use, prune, num_sms = mm_grouped.can_use_triton_kernel, mm_grouped.early_config_prune, mm_grouped.get_num_sms
    if getattr(can_use, "_gxu", False):
        return

    @functools.wraps(can_use)
    def can_use_triton_kernel(mat_a: Any, mat_b: Any, offs: Any, bias: Any, scale_result: Any) -> bool:
        if mat_a.get_device().type != DEVICE_TYPE:
            return can_use(mat_a, mat_b, offs, bias, scale_result)
        ragged = len(mat_a.get_size()) == 2 or len(mat_b.get_size()) == 2
        return bias is None and scale_result is None and (offs is not None) == ragged

    @functools.wraps(prune)
    def early_config_prune(g: Any, m: Any, dtsize: int, configs: Any, named_args: Any) -> Any:
        if DEVICE_TYPE in V.graph.device_types:
            return templates.grouped_configs()
        return prune(g, m, dtsize, configs, named_args)

    @functools.wraps(num_sms)
    def get_num_sms() -> int:
        return templates.min_programs() if DEVICE_TYPE in V.graph.device_types else num_sms()

    can_use_triton_kernel._gxu = True  # type: ignore[attr-defined]
    mm_grouped.can_use_triton_kernel = can_use_triton_kernel
    mm_grouped.early_config_prune = early_config_prune
    mm_grouped.get_num_sms = get_num_sms


def patch_is_big_gpu() -> None:
    """`torch._inductor.utils.is_big_gpu` wants 68 multiprocessors before it considers a template, and logs a warning
    where there are fewer (pytorch#189138). On gxu templates are measured against the library like anywhere else.

    A bare index means the one GPU of the machine: gxu, where torch knows no other.
    """
    from torch._inductor import utils

    original: Any = utils.is_big_gpu
    if getattr(original, "_gxu", False):
        return

    @functools.wraps(original)
    def is_big_gpu(index_or_device: int | torch.device = 0) -> bool:
        if isinstance(index_or_device, torch.device):
            is_gxu = index_or_device.type == DEVICE_TYPE
        else:
            is_gxu = not has_other_gpu()
        return True if is_gxu else original(index_or_device)

    is_big_gpu._gxu = True  # type: ignore[attr-defined]
    is_big_gpu.cache_clear = original.cache_clear  # type: ignore[attr-defined]
    utils.is_big_gpu = is_big_gpu  # type: ignore[assignment]
    _rebind("is_big_gpu", original, is_big_gpu)


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
            if rng_prims.get_device(args[_leading:], kwargs) == DEVICE_TYPE:
                return _operator.py_kernels[DispatchKey.PrivateUse1](*args, **kwargs)
            return _original(*args, **kwargs)

        select._gxu = True  # type: ignore[attr-defined]
        operator.py_kernels[DispatchKey.BackendSelect] = select
        operator._dispatch_cache.clear()
        for cell in operator.python_key_table[ProxyTorchDispatchMode].__closure__ or ():
            if cell.cell_contents is original:
                cell.cell_contents = select


def patch_cpp_wrapper_gpu_type() -> None:
    """`CppWrapperGpu` writes code for `get_gpu_type()`, which is one of PyTorch's own devices (pytorch#189135). For a
    graph that is on gxu the answer there is gxu."""
    from torch._inductor.codegen import cpp_wrapper_gpu
    from torch._inductor.virtualized import V

    original: Callable[[], str] = cpp_wrapper_gpu.get_gpu_type
    if getattr(original, "_gxu", False):
        return

    @functools.wraps(original)
    def get_gpu_type() -> str:
        return DEVICE_TYPE if DEVICE_TYPE in V.graph.device_types else original()

    get_gpu_type._gxu = True  # type: ignore[attr-defined]
    cpp_wrapper_gpu.get_gpu_type = get_gpu_type  # type: ignore[assignment]


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


def patch_cpp_build_options() -> None:
    """`get_cpp_torch_device_options` gives a C++ compiler the headers and libraries of cuda, xpu and mps only
    (pytorch#189137); generated code for gxu needs gxu's."""
    from torch._inductor import cpp_builder

    original: Callable[..., tuple[list[str], ...]] = cpp_builder.get_cpp_torch_device_options
    if getattr(original, "_gxu", False):
        return

    @functools.wraps(original)
    def get_cpp_torch_device_options(device_type: str, *args: Any, **kwargs: Any) -> tuple[list[str], ...]:
        options = original(device_type, *args, **kwargs)
        if device_type != DEVICE_TYPE:
            return options
        package = Path(__file__).parents[1]
        definitions, include_dirs, cflags, ldflags, library_dirs, libraries, passthrough = options
        # The second folder has what models of AOTInductor include as <cuda.h>: see torch/.../aoti_include/gxu.h.
        include_dirs = [str(package / "include"), str(package / "include" / "gxu_as_cuda"), *include_dirs]
        library_dirs = [str(package / "lib"), *library_dirs]
        libraries = ["gxu_torch", *libraries]
        return definitions, include_dirs, cflags, ldflags, library_dirs, libraries, passthrough

    get_cpp_torch_device_options._gxu = True  # type: ignore[attr-defined]
    cpp_builder.get_cpp_torch_device_options = get_cpp_torch_device_options  # type: ignore[assignment]


def patch_cudagraphs() -> None:
    """Inductor captures what it compiles for CUDA, and passes over other devices without a word (pytorch#189135).

    A graph on one gxu device may be captured too, by `gxu.inductor.captured`. `compile_fx.cudagraphify` is not told the
    device: its callers are, so these note it. Backward passes report to CUDA's trees, which a forward pass on gxu did
    not use.
    """
    from torch._inductor import compile_fx, cudagraph_utils, output_code

    from gxu.inductor import captured

    check = cudagraph_utils.check_multiple_devices_or_any_cpu_nodes
    if getattr(check, "_gxu", False):
        return
    on_gxu: ContextVar[bool] = ContextVar("on_gxu", default=False)

    @functools.wraps(check)
    def check_multiple_devices_or_any_cpu_nodes(nodes: dict[torch.device, Any]) -> str | None:
        passed_over = {"meta", "cpu"} if cudagraph_utils.is_using_cudagraph_partition() else {"meta"}
        counted = [device for device in nodes if device.type not in passed_over]
        if len(counted) == 1 and counted[0].type == DEVICE_TYPE:
            return None
        reason = check(nodes)
        if reason is not None and any(device.type == DEVICE_TYPE for device in counted):
            cudagraph_utils.log_cudagraph_skip_and_bump_counter(reason)
        return reason

    def noting_the_device(original: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(original)
        def post_compile(example_inputs: Any, compiled_graph: Any, *args: Any, **kwargs: Any) -> None:
            token = on_gxu.set(DEVICE_TYPE in compiled_graph.device_types)
            try:
                original(example_inputs, compiled_graph, *args, **kwargs)
            finally:
                on_gxu.reset(token)
            if DEVICE_TYPE in compiled_graph.device_types and compiled_graph.cudagraph_info.cudagraph_fail_reasons:
                reasons = (
                    compiled_graph.disabled_cudagraphs_reason or compiled_graph.cudagraph_info.cudagraph_fail_reasons
                )
                cudagraph_utils.log_cudagraph_skip_and_bump_counter(f"skipping cudagraphs due to {reasons}")

        return post_compile

    cudagraphify: Callable[..., Any] = compile_fx.cudagraphify
    handle_backward: Callable[..., None] = output_code.maybe_handle_backward_generation

    @functools.wraps(handle_backward)
    def maybe_handle_backward_generation(compiled_graph: Any, *args: Any, **kwargs: Any) -> None:
        if DEVICE_TYPE not in compiled_graph.device_types:
            handle_backward(compiled_graph, *args, **kwargs)

    @functools.wraps(cudagraphify)
    def select(*args: Any, **kwargs: Any) -> Any:
        return (captured.capturing if on_gxu.get() else cudagraphify)(*args, **kwargs)

    check_multiple_devices_or_any_cpu_nodes._gxu = True  # type: ignore[attr-defined]
    cudagraph_utils.check_multiple_devices_or_any_cpu_nodes = check_multiple_devices_or_any_cpu_nodes
    output_code.cudagraph_post_compile = noting_the_device(output_code.cudagraph_post_compile)
    output_code.cudagraph_partition_post_compile = noting_the_device(output_code.cudagraph_partition_post_compile)
    output_code.maybe_handle_backward_generation = maybe_handle_backward_generation
    compile_fx.cudagraphify = select


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


def patch_cpp_wrapper_header() -> None:
    """torch precompiles the header that C++ wrappers include by the device's name; gxu's is gxu.h under any name."""
    from torch._inductor import codecache

    original: Any = codecache._get_cpp_wrapper_header
    if getattr(original, "_gxu", False):
        return

    @functools.wraps(original)
    def header(device: str, *args: Any, **kwargs: Any) -> str:
        return original("gxu" if device == DEVICE_TYPE else device, *args, **kwargs)

    header._gxu = True  # type: ignore[attr-defined]
    codecache._get_cpp_wrapper_header = header


def patch_benchmarker(benchmark: Callable[..., float]) -> None:
    """torch 2.11 has no registry of benchmarkers: its `Benchmarker.benchmark` times all but the CPU with CUDA's.

    `benchmark` is what torch 2.13's `register_benchmarker` takes.
    """
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


def apply() -> None:
    """Applies every patch; a second call does nothing."""
    extend_gpu_types()
    extend_channels_last_devices()
    patch_has_triton()
    patch_is_big_gpu()
    patch_realize_heuristics()
    patch_config_heuristics()
    patch_flex_decoding_split()
    patch_grouped_products()
    patch_rng_backend_select()
    patch_reduction_split_factor()
    patch_cpp_wrapper_gpu_type()
    patch_bmm_to_mm()
    patch_cpp_build_options()
    patch_cudagraphs()
    patch_associative_scan()
    patch_cpp_wrapper_header()
