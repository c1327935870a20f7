"""Cases of tests/test_distributed.py: training, compared with one process that trains on all data in fp64."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint.state_dict
from distributed_collectives import assert_close, contribution, rank, world
from torch import nn
from torch.distributed import _functional_collectives as functional
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

MakeOptimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
sgd: MakeOptimizer = functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9)
adamw: MakeOptimizer = functools.partial(torch.optim.AdamW, lr=0.01)


def make_model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(7, 18), nn.GELU(), nn.LayerNorm(18), nn.Linear(18, 5))


def make_batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(100 + step)
    return torch.randn(8, 7, generator=generator), torch.randn(8, 5, generator=generator)


def loss_of(model: nn.Module, step: int, *, everything: bool = False) -> torch.Tensor:
    """On this rank's part of the batch, in the types of the model."""
    parameter = next(model.parameters())
    to = {"device": parameter.device, "dtype": torch.float64 if everything else torch.float32}
    inputs, targets = (tensor if everything else tensor.chunk(len(world()))[rank()] for tensor in make_batch(step))
    return nn.functional.mse_loss(model(inputs.to(**to)).to(to["dtype"]), targets.to(**to))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: Iterable[int], **options: bool) -> None:
    for step in steps:
        optimizer.zero_grad()
        loss_of(model, step, **options).backward()
        optimizer.step()


@functools.cache
def trained(make_optimizer: MakeOptimizer, steps: int = 3) -> list[torch.Tensor]:
    """Parameters after training in one process."""
    model = make_model().double()
    train(model, make_optimizer(model.parameters()), range(steps), everything=True)
    return [parameter.detach() for parameter in model.parameters()]


def assert_parameters(model: nn.Module, expected: Iterable[torch.Tensor], tolerance: float = 1e-5) -> None:
    for parameter, value in zip(model.parameters(), expected, strict=True):
        whole = parameter.full_tensor() if isinstance(parameter, DTensor) else parameter
        assert_close(whole.detach(), value, tolerance)


def ddp() -> None:
    for options in ({}, {"bucket_cap_mb": 0.0005, "gradient_as_bucket_view": True}, {"static_graph": True}):
        model = DistributedDataParallel(make_model().to("gxu"), **options)
        train(model, sgd(model.parameters()), range(3))
        assert_parameters(model, trained(sgd))
    model = DistributedDataParallel(make_model().to("gxu"), device_ids=[torch.gxu.current_device()])
    model._register_builtin_comm_hook(dist.BuiltinCommHookType.FP16_COMPRESS)
    train(model, sgd(model.parameters()), range(3))
    assert_parameters(model, trained(sgd), 1e-2)


def ddp_gradients() -> None:
    """no_sync() adds up what the next backward sends."""
    model = DistributedDataParallel(make_model().to("gxu"))
    with model.no_sync():
        loss_of(model, 0).backward()
    loss_of(model, 1).backward()
    reference = make_model().double()
    for step in range(2):
        loss_of(reference, step, everything=True).backward()
    for parameter, expected in zip(model.parameters(), reference.parameters(), strict=True):
        assert parameter.grad is not None and expected.grad is not None
        assert_close(parameter.grad, expected.grad, 1e-5)


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.branches = nn.ModuleList(nn.Linear(7, 5) for _ in range(3))

    def forward(self, inputs: torch.Tensor, branch: int) -> torch.Tensor:
        result: torch.Tensor = self.branches[branch](inputs)
        return result


def ddp_unused_parameters() -> None:
    """Each rank uses another branch; the third is used by none."""
    model = DistributedDataParallel(Branches().to("gxu"), find_unused_parameters=True)
    reference = Branches().double()
    for step in range(2):
        inputs = [tensor.chunk(len(world())) for tensor in make_batch(step)]
        model.zero_grad()
        nn.functional.mse_loss(model(inputs[0][rank()].gxu(), rank() % 2), inputs[1][rank()].gxu()).backward()
        reference.zero_grad()
        for of in world():
            loss = nn.functional.mse_loss(reference(inputs[0][of].double(), of % 2), inputs[1][of].double())
            (loss / len(world())).backward()
        for parameter, expected in zip(model.parameters(), reference.parameters(), strict=True):
            assert (parameter.grad is None) == (expected.grad is None)
            if parameter.grad is not None and expected.grad is not None:
                assert_close(parameter.grad, expected.grad, 1e-5)


def sync_batch_norm() -> None:
    """Statistics of parts that are not equally large, one of them channels-last, against those of the whole batch."""
    torch.manual_seed(2)
    batch, slopes = torch.randn(5, 4, 3, 6) * 3 + 1, torch.randn(5, 4, 3, 6)
    bounds = [0, *range(2, len(world()) + 1), 5]
    mine = slice(bounds[rank()], bounds[rank() + 1])
    for options in ({"momentum": 0.3}, {"affine": False}, {"track_running_stats": False}, {"momentum": None}):
        reference = nn.BatchNorm2d(4, **options).double()
        norm = nn.SyncBatchNorm.convert_sync_batchnorm(nn.BatchNorm2d(4, **options)).to("gxu")
        assert isinstance(norm, nn.SyncBatchNorm)
        for _ in range(2):
            inputs, whole = batch[mine].gxu(), batch.double()
            if rank() == 0:
                inputs = inputs.contiguous(memory_format=torch.channels_last)
            outputs = norm(inputs.requires_grad_())
            expected = reference(whole.requires_grad_())
            outputs.backward(slopes[mine].gxu())
            expected.backward(slopes.double())
            assert outputs.stride() == inputs.stride()
            assert_close(outputs, expected[mine], 1e-5)
            assert inputs.grad is not None and whole.grad is not None
            assert_close(inputs.grad, whole.grad[mine], 1e-5)
        for parameter, of_whole in zip(norm.parameters(), reference.parameters(), strict=True):
            assert parameter.grad is not None and of_whole.grad is not None
            dist.all_reduce(parameter.grad)
            assert_close(parameter.grad, of_whole.grad, 1e-5)
        for name, statistics in reference.named_buffers():
            assert_close(norm.get_buffer(name), statistics, 1e-5)
    half = nn.SyncBatchNorm(4).to("gxu")
    with torch.autocast("gxu", torch.bfloat16):
        outputs = half(batch[mine].gxu().bfloat16())
    assert outputs.dtype == torch.bfloat16
    assert_close(outputs, nn.BatchNorm2d(4)(batch)[mine], 3e-2)


def shard_layers(model: nn.Sequential, **options: Any) -> nn.Sequential:
    for layer in (model[0], model[3]):
        fully_shard(layer, **options)
    fully_shard(model, **options)
    return model


def fsdp() -> None:
    model = shard_layers(make_model())
    assert next(model.parameters()).device.type == "gxu"
    train(model, adamw(model.parameters()), range(3))
    assert_parameters(model, trained(adamw), 1e-4)
    policy = MixedPrecisionPolicy(torch.bfloat16, reduce_dtype=torch.float32)
    mesh = dist.init_device_mesh("gxu", (len(world()),))
    model = shard_layers(make_model().to("gxu"), mesh=mesh, mp_policy=policy)
    train(model, sgd(model.parameters()), range(3))
    assert_parameters(model, trained(sgd), 3e-2)
    total = nn.utils.clip_grad_norm_(model.parameters(), 1e9)
    assert isinstance(total, DTensor)
    squares = [parameter.grad.full_tensor().cpu().square().sum() for parameter in model.parameters()]
    assert_close(total.full_tensor(), torch.stack(squares).sum().sqrt(), 1e-4)


def fsdp_with_replicas() -> None:
    for shape in ((1, len(world())), (len(world()), 1)):
        mesh = dist.init_device_mesh("gxu", shape, mesh_dim_names=("replicas", "shards"))
        model = shard_layers(make_model(), mesh=mesh)
        train(model, sgd(model.parameters()), range(3))
        assert_parameters(model, trained(sgd))


def checkpoint() -> None:
    """Half of the training, saved and loaded into a model with other numbers, and the other half."""
    states = []
    model = shard_layers(make_model())
    optimizer = adamw(model.parameters())
    train(model, optimizer, range(2))
    resumed = shard_layers(make_model().apply(lambda module: nn.init.ones_(getattr(module, "weight", torch.empty(0)))))
    resumed_optimizer = adamw(resumed.parameters())
    folder: list[object] = [tempfile.mkdtemp() if rank() == 0 else None]
    dist.broadcast_object_list(folder, 0)
    get_state = dist.checkpoint.state_dict.get_state_dict
    states = get_state(model, optimizer)
    dist.checkpoint.save({"model": states[0], "optimizer": states[1]}, checkpoint_id=str(folder[0]))
    assert any(Path(str(folder[0])).iterdir())
    states = get_state(resumed, resumed_optimizer)
    state = {"model": states[0], "optimizer": states[1]}
    dist.checkpoint.load(state, checkpoint_id=str(folder[0]))
    dist.checkpoint.state_dict.set_state_dict(
        resumed, resumed_optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"]
    )
    train(resumed, resumed_optimizer, range(2, 4))
    assert_parameters(resumed, trained(adamw, 4), 1e-4)


def zero_redundancy_optimizer() -> None:
    from torch.distributed.optim import ZeroRedundancyOptimizer

    model = DistributedDataParallel(make_model().to("gxu"))
    optimizer = ZeroRedundancyOptimizer(model.parameters(), torch.optim.AdamW, lr=0.01)
    train(model, optimizer, range(3))
    assert_parameters(model, trained(adamw), 1e-4)
    optimizer.consolidate_state_dict(to=0)
    if rank() == 0:
        assert len(optimizer.state_dict()["state"]) == len(list(model.parameters()))


class FeedForward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.up = nn.Linear(7, 18)
        self.down = nn.Linear(18, 5)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.down(nn.functional.gelu(self.up(inputs)))
        return result


def parallel_feed_forward() -> tuple[nn.Module, nn.Module]:
    mesh = dist.init_device_mesh("gxu", (len(world()),))
    plan = {"up": ColwiseParallel(), "down": RowwiseParallel()}
    return parallelize_module(FeedForward().to("gxu"), mesh, plan), FeedForward().double()


def tensor_parallel() -> None:
    model, reference = parallel_feed_forward()
    inputs, targets = make_batch(0)
    nn.functional.mse_loss(model(inputs.gxu()), targets.gxu()).backward()
    nn.functional.mse_loss(reference(inputs.double()), targets.double()).backward()
    for parameter, expected in zip(model.parameters(), reference.parameters(), strict=True):
        assert isinstance(parameter.grad, DTensor) and expected.grad is not None
        assert_close(parameter.grad.full_tensor(), expected.grad, 1e-5)


def dtensor() -> None:
    mesh = dist.init_device_mesh("gxu", (len(world()),))
    left, right = contribution(0, 5, 4), contribution(1, 4, 6)
    rows = distribute_tensor(left.to("gxu"), mesh, [Shard(0)])
    columns = distribute_tensor(right.to("gxu"), mesh, [Shard(1)])
    assert_close((rows @ columns).full_tensor(), left.double() @ right.double())
    assert_close(rows.redistribute(mesh, [Shard(1)]).redistribute(mesh, [Replicate()]).to_local(), left)
    assert_close(rows.sum().full_tensor(), left.double().sum())
    partial = DTensor.from_local(contribution(rank(), 3).to("gxu"), mesh, [Partial()])
    assert_close(partial.full_tensor(), sum((contribution(of, 3) for of in world()), torch.zeros(3)))


def every_functional_collective(tensor: torch.Tensor) -> list[torch.Tensor]:
    group = dist.group.WORLD
    assert group is not None
    size = group.size()
    return [
        functional.all_reduce(tensor * 2, "sum", group) + 1,
        functional.all_gather_tensor(tensor + 1, 0, group).sin(),
        functional.reduce_scatter_tensor(tensor, "avg", 0, group) * 3,
        functional.all_to_all_single(tensor, None, None, group) - 1,
        functional.broadcast(tensor.exp(), 1, group),
        *functional.all_reduce_coalesced([tensor, tensor.square()], "max", group),
        *functional.all_gather_into_tensor_coalesced([tensor, tensor + 1], group),
        *functional.reduce_scatter_tensor_coalesced([tensor, tensor - 1], "sum", [0, 0], group),
        functional.permute_tensor(tensor.view(-1), [*range(1, size), 0], group),
    ]


def expected_of_functional_collectives(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    size, me = len(tensors), rank()
    total = sum(tensors, torch.zeros_like(tensors[0]))
    squares = [tensor.square() for tensor in tensors]
    return [
        total * 2 + 1,
        (torch.cat(tensors) + 1).sin(),
        total.chunk(size)[me] / size * 3,
        torch.cat([tensor.chunk(size)[me] for tensor in tensors]) - 1,
        tensors[1].exp(),
        functools.reduce(torch.maximum, tensors),
        functools.reduce(torch.maximum, squares),
        torch.cat(tensors),
        torch.cat(tensors) + 1,
        total.chunk(size)[me],
        (total - size).chunk(size)[me],
        tensors[(me - 1) % size].view(-1),
    ]


def functional_collectives() -> None:
    tensors = [contribution(of, 6, 3) for of in world()]
    expected = expected_of_functional_collectives([tensor.double() for tensor in tensors])
    for result, value in zip(every_functional_collective(tensors[rank()].to("gxu")), expected, strict=True):
        assert_close(result, value, 1e-5)


def in_place_collectives(tensor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    total = tensor + 1
    dist.all_reduce(total)
    gathered = tensor.new_empty(dist.get_world_size() * tensor.shape[0], tensor.shape[1])
    dist.all_gather_into_tensor(gathered, total * 2)
    return total.sin(), gathered.cos()


def between_kernels(tensor: torch.Tensor) -> list[torch.Tensor]:
    group = dist.group.WORLD
    assert group is not None
    total = functional.all_reduce((tensor * 2).sin(), "sum", group)
    gathered = functional.all_gather_tensor(total.exp(), 0, group)
    scattered = functional.reduce_scatter_tensor(gathered.cos(), "avg", 0, group)
    return [total, gathered, scattered * 3]


def compiled_collectives() -> None:
    """In one graph, between kernels that gxu compiles."""
    size = len(world())
    total = sum(((contribution(of, 6, 3).double() * 2).sin() for of in world()), torch.zeros(6, 3).double())
    expected = [total, total.exp().repeat(size, 1), total.exp().cos() * 3]
    before = torch.gxu._C.launch_count()
    results = torch.compile(between_kernels, fullgraph=True)(contribution(rank(), 6, 3).to("gxu"))
    assert torch.gxu._C.launch_count() >= before + 3
    for result, value in zip(results, expected, strict=True):
        assert_close(result, value, 1e-5)


def all_compiled_collectives() -> None:
    tensors = [contribution(of, 6, 3) for of in world()]
    expected = expected_of_functional_collectives([tensor.double() for tensor in tensors])
    compiled: Any = torch.compile(every_functional_collective, fullgraph=True)
    for result, value in zip(compiled(tensors[rank()].to("gxu")), expected, strict=True):
        assert_close(result, value, 1e-5)
    total = sum((tensor.double() + 1 for tensor in tensors), torch.zeros(6, 3, dtype=torch.float64))
    results = torch.compile(in_place_collectives, fullgraph=True)(tensors[rank()].to("gxu"))
    assert_close(results[0], total.sin(), 1e-5)
    assert_close(results[1], (total * 2).cos().repeat(len(world()), 1), 1e-5)


def compiled_ddp() -> None:
    torch._dynamo.reset()
    model: Any = torch.compile(DistributedDataParallel(make_model().to("gxu"), bucket_cap_mb=1))
    train(model, sgd(model.parameters()), range(3))
    assert_parameters(model, trained(sgd))


def compiled_tensor_parallel() -> None:
    torch._dynamo.reset()
    model, reference = parallel_feed_forward()
    inputs, targets = make_batch(0)
    compiled: Any = torch.compile(model, fullgraph=True)
    nn.functional.mse_loss(compiled(inputs.gxu()), targets.gxu()).backward()
    nn.functional.mse_loss(reference(inputs.double()), targets.double()).backward()
    for parameter, expected in zip(model.parameters(), reference.parameters(), strict=True):
        assert isinstance(parameter.grad, DTensor) and expected.grad is not None
        assert_close(parameter.grad.full_tensor(), expected.grad, 1e-5)


def compiled_fsdp() -> None:
    torch._dynamo.reset()
    model = shard_layers(make_model())
    model.compile()
    train(model, sgd(model.parameters()), range(3))
    assert_parameters(model, trained(sgd))


def pipeline() -> None:
    from torch.distributed.pipelining import PipelineStage, ScheduleGPipe

    torch.manual_seed(3)
    layers = nn.Sequential(nn.Linear(7, 18), nn.Linear(18, 5))
    reference = nn.Sequential(*layers).double()
    inputs, targets = make_batch(0)
    expected = nn.functional.mse_loss(reference(inputs.double()), targets.double())
    layer = layers[rank()].float().to("gxu")
    stage = PipelineStage(layer, rank(), len(world()), torch.device("gxu", torch.gxu.current_device()))
    schedule = ScheduleGPipe(stage, 2, loss_fn=nn.functional.mse_loss)
    losses: list[torch.Tensor] = []
    if rank() == 0:
        schedule.step(inputs.gxu())
    else:
        schedule.step(target=targets.gxu(), losses=losses)
        assert_close(torch.stack(losses).mean().detach(), expected.detach(), 1e-5)
