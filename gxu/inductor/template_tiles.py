"""Tiles that Inductor's product templates are tried with on gxu: one readable table, cut to the problem.

A program of a template computes BLOCK_M x BLOCK_N of the result and walks the reduced dimension in steps of BLOCK_K.
The Triton backend packs what a program reads into panels for the cache and runs a register-tiled kernel over them, so
tiles are large: they are what is packed at once, not what is held in registers.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

from gxu.inductor.block_sizes import ceildiv, next_power_of_2


class Tile(NamedTuple):
    block_m: int
    block_n: int
    block_k: int


#: Tiles of products with many rows, by preference, and of products with few: there the columns are the parallel
#: dimension, and the reduced one is as long as the cache allows.
WIDE = (Tile(128, 256, 256), Tile(256, 256, 256), Tile(512, 256, 256), Tile(128, 128, 128))
FEW_ROWS = (Tile(16, 256, 256), Tile(16, 64, 512), Tile(16, 512, 128))

#: At most so many rows are "few".
MAX_FEW_ROWS = 32

#: Tiles of the implicit products that a convolution is: pixels x output channels x input channels of one filter tap.
CONVOLUTION = (Tile(256, 64, 64), Tile(256, 128, 128), Tile(512, 64, 32))

#: Tiles of grouped products: a group has few rows, as many as one expert of a mixture is given.
GROUPED = (Tile(32, 256, 128), Tile(64, 128, 128), Tile(16, 128, 128))

#: Blocks whose every combination an exhaustive search tries.
EXHAUSTIVE_BLOCKS_MN = (16, 32, 64, 128, 256, 512)
EXHAUSTIVE_BLOCKS_K = (32, 64, 128, 256, 512)

#: Tiles of attention, queries x keys, the default first. They divide the blocks of a block mask, 128 x 128 by default.
ATTENTION = ((64, 128), (128, 128), (64, 64), (32, 64))

#: Tiles of attention's backward pass: queries x keys of the half that computes dK and dV; dQ has them swapped.
ATTENTION_BACKWARD = ((64, 128), (128, 128), (64, 64), (32, 64))

#: Keys that a step of decoding takes.
DECODING = (128, 64, 32)

#: Blocks of rows that go over the columns together, so that they share what they read of the right operand.
GROUP_M = 8

#: Smallest block: one vector of the narrowest register tile.
MIN_BLOCK = 16


def _cut(tile: Tile, m: int, n: int, k: int) -> Tile:
    """The tile, no larger than the next power of two of the problem."""
    block_m, block_n, block_k = (
        min(block, max(next_power_of_2(extent), MIN_BLOCK)) for block, extent in zip(tile, (m, n, k), strict=True)
    )
    # A product with a single row is not padded to more.
    return Tile(min(block_m, next_power_of_2(m)), block_n, block_k)


def _programs(tile: Tile, m: int, n: int) -> int:
    return ceildiv(m, tile.block_m) * ceildiv(n, tile.block_n)


def product(m: int, n: int, k: int, min_programs: int) -> list[Tile]:
    """Tiles to try for an m x n result with k summands, best guess first, without repetitions.

    A tile that makes fewer than `min_programs` programs is halved until there are so many, or it is small.
    """
    tiles: list[Tile] = []
    for candidate in FEW_ROWS if m <= MAX_FEW_ROWS else WIDE:
        tile = _cut(candidate, m, n, k)
        while _programs(tile, m, n) < min_programs and max(tile.block_m, tile.block_n) > 4 * MIN_BLOCK:
            if tile.block_m >= tile.block_n:
                tile = tile._replace(block_m=tile.block_m // 2)
            else:
                tile = tile._replace(block_n=tile.block_n // 2)
        if tile not in tiles:
            tiles.append(tile)
    return tiles


def convolution(pixels: int, out_channels: int, in_channels: int) -> list[Tile]:
    """Tiles to try for a convolution; the sizes are those of one group."""
    return list(dict.fromkeys(_cut(tile, pixels, out_channels, in_channels) for tile in CONVOLUTION))


def decoding_splits(pairs: int, min_programs: int) -> int:
    """Into how many pieces decoding cuts the keys of each of `pairs` (sequence, key head) pairs: as few as give every
    thread a program, for each further piece is another partial result to write and to combine."""
    return max(1, ceildiv(min_programs, max(1, pairs)))


def exhaustive(m: int, n: int, k: int) -> Iterator[Tile]:
    """Every combination of blocks, cut to the problem."""
    blocks = itertools.product(EXHAUSTIVE_BLOCKS_MN, EXHAUSTIVE_BLOCKS_MN, EXHAUSTIVE_BLOCKS_K)
    yield from dict.fromkeys(_cut(Tile(*sizes), m, n, k) for sizes in blocks)
