"""Compiles a small model into a package that main.cpp runs: `python export.py model.pt2`.

`python export.py --cmake-prefix-path` prints where CMake finds Torch and Gxu.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn

import gxu


class Model(nn.Module):
    """Class probabilities of rows of 8 numbers, and the logarithm of each row's normaliser."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 32), nn.GELU(), nn.Linear(32, 4))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = self.layers(x)
        return logits.softmax(-1), logits.logsumexp(-1)


def export(path: str) -> None:
    torch.manual_seed(0)
    model = Model().eval().to("gxu")
    rows = torch.export.Dim("rows", min=1, max=4096)
    program = torch.export.export(model, (torch.randn(2, 8, device="gxu"),), dynamic_shapes=({0: rows},))
    torch._inductor.aoti_compile_and_package(program, package_path=path)


if __name__ == "__main__":
    if sys.argv[1:] == ["--cmake-prefix-path"]:
        print(f"{torch.utils.cmake_prefix_path};{Path(gxu.__file__).parent / 'share' / 'cmake'}")
    elif len(sys.argv) == 2:
        export(sys.argv[1])
    else:
        sys.exit(__doc__)
