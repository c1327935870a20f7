"""Kernels of thousands of operations, each of which uses the last one's result, or two of them; regions nested deep.

Calls of Python nest about a thousand deep, and what follows each path through values that are used twice takes 2**n
steps for n of them.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import triton
import triton.language as tl
from process_helpers import RunPython
from triton_helpers import agree, assert_same, launch

from gxu.triton.errors import UnsupportedError
from gxu.triton.recursion import deep_nesting

SIZE = 64


@triton.jit
def floats(x, out, N: tl.constexpr, B: tl.constexpr):
    i = tl.arange(0, B)
    v = tl.load(x + i)
    for k in tl.static_range(N):
        v = tl.where(v > k % 7, v - 1.5, v + 0.25)
    tl.store(out + i, v)


@triton.jit
def indices(x, out, N: tl.constexpr, B: tl.constexpr):
    i = tl.arange(0, B)
    at = i
    for k in tl.static_range(N):
        at = (at + k) ^ (k % 3)
    tl.store(out + i, tl.load(x + at % B))


@triton.jit
def loads(x, out, N: tl.constexpr, B: tl.constexpr):
    i = tl.arange(0, B)
    v = tl.zeros((B,), tl.float32)
    for k in tl.static_range(N):
        v += tl.load(x + i // (k + 1))
    tl.store(out + i, v)


@triton.jit
def masks(x, out, N: tl.constexpr, B: tl.constexpr):
    i = tl.arange(0, B)
    v = tl.load(x + i)
    inside = i < B - 3
    for k in tl.static_range(N):
        inside = inside & (v < 3.0 + k)
    tl.store(out + i, tl.load(x + i, mask=inside, other=-1.0))


@triton.jit
def shared_masks(x, out, N: tl.constexpr, B: tl.constexpr):
    i = tl.arange(0, B)
    v = tl.load(x + i)
    a, b = i < B - 3, v < 2.0
    for _ in tl.static_range(N):
        a, b = a & b, b & a
    tl.store(out + i, v, mask=a)
    tl.store(out + B + i, tl.load(x + i, mask=b, other=7.0))


@triton.jit
def shared_sums(x, out, N: tl.constexpr, B: tl.constexpr):
    i = tl.arange(0, B)
    a = tl.load(x + i, mask=i < B - 3, other=0.0)
    b = a * 0.5
    for _ in tl.static_range(N):
        a, b = a - b, b * 0.5 + a * 0.25
    tl.store(out + i, tl.sum(a + b, 0) + i)


@triton.jit
def shared_operands(x, out, N: tl.constexpr, B: tl.constexpr):
    i = tl.arange(0, 16)
    at = i[:, None] * 16 + i[None, :]
    a = tl.load(x + at % B)
    b = a * 0.5
    for _ in tl.static_range(N):
        a, b = (a - b) * 0.5, (b + a) * 0.5
    tl.store(out + at, tl.dot(a, b))


@triton.jit
def transposes(x, out, N: tl.constexpr, B: tl.constexpr):
    i = tl.arange(0, 8)
    at = i[:, None] * 8 + i[None, :]
    v = tl.load(x + at)
    for _ in tl.static_range(N):
        v = tl.trans(v) * 0.5 + v
        v = v.to(tl.float16).to(tl.float32) * 0.5
    tl.store(out + at, v)


@triton.jit
def before_reductions(x, out, N: tl.constexpr, B: tl.constexpr):
    """What follows from the first sum moves behind the second."""
    i = tl.arange(0, B)
    v = tl.load(x + i)
    total = tl.sum(v, 0)
    for k in tl.static_range(N):
        total = total * 0.5 + k % 5
    tl.store(out + i, total + tl.max(v, 0) + i)


@triton.jit
def rows_far_apart(x, out, rows, N: tl.constexpr, B: tl.constexpr):
    """Such loads ask ahead of time for what they will read: by how much the address moves is followed through it."""
    i = tl.arange(0, 8)
    total = tl.zeros((8,), tl.float32)
    for row in range(rows):
        at = row * 2048 + i
        for k in tl.static_range(N):
            at = at + k % 3
        total += tl.load(x + at)
    tl.store(out + i, total)


CASES = [
    pytest.param(floats, 3000, 0.0, id="floats"),
    pytest.param(indices, 1500, 0.0, id="indices"),
    pytest.param(loads, 300, 1e-5, id="loads"),
    pytest.param(masks, 1500, 0.0, id="masks"),
    pytest.param(shared_masks, 200, 0.0, id="shared_masks"),
    pytest.param(shared_sums, 200, 1e-5, id="shared_sums"),
    pytest.param(shared_operands, 200, 1e-5, id="shared_operands"),
    pytest.param(transposes, 300, 1e-5, id="transposes"),
    pytest.param(before_reductions, 1500, 1e-5, id="before_reductions"),
]


@pytest.fixture
def usual_limit(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Python's own recursion limit, which other libraries raise, and no more while kernels compile."""
    limit, usual = sys.getrecursionlimit(), 1000
    sys.setrecursionlimit(usual)
    monkeypatch.setattr("gxu.triton.recursion._LIMIT", usual)
    yield usual
    sys.setrecursionlimit(limit)


@pytest.mark.parametrize(("kernel", "steps", "tolerance"), CASES)
def test_long_kernels(kernel: Any, steps: int, tolerance: float, usual_limit: int) -> None:
    agree(kernel, (1,), torch.randn(256), torch.zeros(256), N=steps, B=SIZE, rtol=tolerance, atol=tolerance)
    assert sys.getrecursionlimit() == usual_limit


def test_long_address_in_a_loop(usual_limit: int) -> None:
    agree(rows_far_apart, (1,), torch.randn(6 * 2048 + 2000), torch.zeros(8), 6, N=1500, B=8, rtol=1e-5, atol=1e-5)


BELOW_DYNAMO = """
import torch, triton, triton.language as tl

@triton.jit
def steps(x, out, N: tl.constexpr, B: tl.constexpr):
    i = tl.arange(0, B)
    v = tl.load(x + i)
    for k in tl.static_range(N):
        v = tl.where(v > k % 7, v - 1.5, v + 0.25)
    tl.store(out + i, v)

@torch.compile
def compiled(x):
    out = torch.empty_like(x)
    steps[(1,)](x, out, N=1500, B=64)
    return out * 2

x = torch.randn(64)
wanted = x.clone()
for k in range(1500):
    wanted = torch.where(wanted > k % 7, wanted - 1.5, wanted + 0.25)
torch.testing.assert_close(compiled(x.to("gxu")).cpu(), wanted * 2, rtol=0, atol=0)
out = torch.empty(64, device="gxu")
steps[(1,)](x.to("gxu"), out, N=1501, B=64)  # Dynamo's hook has seen this process
wanted = torch.where(wanted > 1500 % 7, wanted - 1.5, wanted + 0.25)
torch.testing.assert_close(out.cpu(), wanted, rtol=0, atol=0)
"""


def test_below_dynamo(run_python: RunPython, tmp_path: Path) -> None:
    """With its hook of frames each call of a Python function takes room on the stack of the thread."""
    script = tmp_path / "below_dynamo.py"
    script.write_text(BELOW_DYNAMO)
    result = run_python(str(script), env={"TORCHINDUCTOR_COMPILE_THREADS": "1"})
    assert result.returncode == 0, result.stderr


#: CPython 3.12 ends calls under Dynamo's hook of frames at 1,500, and another test of this process may have set it.
RETURNS = 90 if sys.version_info[:2] == (3, 12) else 150


def returns_early(folder: Path, times: int) -> Any:
    """A kernel that looks at ``times`` numbers, one after another, and ends with the first that is large."""
    look = "    if tl.load(x + {k}) > 9.0:\n        tl.store(out + i, i + {k})\n        return\n"
    looks = "".join(look.format(k=k) for k in range(times))
    source = folder / f"returns_{times}.py"
    source.write_text(
        "import triton, triton.language as tl\n@triton.jit\ndef kernel(x, out, B: tl.constexpr):\n"
        f"    i = tl.arange(0, B)\n{looks}    tl.store(out + i, -i)\n"
    )
    spec = importlib.util.spec_from_file_location(source.stem, source)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.kernel


@pytest.mark.parametrize("large", [0, RETURNS // 2, RETURNS - 1, RETURNS + 5])
def test_many_early_returns(tmp_path: Path, large: int) -> None:
    x = torch.zeros(256)
    x[large] = 10.0
    (_, out) = launch(returns_early(tmp_path, RETURNS), (1,), x, torch.zeros(SIZE), B=SIZE)
    i = torch.arange(SIZE, dtype=torch.float32)
    assert_same(out, i + large if large < RETURNS else -i)


def test_regions_nested_too_deep_are_refused(tmp_path: Path, usual_limit: int) -> None:
    with pytest.raises(UnsupportedError, match=r"kernel kernel: the .* branches and loops nested"):
        launch(returns_early(tmp_path, 260), (1,), torch.zeros(2000), torch.zeros(SIZE), B=SIZE)
    assert sys.getrecursionlimit() == usual_limit


def test_the_limit_stays_until_the_last_thread_has_left() -> None:
    limit = sys.getrecursionlimit()
    inside, leave = threading.Event(), threading.Event()

    def compiles() -> None:
        with deep_nesting():
            inside.set()
            leave.wait(60)

    thread = threading.Thread(target=compiles)
    with deep_nesting():
        thread.start()
        assert inside.wait(60)
        raised = sys.getrecursionlimit()
        assert raised > limit
    assert sys.getrecursionlimit() == raised
    leave.set()
    thread.join()
    assert sys.getrecursionlimit() == limit
