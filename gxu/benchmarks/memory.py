"""Fragmentation of the caching allocator: peaks of reserved and allocated memory over training runs."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from gxu._name import DEVICE_TYPE
from gxu.benchmarks import memory_trace

STEPS = 12


@dataclass(frozen=True)
class Row:
    """One training run. Bytes are the peaks over the run; `ratio` is reserved over allocated, 1 is the best.

    `size_class_bytes` is what a cache of blocks of powers of two would reserve for the same, for comparison.
    """

    name: str
    allocations: int
    requested_bytes: int
    allocated_bytes: int
    reserved_bytes: int
    segments: int
    ratio: float
    size_class_bytes: int


class Language(nn.Module):
    """A small GPT: two layers of width 256 over 512 tokens of vocabulary."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(512, 256)
        layers = [nn.TransformerEncoderLayer(256, 4, 1024, batch_first=True) for _ in range(2)]
        self.layers = nn.ModuleList(layers)
        self.head = nn.Linear(256, 512)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x)
        logits: Tensor = self.head(x)
        return functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


class Vision(nn.Module):
    """A small ResNet-like network: three stages of convolutions over images of any size."""

    def __init__(self) -> None:
        super().__init__()
        channels = (3, 32, 64, 128)
        stages = [
            nn.Sequential(nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.ReLU())
            for before, after in itertools.pairwise(channels)
        ]
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(channels[-1], 10)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.stages(images).mean((2, 3)))
        return logits.logsumexp(1).mean()


def tokens(length: int) -> Tensor:
    return torch.randint(512, (4, length))


def images(size: int) -> Tensor:
    return torch.randn(8, 3, size, size)


#: name: the model, its batch for a size, and the size of step i.
RUNS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Tensor], Callable[[int], int]]] = {
    "language model, equal lengths": (Language, tokens, lambda step: 96),
    "language model, growing lengths": (Language, tokens, lambda step: 40 + 8 * step),
    "language model, mixed lengths": (Language, tokens, lambda step: 33 + 37 * step % 96),
    "vision model, mixed sizes": (Vision, images, lambda step: 48 + 8 * (5 * step % 7)),
}


def measure(name: str, device: str = DEVICE_TYPE) -> Row:
    """Trains STEPS steps with AdamW from an empty cache."""
    make_model, make_batch, size = RUNS[name]
    device_module = torch.get_device_module(device)
    gc.collect()
    device_module.synchronize()
    device_module.empty_cache()
    start = device_module.memory_stats()
    device_module.reset_peak_memory_stats()
    torch.manual_seed(0)
    trace: memory_trace.Trace = []
    with memory_trace.recorded(trace):
        model = make_model().to(device)
        optimizer = torch.optim.AdamW(model.parameters())
        for step in range(STEPS):
            loss = model(make_batch(size(step)).to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    stats = device_module.memory_stats()
    allocated, reserved = stats["allocated_bytes.all.peak"], stats["reserved_bytes.all.peak"]
    return Row(
        name,
        stats["allocation.all.allocated"] - start.get("allocation.all.allocated", 0),
        stats["requested_bytes.all.peak"],
        allocated,
        reserved,
        stats["segment.all.peak"],
        reserved / allocated,
        memory_trace.size_class_peak(trace),
    )


def measure_trace(file: Path) -> Row:
    """Replays a recorded history, from a file of `_dump_snapshot`."""
    trace = memory_trace.load(file)
    allocated, reserved, segments = memory_trace.replay(trace)
    allocations = [event["size"] for event in trace if event["action"] == "alloc"]
    if not allocations:
        raise ValueError(f"{file} has a history without an allocation")
    return Row(
        file.name,
        len(allocations),
        requested_peak(trace),
        allocated,
        reserved,
        segments,
        reserved / allocated,
        memory_trace.size_class_peak(trace),
    )


def requested_peak(trace: memory_trace.Trace) -> int:
    """The most bytes that the trace had asked for at one time."""
    live: dict[int, int] = {}
    peak = current = 0
    for event in trace:
        if event["action"] == "alloc":
            live[event["addr"]] = event["size"]
            current += event["size"]
            peak = max(peak, current)
        elif event["action"] == "free_completed":
            current -= live.pop(event["addr"], 0)
    return peak
