"""How long compiling takes beside what Triton does itself with the kernel: its frontend and its TTIR passes."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable
from typing import Any

import torch
from triton import knobs

from gxu.benchmarks.triton import indexing, reductions, streaming
from gxu.benchmarks.triton.row import Case, Row, Settings

GROUP = "compile"
BAR = 1 / 5
MIN_ROUNDS, ROUND_SECONDS = 3, 0.1
WARMUP_GRID = (1,)


def cases() -> list[Case]:
    rows = [Case("compile, median kernel", GROUP, functools.partial(_measure, "compile, median kernel", _kernels()))]
    for block in (128, 65536):
        name = f"compile, BLOCK={block}"
        rows.append(Case(name, GROUP, functools.partial(_measure, name, [_chain(block), _softmax(block)])))
    return rows


def _kernels() -> list[Callable[[], Any]]:
    """Kernels of the sizes that Inductor writes, with the blocks that it would choose."""
    f32, i64 = torch.float32, torch.int64
    return [
        _chain(1024),
        _softmax(1024),
        lambda: streaming.gelu_kernel.warmup(f32, f32, 1 << 20, BLOCK=1024, grid=WARMUP_GRID),
        lambda: streaming.bias_silu_kernel.warmup(f32, f32, f32, 1 << 20, 1024, BLOCK=1024, grid=WARMUP_GRID),
        lambda: streaming.add_transposed_kernel.warmup(
            f32, f32, f32, 1024, 1024, BLOCK_M=64, BLOCK_N=64, grid=WARMUP_GRID
        ),
        lambda: reductions.layer_norm_kernel.warmup(
            f32, f32, f32, f32, f32, f32, 1024, 1e-5, BLOCK=1024, grid=WARMUP_GRID
        ),
        lambda: reductions.sum_columns_kernel.warmup(f32, f32, 1024, 1024, BLOCK_M=32, BLOCK_N=64, grid=WARMUP_GRID),
        lambda: reductions.argmax_kernel.warmup(f32, i64, 1024, BLOCK=1024, grid=WARMUP_GRID),
        lambda: reductions.cross_entropy_kernel.warmup(f32, i64, f32, 32000, BLOCK=4096, grid=WARMUP_GRID),
        lambda: indexing.gather_rows_kernel.warmup(f32, i64, f32, 1024, BLOCK=1024, grid=WARMUP_GRID),
        lambda: indexing.permute_kernel.warmup(f32, f32, 1 << 20, 512, 12, WIDTH=32, BLOCK=1024, grid=WARMUP_GRID),
    ]


def _chain(block: int) -> Callable[[], Any]:
    f32 = torch.float32
    return lambda: streaming.chain_kernel.warmup(f32, f32, f32, 1 << 20, BLOCK=block, grid=WARMUP_GRID)


def _softmax(block: int) -> Callable[[], Any]:
    f32 = torch.float32
    return lambda: reductions.softmax_kernel.warmup(f32, f32, 1000, BLOCK=block, grid=WARMUP_GRID)


def _measure(name: str, kernels: list[Callable[[], Any]], settings: Settings) -> Row:
    """Medians over the kernels of each one's median time; the bound is Triton's own share of it."""
    kernels[0]()  # modules that the first compilation imports
    rounds = max(MIN_ROUNDS, int(settings.seconds / ROUND_SECONDS))
    times = [_compile_times(kernel, rounds) for kernel in kernels]
    whole = statistics.median(total for total, _ in times)
    triton = statistics.median(own for _, own in times)
    ratio = statistics.median(own / total for total, own in times)
    return Row(name, GROUP, whole, None, None, None, triton, "Triton's share", ratio, BAR)


def _compile_times(warmup: Callable[[], Any], rounds: int) -> tuple[float, float]:
    """Microseconds of one compilation from source to loadable image, and of Triton's part in it."""
    samples: list[tuple[float, float]] = []

    def listener(*, times: Any, **_: Any) -> None:
        stages = dict(times.lowering_stages)
        samples.append((float(times.total), float(times.ir_initialization + stages["ttir"])))

    with knobs.compilation.scope():
        knobs.compilation.always_compile = True
        knobs.compilation.listener = listener
        for _ in range(rounds):
            for kernel in _JITTED:
                kernel.device_caches.clear()
            warmup()
    return statistics.median(total for total, _ in samples), statistics.median(own for _, own in samples)


# Their own caches have to forget them, or they would be compiled once only.
_JITTED: list[Any] = [
    value
    for module in (streaming, reductions, indexing)
    for value in vars(module).values()
    if hasattr(value, "device_caches")
]
