"""Fragmentation of the caching allocator: peaks of reserved and allocated memory over training runs."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from gxu._name import DEVICE_TYPE

STEPS = 12


@dataclass(frozen=True)
class Row:
    """One training run. Bytes are the peaks over the run; `ratio` is reserved over allocated, 1 is the best."""

    name: str
    allocations: int
    requested_bytes: int
    allocated_bytes: int
    reserved_bytes: int
    segments: int
    ratio: float


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
    )
