"""Trains a small ResNet on generated images: gratings, whose class is their direction.

    python examples/train_resnet.py --checkpoint resnet.pt --save-at 100
    python examples/train_resnet.py --checkpoint resnet.pt --resume

The second process ends with the weights that one process of 200 steps would have had, bit for bit. `--device cpu`,
`--precision fp32 --dropout 0` on either device gives the losses to compare.
"""

from __future__ import annotations

import math

import torch
import training
from torch import Tensor, nn
from torch.utils.data import Dataset

CLASSES = 10


class Residual(nn.Module):
    """Two convolutions beside a shortcut; halves the image where the number of channels grows."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        stride = 1 if channels_in == channels else 2
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels_in, channels, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride == 2:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride=2, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.relu(self.convolutions(x) + self.shortcut(x))


def resnet(width: int, dropout: float) -> nn.Module:
    """Logits (batch, CLASSES) of images (batch, 3, 32, 32)."""
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        Residual(width, width),
        Residual(width, 2 * width),
        Residual(2 * width, 4 * width),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(4 * width, CLASSES),
    )


class Gratings(Dataset[tuple[Tensor, Tensor]]):
    """Coloured stripes of one of CLASSES directions, under noise. Sample `index` is the same in every process."""

    size = 32  # pixels

    def __init__(self, samples: int) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        draw = torch.Generator().manual_seed(index)
        label = index % CLASSES
        angle = math.pi * label / CLASSES
        phase, frequency = torch.rand(2, generator=draw) * torch.tensor([2 * math.pi, 0.5])
        x = torch.arange(self.size, dtype=torch.float32)
        stripes = torch.sin((0.4 + frequency) * (math.cos(angle) * x + math.sin(angle) * x[:, None]) + phase)
        colour = torch.rand(3, 1, 1, generator=draw)
        noise = torch.randn(3, self.size, self.size, generator=draw)
        return colour * stripes + 0.5 * noise, torch.tensor(label)


def main() -> None:
    parser = training.parser("Train a small ResNet on generated images.")
    parser.add_argument("--width", type=int, default=16, help="channels of the first layer")
    parser.add_argument("--samples", type=int, default=5000)
    arguments = parser.parse_args()
    training.run(
        arguments, lambda: resnet(arguments.width, arguments.dropout), Gratings(arguments.samples), arguments.samples
    )


if __name__ == "__main__":
    main()
