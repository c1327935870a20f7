"""Small compiled graphs: gxu's Triton kernels against Inductor's C++ code and eager, on the CPU.

    python benchmarks/compiled_kernels.py [--json FILE] [NAME ...]

The three variants take turns in one process on the same cores. Each time is the least of 100 calls after 20 for
warm-up, since other processes only make calls slower. ``ratio`` is Inductor's C++ time over ours: higher is better.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

_CALLS, _WARMUP = 100, 20

CASES: dict[str, tuple[Callable[..., torch.Tensor], list[tuple[int, ...]]]] = {
    "add": (lambda x, y: x + y * 2, [(1 << 20,), (1 << 20,)]),
    "gelu": (F.gelu, [(1 << 20,)]),
    "tanh": (torch.tanh, [(1 << 20,)]),
    "bias_gelu": (lambda x, b: F.gelu(x + b), [(1134, 1536), (1536,)]),
    "broadcast_1000": (lambda x, b: x.view(1000, 1000) + b, [(1000000,), (1000,)]),
    "broadcast_10": (lambda x, b: x.view(100000, 10) + b, [(1000000,), (10,)]),
    "softmax": (lambda x: torch.softmax(x, -1), [(1000, 1000)]),
    "layer_norm": (lambda x, r, w, b: F.layer_norm(x + r, (384,), w, b), [(1134, 384), (1134, 384), (384,), (384,)]),
    "batch_norm": (lambda x: F.batch_norm(x, None, None, training=True), [(8, 64, 28, 28)]),
    "sum_rows": (lambda x: x.sum(1), [(2048, 1024)]),
    "sum_columns": (lambda x: x.sum(0), [(2048, 1024)]),
    "sum_all": (lambda x: x.sum(), [(2048, 1024)]),
    "argmax": (lambda x: x.argmax(1), [(2048, 1024)]),
    "transpose": (lambda x, y: x.t() + y, [(1024, 1024), (1024, 1024)]),
    "split_heads": (lambda x: x.view(54, 21, 12, 32).permute(0, 2, 1, 3).contiguous(), [(54, 21, 384)]),
}


def measure(function: Callable[..., torch.Tensor], shapes: list[tuple[int, ...]]) -> dict[str, float]:
    """Milliseconds of "eager", "cpu" (compiled) and "gxu" (compiled)."""
    inputs = [torch.randn(shape) for shape in shapes]
    device_inputs = [x.to("gxu") for x in inputs]
    torch._dynamo.reset()
    compiled = torch.compile(function)
    variants: dict[str, Callable[[], Any]] = {
        "eager": lambda: function(*inputs),
        "cpu": lambda: compiled(*inputs),
        "gxu": lambda: (compiled(*device_inputs), torch.accelerator.synchronize()),
    }
    torch.testing.assert_close(variants["gxu"]()[0].cpu(), variants["eager"](), rtol=1e-3, atol=1e-3)
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(_WARMUP + _CALLS):
        for name, call in variants.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: 1e3 * min(values[_WARMUP:]) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of: {', '.join(CASES)}")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    unknown = set(options.names) - set(CASES)
    if unknown:
        parser.error(f"no such case: {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    rows = []
    print(f"{'':16}{'eager ms':>10}{'cpu ms':>10}{'gxu ms':>10}{'ratio':>8}")
    for name in options.names or CASES:
        times = measure(*CASES[name])
        ratio = times["cpu"] / times["gxu"]
        rows.append({"name": name, "ratio": ratio, **times})
        print(f"{name:16}{times['eager']:10.3f}{times['cpu']:10.3f}{times['gxu']:10.3f}{ratio:8.2f}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    with torch.no_grad():
        main()
