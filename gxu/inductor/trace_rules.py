"""How Dynamo treats gxu's own Python: torch._dynamo.trace_rules."""

from __future__ import annotations

from pathlib import Path

import torch
from torch._dynamo import trace_rules

import gxu
from gxu._device import device, get_device_index
from gxu._name import DEVICE_TYPE
from gxu.inductor import compat
from gxu.inductor.device import device_module

#: Functions of `torch.gxu` whose answer never changes, folded into the graph as torch.cuda's are.
CONSTANT_FUNCTIONS = (
    "device_count",
    "get_device_capability",
    "get_device_name",
    "get_device_properties",
    "is_available",
)

#: Functions of `torch.gxu` that Dynamo knows by its own kind of variable: calls in the graph, or guarded constants.
IN_GRAPH_FUNCTIONS = ("current_device", "current_stream", "stream", "synchronize")


def register() -> None:
    """Compiles no frame of gxu's own, which run under compiled functions; inlines them where compiled code calls them.

    Idempotent.
    """
    package = str(Path(gxu.__file__).parent) + "/"
    inlined = compat.inlined_when_called()
    if package in inlined:
        return
    trace_rules.add(gxu.__name__)
    inlined.add(package)
    for name in CONSTANT_FUNCTIONS:
        getattr(device_module(), name)._dynamo_marked_constant = True
    # By name, as Dynamo's own: it looks them up when it needs the first, and would miss what is not imported yet.
    rule = trace_rules.TorchInGraphFunctionVariable
    trace_rules.torch_name_rule_map.append({f"torch.{DEVICE_TYPE}.{name}": rule for name in IN_GRAPH_FUNCTIONS})


def register_streams_and_devices() -> None:
    """Streams and events that compiled code makes become parts of its graph, as those of torch.cuda do, and so do
    `torch.gxu.synchronize` and `with torch.gxu.device(...)`; Dynamo knows classes and functions of its own devices, in
    tables that it makes when it needs them."""
    from torch._dynamo.variables import torch as functions
    from torch._dynamo.variables.user_defined import UserDefinedClassVariable

    module = device_module()
    UserDefinedClassVariable._in_graph_classes().update({module.Stream, module.Event})
    handlers = functions.TorchInGraphFunctionVariable._get_handlers()
    handlers[module.current_stream] = handlers[torch.accelerator.current_stream]
    for table in (functions.constant_fold_functions, functions.constant_fold_functions_need_guards):
        table[module.current_device] = None
    if torch.accelerator.synchronize in handlers:  # not with torch 2.11
        handlers[module.synchronize] = handlers[torch.accelerator.synchronize]
    compat.register_device_context(device, get_device_index, module.__name__)
