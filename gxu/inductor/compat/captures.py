"""The patches of CUDA graphs in compiled code: which functions are captured on gxu, and by what."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import torch

from gxu.inductor.compat.device_types import rebind
from gxu.inductor.device import DEVICE_TYPE, is_gxu_tensor


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
    rebind("check_multiple_devices_or_any_cpu_nodes", check, check_multiple_devices_or_any_cpu_nodes)
    output_code.cudagraph_post_compile = noting_the_device(output_code.cudagraph_post_compile)
    output_code.cudagraph_partition_post_compile = noting_the_device(output_code.cudagraph_partition_post_compile)
    output_code.maybe_handle_backward_generation = maybe_handle_backward_generation
    compile_fx.cudagraphify = select


def patch_cudagraphs_backend() -> None:
    """The backend "cudagraphs" captures eager operators as graphs of CUDA alone (pytorch#189135). Graphs on gxu go to
    `gxu.inductor.captured_backend`. Applied when the backend is imported."""
    from torch._dynamo.backends import cudagraphs as module

    original: Callable[..., Any] = module.cudagraphs
    if getattr(original, "_gxu", False):
        return

    @functools.wraps(original)
    def cudagraphs(dynamo_model: torch.fx.GraphModule, dynamo_inputs: Any) -> Any:
        from gxu.inductor import captured_backend

        values = [node.meta.get("example_value") for node in dynamo_model.graph.nodes]
        on_gxu = any(is_gxu_tensor(value) for value in (*values, *dynamo_inputs))
        return (captured_backend.cudagraphs if on_gxu else original)(dynamo_model, dynamo_inputs)

    cudagraphs._gxu = True  # type: ignore[attr-defined]
    module.cudagraphs = cudagraphs
