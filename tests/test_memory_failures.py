"""Memory under stress: many threads, failures at every allocation, limits, and guard pages."""

from __future__ import annotations

import gc
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from memory_helpers import check_snapshot, check_statistics, reset_statistics
from process_helpers import RunPython

pytestmark = pytest.mark.counts_memory
MIB = 1 << 20


@pytest.fixture(autouse=True)
def empty_memory() -> None:
    gc.collect()
    torch.gxu.init()
    torch.gxu.synchronize()
    torch.gxu.empty_cache()
    reset_statistics()


def train(steps: int = 1, features: int = 24) -> float:
    """A small training run with attention, a convolution, dropout and recomputation. Returns its last loss."""
    torch.manual_seed(0)
    embedding = torch.nn.Linear(6, features, device="gxu")
    layer = torch.nn.TransformerEncoderLayer(features, 4, 2 * features, batch_first=True, device="gxu")
    convolution = torch.nn.Conv1d(features, 3, 3, device="gxu")
    parameters = [*embedding.parameters(), *layer.parameters(), *convolution.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-2)
    for _ in range(steps):
        x = embedding(torch.randn(2, 9, 6).to("gxu"))
        x = torch.utils.checkpoint.checkpoint(layer, x, use_reentrant=False)
        loss = convolution(x.transpose(1, 2)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    return loss.item()


def allocations_of(work: Callable[[], Any]) -> int:
    before = torch.gxu.memory_stats()["allocation.all.allocated"]
    work()
    return int(torch.gxu.memory_stats()["allocation.all.allocated"] - before)


def memory_returns_to(allocated: int) -> bool:
    """Whether as many bytes are allocated soon: autograd's thread lets go of a failed graph after the error is out."""
    end = time.monotonic() + 20
    while torch.gxu.memory_allocated() != allocated and time.monotonic() < end:
        gc.collect()
        time.sleep(0.001)
    return torch.gxu.memory_allocated() == allocated


@pytest.fixture
def quick_collections() -> Iterator[None]:
    """gc.collect looks at what the test made alone, not at all of torch."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def runs_out_of_memory(work: Callable[[], Any]) -> bool:
    try:
        work()
    except torch.OutOfMemoryError:
        return True
    return False


def test_failure_at_every_allocation(quick_collections: None) -> None:
    expected = train()
    count = allocations_of(train)
    gc.collect()
    before = torch.gxu.memory_allocated()
    assert count > 100
    for nth in range(1, count + 1):
        torch.gxu.memory._fail_allocation(nth)
        assert runs_out_of_memory(train), f"nobody heard of the failure of allocation {nth} of {count}"
        assert memory_returns_to(before), f"memory leaked after the failure of allocation {nth}"
    torch.gxu.memory._fail_allocation(count + 1)
    assert not runs_out_of_memory(train)
    torch.gxu.memory._fail_allocation(0)
    assert train() == expected
    torch.gxu.empty_cache()
    snapshot = torch.gxu.memory._snapshot()
    check_snapshot(snapshot)
    check_statistics(snapshot["segments"])


def test_failure_of_every_segment(quick_collections: None) -> None:
    def work() -> None:
        train(1, features=400)

    before = torch.gxu.memory_allocated()
    total = torch.gxu.mem_get_info()[1]
    failures, successes = 0, 0
    for mebibytes in range(2, 80, 2):
        assert memory_returns_to(before)
        torch.gxu.empty_cache()
        allowed = torch.gxu.memory_reserved() + mebibytes * MIB
        torch.gxu.set_per_process_memory_fraction(allowed / total)
        try:
            if runs_out_of_memory(work):
                failures += 1
            else:
                successes += 1
            assert torch.gxu.memory_reserved() <= allowed
        finally:
            torch.gxu.set_per_process_memory_fraction(1.0)
        if successes == 3:
            break
    assert failures > 3
    assert successes == 3


def test_memory_fraction() -> None:
    total = torch.gxu.mem_get_info()[1]
    assert torch.gxu.get_per_process_memory_fraction() == 1.0
    fraction = (torch.gxu.memory_reserved() + 64 * MIB) / total
    torch.gxu.set_per_process_memory_fraction(fraction)
    try:
        assert torch.gxu.get_per_process_memory_fraction() == fraction
        x = torch.empty(40 * MIB, dtype=torch.uint8, device="gxu")
        with pytest.raises(torch.OutOfMemoryError, match="allowed by set_per_process_memory_fraction"):
            torch.empty(40 * MIB, dtype=torch.uint8, device="gxu")
        del x
        assert torch.empty(60 * MIB, dtype=torch.uint8, device="gxu").numel() == 60 * MIB
    finally:
        torch.gxu.set_per_process_memory_fraction(1.0)
    with pytest.raises(ValueError, match="Invalid fraction value"):
        torch.gxu.set_per_process_memory_fraction(1.5)
    with pytest.raises(TypeError, match="must be `float`"):
        torch.gxu.set_per_process_memory_fraction(1)


def allocate_and_free(seed: int, end: float, errors: list[BaseException]) -> None:
    """Holds tensors of random sizes on two streams; what is in them must stay until they go."""
    generator = random.Random(seed)
    streams = [torch.gxu.Stream(), torch.gxu.Stream()]
    held: list[tuple[torch.Tensor, int]] = []
    try:
        while time.monotonic() < end:
            stream, other = generator.sample(streams, 2)
            with torch.gxu.stream(stream):
                size = generator.choice([generator.randint(1, 4000), generator.randint(1, 3 * MIB)])
                value = generator.randrange(256)
                x = torch.full((size,), value, dtype=torch.uint8, device="gxu")
                held.append((x.clone() if generator.random() < 0.3 else x, value))
            stream.synchronize()
            if len(held) > 20:
                tensor, value = held.pop(generator.randrange(len(held)))
                with torch.gxu.stream(other):
                    assert tensor.min().item() == tensor.max().item() == value
                    tensor.record_stream(other)
            if generator.random() < 0.02:
                torch.gxu.empty_cache()
    except BaseException as error:
        errors.append(error)


@pytest.mark.parametrize("seconds", [1.5, pytest.param(60, marks=pytest.mark.extended)])
def test_threads(seconds: float) -> None:
    before = torch.gxu.memory_allocated()
    errors: list[BaseException] = []
    end = time.monotonic() + seconds
    threads = [threading.Thread(target=allocate_and_free, args=(seed, end, errors)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors
    torch.gxu.synchronize()
    assert memory_returns_to(before)
    torch.gxu.empty_cache()
    snapshot = torch.gxu.memory._snapshot()
    check_snapshot(snapshot)
    check_statistics(snapshot["segments"])


GUARDED = """
import ctypes
import torch
x = torch.ones(100, device="gxu")
y = torch.empty(5, device="gxu")
assert (x + 1).sum().item() == 200
assert y.isnan().all()                    # nobody wrote there
assert torch.gxu.memory_reserved() == torch.gxu.memory_allocated()
address = x.data_ptr()
print(f"{address:#x}", flush=True)
"""


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ("ctypes.memset(address, 0, 449)", "48 bytes past the end of the block of 400 bytes at {address}"),
        ("ctypes.memset(address + 401, 0, 1); del x", "written 1 bytes past the end of the block of 400 bytes at"),
        ("del x; ctypes.memset(address + 4, 0, 1)", "byte 4 of the block of 400 bytes at {address}, which was freed"),
        ("ctypes.memset(address - 4000, 0, 1)", "4000 bytes before the block of 400 bytes at {address}"),
    ],
)
def test_guard_names_the_block(run_python: RunPython, action: str, message: str) -> None:
    result = run_python("-c", GUARDED + action, env={"GXU_MEMORY_GUARD": "1"})
    assert result.returncode < 0, result.stderr
    assert message.format(address=result.stdout.strip()) in result.stderr


def test_guard_names_the_block_that_a_kernel_missed(run_python: RunPython) -> None:
    code = """
import torch, triton, triton.language as tl
from gxu.triton.driver import active_driver
triton.runtime.driver.set_active(active_driver())

@triton.jit
def write(x, N: tl.constexpr):
    tl.store(x + tl.arange(0, N), 1.0)

x = torch.zeros(96, device="gxu")
write[(1,)](x, N=128)
try:
    torch.gxu.synchronize()
except RuntimeError as error:
    print(error)
"""
    # From a file: Triton reads the source of its kernels.
    script = f"import pathlib; pathlib.Path('kernel.py').write_text({code!r}); import kernel"
    result = run_python("-c", script, env={"GXU_MEMORY_GUARD": "1", "GXU_SANITIZE": None})
    assert result.returncode == 0, result.stderr
    assert "kernel 'write' failed: it was stopped by SIGSEGV" in result.stdout
    assert "past the end of the block of 384 bytes at" in result.stdout


def test_guarded_training(run_python: RunPython) -> None:
    code = """
import torch
model = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.GELU(), torch.nn.Linear(16, 4)).to("gxu")
optimizer = torch.optim.Adam(model.parameters())
stream = torch.gxu.Stream()
for _ in range(3):
    optimizer.zero_grad()
    x = torch.randn(8, 16, device="gxu")
    with torch.gxu.stream(stream):
        x.record_stream(stream)
    loss = model(x).square().mean()
    loss.backward()
    optimizer.step()
assert loss.item() > 0
held = torch.gxu.memory_allocated()
del x, loss, model, optimizer
torch.gxu.empty_cache()
assert torch.gxu.memory_reserved() < held
"""
    result = run_python("-c", code, env={"GXU_MEMORY_GUARD": "1"})
    assert result.returncode == 0, result.stderr
