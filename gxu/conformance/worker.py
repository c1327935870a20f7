"""The process that executes cases: receives lists of case numbers, reports each case as it starts and as it ends."""

from __future__ import annotations

import importlib
import os
import warnings
from multiprocessing.connection import Connection
from pathlib import Path

from gxu.conformance.case import execute


def serve(suite: str, folder: str, threads: int, connection: Connection) -> None:
    """Answers until `None` is received. `folder` takes generated sources and compiled kernels."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ["TRITON_CACHE_DIR"] = str(Path(folder) / "triton")
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(Path(folder) / "inductor")
    os.environ["GXU_CONFORMANCE_DIR"] = folder
    import torch

    torch.set_num_threads(threads)
    warnings.simplefilter("ignore")  # numpy reports NaN and integers that wrap, which are asked for here
    cases = importlib.import_module(suite).collect()
    connection.send(("ready", len(cases)))
    while (numbers := connection.recv()) is not None:
        for number in numbers:
            connection.send(("start", number))
            connection.send(("end", number, execute(cases[number])))
        connection.send(("ready", len(cases)))
