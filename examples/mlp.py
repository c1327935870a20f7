"""A small network on gxu, eager and compiled, with a training step: `python examples/mlp.py`.

`import torch` is enough for the device to exist: torch loads gxu by itself.
"""

import time

import torch
from torch import nn


def milliseconds(call, repeats=200):
    """Median time of one call, until its result is there."""
    samples = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        torch.gxu.synchronize()
        samples.append((time.perf_counter() - start) * 1e3)
    return sorted(samples)[repeats // 2]


def main():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(512, 1024), nn.ReLU(), nn.Linear(1024, 512), nn.ReLU(), nn.Linear(512, 10)).gxu()
    x = torch.randn(64, 512).gxu()
    compiled = torch.compile(model, fullgraph=True)

    with torch.no_grad():
        difference = (compiled(x) - model(x)).abs().max().item()
        print(f"{torch.gxu.get_device_name()}: largest difference between compiled and eager {difference:.1e}")
        eager_ms, compiled_ms = milliseconds(lambda: model(x)), milliseconds(lambda: compiled(x))
    print(f"eager {eager_ms:.3f} ms, compiled {compiled_ms:.3f} ms, speed-up {eager_ms / compiled_ms:.2f}x")

    target = torch.randint(0, 10, (64,)).gxu()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(20):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(compiled(x), target)
        loss.backward()
        optimizer.step()
        if step % 5 == 0:
            print(f"step {step:2}: loss {loss.item():.4f}")


if __name__ == "__main__":
    main()
