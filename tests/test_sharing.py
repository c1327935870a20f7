"""gxu tensors in torch.multiprocessing."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from blocked_stream import blocked
from process_helpers import RunPython
from sharing_peer import (
    TIMEOUT,
    Peer,
    attributes,
    count_files,
    count_mappings,
    describe,
    double_all,
    drop,
    fill,
    fill_after,
    is_kept,
    keep,
    make,
    pickled,
    read,
    resize,
    start_peer,
    sums_of,
    train,
    zero_second,
)
from torch import nn
from torch.torch_version import TorchVersion


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    started = start_peer()
    yield started
    started.connection.send(None)
    started.process.join(TIMEOUT)
    assert started.process.exitcode == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool, torch.complex64])
def test_values_and_geometry_arrive(peer: Peer, dtype: torch.dtype) -> None:
    x = torch.testing.make_tensor((5, 7, 3), dtype=dtype, device="gxu")
    for tensor in (x, x[1:4, ::2].transpose(0, 2), x[2, 3, 1], x[:0]):
        *geometry, values = peer(describe, tensor)
        assert geometry == ["gxu", dtype, tuple(tensor.shape), tensor.stride(), tensor.storage_offset()]
        assert torch.equal(values, tensor.cpu())


def test_a_stream_waits_for_an_event_of_another_process(peer: Peer) -> None:
    """The other process fills the tensor behind a wait for this one's event, and this one reads it behind its."""
    x = torch.zeros(1000, device="gxu")
    peer(keep, x)  # memory that is sent for the first time moves, which waits for all streams
    ready, filled = torch.gxu.Event(interprocess=True), torch.gxu.Event(interprocess=True)
    stream = torch.gxu.Stream()
    with blocked(stream) as go_on:
        ready.record(stream)
        assert peer(fill_after, x, ready, filled) is False, "nothing is filled yet"
        stream.wait_event(filled)
        assert not filled.query() and x.sum().item() == 0
        go_on.set()
        stream.synchronize()
        assert filled.query() and x.eq(7).all()


@pytest.mark.parametrize("size", [3, 5_000_000])
def test_memory_is_shared_both_ways(peer: Peer, size: int) -> None:
    x = torch.randn(size, device="gxu")
    expected = x.cpu()
    peer(keep, x)
    assert torch.equal(x.cpu(), expected), "sharing keeps the values"
    assert torch.equal(peer(read), expected)
    peer(fill, 3.0)
    assert (x.cpu() == 3).all()
    x.mul_(2)
    torch.gxu.synchronize()
    assert (peer(read) == 6).all()
    del x
    assert (peer(read) == 6).all(), "the receiver's memory outlives the sender's tensor"
    assert peer(drop) == 0


def test_queued_work_is_done_when_the_tensor_arrives(peer: Peer) -> None:
    side = torch.gxu.Stream()
    x = torch.zeros(1000, device="gxu")
    torch.gxu.synchronize()
    pinned = torch.full((1000,), 4.0).pin_memory()
    with torch.gxu.stream(side):
        x.copy_(pinned, non_blocking=True)
    *_, values = peer(describe, x)
    assert (values == 4).all()


def test_tensors_of_one_storage_stay_together(peer: Peer) -> None:
    x = torch.arange(10.0, device="gxu")
    first, same = peer(zero_second, x, x[2:5])
    assert same
    assert first.tolist() == x.tolist() == [0, 1, 0, 0, 0, 5, 6, 7, 8, 9]


def test_a_tensor_that_comes_back_is_the_same_memory(peer: Peer) -> None:
    x = peer(make, 100)
    assert x.tolist() == list(range(100))
    assert peer(is_kept, x)
    x.fill_(1)
    torch.gxu.synchronize()
    third = start_peer()  # memory of one process passes through another to a third
    *_, values = third(describe, x)
    assert (values == 1).all()
    third.connection.send(None)
    third.process.join(TIMEOUT)
    peer(drop)


def test_parameters_and_modules(peer: Peer) -> None:
    parameter = nn.Parameter(torch.randn(3, device="gxu"))
    knows_gxu = TorchVersion(torch.__version__) >= (2, 12)  # whose memory is shared: torch 2.11 says it of CUDA's alone
    assert peer(attributes, parameter) == ("Parameter", True, True, knows_gxu)
    model = nn.Linear(3, 3).to("gxu").share_memory()
    before = model.weight.detach().cpu()
    trained = peer(train, model)
    assert torch.allclose(trained, before - 0.5 * 2)
    assert torch.equal(model.weight.detach().cpu(), trained)


def test_queues_and_process_arguments() -> None:
    context = mp.get_context("spawn")
    tasks, results = context.Queue(), context.Queue()
    x = torch.randn(50, 3, device="gxu")
    process = context.Process(target=double_all, args=(x, tasks, results))
    process.start()
    parts = [torch.full((4,), float(number), device="gxu") for number in range(20)]
    for part in parts:
        tasks.put(part)
    tasks.put(None)
    assert results.get(timeout=TIMEOUT) == pytest.approx(sum(range(20)) * 4)
    results.get(timeout=TIMEOUT)
    process.join(TIMEOUT)
    assert process.exitcode == 0
    assert (parts[7].cpu() == -1).all()
    assert (x.cpu() == 8).all()


def test_what_was_sent_stays_until_it_is_open() -> None:
    """The sender keeps nothing, and is done long before the receiver looks."""
    context = mp.get_context("spawn")
    tasks, results = context.Queue(), context.Queue()
    count = 20
    for number in range(count):
        tasks.put((torch.full((1000,), float(number), device="gxu"), torch.ones(3, device="gxu")[1:]))
    process = context.Process(target=sums_of, args=(count, tasks, results))
    process.start()
    assert results.get(timeout=TIMEOUT) == [number * 1000.0 + 2 for number in range(count)]
    process.join(TIMEOUT)
    files = count_files()
    torch.gxu.ipc_collect()
    assert files - count_files() >= 2 * count, "the memory goes when every message is open"


def test_a_message_opened_by_its_own_process() -> None:
    payload = bytes(ForkingPickler.dumps(torch.arange(5, device="gxu")))
    assert ForkingPickler.loads(payload).tolist() == [0, 1, 2, 3, 4]
    torch.gxu.ipc_collect()
    with pytest.raises(RuntimeError, match="has freed the memory or ended"):
        ForkingPickler.loads(payload)
    with pytest.raises(RuntimeError, match="no receipt"):
        torch.gxu._C.return_receipt(b"3")


def test_shared_storages_are_not_resizable(peer: Peer) -> None:
    x = torch.zeros(4, device="gxu")
    assert peer(resize, x) == "RuntimeError: Trying to resize storage that is not resizable"
    with pytest.raises(RuntimeError, match="not resizable"):
        x.resize_(1000)
    x.resize_(2)


def test_views_and_the_storage_object_follow_the_move() -> None:
    x = torch.arange(6.0, device="gxu")
    view, storage = x[3:], x.untyped_storage()
    ForkingPickler.dumps(x)
    x.fill_(7)
    assert view.tolist() == [7, 7, 7]
    assert storage.data_ptr() == x.data_ptr() == view.data_ptr() - 12


def test_memory_returns_when_the_last_user_is_gone(peer: Peer) -> None:
    peer(keep, torch.ones(1, device="gxu"))  # the first message opens the file of the receipts
    torch.gxu.ipc_collect()
    torch.gxu.empty_cache()
    files, mappings = count_files(), count_mappings()
    for _ in range(20):
        x = torch.ones(100_000, device="gxu")
        peer(keep, x)
        del x
    assert peer(drop) == 0
    torch.gxu.ipc_collect()
    torch.gxu.empty_cache()
    assert count_files() <= files
    assert count_mappings() <= mappings


def test_a_killed_sender_leaves_memory_to_the_receiver_and_nothing_else() -> None:
    sender = start_peer()
    x = sender(make, 300)
    os.kill(sender.process.pid, signal.SIGKILL)
    sender.process.join(TIMEOUT)
    assert x.tolist() == list(range(300))
    assert not list(Path("/dev/shm").glob("*gxu*"))


def test_nothing_of_the_sender_left_is_one_sentence() -> None:
    sender = start_peer()
    payload = sender(pickled, 10)
    os.kill(sender.process.pid, signal.SIGKILL)
    sender.process.join(TIMEOUT)
    with pytest.raises(RuntimeError, match=r"process \d+ has freed the memory or ended: the owner must keep it"):
        ForkingPickler.loads(payload)


def test_graphs_of_autograd_are_refused_as_for_other_devices() -> None:
    x = torch.ones(2, device="gxu", requires_grad=True) * 2
    with pytest.raises(RuntimeError, match="Cowardly refusing to serialize non-leaf tensor"):
        ForkingPickler.dumps(x)


def test_cpu_tensors_are_sent_as_without_gxu(peer: Peer) -> None:
    x = torch.zeros(3)
    peer(keep, x)
    peer(fill, 2.0)
    assert x.tolist() == [2, 2, 2]
    assert x.is_shared()
    peer(drop)


def test_child_forked_after_use_says_what_to_do(run_python: RunPython) -> None:
    code = """
import os, torch
x = torch.ones(3, device="gxu")
pid = os.fork()
if pid == 0:
    for use in (lambda: x + 1, lambda: torch.ones(2, device="gxu"), lambda: x.cpu(), lambda: torch.gxu.synchronize()):
        try:
            use()
        except RuntimeError as error:
            print(str(error).split("\\n")[0], flush=True)
    del x
    os._exit(0)
os.waitpid(pid, 0)
print((x + 1).tolist())
"""
    result = run_python("-c", code)
    lines = result.stdout.splitlines()
    sentence = (
        "Cannot re-initialize GXU in forked subprocess. To use GXU with multiprocessing, you must use the 'spawn' "
        "start method"
    )
    assert lines == [sentence] * 4 + ["[2.0, 2.0, 2.0]"], result.stderr


def test_child_forked_before_use_may_use_it(run_python: RunPython) -> None:
    code = """
import os, torch
assert torch.gxu.is_available() is not None
pid = os.fork()
if pid == 0:
    print((torch.ones(2) + 1).tolist(), flush=True)
    os._exit(0)
os.waitpid(pid, 0)
"""
    result = run_python("-c", code)
    assert result.stdout == "[2.0, 2.0]\n", result.stderr
