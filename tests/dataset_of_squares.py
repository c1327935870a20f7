"""A data set for tests of DataLoader. Spawned workers import this file by its name."""

from __future__ import annotations

import torch
from torch.utils.data import Dataset


class Squares(Dataset[tuple[torch.Tensor, int]]):
    def __len__(self) -> int:
        return 23

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.full((3,), float(index * index)), index
