"""What gxu's choice of blocks buys: against torch's, made for graphics processors, and against the best there is.

Each workload is compiled by Inductor for gxu three times: with `gxu.inductor.block_sizes`, with torch's own heuristics,
and with the fastest blocks that trying all of them finds. The three are timed in turns.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

from gxu._name import DEVICE_TYPE
from gxu.inductor.device import device_module

#: The least that the best blocks' time over ours should be.
BAR = 0.8

#: Blocks that are tried along a dimension, in steps of four from one to this.
MAX_SEARCHED = {"XBLOCK": 1 << 18, "YBLOCK": 1 << 14, "ZBLOCK": 1 << 10, "R0_BLOCK": 1 << 15, "R1_BLOCK": 1 << 12}
#: Elements of a tile, at least and at most: below, a program does too little, and above, Triton refuses.
TILE_ELEMENTS = (256, 1 << 20)

#: Calls in a turn last about so long.
TURN_SECONDS = 0.02


@dataclass(frozen=True)
class Workload:
    """A function and the shapes of its fp32 operands."""

    name: str
    function: Callable[..., Tensor]
    shapes: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Row:
    """Microseconds a call with gxu's blocks, torch's and the best; `against_torch` and `ratio` are the latter two over
    the first. `tried` counts the candidates of the search."""

    name: str
    gxu_us: float
    torch_us: float
    best_us: float
    against_torch: float
    ratio: float
    tried: int
    blocks: str
    best_blocks: str
    bar: float = BAR


WORKLOADS = (
    Workload("pointwise, 4 K", lambda x, y: torch.sigmoid(x) * y, ((4096,), (4096,))),
    Workload("pointwise, 1 M", lambda x, y: torch.sigmoid(x) * y, ((1 << 20,), (1 << 20,))),
    Workload("sum with a transpose, 1024 x 1024", lambda x, y: x + y.mT, ((1024, 1024), (1024, 1024))),
    Workload("softmax, 512 x 768", lambda x: torch.softmax(x, -1), ((512, 768),)),
    Workload("layer norm, 256 x 1024", lambda x: torch.layer_norm(x, (1024,)), ((256, 1024),)),
    Workload("sums of long rows, 8 x 262144", lambda x: x.sum(-1), ((8, 1 << 18),)),
    Workload("sums of columns, 4096 x 256", lambda x: x.sum(0), ((4096, 256),)),
    Workload("maximum of everything, 4 M", lambda x: x.amax(), ((1 << 22,),)),
)


class WrongResultError(RuntimeError):
    """A compiled workload computed something else than torch on the CPU."""


def candidates(config: Any) -> Iterator[Any]:
    """Triton configurations like `config` with every combination of blocks."""
    names = [name for name in config.kwargs if name in MAX_SEARCHED]
    sizes = [[1 << e for e in range(0, MAX_SEARCHED[name].bit_length(), 2)] for name in names]
    for blocks in itertools.product(*sizes):
        elements = 1
        for block in blocks:
            elements *= block
        # A persistent reduction's rows are not among its blocks: one row alone may be large enough.
        if elements > TILE_ELEMENTS[1] or (elements < TILE_ELEMENTS[0] and "R0_BLOCK" in names):
            continue
        candidate = deepcopy(config)
        candidate.kwargs.update(zip(names, blocks, strict=True))
        yield candidate


@contextmanager
def exhaustive_search() -> Iterator[list[int]]:
    """In place of coordinate descent, every kernel tries all candidates. Yields a list of how many each tried."""
    from gxu.inductor.autotuner import GXUCoordescTuner

    tried: list[int] = []

    def autotune(self: GXUCoordescTuner, measure: Callable[[Any], float], start: Any, _: float | None = None) -> Any:
        times = {}
        for candidate in (start, *candidates(start)):
            if not any(self.value_too_large(name, size) for name, size in candidate.kwargs.items()):
                times[candidate] = measure(candidate)
        tried.append(len(times))
        return min(times, key=times.__getitem__)

    GXUCoordescTuner.autotune = autotune
    try:
        yield tried
    finally:
        del GXUCoordescTuner.autotune


@contextmanager
def _launched_blocks() -> Iterator[list[str]]:
    """Yields a list that gets the blocks of every kernel that is launched for the first time, as text."""
    from gxu.inductor.autotuner import GXUCachingAutotuner

    original = GXUCachingAutotuner._build_fast_launcher
    launched: list[str] = []

    def build(self: GXUCachingAutotuner, launcher: Any) -> Any:
        blocks = launcher.config.kwargs.items()
        launched.append(" ".join(f"{name.replace('BLOCK', '').rstrip('_')}={size}" for name, size in blocks))
        return original(self, launcher)

    GXUCachingAutotuner._build_fast_launcher = build  # type: ignore[method-assign]
    try:
        yield launched
    finally:
        GXUCachingAutotuner._build_fast_launcher = original  # type: ignore[method-assign]


def _copy(function: Callable[..., Tensor]) -> FunctionType:
    """The function with code of its own: Dynamo keeps what it compiled by code object, and up to eight of each.

    Code in gxu's files would be called from one function of Dynamo's, which all copies would share.
    """
    return FunctionType(function.__code__.replace(co_filename="<workload>"), function.__globals__)


def _compile(
    workload: Workload, operands: Sequence[Tensor], expected: Tensor, **options: Any
) -> tuple[Callable[[], Tensor], str]:
    """The compiled workload, called once, and its kernels' blocks."""
    from torch._inductor import config as inductor_config

    function = torch.compile(_copy(workload.function), fullgraph=True, dynamic=False)
    with inductor_config.patch(force_disable_caches=True, **options), _launched_blocks() as blocks:
        result = function(*operands)
        function(*operands)
    if not torch.allclose(result.cpu().double(), expected, rtol=1e-3, atol=1e-3):
        raise WrongResultError(
            f"{workload.name} with {options or 'gxu blocks'}: numbers differ from torch's on the CPU"
        )
    return lambda: function(*operands), "; ".join(blocks)


def _interleaved(functions: Sequence[Callable[[], Tensor]], seconds: float) -> list[float]:
    """Median microseconds a call of each function, which take turns."""
    calls = []
    for function in functions:
        function()
        device_module().synchronize()
        start = time.perf_counter()
        function()
        device_module().synchronize()
        calls.append(max(1, round(TURN_SECONDS / max(time.perf_counter() - start, 1e-6))))
    samples: list[list[float]] = [[] for _ in functions]
    deadline = time.perf_counter() + seconds * len(functions)
    while time.perf_counter() < deadline or len(samples[0]) < 3:
        for function, count, taken in zip(functions, calls, samples, strict=True):
            start = time.perf_counter()
            for _ in range(count):
                function()
            device_module().synchronize()
            taken.append((time.perf_counter() - start) / count * 1e6)
    return [statistics.median(taken) for taken in samples]


def measure(workload: Workload, seconds: float) -> Row:
    """Compiles and times a workload; `seconds` for each of the three. WrongResultError if one is wrong."""
    from gxu.inductor import config

    generator = torch.Generator().manual_seed(0)
    host = [torch.randn(shape, generator=generator) for shape in workload.shapes]
    expected = workload.function(*(t.double() for t in host))
    operands = [t.to(DEVICE_TYPE) for t in host]
    ours, blocks = _compile(workload, operands, expected)
    with config.patch(use_grid_rule=False):
        torchs, _ = _compile(workload, operands, expected)
    with exhaustive_search() as tried:
        best, best_blocks = _compile(workload, operands, expected, coordinate_descent_tuning=True)
    gxu_us, torch_us, best_us = _interleaved((ours, torchs, best), seconds)
    return Row(
        workload.name,
        gxu_us,
        torch_us,
        best_us,
        torch_us / gxu_us,
        best_us / gxu_us,
        sum(tried),
        blocks,
        best_blocks,
    )
