"""What one measurement says, and how a kernel is put beside what it is compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress


@dataclass(frozen=True)
class Row:
    """Microseconds of one call of each variant (None: not applicable), and how the kernel stands to its bar.

    `gxu_us` is what the caller waits for, from the call in Python to the results; `device_us` is the kernels' part of
    it, between two events on the stream, as `triton.testing.do_bench` takes it. `ratio` is the time of what the bar is
    about, named by `against`, over `gxu_us`: higher is better, and the bar is met from `bar` on.
    """

    name: str
    group: str
    gxu_us: float
    device_us: float | None
    eager_us: float | None
    inductor_us: float | None
    bound_us: float | None
    against: str
    ratio: float
    bar: float

    @property
    def met(self) -> bool:
        return self.ratio >= self.bar


@dataclass(frozen=True)
class Settings:
    """How long each row is measured, in seconds, and where progress is shown."""

    seconds: float
    progress: Progress


@dataclass(frozen=True)
class Case:
    """One row of the benchmark, not yet measured. `make` is for rows of one kernel: what `measure` measures."""

    name: str
    group: str
    measure: Callable[[Settings], Row]
    make: Callable[[], Work] | None = None


class WrongResultError(Exception):
    """A kernel's numbers are not torch's: it gets no time."""


@dataclass(frozen=True)
class Work:
    """One kernel with its operands in place.

    `kernel` enqueues the kernel on the current stream of gxu and returns its results, `eager` computes the same by
    torch on the CPU. `compiled` is the function that Inductor's C++ backend compiles, with its CPU operands; None
    where Inductor calls the same library as eager. Results are compared with `rtol` and `atol` before anything is
    timed. `moved_bytes` is what has to be read and written, for kernels bound by memory.
    """

    kernel: Callable[[], Any]
    eager: Callable[[], Any]
    compiled: tuple[Callable[..., Any], tuple[Any, ...]] | None = None
    moved_bytes: int | None = None
    rtol: float = 1e-4
    atol: float = 1e-4


def median_us(calls: Mapping[str, Callable[[], object]], settings: Settings) -> dict[str, float]:
    """The median time of one call of each, in microseconds; they take turns on the same cores."""
    from gxu.cli.measure import median_latencies

    return {name: ms * 1e3 for name, ms in median_latencies(calls, settings.seconds, settings.progress).items()}
