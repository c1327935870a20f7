"""Block sizes obey the device's grid rule, Triton's limits and Inductor's assumptions, for any problem."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gxu.inductor import block_sizes
from gxu.inductor.block_sizes import MAX_BLOCK, MAX_TILE_NUMEL, DeviceLimits

GXU = DeviceLimits(
    max_grid_size=48,
    preferred_num_warps=1,
    L1_cache_size=48 << 10,
    L2_cache_size=2 << 20,
    min_elements_per_program=4096,
)

extents = st.integers(1, 1 << 24)


def grid(numels: dict[str, int], blocks: dict[str, int]) -> int:
    return math.prod(
        block_sizes.ceildiv(n, blocks[f"{prefix.upper()}BLOCK"])
        for prefix, n in numels.items()
        if not prefix.startswith("r")
    )


def check(numels: dict[str, int], blocks: dict[str, int], row: int = 1) -> None:
    """What Triton and Inductor require of any configuration."""
    for name, block in blocks.items():
        prefix = name.removesuffix("BLOCK")
        assert block >= 1
        assert block & (block - 1) == 0, f"{name}={block} is no power of two"
        # Inductor drops masks for extents that are multiples of MAX_BLOCK, and assumes block 1 where the extent is 1.
        assert block <= MAX_BLOCK[prefix]
        if numels[prefix.lower()] == 1:
            assert block == 1
    assert math.prod(blocks.values()) * row <= MAX_TILE_NUMEL


@given(extents)
def test_pointwise_1d(x: int) -> None:
    blocks = block_sizes.pointwise({"x": x}, GXU)
    check({"x": x}, blocks)
    assert grid({"x": x}, blocks) <= 48


def test_pointwise_fills_the_grid() -> None:
    # 48 programs of 2^17 elements: neither fewer, larger ones nor more, smaller ones.
    assert block_sizes.pointwise({"x": 48 << 17}, GXU) == {"XBLOCK": 1 << 17}
    assert block_sizes.pointwise({"x": (48 << 17) + 1}, GXU) == {"XBLOCK": 1 << 18}
    # A small problem is one program.
    assert block_sizes.pointwise({"x": 4096}, GXU) == {"XBLOCK": 4096}
    assert block_sizes.pointwise({"x": 1000}, GXU) == {"XBLOCK": 1024}


@given(st.integers(49 << 20, 1 << 33))
def test_pointwise_too_large_for_the_grid_fills_its_last_round(x: int) -> None:
    blocks = block_sizes.pointwise({"x": x}, GXU)
    check({"x": x}, blocks)
    programs = grid({"x": x}, blocks)
    rounds = block_sizes.ceildiv(programs, 48)
    stock = block_sizes.ceildiv(x, MAX_TILE_NUMEL)
    assert rounds * 48 / programs <= block_sizes.ceildiv(stock, 48) * 48 / stock


@given(st.integers(1, 1 << 14), st.integers(1, 1 << 14))
def test_pointwise_2d(y: int, x: int) -> None:
    numels = {"y": y, "x": x}
    blocks = block_sizes.pointwise(numels, GXU)
    check(numels, blocks)
    # Each extent is at most doubled by its power of two, and a tile has at most 2^20 elements.
    if x * y <= 48 * MAX_TILE_NUMEL // 4:
        assert grid(numels, blocks) <= 48


@given(st.integers(1, 512), st.integers(1, 512), st.integers(1, 512))
def test_pointwise_3d(z: int, y: int, x: int) -> None:
    numels = {"z": z, "y": y, "x": x}
    check(numels, block_sizes.pointwise(numels, GXU))


@given(st.integers(1, 1 << 20), st.integers(1, 1 << 15))
def test_persistent_reduction(x: int, r: int) -> None:
    numels = {"x": x, "r0_": r}
    row = block_sizes.next_power_of_2(r)
    blocks = block_sizes.persistent_reduction(numels, GXU)
    check(numels, blocks, row)
    if x * row <= 48 * MAX_TILE_NUMEL // 2:
        assert grid(numels, blocks) <= 48
    if x * row <= GXU.min_elements_per_program:
        assert grid(numels, blocks) == 1


@given(st.integers(1, 1 << 20), st.integers(1, 1 << 24), st.booleans())
def test_reduction(x: int, r: int, contiguous: bool) -> None:
    numels = {"x": x, "r0_": r}
    blocks = block_sizes.reduction(numels, GXU, contiguous)
    check(numels, blocks)
    # What is carried through the loop fits the L1 cache.
    assert blocks["XBLOCK"] * blocks["R0_BLOCK"] * 4 <= GXU.L1_cache_size
    if not contiguous:
        assert blocks["R0_BLOCK"] == 1
        assert blocks["XBLOCK"] >= min(256, block_sizes.next_power_of_2(x))


@given(st.integers(1, 256), st.integers(1, 256), st.integers(1, 4096), st.integers(1, 4096), st.booleans())
def test_reduction_2d(y: int, x: int, r0: int, r1: int, contiguous: bool) -> None:
    numels = {"y": y, "x": x, "r0_": r0, "r1_": r1}
    check(numels, block_sizes.reduction(numels, GXU, contiguous))


@given(st.integers(1, 1 << 26), st.integers(1, 4096), st.booleans())
def test_split_keeps_programs_busy_and_pieces_large(r: int, outputs: int, inner: bool) -> None:
    split = block_sizes.reduction_split_factor(r, outputs, inner, GXU, 32768)
    assert 1 <= split <= r
    if split > 1:
        lanes = 1 if inner else block_sizes.OUTER_COLUMNS
        programs = block_sizes.ceildiv(outputs * split, lanes)
        assert programs <= 48
        assert r * outputs / programs >= 32768
        # The pieces stay whole.
        assert block_sizes.reduction_split_factor(r // split, outputs * split, inner, GXU, 32768) == 1


def test_split_examples() -> None:
    def split(r: int, outputs: int, inner: bool) -> int:
        return block_sizes.reduction_split_factor(r, outputs, inner, GXU, 32768)

    assert split(10_000, 1, True) == 1
    assert split(3 * 32768, 1, True) == 1
    assert split(4 * 32768, 1, True) == 4
    assert split(48 * 32768, 1, True) == 48
    assert split(1_000_000, 1, True) == 25  # 30 pieces would do; 25 divides
    assert split(100_000_000, 48, True) == 1
    assert split(8192, 384, False) == 32  # two programs, of 256 columns and of half of them, become 48
    assert split(1 << 20, 2, False) == 4096  # 128 pairs of columns a program


def test_rows_are_kept_while_they_fit_the_cache() -> None:
    assert block_sizes.fits_persistent(384, GXU)
    assert block_sizes.fits_persistent(1 << 17, GXU)
    assert not block_sizes.fits_persistent((1 << 17) + 1, GXU)
    # The kernel's block for the row never passes the bound below which code generation drops masks.
    assert MAX_BLOCK["R0_"] >= 1 << 17


def test_limits_survive_the_generated_source() -> None:
    assert DeviceLimits.from_meta(eval(repr(GXU.to_meta()))) == GXU  # noqa: S307


@pytest.mark.parametrize(("rule", "expected"), [(48, True), (0, False)])
def test_a_device_without_a_rule_has_none(rule: int, expected: bool) -> None:
    assert dataclasses.replace(GXU, max_grid_size=rule).has_grid_rule is expected
