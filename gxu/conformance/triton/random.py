"""Philox: Triton's random numbers, bit for bit against an implementation in numpy."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch

from gxu.conformance.case import Case
from gxu.conformance.triton.comparison import Launch

_RANDOM = """@triton.jit
def kernel(out, seed, n, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(out + i, {expression}, mask=i < n)
"""
#: The multipliers and key increments of Philox4x32 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3").
_A, _B = 0xD2511F53, 0xCD9E8D57
_KEY_A, _KEY_B = 0x9E3779B9, 0xBB67AE85
_WORD = np.uint64(0xFFFFFFFF)


def philox(seed: int, offset: np.ndarray, rounds: int) -> list[np.ndarray]:
    """The four words (uint32) of each counter (offset, 0, 0, 0) under the key of 64 bits `seed`."""
    c = [offset.astype(np.uint64) & _WORD] + [np.zeros(len(offset), np.uint64) for _ in range(3)]
    low, high = seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF
    for _ in range(rounds):
        a, b = c[0] * np.uint64(_A), c[2] * np.uint64(_B)
        shift = np.uint64(32)
        c = [(b >> shift) ^ c[1] ^ np.uint64(low), b & _WORD, (a >> shift) ^ c[3] ^ np.uint64(high), a & _WORD]
        low, high = (low + _KEY_A) & 0xFFFFFFFF, (high + _KEY_B) & 0xFFFFFFFF
    return [word.astype(np.uint32) for word in c]


def uniform(word: np.ndarray) -> np.ndarray:
    """Triton's map of a word to [0, 1): the magnitude of the signed word, scaled by the float32 below 2**-31."""
    signed = word.view(np.int32)
    magnitude = np.where(signed < 0, -signed - 1, signed).astype(np.float32)
    return magnitude * np.float32(4.6566127342e-10)


def normal(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The first of a pair by Box and Muller, in float64."""
    u = np.maximum(1e-7, uniform(first).astype(np.float64))
    return np.sqrt(-2 * np.log(u)) * np.cos(6.283185307179586 * uniform(second).astype(np.float64))


def cases() -> Iterator[Case]:
    for seed in (0, 1, 42, 2**31 - 1, 2**40 + 17):
        for count in (5, 64, 300):
            variant = f"seed={seed} n={count}"
            for name in ("randint", "rand", "randn"):
                yield Case(name, "float32", variant, partial(_random, name, seed, count))
            for word in range(4):
                yield Case("randint4x", "uint32", f"{variant} word {word}", partial(_words, seed, count, word))
            yield Case("randint", "uint32", f"{variant} 7 rounds", partial(_random, "randint", seed, count, 7))


def _random(name: str, seed: int, count: int, rounds: int = 10) -> None:
    words = philox(seed, np.arange(count), rounds)
    wanted = {"randint": words[0], "rand": uniform(words[0])}
    expected = torch.from_numpy(normal(*words[:2]) if name == "randn" else wanted[name])
    kind = torch.uint32 if name == "randint" else torch.float32
    text = _RANDOM.format(expression=f"tl.{name}(seed, i{'' if rounds == 10 else f', n_rounds={rounds}'})")
    args = [torch.full((count,), 7).to(kind), seed, count]
    atol = 1e-5 if name == "randn" else 0.0
    Launch(text, (-(-count // 64),), args, {"B": 64}, {0: expected}, 0.0, atol, 0.0).check()


def _words(seed: int, count: int, word: int) -> None:
    expected = torch.from_numpy(philox(seed, np.arange(count), 10)[word])
    text = _RANDOM.format(expression=f"tl.randint4x(seed, i)[{word}]")
    args = [torch.full((count,), 7).to(torch.uint32), seed, count]
    Launch(text, (-(-count // 64),), args, {"B": 64}, {0: expected}, 0, interpreter_ulp=0).check()
