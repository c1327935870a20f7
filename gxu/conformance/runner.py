"""Executes the cases of a suite in worker processes: one that dies or hangs costs its case, and not the run."""

from __future__ import annotations

import itertools
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from gxu.conformance.case import Case, Outcome, Status
from gxu.conformance.worker import serve

#: Starting a worker (imports, listing the cases) may take this long, in seconds.
START_TIMEOUT = 600.0


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    pending: list[int] = field(default_factory=list)
    current: int | None = None
    deadline: float = 0.0


class Runner:
    """`run()` executes `numbers` of `cases`, which `suite` (a module's name) also lists in each worker.

    `jobs` processes with one thread each; a case that takes more than `timeout` seconds fails.
    """

    def __init__(self, suite: str, cases: Sequence[Case], numbers: Sequence[int], jobs: int, timeout: float) -> None:
        self.suite, self.cases, self.timeout = suite, cases, timeout
        groups = itertools.groupby(numbers, key=lambda number: cases[number].group)
        self.chunks = [list(group) for _, group in groups]
        self.jobs = max(1, min(jobs, len(self.chunks)))
        self.context = multiprocessing.get_context("spawn")
        self.outcomes: dict[int, Outcome] = {}

    def run(self, report: Callable[[Outcome], None]) -> list[Outcome]:
        """The outcomes in the order of the cases; `report` hears of each as it is known."""
        self.report = report
        self.chunks.reverse()
        if not self.chunks:
            return self._sorted()
        with tempfile.TemporaryDirectory(prefix="gxu-conformance-") as folder:
            self.folder = folder
            workers = [self._start() for _ in range(self.jobs)]
            try:
                while workers:
                    workers = self._step(workers)
            finally:
                for worker in workers:
                    worker.process.kill()
                    worker.process.join()
        return self._sorted()

    def _sorted(self) -> list[Outcome]:
        return [self.outcomes[number] for number in sorted(self.outcomes)]

    def _start(self) -> _Worker:
        ours, theirs = self.context.Pipe()
        process = self.context.Process(target=serve, args=(self.suite, self.folder, 1, theirs), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours, deadline=time.monotonic() + START_TIMEOUT)

    def _step(self, workers: list[_Worker]) -> list[_Worker]:
        """Waits for news from any worker, and takes it. Returns the workers that go on."""
        left = max(0.0, min(worker.deadline for worker in workers) - time.monotonic())
        ready = wait([worker.connection for worker in workers], left)
        going = []
        for worker in workers:
            if worker.connection in ready:
                going += self._hear(worker)
            elif time.monotonic() > worker.deadline:
                going += self._lost(worker, f"took more than {self.timeout:g} s")
            else:
                going.append(worker)
        return going

    def _hear(self, worker: _Worker) -> list[_Worker]:
        try:
            message = worker.connection.recv()
        except (EOFError, OSError):
            worker.process.join()
            return self._lost(worker, f"ended the worker process (exit status {worker.process.exitcode})")
        worker.deadline = time.monotonic() + self.timeout
        if message[0] == "start":
            worker.current = message[1]
        elif message[0] == "end":
            worker.current = None
            worker.pending.remove(message[1])
            self._record(message[1], message[2])
        else:
            if message[1] != len(self.cases):
                raise RuntimeError(f"a worker lists {message[1]} cases, and the parent {len(self.cases)}")
            if not self.chunks:
                worker.connection.send(None)
                worker.process.join()
                return []
            worker.pending = self.chunks.pop()
            worker.connection.send(list(worker.pending))
        return [worker]

    def _lost(self, worker: _Worker, what: str) -> list[_Worker]:
        """The worker is gone, or must go: its case failed, and another worker does the rest of its chunk."""
        worker.process.kill()
        worker.process.join()
        if worker.current is None:
            raise RuntimeError(f"a worker process outside of any case {what}")
        case = self.cases[worker.current]
        worker.pending.remove(worker.current)
        status = Status.EXPECTED_FAILURE if case.expected_failure else Status.FAILED
        self._record(worker.current, Outcome(case.operator, case.name, status, case.expected_failure or what))
        if worker.pending:
            self.chunks.append(worker.pending)
        return [self._start()] if self.chunks else []

    def _record(self, number: int, outcome: Outcome) -> None:
        self.outcomes[number] = outcome
        self.report(outcome)
