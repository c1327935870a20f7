"""Trains a small GPT on the bytes of a text file.

    python examples/train_gpt.py --checkpoint gpt.pt --save-at 100
    python examples/train_gpt.py --checkpoint gpt.pt --resume

The second process ends with the weights that one process of 200 steps would have had, bit for bit. `--device cpu`,
`--precision fp32 --dropout 0` on either device gives the losses to compare.
"""

from __future__ import annotations

import pydoc_data.topics
from pathlib import Path

import torch
import training
from torch import Tensor, nn
from torch.utils.data import Dataset

BYTES = 256
# About 700 KB of English that every Python has: the language reference, as help() shows it.
DEFAULT_TEXT = Path(pydoc_data.topics.__file__)


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.query_key_value = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        parts = self.query_key_value(x).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        y = nn.functional.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=True)
        return self.output(y.transpose(1, 2).reshape(batch, length, width))


class Block(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(width), Attention(width, heads, dropout), nn.Dropout(dropout))
        self.mlp = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.Linear(4 * width, width),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x)
        return x + self.mlp(x)


class GPT(nn.Module):
    """Logits of the next byte for each of the bytes (batch, length)."""

    def __init__(self, length: int, width: int, heads: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.bytes = nn.Embedding(BYTES, width)
        self.positions = nn.Parameter(torch.randn(length, width) * 0.02)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential(*(Block(width, heads, dropout) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, BYTES, bias=False)
        nn.init.normal_(self.bytes.weight, std=0.02)
        nn.init.normal_(self.head.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout(self.bytes(x) + self.positions[: x.shape[1]])
        return self.head(self.norm(self.blocks(x)))


class Windows(Dataset[tuple[Tensor, Tensor]]):
    """The stretches of `length` bytes in a text, each with the bytes that follow."""

    def __init__(self, text: bytes, length: int) -> None:
        self.text = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        self.length = length

    def __len__(self) -> int:
        return len(self.text) - self.length

    def __getitem__(self, start: int) -> tuple[Tensor, Tensor]:
        window = self.text[start : start + self.length + 1].long()
        return window[:-1], window[1:]


def main() -> None:
    parser = training.parser("Train a small GPT on the bytes of a text file.")
    parser.add_argument("--text", type=Path, default=DEFAULT_TEXT, help="(default: Python's language reference)")
    parser.add_argument("--length", type=int, default=64, help="bytes of context")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--layers", type=int, default=2)
    arguments = parser.parse_args()

    windows = Windows(arguments.text.read_bytes(), arguments.length)

    def make_model() -> nn.Module:
        return GPT(arguments.length, arguments.width, arguments.heads, arguments.layers, arguments.dropout)

    training.run(arguments, make_model, windows, len(windows))


if __name__ == "__main__":
    main()
