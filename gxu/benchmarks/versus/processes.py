"""Pairs of measuring processes, one of gxu and one of another device, and the order in which they work.

They prepare (start, make operands, compile, check) side by side, and are measured one at a time, while the others wait.
"""

from __future__ import annotations

import json
import os
import queue
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from gxu._name import DEVICE_TYPE

#: So many times each is measured, in the order ABBA ABBA: what changes meanwhile (clocks, other work) meets both.
TURNS = 4

Reply = dict[str, Any]


class WorkerError(Exception):
    """Something has no figures: its process gave no reply or a failure, its numbers are wrong, or no time was left."""


@dataclass(frozen=True)
class Item:
    """One thing to measure: `request` is a task of `worker.TASKS` and its arguments."""

    name: str
    request: Mapping[str, Any]


@dataclass(frozen=True)
class Effort:
    """Seconds of calls for a figure, pairs of processes that prepare at a time, and the seconds for everything."""

    seconds: float
    jobs: int = 1
    budget: float = float("inf")

    @property
    def threads(self) -> int:
        """How many each process has of the cores while all of them prepare."""
        return max(1, _cores() // (2 * self.jobs))


@dataclass(frozen=True)
class Deadline:
    """When (`time.monotonic`) what is not measured has to be given up, and of how many seconds that is the end."""

    end: float
    budget: float

    def left(self) -> float:
        return max(0.0, self.end - time.monotonic())


class Worker:
    """A measuring process for `device`; `what` it is working on is named in errors."""

    def __init__(self, device: str, folder: Path, jobs: int) -> None:
        self.device = device
        self.what = "start"
        command = [sys.executable, "-W", "ignore", "-m", "gxu.benchmarks.versus.worker", device]
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True,
            env=_environment(device, folder, jobs),
        )  # fmt: skip
        assert self._process.stdout is not None
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()

    def _read(self, stdout: TextIO) -> None:
        for line in stdout:
            self._lines.put(line)
        self._lines.put(None)

    def send(self, **request: Any) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended, which its reply will say
            print(json.dumps(request), file=self._process.stdin, flush=True)

    def receive(self, deadline: Deadline) -> Reply:
        try:
            line = self._lines.get(timeout=min(deadline.left(), threading.TIMEOUT_MAX))
        except queue.Empty:
            raise WorkerError(f"{self.what} on {self.device}: not finished within {deadline.budget:.0f} s") from None
        if line is None:
            status = self._process.wait()
            self._errors.seek(0)
            last = (self._errors.read().strip().splitlines() or ["no message"])[-1]
            raise WorkerError(f"{self.what} on {self.device}: the measuring process ended with status {status}: {last}")
        reply: Reply = json.loads(line)
        if "failure" in reply:
            raise WorkerError(f"{self.what} on {self.device}: {reply['failure']}")
        return reply

    def close(self) -> None:
        self._process.kill()  # it has nothing to finish
        self._process.wait()
        self._reader.join()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()


def _environment(device: str, folder: Path, jobs: int) -> dict[str, str]:
    environment = {**os.environ, "GXU_BENCH_DEVICE": device, "HF_HUB_OFFLINE": "1"}
    if device == DEVICE_TYPE:
        environment["TRITON_DEFAULT_BACKEND"] = "gxu"
    else:
        # The other device as it is without gxu.
        environment["GXU_REGISTER"] = "0"
        environment.pop("TRITON_DEFAULT_BACKEND", None)
    environment["TORCHINDUCTOR_CACHE_DIR"] = str(folder / device / "inductor")
    environment["TRITON_CACHE_DIR"] = str(folder / device / "triton")
    if jobs > 1:
        environment.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(max(1, _cores() // jobs)))
    return environment


def _cores() -> int:
    return len(os.sched_getaffinity(0))


class Pair:
    """A process of gxu's and one of the other device's, which do the same."""

    def __init__(self, other: str, folder: Path, jobs: int) -> None:
        self._workers = (Worker(DEVICE_TYPE, folder, jobs), Worker(other, folder, jobs))

    def prepare(self, item: Item) -> None:
        for worker in self._workers:
            worker.what = item.name
            worker.send(**item.request)

    def wait(self, deadline: Deadline) -> None:
        for worker in self._workers:
            worker.receive(deadline)

    def measure(self, seconds: float, deadline: Deadline) -> tuple[Reply, Reply]:
        """What each says, with `us` the median of all its calls."""
        replies: dict[Worker, list[Reply]] = {worker: [] for worker in self._workers}
        gxu, other = self._workers
        for worker in (gxu, other, other, gxu) * (TURNS // 2):
            worker.send(seconds=seconds / TURNS)
            replies[worker].append(worker.receive(deadline))
        return _joined(replies[gxu]), _joined(replies[other])

    def close(self) -> None:
        for worker in self._workers:
            worker.close()


def _joined(replies: Sequence[Reply]) -> Reply:
    samples = [sample for reply in replies for sample in reply.get("samples", ())]
    return {**replies[-1], "us": statistics.median(samples)} if samples else replies[-1]


def measured(
    other: str, items: Sequence[Item], effort: Effort, *, fresh: bool = False
) -> Iterator[tuple[Item, tuple[Reply, Reply] | WorkerError]]:
    """What gxu's process and the other's say of each of `items`, in their order.

    As many as `effort.jobs` are prepared at a time. A pair of processes goes on to another item unless one of them
    failed, or `fresh` asks for new processes, as figures of memory do.
    """
    deadline = Deadline(time.monotonic() + effort.budget, effort.budget)
    pairs: dict[int, Pair] = {}
    with ExitStack() as stack:
        # Compile workers of a process that was ended may still write there for a moment.
        caches = tempfile.TemporaryDirectory(prefix="gxu-bench-", ignore_cleanup_errors=True)
        folder = Path(stack.enter_context(caches))
        stack.callback(_close, pairs)
        for first in range(0, len(items), effort.jobs):
            batch = items[first : first + effort.jobs]
            if not deadline.left():
                sentence = f"not run, the budget of {effort.budget:.0f} s was spent"
                yield from ((item, WorkerError(f"{item.name}: {sentence}")) for item in batch)
                continue
            for slot, item in enumerate(batch):
                if slot not in pairs:
                    pairs[slot] = Pair(other, folder, effort.jobs)
                pairs[slot].prepare(item)
            failed = [_failure(pairs[slot], deadline) for slot in range(len(batch))]
            for slot, item in enumerate(batch):
                outcome: tuple[Reply, Reply] | WorkerError | None = failed[slot]
                if outcome is None:
                    try:
                        outcome = pairs[slot].measure(effort.seconds, deadline)
                    except WorkerError as error:
                        outcome = error
                if fresh or isinstance(outcome, WorkerError):
                    pairs.pop(slot).close()
                yield item, outcome


def _close(pairs: Mapping[int, Pair]) -> None:
    for pair in pairs.values():
        pair.close()


def _failure(pair: Pair, deadline: Deadline) -> WorkerError | None:
    try:
        pair.wait(deadline)
    except WorkerError as error:
        return error
    return None
