"""Block sizes of the kernels that Inductor generates for gxu: pure functions of the problem and of the device.

The rule of the device's bring-up guide is a grid of at most `max_grid_size` programs (48), or a multiple of it, with
one warp each. The Triton backend turns a tile into loops, so a large block costs neither compile time nor registers:
the blocks here are as large as that rule asks. Every block is a power of two, because `tl.arange` wants one.

A problem is described by its `numels`, extents in elements keyed by Inductor's prefixes: x (fastest), y, z are the
pointwise dimensions, r0_ and r1_ the reduced ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

#: Triton's limit on the elements of one tile.
MAX_TILE_NUMEL = 1 << 20

#: Largest block along each dimension. Code generation drops the mask of a dimension whose extent is a multiple of this.
MAX_BLOCK: dict[str, int] = {"X": 1 << 20, "Y": 1 << 20, "Z": 1 << 20, "R0_": 1 << 17, "R1_": 1 << 17}

#: Columns of a 2-D pointwise tile. Such tiles come from operands that are contiguous along different dimensions: the
#: cache lines that one column step touches in the transposed operand (64 bytes each) must survive until the next row.
TILE_COLUMNS = 256

#: Fewest columns of a program of a reduction whose reduced dimension is not the contiguous one: 1 KiB of each row of
#: fp32, and so few blocks of columns that splits make up the grid. With 64, sums of 1024 x 2048 take 2.4 times as long.
OUTER_COLUMNS = 256

#: Elements carried through a looped reduction along the contiguous dimension: 8 KiB of fp32, a quarter of an L1 cache,
#: which what is read passes through as well. With 8192 the maximum of 4 M elements takes 2.4 times as long.
INNER_CARRIED = 2048

#: Elements of a tile that is sorted, if a row is not longer. Each step of the network passes through all of them: 2 KiB
#: of keys stay in an L1 cache. With 8192, a thousand rows of 256 integers take three times as long.
SORTED_NUMEL = 256

#: Gain in programs that pays for a second kernel. Inductor asks again about the pieces, which must not be split
#: themselves: rounding to divisors leaves them at most a factor of two.
MIN_SPLIT = 4


@dataclass(frozen=True)
class DeviceLimits:
    """What the block sizes depend on, as `gxuDeviceProperties` reports it. Caches are in bytes."""

    max_grid_size: int
    preferred_num_warps: int
    L1_cache_size: int
    L2_cache_size: int
    min_elements_per_program: int

    def to_meta(self) -> dict[str, int]:
        """As plain values, to be printed into a generated kernel."""
        return asdict(self)

    @staticmethod
    def from_meta(meta: Mapping[str, int]) -> DeviceLimits:
        return DeviceLimits(**meta)

    @property
    def has_grid_rule(self) -> bool:
        """False: the device wants torch's own block sizes."""
        return self.max_grid_size > 0


def next_power_of_2(n: int) -> int:
    return 1 << max(0, n - 1).bit_length()


def ceildiv(a: int, b: int) -> int:
    return -(-a // b)


def idle_share(programs: int, round_size: int) -> float:
    """Time of a grid run in rounds of `round_size` programs, relative to the same work in full rounds only."""
    return ceildiv(programs, round_size) * round_size / programs


def split_evenly(numel: int, programs: int, limit: int) -> int:
    """The smallest block, at most `limit`, that covers `numel` elements with at most `programs` programs.

    Where `limit` does not allow that, the block (down to a 64th of the limit) whose last round of `programs` programs
    is filled best: a grid that is nearly a multiple of `programs`.
    """
    block = next_power_of_2(ceildiv(numel, max(1, programs)))
    if block <= limit:
        return block
    candidates = [limit >> shift for shift in range(7) if limit >> shift]
    return min(candidates, key=lambda candidate: idle_share(ceildiv(numel, candidate), programs))


def pointwise(numels: Mapping[str, int], limits: DeviceLimits) -> dict[str, int]:
    """Blocks of an elementwise kernel over x, (y, x) or (z, y, x)."""
    x = max(1, numels["x"])
    if "y" not in numels:
        block = split_evenly(x, limits.max_grid_size, MAX_TILE_NUMEL)
        return {"XBLOCK": min(max(block, limits.min_elements_per_program), next_power_of_2(x))}

    candidates = []
    x_block = min(TILE_COLUMNS, next_power_of_2(x))
    while x_block <= min(next_power_of_2(x), MAX_TILE_NUMEL):
        blocks, programs = _tile(numels, x_block, limits)
        if programs <= limits.max_grid_size:
            return blocks
        candidates.append((idle_share(programs, limits.max_grid_size), blocks))
        x_block *= 2
    return min(candidates, key=lambda candidate: candidate[0])[1]


def _tile(numels: Mapping[str, int], x_block: int, limits: DeviceLimits) -> tuple[dict[str, int], int]:
    """Blocks of an elementwise kernel with `x_block` columns, and the number of its programs."""
    blocks = {"XBLOCK": x_block}
    programs = ceildiv(numels["x"], x_block)
    for prefix in ("y", "z"):
        if prefix not in numels:
            continue
        numel = max(1, numels[prefix])
        tile = math.prod(blocks.values())
        limit = min(MAX_TILE_NUMEL // tile, next_power_of_2(numel))
        block = split_evenly(numel, max(1, limits.max_grid_size // programs), limit)
        blocks[f"{prefix.upper()}BLOCK"] = min(max(block, limits.min_elements_per_program // tile), limit)
        programs *= ceildiv(numel, blocks[f"{prefix.upper()}BLOCK"])
    return blocks, programs


def _outputs(numels: Mapping[str, int], programs: int, limit: int, columns: int = 1) -> dict[str, int]:
    """Blocks of a reduction's output dimensions, x and possibly y.

    At most `programs` programs, at most `limit` elements together, and at least `columns` along x.
    """
    x = max(1, numels["x"])
    x_block = min(max(split_evenly(x, programs, limit), columns), next_power_of_2(x))
    if "y" not in numels:
        return {"XBLOCK": x_block}
    remaining = max(1, programs // ceildiv(x, x_block))
    return {"XBLOCK": x_block, "YBLOCK": split_evenly(max(1, numels["y"]), remaining, max(1, limit // x_block))}


def persistent_reduction(numels: Mapping[str, int], limits: DeviceLimits, sorts: bool = False) -> dict[str, int]:
    """Blocks of a reduction that holds whole rows (the kernel itself fixes the reduced blocks).

    `sorts`: the rows are sorted.
    """
    row = math.prod(next_power_of_2(n) for prefix, n in numels.items() if prefix.startswith("r"))
    rows = numels["x"] * numels.get("y", 1)
    worthwhile = rows * row // limits.min_elements_per_program
    programs = max(1, min(limits.max_grid_size, worthwhile))
    return _outputs(numels, programs, max(1, (SORTED_NUMEL if sorts else MAX_TILE_NUMEL) // row))


def reduction(numels: Mapping[str, int], limits: DeviceLimits, contiguous: bool) -> dict[str, int]:
    """Blocks of a reduction that loops over its reduced dimensions.

    `contiguous`: the reduced dimension is the contiguous one. Then a program takes few rows in long chunks; otherwise
    it takes many columns, one step of the reduced dimension at a time: loads and accumulators are contiguous.
    """
    if contiguous:
        blocks = _outputs(numels, limits.max_grid_size, limit=8)
        carried = INNER_CARRIED
    else:
        blocks = _outputs(numels, limits.max_grid_size, limit=1024, columns=OUTER_COLUMNS)
        carried = 0
    for prefix in ("r0_", "r1_"):
        if prefix in numels:
            room = min(carried // math.prod(blocks.values()), MAX_BLOCK[prefix.upper()])
            blocks[prefix.upper() + "BLOCK"] = max(1, min(room, next_power_of_2(numels[prefix])))
    return blocks


def split_scan(numels: Mapping[str, int], limits: DeviceLimits, min_rblock: int) -> dict[str, int]:
    """Blocks of a scan of whole rows by several programs: one row, and at least `min_rblock` of it, a program.

    The kernel has room for the sums of pieces of `min_rblock` elements, so none may be smaller.
    """
    pieces = max(1, limits.max_grid_size // numels["x"])
    block = split_evenly(numels["r0_"], pieces, MAX_BLOCK["R0_"])
    return {"XBLOCK": 1, "R0_BLOCK": max(block, min_rblock, limits.min_elements_per_program)}


def fits_persistent(reduction_numel: int, limits: DeviceLimits) -> bool:
    """Whether a row of so many elements is kept, not read again: two fp32 copies of it in half of the L2 cache."""
    return next_power_of_2(reduction_numel) * 4 * 2 <= max(limits.L2_cache_size, 512 * 1024) // 2


def reduction_split_factor(
    reduction_numel: int, outputs: int, inner: bool, limits: DeviceLimits, min_elements_per_split: int
) -> int:
    """Into how many pieces each output's reduction is cut, so that few outputs still keep every program busy.

    `inner`: the reduced dimension is the contiguous one, and a program takes one piece of one output. Otherwise it
    takes a piece of OUTER_COLUMNS neighbouring outputs. There are as many programs as the device likes, or as have
    `min_elements_per_split` elements each. Prefers a divisor of `reduction_numel`, which spares the kernel a mask.
    """
    lanes = 1 if inner else OUTER_COLUMNS
    programs = min(limits.max_grid_size, reduction_numel * outputs // min_elements_per_split)
    if programs < MIN_SPLIT * ceildiv(outputs, lanes):
        return 1
    split = min(programs * lanes // outputs, reduction_numel)
    divisors = [s for s in range(split, split // 2, -1) if reduction_numel % s == 0]
    return divisors[0] if divisors else split


def smaller(blocks: Mapping[str, int], minima: Mapping[str, int]) -> list[dict[str, int]]:
    """`blocks`, and each of them halved and quartered: what autotuning compares. None goes below `minima` (or 1)."""
    tried = [dict(blocks)]
    for block, size in blocks.items():
        for divisor in (2, 4):
            candidate = {**blocks, block: max(size // divisor, minima.get(block, 1))}
            if candidate not in tried:
                tried.append(candidate)
    return tried


def limits_of(properties: Any, min_elements_per_program: int) -> DeviceLimits:
    """The limits that `torch.gxu.get_device_properties()` describes."""
    return DeviceLimits(
        max_grid_size=properties.max_grid_size,
        preferred_num_warps=properties.preferred_num_warps,
        L1_cache_size=properties.L1_cache_size,
        L2_cache_size=properties.L2_cache_size,
        min_elements_per_program=min_elements_per_program,
    )
