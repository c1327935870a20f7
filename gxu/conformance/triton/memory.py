"""Loads and stores: masks and what stands behind them, modifiers, block pointers, descriptors, overlap, gathers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch

from gxu.conformance.case import Case
from gxu.conformance.triton.comparison import Launch
from gxu.conformance.triton.data import (
    FLOAT8,
    FLOATS,
    INTEGERS,
    generator,
    poison,
    random_bits,
    sample,
    select,
    torch_type,
)

_COPY = """@triton.jit
def kernel(x, keep, out, n, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    v = tl.load(x + i{load})
    tl.store(out + i, v{store})
"""
_MASKS = {
    "other": (", mask=i < n, other={other}", ", mask=i < n + 7"),
    "range": (", mask=(i >= 5) & (i < n), other={other}", ", mask=i < n"),
    "pattern": (", mask=(i % 3 != 1) & (i < n), other={other}", ", mask=i < n"),
    "tensor": (", mask=tl.load(keep + i, mask=i < n, other=0) != 0, other={other}", ", mask=i < n"),
    "tile other": (", mask=i < n - 9, other=(i % 2).to(x.dtype.element_ty)", ", mask=i < n"),
    "store pattern": (", mask=i < n, other={other}", ", mask=(i & 2 == 0) & (i < n)"),
}
_TILE = """@triton.jit
def kernel(x, out, rows, columns, M: tl.constexpr, N: tl.constexpr):
    r = tl.program_id(0) * M + tl.arange(0, M)[:, None]
    c = tl.program_id(1) * N + tl.arange(0, N)[None, :]
    m = (r < rows) & (c < columns)
    v = tl.load(x + {source}, mask=m, other=0)
    tl.store(out + {target}, v, mask=m)
"""
_LAYOUTS = {
    "rows": ("r * columns + c", "r * columns + c"),
    "transposed": ("r * columns + c", "c * rows + r"),
    "from columns": ("c * rows + r", "r * columns + c"),
    "reversed": ("r * columns + (columns - 1 - c)", "(rows - 1 - r) * columns + c"),
    "one row": ("c + r * 0", "r * columns + c"),
    "one column": ("r + c * 0", "r * columns + c"),
}
_BLOCK = """@triton.jit
def kernel(x, out, rows, columns, M: tl.constexpr, N: tl.constexpr):
    a = tl.make_block_ptr(x, (rows, columns), (columns, 1), (0, 0), (M, N), (1, 0))
    b = tl.make_block_ptr(out, (rows, columns), {strides}, (0, 0), (M, N), (1, 0))
    for _ in range(0, tl.cdiv(columns, N)):
        v = tl.load(a, boundary_check={check}{padding})
        tl.store(b, {value}, boundary_check=(0, 1))
        a = tl.advance(a, (0, N))
        b = tl.advance(b, (0, N))
"""
_DESCRIPTOR = """@triton.jit
def kernel(x, out, rows, columns, M: tl.constexpr, N: tl.constexpr):
    a = tl.make_tensor_descriptor(x, (rows, columns), (columns, 1), (M, N))
    b = tl.make_tensor_descriptor(out, (rows, columns), (columns, 1), (M, N))
    r = tl.program_id(0) * M
    for c in range(0, columns, N):
        b.store([r, c], a.load([r, c]))
"""
_REDUCE_DESCRIPTOR = """@triton.jit
def kernel(x, out, rows, columns, M: tl.constexpr, N: tl.constexpr):
    a = tl.make_tensor_descriptor(x, (rows, columns), (columns, 1), (M, N))
    b = tl.make_tensor_descriptor(out, (rows, columns), (columns, 1), (M, N))
    for c in range(0, columns, N):
        b.atomic_{name}([0, c], a.load([0, c]))
"""
_GATHER = """@triton.jit
def kernel(x, index, out, n, m, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    j = tl.load(index + i, mask=i < n, other=-1)
    v = tl.load(x + j, mask=(j >= 0) & (j < m), other=5)
    tl.store(out + i, v, mask=i < n)
"""
_SCATTER = """@triton.jit
def kernel(x, index, out, n, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    j = tl.load(index + i, mask=i < n, other=0)
    tl.store(out + j, tl.load(x + i, mask=i < n, other=0), mask=i < n)
"""
_SHIFT = """@triton.jit
def kernel(x, n, B: tl.constexpr):
    i = tl.arange(0, B)
    for step in range(3):
        v = tl.load(x + i + 1, mask=i < n - 1, other=9)
        tl.store(x + i, v, mask=i < n)
"""
_TYPES = ("bool", *INTEGERS, *FLOATS, *FLOAT8)
_SIZES = (1, 16, 61, 400)


def cases() -> Iterator[Case]:
    for dtype in _TYPES:
        for mask in _MASKS if dtype not in FLOAT8 else ("store pattern",):
            for count in _SIZES:
                yield Case("load", dtype, f"{mask} n={count}", partial(_copy, dtype, mask, count))
        for layout in _LAYOUTS if dtype not in FLOAT8 else ():
            for shape in ((5, 37), (16, 64)):
                variant = f"{layout} {shape[0]}x{shape[1]}"
                yield Case("load_tile", dtype, variant, partial(_tile, dtype, layout, shape))
    for cache in (".ca", ".cg", ".cv"):
        for eviction in ("evict_first", "evict_last"):
            for volatile in (False, True):
                how = f', cache_modifier="{cache}", eviction_policy="{eviction}", volatile={volatile}'
                for dtype in ("int32", "float32", "bfloat16"):
                    yield Case("load_modifiers", dtype, how[2:], partial(_modified, dtype, how, ""))
    for cache in (".wb", ".cg", ".cs", ".wt"):
        how = f', cache_modifier="{cache}", eviction_policy="evict_first"'
        yield Case("store_modifiers", "float32", how[2:], partial(_modified, "float32", "", how))
    for dtype in ("int8", "int32", "int64", "float16", "bfloat16", *("float32", "float64")):
        for shape in ((5, 37), (8, 64), (1, 1)):
            for padding in ("", "zero", "nan") if dtype in FLOATS else ("", "zero"):
                variant = f"{shape[0]}x{shape[1]} padding={padding or 'none'}"
                yield Case("block_pointer", dtype, variant, partial(_block, dtype, shape, padding, False))
            variant = f"{shape[0]}x{shape[1]} transposed"
            yield Case("block_pointer", dtype, variant, partial(_block, dtype, shape, "zero", True))
        for shape in ((7, 48), (16, 64), (3, 16)):
            variant = f"{shape[0]}x{shape[1]}"
            yield Case("descriptor", dtype, variant, partial(_descriptor, dtype, shape))
        for count in (61, 300):
            yield Case("load_gather", dtype, f"n={count}", partial(_gather, dtype, count))
            yield Case("store_scatter", dtype, f"n={count}", partial(_scatter, dtype, count))
            yield Case("store_overlapping", dtype, f"n={count}", partial(_shift, dtype, count))
    for name in ("add", "min", "max", "and", "or", "xor"):
        for dtype in ("int32", "uint32"):
            yield Case("descriptor_atomic", dtype, name, partial(_descriptor_atomic, dtype, name))


def _copy(dtype: str, mask: str, count: int) -> None:
    """Compared bit by bit. Without `other` masked elements are undefined, and must not be stored."""
    rng = generator("copy", dtype, mask, count)
    load, store = _MASKS[mask]
    other = "1" if dtype != "bool" else "True"
    if dtype in FLOAT8:
        load = ", mask=i < n"
    kind = torch_type(dtype)
    x = random_bits(count + 8, kind, rng)
    keep = torch.rand(count, generator=rng) < 0.5
    # At count + 8 the buffer ends: one block takes all of it.
    out = poison((count + 8,), kind)
    args = [x, keep, out, count]
    text = _COPY.format(load=load.format(other=other), store=store)
    block = 64 if count <= 61 else 128
    Launch(text, (-(-count // block),), args, {"B": block}, _load_wanted(mask, x, keep, out, count, block), 0).check()


def _load_wanted(
    mask: str, x: torch.Tensor, keep: torch.Tensor, out: torch.Tensor, count: int, block: int
) -> dict[int, torch.Tensor]:
    wide = torch.float64 if x.is_floating_point() else x.dtype
    values, wanted = x.to(wide), out.to(wide)
    i = torch.arange(len(x))
    here = torch.nn.functional.pad(keep, (0, len(x) - count))
    loaded = {
        "range": (i >= 5) & (i < count),
        "pattern": (i % 3 != 1) & (i < count),
        "tensor": here,
        "tile other": i < count - 9,
    }.get(mask, i < count)
    other = i % 2 if mask == "tile other" else torch.ones_like(i)
    stored = i < -(-count // block) * block
    stored &= i < count + 7 if mask == "other" else i < count
    if mask == "store pattern":
        stored &= i & 2 == 0
    if x.dtype.itemsize == 1 and x.is_floating_point():
        stored &= loaded
    return {2: select(stored, select(loaded, values, other.to(wide)), wanted)}


def _tile(dtype: str, layout: str, shape: tuple[int, int]) -> None:
    rows, columns = shape
    source, target = _LAYOUTS[layout]
    x = random_bits(rows * columns, torch_type(dtype), generator("tile", dtype, layout, shape))
    grid = x.reshape(rows, columns)
    wanted = {
        "transposed": grid.T,
        "from columns": x.reshape(columns, rows).T,
        "reversed": torch.from_numpy(np.flip(grid.numpy()).copy()) if grid.dtype != torch.bfloat16 else grid.flip(0, 1),
        "one row": x[:columns].expand(rows, columns),
        "one column": x[:rows, None].expand(rows, columns),
    }.get(layout, grid)
    args = [x, poison((rows * columns,), x.dtype), rows, columns]
    text = _TILE.format(source=source, target=target)
    meta = {"M": 4, "N": 32}
    wide = wanted.double() if x.is_floating_point() else wanted
    Launch(text, (-(-rows // 4), -(-columns // 32)), args, meta, {1: wide.reshape(-1)}, 0).check()


def _modified(dtype: str, load: str, store: str) -> None:
    x = random_bits(100, torch_type(dtype), generator("modified", dtype, load, store))
    text = _COPY.format(load=", mask=i < n" + load, store=", mask=i < n" + store)
    out = poison((100,), x.dtype)
    args = [x, torch.ones(1), out, 91]
    wanted = torch.cat([x[:91], out[91:]])
    Launch(text, (2,), args, {"B": 64}, {2: wanted.double() if x.is_floating_point() else wanted}, 0).check()


def _block(dtype: str, shape: tuple[int, int], padding: str, transposed: bool) -> None:
    """A copy by block pointers: what padding gives is outside of the result, and must not reach it."""
    rows, columns = shape
    x = random_bits(rows * columns, torch_type(dtype), generator("block", dtype, shape)).reshape(rows, columns)
    text = _BLOCK.format(
        strides="(1, rows)" if transposed else "(columns, 1)",
        check="(0, 1)",
        padding=f', padding_option="{padding}"' if padding else "",
        value="v",
    )
    wanted = x.T if transposed else x
    args = [x, poison((rows * columns,), x.dtype), rows, columns]
    wide = wanted.reshape(-1).double() if x.is_floating_point() else wanted.reshape(-1)
    Launch(text, (1,), args, {"M": 8, "N": 16}, {1: wide}, 0).check()


def _descriptor(dtype: str, shape: tuple[int, int]) -> None:
    rows, columns = shape
    x = random_bits(rows * columns, torch_type(dtype), generator("descriptor", dtype, shape)).reshape(rows, columns)
    args = [x, poison((rows, columns), x.dtype), rows, columns]
    wide = x.double() if x.is_floating_point() else x
    # The interpreter asks for buffers that begin at 16 bytes, which torch gives.
    Launch(_DESCRIPTOR, (-(-rows // 4),), args, {"M": 4, "N": 32}, {1: wide}, 0).check()


def _descriptor_atomic(dtype: str, name: str) -> None:
    rng = generator("descriptor atomic", dtype, name)
    x, out = (random_bits(4 * 48, torch_type(dtype), rng).reshape(4, 48) for _ in range(2))
    numpy = {"add": "add", "min": "minimum", "max": "maximum", "and": "bitwise_and", "or": "bitwise_or"}
    with np.errstate(all="ignore"):
        wanted = getattr(np, numpy.get(name, "bitwise_xor"))(x.numpy(), out.numpy())
    text = _REDUCE_DESCRIPTOR.format(name=name)
    Launch(text, (1,), [x, out, 4, 48], {"M": 4, "N": 32}, {1: torch.from_numpy(wanted)}, 0).check()


def _gather(dtype: str, count: int) -> None:
    rng = generator("gather", dtype, count)
    x = random_bits(50, torch_type(dtype), rng)
    index = torch.randint(-5, 55, (count,), generator=rng, dtype=torch.int32)
    inside = (index >= 0) & (index < 50)
    wide = x.double() if x.is_floating_point() else x
    wanted = select(inside, wide[index.clamp(0, 49).long()], torch.tensor(5, dtype=wide.dtype))
    args = [x, index, poison((count,), x.dtype), count, 50]
    Launch(_GATHER, (-(-count // 64),), args, {"B": 64}, {2: wanted}, 0).check()


def _scatter(dtype: str, count: int) -> None:
    rng = generator("scatter", dtype, count)
    x = random_bits(count, torch_type(dtype), rng)
    index = torch.randperm(count, generator=rng).long()
    wanted = (x.double() if x.is_floating_point() else x).clone()
    wanted[index] = x.double() if x.is_floating_point() else x
    args = [x, index, poison((count,), x.dtype), count]
    Launch(_SCATTER, (-(-count // 64),), args, {"B": 64}, {2: wanted}, 0).check()


def _shift(dtype: str, count: int) -> None:
    """Stores to what later lanes load: the tile is loaded whole before anything is stored."""
    x = sample(count, torch_type(dtype), generator("shift", dtype, count), "near")
    wide = x.double() if x.is_floating_point() else x
    wanted = torch.cat([wide[3:], torch.full((min(3, count),), 9).to(wide.dtype)])
    Launch(_SHIFT, (1,), [x, count], {"B": 64 if count <= 64 else 512}, {0: wanted}, 0).check()
