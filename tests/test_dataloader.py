"""DataLoader in front of gxu, and copies that do not block."""

from __future__ import annotations

import collections
from typing import NamedTuple

import pytest
import torch
from blocked_stream import blocked
from dataset_of_squares import Squares
from torch.utils.data import DataLoader, TensorDataset, default_collate


class Pair(NamedTuple):
    x: torch.Tensor
    y: torch.Tensor


def pairs(samples: list[tuple[torch.Tensor, int]]) -> dict[str, object]:
    batch = default_collate(samples)
    return {"pair": Pair(*batch), "names": ["a", "b"], "nested": [batch[0], {"y": batch[1]}]}


@pytest.mark.filterwarnings("ignore:.*pin_memory_device is deprecated.*")
@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes")
@pytest.mark.parametrize(
    ("method", "device"),
    [(None, ""), (None, "gxu"), ("fork", ""), ("fork", "gxu"), ("fork", "gxu:0"), ("spawn", ""), ("forkserver", "")],
)
def test_batches_arrive_pinned_and_complete(method: str | None, device: str) -> None:
    torch.ones(1, device="gxu")  # forked workers do not use the device, so they may come after its first use
    workers = 0 if method is None else 2
    loader = DataLoader(
        Squares(),
        batch_size=5,
        num_workers=workers,
        multiprocessing_context=method,
        pin_memory=True,
        pin_memory_device=device,
        persistent_workers=workers > 0,
    )
    for _ in range(2):
        seen: list[int] = []
        for x, index in loader:
            assert x.is_pinned()
            assert index.is_pinned()
            moved = x.to("gxu", non_blocking=True)
            assert torch.equal(moved[:, 0].cpu(), index.float() ** 2)
            seen += index.tolist()
        assert seen == list(range(23))


def test_nested_batches_are_pinned() -> None:
    (batch, *_) = DataLoader(Squares(), batch_size=4, pin_memory=True, collate_fn=pairs)
    assert isinstance(batch, collections.abc.Mapping)
    assert isinstance(batch["pair"], Pair)
    assert batch["pair"].x.is_pinned()
    assert batch["nested"][1]["y"].is_pinned()
    assert batch["names"] == ["a", "b"]


def test_tensors_of_the_device_come_through_a_loader_of_this_process() -> None:
    data = TensorDataset(torch.arange(10.0, device="gxu"))
    assert torch.cat([batch for (batch,) in DataLoader(data, batch_size=3)]).tolist() == list(range(10))


def test_forked_worker_that_uses_the_device_fails_with_its_sentence() -> None:
    data = TensorDataset(torch.arange(10.0, device="gxu"))
    with pytest.raises(RuntimeError, match="Cannot re-initialize GXU in forked subprocess"):
        list(DataLoader(data, batch_size=3, num_workers=1, multiprocessing_context="fork"))


@pytest.mark.parametrize("to_device", [True, False])
def test_copies_of_pinned_memory_do_not_wait_for_the_stream(to_device: bool) -> None:
    side = torch.gxu.Stream()
    host = torch.zeros(1000).pin_memory() if not to_device else torch.ones(1000).pin_memory()
    device = torch.ones(1000, device="gxu") if not to_device else torch.zeros(1000, device="gxu")
    torch.gxu.synchronize()
    with torch.gxu.stream(side), blocked(side) as go_on:
        (device if to_device else host).copy_(host if to_device else device, non_blocking=True)
        event = side.record_event()
        assert not event.query(), "the call came back while the copy waits behind the stream's earlier work"
        if not to_device:
            assert not host.any()
        # Work of another stream goes on meanwhile.
        with torch.gxu.stream(torch.gxu.default_stream()):
            assert (torch.ones(10, device="gxu") + 1).sum().item() == 20
        assert not event.query()
        go_on.set()
        event.synchronize()
    assert (host == 1).all()
    assert (device.cpu() == 1).all()


def test_pinned_memory_is_not_reused_while_a_copy_needs_it() -> None:
    side = torch.gxu.Stream()
    device = torch.zeros(5000, device="gxu")
    torch.gxu.synchronize()
    with torch.gxu.stream(side), blocked(side) as go_on:
        host = torch.full((5000,), 3.0).pin_memory()
        device.copy_(host, non_blocking=True)
        del host
        others = [torch.full((5000,), 9.0).pin_memory() for _ in range(4)]
        go_on.set()
        side.synchronize()
    assert (device.cpu() == 3).all()
    assert all((other == 9).all() for other in others)


def test_copies_of_pageable_memory_are_done_when_they_return() -> None:
    host = torch.ones(1000)
    device = host.to("gxu", non_blocking=True)
    host.zero_()
    assert (device.cpu() == 1).all()
    back = device.to("cpu", non_blocking=True)
    assert (back == 1).all()
