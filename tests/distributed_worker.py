"""One rank of the groups that tests/test_distributed.py starts. It reads names of cases from its standard input, one a
line ("collectives.broadcast"), calls them, and writes the traceback of each, or nothing, as a line of JSON."""

from __future__ import annotations

import datetime
import importlib
import json
import sys
import traceback

import torch
import torch.distributed as dist

#: How long a rank waits for the others: a failed case must not hold up the rest.
TIMEOUT = datetime.timedelta(seconds=30)
REPORT = "distributed_worker: "


def run(name: str) -> str:
    module, function = name.split(".")
    try:
        getattr(importlib.import_module(f"distributed_{module}"), function)()
    except Exception:
        return traceback.format_exc()
    return ""


def main(rank: int, world_size: int, store: str, backend: str) -> None:
    torch.set_num_threads(1)
    torch.gxu.set_device(rank % torch.gxu.device_count())
    dist.init_process_group(
        None if backend == "default" else backend,
        init_method=f"file://{store}",
        rank=rank,
        world_size=world_size,
        timeout=TIMEOUT,
    )
    for line in sys.stdin:
        print(REPORT + json.dumps(run(line.strip())), flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
