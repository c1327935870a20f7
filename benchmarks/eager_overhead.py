"""Eager operators on gxu against CPU eager: what the delegate, the allocator and the launcher add.

    python benchmarks/eager_overhead.py [--json FILE]

Each figure is the best of several rounds in microseconds a call; the two devices take turns, so that both see the same
machine. The bar at one million elements is a ratio of 1.3.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

BAR = 1.3
MILLION = 1 << 20

Call = Callable[[], object]


def on(device: str, function: Callable[..., object], *shapes: tuple[int, ...]) -> Call:
    inputs = [torch.randn(shape, device=device) for shape in shapes]
    return lambda: function(*inputs)


#: name: (function, shapes of its inputs, counts for the bar)
CASES: dict[str, tuple[Callable[..., object], list[tuple[int, ...]], bool]] = {
    "add 1M": (torch.add, [(MILLION,)] * 2, True),
    "mul 1M": (torch.mul, [(MILLION,)] * 2, True),
    "add_ 1M": (lambda a, b: a.add_(b), [(MILLION,)] * 2, True),
    "sum 1M": (torch.sum, [(MILLION,)], True),
    "relu 1M": (torch.relu, [(MILLION,)], True),
    "softmax 1024x1024": (lambda x: x.softmax(-1), [(1024, 1024)], True),
    "mm 512": (torch.mm, [(512, 512)] * 2, True),
    "layer_norm 1024x1024": (lambda x: F.layer_norm(x, (1024,)), [(1024, 1024)], True),
    "attention 8x12x128x64": (F.scaled_dot_product_attention, [(8, 12, 128, 64)] * 3, True),
    "add 8": (torch.add, [(8,)] * 2, False),
    "relu 8": (torch.relu, [(8,)], False),
    "sum 8": (torch.sum, [(8,)], False),
    "mm 8": (torch.mm, [(8, 8)] * 2, False),
    "view 8": (lambda x: x.view(2, 4), [(8,)], False),
    "linear 8": (F.linear, [(4, 8), (8, 8), (8,)], False),
}


def seconds_a_call(call: Call, budget: float = 0.05) -> float:
    """Time of one call, from as many as fit in `budget` seconds."""
    start = time.perf_counter()
    call()
    count = max(1, int(budget / max(time.perf_counter() - start, 1e-6)))
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count


def measure(name: str, rounds: int) -> dict[str, float]:
    """Best microseconds a call on the CPU and on gxu, and their ratio."""
    function, shapes, _ = CASES[name]
    calls = {device: on(device, function, *shapes) for device in ("cpu", "gxu")}
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds):
        for device, call in calls.items():
            best[device] = min(best[device], seconds_a_call(call) * 1e6)
    return {"cpu_us": best["cpu"], "gxu_us": best["gxu"], "ratio": best["gxu"] / best["cpu"]}


def helpers(rounds: int) -> dict[str, float]:
    """Microseconds of what generated code calls besides operators."""
    from gxu import _C

    calls: dict[str, Call] = {
        "empty_strided_gxu": lambda: _C.empty_strided_gxu((8, 8), (8, 1), torch.float32),
        "get_raw_stream": lambda: _C.get_raw_stream(0),
        "torch.empty_strided": lambda: torch.empty_strided((8, 8), (8, 1), dtype=torch.float32, device="gxu"),
    }
    return {name: min(seconds_a_call(call) for _ in range(rounds)) * 1e6 for name, call in calls.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    results = {name: measure(name, arguments.rounds) for name in CASES}
    print(f"{'operator':24s}{'cpu us':>10s}{'gxu us':>10s}{'ratio':>8s}")
    for name, result in results.items():
        mark = "  above the bar" if CASES[name][2] and result["ratio"] > BAR else ""
        print(f"{name:24s}{result['cpu_us']:10.2f}{result['gxu_us']:10.2f}{result['ratio']:8.2f}{mark}")
    extra = helpers(arguments.rounds)
    for name, value in extra.items():
        print(f"{name:24s}{'':10s}{value:10.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"operators": results, "helpers_us": extra}, indent=2) + "\n")


if __name__ == "__main__":
    main()
