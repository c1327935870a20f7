"""Types, and random inputs of all kinds that they have."""

from __future__ import annotations

import zlib

import torch

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
SIGNED = INTEGERS[:4]
FLOATS = ("float16", "bfloat16", "float32", "float64")
WIDE = ("float32", "float64")
FLOAT8 = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz")
#: The names in triton.language of types whose names differ from torch's.
LANGUAGE = {
    "bool": "int1",
    "float8_e4m3fn": "float8e4nv",
    "float8_e5m2": "float8e5",
    "float8_e4m3fnuz": "float8e4b8",
    "float8_e5m2fnuz": "float8e5b16",
}
#: What outputs hold before a kernel runs, so that what it did not write is seen.
POISON = 77


def torch_type(name: str) -> torch.dtype:
    found = getattr(torch, name)
    assert isinstance(found, torch.dtype)
    return found


def language_type(name: str) -> str:
    return f"tl.{LANGUAGE.get(name, name)}"


def generator(*key: object) -> torch.Generator:
    """The same numbers for the same key, in every process."""
    return torch.Generator().manual_seed(zlib.crc32(repr(key).encode()))


def random_bits(count: int, dtype: torch.dtype, rng: torch.Generator) -> torch.Tensor:
    """Numbers of every kind that `dtype` has, uniform over its bit patterns."""
    if dtype == torch.bool:
        return torch.randint(0, 2, (count,), generator=rng).bool()
    return torch.randint(0, 256, (count * dtype.itemsize,), dtype=torch.uint8, generator=rng).view(dtype)


def poison(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    return torch.full(shape, POISON).to(dtype)


def select(condition: torch.Tensor, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """`torch.where`, which torch 2.11 has not for unsigned integers of more than 8 bits."""
    bits = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}.get(x.dtype)
    if bits is None:
        return torch.where(condition, x, other)
    assert other.dtype == x.dtype
    return torch.where(condition, x.view(bits), other.view(bits)).view(x.dtype)


def sample(count: int, dtype: torch.dtype, rng: torch.Generator, domain: str = "all") -> torch.Tensor:
    """Random numbers: `all` has special ones and every magnitude, `near` is normal, `positive` within (0.1, 4), `unit`
    within (-1, 1), `small` integers within -8..8, `shift` within the number of bits, `nonzero` all but 0 (and -1)."""
    if domain == "small":
        low = 0 if not dtype.is_signed else -8
        return torch.randint(low, 9, (count,), generator=rng).to(dtype)
    if not dtype.is_floating_point:
        bits = random_bits(count, dtype, rng)
        if dtype == torch.bool:
            return bits
        if domain == "shift":
            return torch.randint(0, dtype.itemsize * 8, (count,), generator=rng).to(dtype)
        near = torch.randint(0 if not dtype.is_signed else -9, 10, (count,), generator=rng).to(dtype)
        chosen = torch.where(torch.rand(count, generator=rng) < 0.5, near.to(torch.int64), bits.to(torch.int64))
        if domain == "nonzero":
            chosen[(chosen == 0) | ((chosen == -1) & dtype.is_signed)] = 3
        return chosen.to(dtype)
    x = torch.randn(count, generator=rng, dtype=torch.float64)
    if domain == "positive":
        x = torch.rand(count, generator=rng, dtype=torch.float64) * 3.9 + 0.1
    elif domain == "unit":
        x = torch.rand(count, generator=rng, dtype=torch.float64) * 1.98 - 0.99
    elif domain == "all":
        x *= torch.exp2(torch.randint(-6, 7, (count,), generator=rng).double())
    result = x.to(torch.float32).to(dtype) if dtype.itemsize == 1 else x.to(dtype)
    if domain == "all" and dtype.itemsize > 1:
        info = torch.finfo(dtype)
        special = [float("nan"), float("inf"), -float("inf"), 0.0, -0.0, info.tiny, -info.max, info.max, 0.5, -1.0]
        at = torch.randint(0, max(count, 1), (min(len(special), count // 4),), generator=rng)
        result[at] = torch.tensor(special[: len(at)], dtype=torch.float64).to(dtype)
    return result
