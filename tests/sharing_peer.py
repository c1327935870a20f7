"""Another process for tests of torch.multiprocessing, and what it does. Spawned processes import this file by name."""

from __future__ import annotations

import gc
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp
from torch import nn

TIMEOUT = 120  # seconds; a process imports torch

Connection = Any


def serve(connection: Connection) -> None:
    """Runs in the other process: applies functions to what arrives, and answers with their results."""
    kept: dict[str, Any] = {}
    while (message := connection.recv()) is not None:
        function, arguments = message
        try:
            connection.send(function(kept, *arguments))
        except Exception as error:
            connection.send(f"{type(error).__name__}: {error}")


class Peer:
    def __init__(self, process: mp.Process, connection: Connection) -> None:
        self.process = process
        self.connection = connection

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Any:
        self.connection.send((function, arguments))
        assert self.connection.poll(TIMEOUT), "the other process does not answer"
        return self.connection.recv()


def start_peer() -> Peer:
    context = mp.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(there,), daemon=True)
    process.start()
    there.close()
    return Peer(process, here)


# What the other process does.


def describe(kept: dict[str, Any], tensor: torch.Tensor) -> tuple[Any, ...]:
    return tensor.device.type, tensor.dtype, tuple(tensor.shape), tensor.stride(), tensor.storage_offset(), tensor.cpu()


def keep(kept: dict[str, Any], tensor: torch.Tensor) -> None:
    kept["x"] = tensor


def read(kept: dict[str, Any]) -> torch.Tensor:
    return kept["x"].cpu()


def fill(kept: dict[str, Any], value: float) -> None:
    kept["x"].fill_(value)


def fill_after(kept: dict[str, Any], x: torch.Tensor, ready: torch.gxu.Event, filled: torch.gxu.Event) -> bool:
    """Queues filling `x` with sevens between two events; whether it is done when the call returns."""
    kept["source"], kept["x"] = torch.full((len(x),), 7.0).pin_memory(), x
    stream = torch.gxu.Stream()
    stream.wait_event(ready)
    with torch.gxu.stream(stream):
        x.copy_(kept["source"], non_blocking=True)
    filled.record(stream)
    return filled.query()


def count_mappings() -> int:
    return Path("/proc/self/maps").read_text().count("memfd:gxu (deleted)")


def count_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def drop(kept: dict[str, Any]) -> int:
    kept.clear()
    gc.collect()
    return count_mappings()


def zero_second(kept: dict[str, Any], first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, bool]:
    second.zero_()
    return first.cpu(), first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr()


def make(kept: dict[str, Any], size: int) -> torch.Tensor:
    kept["made"] = torch.arange(size, device="gxu")
    return kept["made"]


def is_kept(kept: dict[str, Any], tensor: torch.Tensor) -> bool:
    return tensor.data_ptr() == kept["made"].data_ptr()


def attributes(kept: dict[str, Any], parameter: nn.Parameter) -> tuple[Any, ...]:
    return type(parameter).__name__, parameter.requires_grad, parameter.is_leaf, parameter.is_shared()


def resize(kept: dict[str, Any], tensor: torch.Tensor) -> None:
    tensor.resize_(10_000)


def train(kept: dict[str, Any], model: nn.Module) -> torch.Tensor:
    """One step on shared parameters; the gradients stay here."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    model(torch.ones(2, 3, device="gxu")).sum().backward()
    optimizer.step()
    return model.weight.detach().cpu()


def double_all(x: torch.Tensor, tasks: Any, results: Any) -> None:
    total = 0.0
    while (part := tasks.get()) is not None:
        total += part.sum().item()
        part.fill_(-1)
    results.put(total)
    x.fill_(8)
    torch.gxu.synchronize()
    results.put("done")


def sums_of(count: int, tasks: Any, results: Any) -> None:
    """Lets each tensor go as soon as its sum is known."""
    results.put([sum(part.sum().item() for part in tasks.get(timeout=TIMEOUT)) for _ in range(count)])


def pickled(kept: dict[str, Any], size: int) -> bytes:
    kept["x"] = torch.zeros(size, device="gxu")
    return bytes(ForkingPickler.dumps(kept["x"]))
