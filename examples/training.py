"""What train_gpt.py and train_resnet.py have in common: arguments, mixed precision, data loading, checkpoints."""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def parser(description: str) -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(description=description)
    arguments.add_argument("--device", default="gxu", help="gxu, gxu:1, cpu, cuda, ... (default: gxu)")
    arguments.add_argument("--steps", type=int, default=200)
    arguments.add_argument("--batch", type=int, default=16, help="samples a step")
    arguments.add_argument("--learning-rate", type=float, default=1e-3)
    arguments.add_argument("--precision", choices=PRECISIONS, default="bf16", help="of the forward pass")
    arguments.add_argument("--dropout", type=float, default=0.1)
    arguments.add_argument("--workers", type=int, default=2, help="processes that prepare batches")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--checkpoint", type=Path, help="file to write at --save-at, and at the end")
    arguments.add_argument("--save-at", type=int, help="step after which the checkpoint is written, and the run ends")
    arguments.add_argument("--resume", action="store_true", help="go on from --checkpoint")
    arguments.add_argument("--losses", type=Path, help="JSON file for the loss of every step")
    return arguments


class Steps(Sampler[list[int]]):
    """The samples of each step, drawn from the step's own seed: a run that resumes draws what the first would have."""

    def __init__(self, samples: int, batch: int, first: int, last: int, seed: int) -> None:
        self.samples = samples
        self.batch = batch
        self.steps = range(first, last)
        self.seed = seed

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.steps:
            draw = random.Random(f"{self.seed} {step}")
            yield [draw.randrange(self.samples) for _ in range(self.batch)]


class Trainer:
    """A model with its optimiser, learning rate, loss scale and random state: what a checkpoint holds."""

    def __init__(self, model: nn.Module, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.device = torch.device(arguments.device)
        self.model = model.to(self.device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=arguments.learning_rate)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * min(1, step / arguments.steps)))
        )
        self.precision = PRECISIONS[arguments.precision]
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision is not None)
        self.losses: list[float] = []

    def save(self, file: Path) -> None:
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "losses": self.losses,
            "random": torch.get_rng_state(),
        }
        if self.device.type != "cpu":
            state["device_random"] = torch.get_device_module(self.device).get_rng_state(self.device)
        torch.save(state, file)

    def load(self, file: Path) -> None:
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])
        self.losses = state["losses"]
        torch.set_rng_state(state["random"])
        if "device_random" in state and self.device.type != "cpu":
            torch.get_device_module(self.device).set_rng_state(state["device_random"], self.device)

    def step(self, inputs: Tensor, targets: Tensor) -> float:
        self.optimizer.zero_grad()
        with torch.autocast(self.device.type, dtype=self.precision, enabled=self.precision is not None):
            logits = self.model(inputs)
            loss = nn.functional.cross_entropy(logits.flatten(0, -2).float(), targets.flatten())
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        return loss.item()

    def train(self, data: Dataset[tuple[Tensor, Tensor]], samples: int) -> None:
        arguments = self.arguments
        last = arguments.steps if arguments.save_at is None else arguments.save_at
        steps = Steps(samples, arguments.batch, len(self.losses), last, arguments.seed)
        on_cpu = self.device.type == "cpu"
        loader = DataLoader(
            data,
            batch_sampler=steps,
            num_workers=arguments.workers,
            pin_memory=not on_cpu,
            generator=torch.Generator().manual_seed(arguments.seed),  # not the global one, which is in the checkpoint
        )
        start = time.perf_counter()
        for inputs, targets in loader:
            inputs = inputs.to(self.device, non_blocking=True)
            targets = targets.to(self.device, non_blocking=True)
            self.losses.append(self.step(inputs, targets))
            done = len(self.losses)
            if done % 20 == 0 or done == last:
                print(f"step {done:4d}  loss {self.losses[-1]:.4f}  {time.perf_counter() - start:.1f} s", flush=True)
        if arguments.checkpoint is not None:
            self.save(arguments.checkpoint)
        if arguments.losses is not None:
            arguments.losses.write_text(json.dumps(self.losses))


def run(
    arguments: argparse.Namespace,
    make_model: Callable[[], nn.Module],
    data: Dataset[tuple[Tensor, Tensor]],
    samples: int,
) -> None:
    """Trains `make_model()` on `samples` samples of `data`, from the start or from the checkpoint."""
    torch.manual_seed(arguments.seed)
    trainer = Trainer(make_model(), arguments)
    if arguments.resume:
        trainer.load(arguments.checkpoint)
    trainer.train(data, samples)
