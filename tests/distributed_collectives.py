"""Cases of tests/test_distributed.py: collectives. Every rank knows what every other contributes, and works out the
result by itself, on the CPU."""

from __future__ import annotations

import datetime
import functools
import math
import re
from collections.abc import Callable
from contextlib import AbstractContextManager

import blocked_stream
import pytest
import torch
import torch.distributed as dist
from torch.torch_version import TorchVersion

MOVED_DTYPES = (
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.complex64),
    *(torch.complex128, torch.bool, torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32, torch.int64),
)


def rank() -> int:
    return dist.get_rank()


def world() -> range:
    return range(dist.get_world_size())


def contribution(of: int, *size: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    """What rank `of` contributes, on the CPU."""
    generator = torch.Generator().manual_seed(1000 * seed + of)
    if dtype.is_complex or dtype.is_floating_point:
        wide = torch.complex128 if dtype.is_complex else torch.float64
        return torch.randn(size, dtype=wide, generator=generator).to(dtype)
    high = 2 if dtype == torch.bool else 100
    return torch.randint(0, high, size, generator=generator).to(dtype)


def poisoned(*size: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Results that nobody has written yet."""
    nbytes = math.prod(size) * dtype.itemsize
    return torch.full((nbytes,), 0x7B, dtype=torch.uint8, device="gxu").view(dtype).view(size)


def assert_same(actual: torch.Tensor, expected: torch.Tensor) -> None:
    """Bit by bit, on the device still."""
    assert actual.device.type == "gxu" and actual.dtype == expected.dtype and actual.shape == expected.shape
    as_bytes = (tensor.cpu().contiguous().view(-1).view(torch.uint8) for tensor in (actual, expected))
    assert torch.equal(*as_bytes), f"{actual} is not {expected}"


def assert_close(actual: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-6) -> None:
    assert actual.device.type == "gxu" and actual.shape == expected.shape
    wide = torch.complex128 if expected.is_complex() else torch.float64
    torch.testing.assert_close(actual.cpu().to(wide), expected.to(wide), rtol=tolerance, atol=tolerance, equal_nan=True)


def raises(kind: type[BaseException], sentence: str) -> AbstractContextManager[object]:
    return pytest.raises(kind, match=re.escape(sentence))


def broadcast() -> None:
    for seed, dtype in enumerate(MOVED_DTYPES):
        for root in world():
            tensor = contribution(rank(), 3, 5, dtype=dtype, seed=seed).to("gxu")
            dist.broadcast(tensor, root)
            assert_same(tensor, contribution(root, 3, 5, dtype=dtype, seed=seed))
    images = contribution(rank(), 2, 3, 4, 5).to("gxu").to(memory_format=torch.channels_last)
    dist.broadcast(images, 1)
    assert_same(images, contribution(1, 2, 3, 4, 5))
    empty = torch.empty(0, device="gxu")
    dist.broadcast(empty, 0)


OPERATORS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "SUM": torch.add,
    "PRODUCT": torch.mul,
    "MIN": torch.minimum,
    "MAX": torch.maximum,
    "BAND": torch.bitwise_and,
    "BOR": torch.bitwise_or,
    "BXOR": torch.bitwise_xor,
}


def all_parts(*size: int, dtype: torch.dtype, seed: int) -> list[torch.Tensor]:
    """What all ranks contribute, in a type that the reference computes in."""
    wide = torch.complex128 if dtype.is_complex else torch.float64 if dtype.is_floating_point else torch.int64
    return [contribution(of, *size, dtype=dtype, seed=seed).to(wide) for of in world()]


def all_reduce() -> None:
    tolerances = {torch.float16: 1e-2, torch.bfloat16: 5e-2, torch.float32: 1e-6, torch.float64: 1e-12}
    integers = (torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32, torch.uint32, torch.int64)
    for seed, dtype in enumerate((*tolerances, *integers)):
        for name, function in OPERATORS.items():
            if dtype.is_floating_point and name.startswith("B"):
                continue
            tensor = contribution(rank(), 7, dtype=dtype, seed=seed).to("gxu")
            dist.all_reduce(tensor, getattr(dist.ReduceOp, name))
            expected = functools.reduce(function, all_parts(7, dtype=dtype, seed=seed))
            if dtype.is_floating_point:
                assert_close(tensor, expected, tolerances[dtype])
            else:
                assert_same(tensor, expected.to(dtype))
        tensor = contribution(rank(), 7, dtype=dtype, seed=seed).to("gxu")
        dist.all_reduce(tensor, dist.ReduceOp.AVG)
        total = sum(all_parts(7, dtype=dtype, seed=seed))
        assert isinstance(total, torch.Tensor)
        if dtype.is_floating_point:
            assert_close(tensor, total / len(world()), tolerances[dtype])
        elif dtype.itemsize > 1:  # sums of bytes wrap
            assert_same(tensor, total.div(len(world()), rounding_mode="trunc").to(dtype))


def all_reduce_others() -> None:
    """What gloo has no operator or type for, and numbers that are not finite."""
    for dtype in (torch.complex64, torch.complex128):
        tensor = contribution(rank(), 5, dtype=dtype).to("gxu")
        dist.all_reduce(tensor)
        total = sum(all_parts(5, dtype=dtype, seed=0))
        assert isinstance(total, torch.Tensor)
        assert_close(tensor, total)
    for name, function in (("SUM", torch.any), ("PRODUCT", torch.all)):
        flags = contribution(rank(), 9, dtype=torch.bool).to("gxu")
        dist.all_reduce(flags, getattr(dist.ReduceOp, name))
        assert_same(flags, function(torch.stack([contribution(of, 9, dtype=torch.bool) for of in world()]), 0))
    small = contribution(rank(), 6, dtype=torch.float8_e5m2).to("gxu")
    dist.all_reduce(small)
    wide = sum(contribution(of, 6, dtype=torch.float8_e5m2).float() for of in world())
    assert isinstance(wide, torch.Tensor)
    assert_same(small, wide.to(torch.float8_e5m2))
    for factor in (0.25, torch.tensor([0.25], device="gxu")):
        tensor = contribution(rank(), 5).to("gxu")
        dist.all_reduce(tensor, dist._make_nccl_premul_sum(factor))
        total = sum(all_parts(5, dtype=torch.float32, seed=0))
        assert isinstance(total, torch.Tensor)
        assert_close(tensor, total * 0.25)
    special = torch.tensor([math.nan, math.inf, -math.inf, 1.0]) if rank() == 0 else torch.ones(4)
    special = special.to("gxu")
    dist.all_reduce(special)
    assert_close(special, torch.tensor([math.nan, math.inf, -math.inf, float(len(world()))]))


def reduce_and_coalesced() -> None:
    total = sum(all_parts(4, 3, dtype=torch.float32, seed=0))
    assert isinstance(total, torch.Tensor)
    tensor = contribution(rank(), 4, 3).to("gxu")
    dist.reduce(tensor, 1, dist.ReduceOp.AVG)
    if rank() == 1:
        assert_close(tensor, total / len(world()))
    tensors = [contribution(rank(), 4, 3).to("gxu") for _ in range(2)]
    with dist._coalescing_manager(async_ops=True) as manager:
        for tensor in tensors:
            dist.all_reduce(tensor)
    manager.wait()
    for tensor in tensors:
        assert_close(tensor, total)


def all_gather() -> None:
    for seed, dtype in enumerate(MOVED_DTYPES):
        mine = contribution(rank(), 2, 3, dtype=dtype, seed=seed).to("gxu")
        expected = [contribution(of, 2, 3, dtype=dtype, seed=seed) for of in world()]
        outputs = [poisoned(2, 3, dtype=dtype) for _ in world()]
        dist.all_gather(outputs, mine)
        for output, value in zip(outputs, expected, strict=True):
            assert_same(output, value)
        output = poisoned(2 * len(world()), 3, dtype=dtype)
        dist.all_gather_into_tensor(output, mine)
        assert_same(output, torch.cat(expected))
    # Tensors of several sizes, and of several types at once.
    outputs = [poisoned(of + 2, 3) for of in world()]
    dist.all_gather(outputs, contribution(rank(), rank() + 2, 3).to("gxu"))
    for of, output in enumerate(outputs):
        assert_same(output, contribution(of, of + 2, 3))
    dtypes = (torch.bfloat16, torch.int64, torch.complex128)
    outputs = [poisoned(3 * len(world()), dtype=dtype) for dtype in dtypes]
    with dist._coalescing_manager(async_ops=True) as manager:
        for output, dtype in zip(outputs, dtypes, strict=True):
            dist.all_gather_into_tensor(output, contribution(rank(), 3, dtype=dtype).to("gxu"))
    manager.wait()
    for output, dtype in zip(outputs, dtypes, strict=True):
        assert_same(output, torch.cat([contribution(of, 3, dtype=dtype) for of in world()]))


def gather_and_scatter() -> None:
    for seed, dtype in enumerate((torch.float32, torch.bfloat16, torch.int16)):
        outputs = [poisoned(5, dtype=dtype) for _ in world()] if rank() == 1 else None
        dist.gather(contribution(rank(), 5, dtype=dtype, seed=seed).to("gxu"), outputs, dst=1)
        for of, output in enumerate(outputs or ()):
            assert_same(output, contribution(of, 5, dtype=dtype, seed=seed))
        output = poisoned(5, dtype=dtype)
        parts = [contribution(to, 5, dtype=dtype, seed=seed).to("gxu") for to in world()] if rank() == 0 else None
        dist.scatter(output, parts, src=0)
        assert_same(output, contribution(rank(), 5, dtype=dtype, seed=seed))


def reduce_scatter() -> None:
    size = len(world())
    tolerances = {torch.float32: 1e-6, torch.bfloat16: 5e-2, torch.int16: 0.0}
    for dtype, tolerance in tolerances.items():
        total = sum(all_parts(size * 3, 2, dtype=dtype, seed=4))
        assert isinstance(total, torch.Tensor)
        mine = contribution(rank(), size * 3, 2, dtype=dtype, seed=4).to("gxu")
        kept = mine.clone()
        for operator, divisor in ((dist.ReduceOp.SUM, 1), (dist.ReduceOp.AVG, size)):
            expected = total.chunk(size)[rank()] / divisor
            expected = expected if dtype.is_floating_point else expected.trunc()
            output = poisoned(3, 2, dtype=dtype)
            dist.reduce_scatter_tensor(output, mine, operator)
            assert_close(output, expected, tolerance)
            output = poisoned(3, 2, dtype=dtype)
            work = dist.reduce_scatter(output, list(mine.chunk(size)), operator, async_op=True)
            assert_close(work.get_future().wait()[0], expected, tolerance)
        assert_same(mine, kept.cpu())
    parts = [contribution(rank(), 2 + to).to("gxu") for to in world()]
    output = poisoned(2 + rank())
    dist.reduce_scatter(output, parts, dist.ReduceOp.MAX)
    assert_same(output, functools.reduce(torch.maximum, [contribution(of, 2 + rank()) for of in world()]))
    outputs = [poisoned(2), poisoned(5)]
    with dist._coalescing_manager(async_ops=True) as manager:
        for output in outputs:
            dist.reduce_scatter_tensor(output, contribution(rank(), output.numel() * size).to("gxu"))
    manager.wait()
    for output in outputs:
        total = sum(all_parts(output.numel() * size, dtype=torch.float32, seed=0))
        assert isinstance(total, torch.Tensor)
        assert_close(output, total.chunk(size)[rank()])


def all_to_all() -> None:
    size = len(world())
    for seed, dtype in enumerate((torch.float32, torch.bfloat16, torch.int16, torch.complex128)):
        output = poisoned(size * 2, 3, dtype=dtype)
        dist.all_to_all_single(output, contribution(rank(), size * 2, 3, dtype=dtype, seed=seed).to("gxu"))
        parts = [contribution(of, size * 2, 3, dtype=dtype, seed=seed).chunk(size)[rank()] for of in world()]
        assert_same(output, torch.cat(parts))
        # Rank r sends r + t + 1 rows to rank t.
        splits = [[of + to + 1 for to in world()] for of in world()]
        received = [splits[of][rank()] for of in world()]
        output = poisoned(sum(received), 3, dtype=dtype)
        mine = contribution(rank(), sum(splits[rank()]), 3, dtype=dtype, seed=seed).to("gxu")
        dist.all_to_all_single(output, mine, received, splits[rank()])
        rows = [contribution(of, sum(splits[of]), 3, dtype=dtype, seed=seed).split(splits[of]) for of in world()]
        assert_same(output, torch.cat([row[rank()] for row in rows]))
    if TorchVersion(torch.__version__) < (2, 12):
        return  # torch 2.11's gloo has none for lists
    outputs = [poisoned(4) for _ in world()]
    dist.all_to_all(outputs, [contribution(rank(), 4, seed=to).to("gxu") for to in world()])
    for of, output in enumerate(outputs):
        assert_same(output, contribution(of, 4, seed=rank()))


def point_to_point() -> None:
    first, second = (poisoned(3, dtype=torch.bfloat16) for _ in range(2))
    if rank() == 0:
        sent = [contribution(0, 3, dtype=torch.bfloat16, seed=tag).to("gxu") for tag in (1, 2)]
        works = [dist.isend(tensor, 1, tag=tag) for tag, tensor in enumerate(sent, 1)]
        for work in works:
            assert work is not None
            work.wait()
        assert dist.recv(first) == 1
        assert_same(first, contribution(1, 3, dtype=torch.bfloat16))
    elif rank() == 1:
        assert dist.recv(second, 0, tag=2) == 0
        work = dist.irecv(first, 0, tag=1)
        assert work is not None
        work.wait()
        assert_same(first, contribution(0, 3, dtype=torch.bfloat16, seed=1))
        assert_same(second, contribution(0, 3, dtype=torch.bfloat16, seed=2))
        dist.send(contribution(1, 3, dtype=torch.bfloat16).to("gxu"), 0)
    right, left = (rank() + 1) % len(world()), (rank() - 1) % len(world())
    received = poisoned(4)
    operations = [
        dist.P2POp(dist.isend, contribution(rank(), 4).to("gxu"), right),
        dist.P2POp(dist.irecv, received, left),
    ]
    for work in dist.batch_isend_irecv(operations):
        work.wait()
    assert_same(received, contribution(left, 4))


def objects() -> None:
    gathered: list[object] = [None] * len(world())
    dist.all_gather_object(gathered, {"rank": rank(), "text": "x" * rank()})
    assert gathered == [{"rank": of, "text": "x" * of} for of in world()]
    broadcast_objects = [rank(), "text"]
    dist.broadcast_object_list(broadcast_objects, 1)
    assert broadcast_objects == [1, "text"]
    collected: list[object] | None = [None] * len(world()) if rank() == 0 else None
    dist.gather_object(rank(), collected, 0)
    assert collected is None or collected == list(world())
    received: list[object] = [None]
    dist.scatter_object_list(received, [f"for {to}" for to in world()] if rank() == 0 else None, 0)
    assert received == [f"for {rank()}"]


def groups() -> None:
    assert dist.group.WORLD is not None
    backend = dist.group.WORLD._get_backend(torch.device("gxu"))
    assert (backend.name(), backend.rank(), backend.size()) == ("gxuccl", rank(), len(world()))
    alone = [dist.new_group([of]) for of in world()]
    every = dist.new_group()
    tensor = contribution(rank(), 3).to("gxu")
    dist.all_reduce(tensor, group=alone[rank()])
    assert_same(tensor, contribution(rank(), 3))
    dist.all_reduce(tensor, group=every)
    dist.barrier(group=every)
    assert_close(tensor, sum(all_parts(3, dtype=torch.float32, seed=0), torch.zeros(3)))
    mesh = dist.init_device_mesh("gxu", (1, len(world())), mesh_dim_names=("outer", "inner"))
    tensor = contribution(rank(), 3).to("gxu")
    dist.all_reduce(tensor, group=mesh.get_group("inner"))
    dist.all_reduce(tensor, group=mesh.get_group("outer"))
    assert_close(tensor, sum(all_parts(3, dtype=torch.float32, seed=0), torch.zeros(3)))
    dist.destroy_process_group(every)
    dist.barrier(async_op=True).wait()


def futures() -> None:
    total = sum(all_parts(1000, dtype=torch.float32, seed=0), torch.zeros(1000))
    tensor = contribution(rank(), 1000).to("gxu")
    work = dist.all_reduce(tensor, async_op=True)
    doubled = work.get_future().then(lambda future: future.value()[0] * 2).wait()
    assert_close(doubled, total * 2)
    assert work.wait() and work.wait() and work.is_completed()
    tensors = [contribution(rank(), 1000, seed=seed).to("gxu") for seed in range(10)]
    works = [dist.all_reduce(tensor, async_op=True) for tensor in tensors]
    for seed, (work, tensor) in enumerate(zip(works, tensors, strict=True)):
        work.wait()
        assert_close(tensor, sum(all_parts(1000, dtype=torch.float32, seed=seed), torch.zeros(1000)))


def streams() -> None:
    """A collective comes after what its stream holds, and before what is enqueued after wait()."""
    source = contribution(rank(), 100).pin_memory()
    stream = torch.gxu.Stream()
    tensor = poisoned(100)
    torch.gxu.synchronize()
    with torch.gxu.stream(stream), blocked_stream.enqueued(stream, lambda: source.mul_(2)):
        tensor.copy_(source, non_blocking=True)
        work = dist.all_reduce(tensor, async_op=True)
        work.wait()
        tensor.mul_(3)
    stream.synchronize()
    assert_close(tensor, sum(all_parts(100, dtype=torch.float32, seed=0), torch.zeros(100)) * 6, 1e-5)


def refusals() -> None:
    """Requests that cannot be met, refused on all ranks before anything is sent."""
    square = torch.ones(2, 3, device="gxu")
    with raises(RuntimeError, "gxuccl allreduce takes contiguous tensors, but got one of size [3, 2]"):
        dist.all_reduce(square.t())
    with raises(NotImplementedError, "gxuccl allreduce does not have ReduceOp.AVG for tensors of Bool"):
        dist.all_reduce(square.bool(), dist.ReduceOp.AVG)
    with raises(NotImplementedError, "gxuccl allreduce does not have ReduceOp.BXOR for tensors of Float"):
        dist.all_reduce(square, dist.ReduceOp.BXOR)
    with raises(NotImplementedError, "gxuccl allreduce does not reduce UInt64: convert the tensor"):
        dist.all_reduce(square.to(torch.uint64))
    if torch.gxu.get_device_properties().host_accessible:  # others have no sparse tensors
        sparse = torch.eye(3).to_sparse().to("gxu")
        with raises(NotImplementedError, "gxuccl has no c10d::allreduce_ for sparse and quantized tensors"):
            dist.all_reduce(sparse)
    with raises(ValueError, "gxuccl reduce_scatter_tensor takes contiguous tensors of which each of the"):
        dist.reduce_scatter_tensor(square[0], square.view(-1)[:5])
    graph = torch.gxu.Graph()
    with raises(RuntimeError, "gxuccl allreduce"), torch.gxu.graph(graph):
        dist.all_reduce(square)
    torch.gxu.synchronize()
    work = dist.isend(square, (rank() + 1) % len(world()))
    with raises(NotImplementedError, "has no future: call wait() on the work instead"):
        work.get_future()
    dist.recv(torch.empty_like(square), (rank() - 1) % len(world()))
    work.wait()


def lateness() -> None:
    """Errors of a rank that waits in vain. They end the group, as torch.distributed has it."""
    group = dist.new_group(timeout=datetime.timedelta(seconds=1))
    tensor = torch.ones(3, device="gxu")
    dist.all_reduce(tensor, group=group)
    if rank() == 0:
        work = dist.all_reduce(tensor, group=group, async_op=True)
        with raises(dist.DistBackendError, "gxuccl allreduce on rank 0 of 2 has not finished after the 50 ms"):
            work.wait(datetime.timedelta(milliseconds=50))
        with raises(dist.DistBackendError, "gxuccl allreduce on rank 0 of 2 failed"):
            work.wait()
        with raises(dist.DistBackendError, "gxuccl allreduce on rank 0 of 2 failed"):
            work.get_future().wait()
        with raises(dist.DistBackendError, "on rank 0 of 2 failed"):
            dist.recv(tensor, 1, group=group)
    dist.barrier()
