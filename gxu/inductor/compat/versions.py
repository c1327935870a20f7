"""What differs between the releases of torch that gxu works with."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch

from gxu.inductor.device import DEVICE_TYPE

#: Methods of `DeviceOpOverrides` that torch 2.11 does not have: its wrappers never ask for them.
NEWER_OP_OVERRIDES = frozenset({"current_stream", "stream_handle"})


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
