"""The backend "cudagraphs" of `torch.compile` on gxu: eager operators, nothing compiled, in captured graphs.

`gxu.inductor.captured` captures and replays them, under the rules that it has for compiled code.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch._dynamo import config
from torch._dynamo.backends import cudagraphs as torchs
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.utils import counters
from torch._inductor.cudagraph_utils import get_placeholder_info, log_cudagraph_skip_and_bump_counter
from torch._inductor.utils import count_tangents, num_fw_fixed_arguments

from gxu.inductor import captured
from gxu.inductor.device import DEVICE_TYPE


def _capturing(
    gm: torch.fx.GraphModule,
    fixed: int,
    example_inputs: Sequence[Any],
    *,
    is_backward: bool = False,
    is_inference: bool = False,
) -> Callable[[list[Any]], Any]:
    """`gm`, whose first `fixed` inputs stay where they are, captured; or run as it is, with a warning that says why."""
    run = torchs.boxed_nop(gm, example_inputs)
    skips = counters["inductor"]["cudagraph_skips"]
    reason = torchs.check_for_skip(gm, fixed)
    if reason is not None:
        # What is about devices has been logged where it was found (`compat.patch_cudagraphs`).
        if counters["inductor"]["cudagraph_skips"] == skips:
            log_cudagraph_skip_and_bump_counter(f"skipping cudagraphs due to {reason}")
        return run
    device = next(device for device in torchs.get_device_node_mapping(gm) if device.type == DEVICE_TYPE)
    replay = captured.capturing(
        run,
        range(fixed),
        device_index=device.index,
        stack_traces=torchs.get_stack_traces(gm),
        is_backward=is_backward,
        is_inference=is_inference,
        placeholders=get_placeholder_info(gm.graph),
        mutated_input_idxs=tuple(torchs.find_input_mutations(gm.graph)),
    )
    replay._boxed_call = True  # type: ignore[attr-defined]
    return replay


def cudagraphs(dynamo_model: torch.fx.GraphModule, dynamo_inputs: Sequence[Any]) -> Any:
    """What `torch._dynamo.backends.cudagraphs.cudagraphs` is on CUDA."""

    def forward(gm: torch.fx.GraphModule, inputs: Sequence[Any], is_inference: bool = False) -> Any:
        return _capturing(
            gm, num_fw_fixed_arguments(len(dynamo_inputs), len(inputs)), inputs, is_inference=is_inference
        )

    def backward(gm: torch.fx.GraphModule, inputs: Sequence[Any]) -> Any:
        return _capturing(gm, count_tangents(gm), inputs, is_backward=True)

    return aot_autograd(
        fw_compiler=forward,
        bw_compiler=backward,
        inference_compiler=functools.partial(forward, is_inference=True),
        keep_inference_input_mutations=config.cudagraph_backend_keep_input_mutation,
    )(dynamo_model, dynamo_inputs)
