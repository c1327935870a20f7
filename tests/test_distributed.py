"""torch.distributed on gxu: collectives, training, and how groups are made. Two processes run the cases of
distributed_collectives.py and distributed_training.py, one device each."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import distributed_worker
import pytest
import runtime_shims
from process_helpers import ROOT, RunPython

RANKS = 2


class Team:
    """Processes that run the same case at the same time. One that fails leaves the others waiting, so that the next
    case gets new ones."""

    def __init__(self, folder: Path, backend: str, *environments: Mapping[str, str]) -> None:
        """`environments`: what is added to the environment of each rank."""
        self.folder = folder
        self.backend = backend
        self.environments = environments
        self.starts = 0
        self.processes: list[subprocess.Popen[str]] = []
        self.reports: list[queue.Queue[str]] = []

    def start(self) -> None:
        self.starts += 1
        store = self.folder / f"store{self.starts}"
        common = {
            **os.environ,
            "PYTHONPATH": f"{ROOT / 'tests'}:{os.environ.get('PYTHONPATH', '')}",
            "PYTHONWARNINGS": "ignore",
            "GXU_DEVICE_COUNT": str(RANKS),
            # Compiler processes would cost more than what they compile here.
            "TORCHINDUCTOR_COMPILE_THREADS": "1",
        }
        for rank, environment in enumerate(self.environments):
            arguments = [str(rank), str(RANKS), str(store), self.backend]
            with (self.folder / f"stderr{rank}").open("w") as stderr:
                process = subprocess.Popen(
                    [sys.executable, distributed_worker.__file__, *arguments],
                    env={**common, **environment},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    text=True,
                )
            reports: queue.Queue[str] = queue.Queue()
            threading.Thread(target=self.read, args=(process, reports), daemon=True).start()
            self.processes.append(process)
            self.reports.append(reports)

    @staticmethod
    def read(process: subprocess.Popen[str], reports: queue.Queue[str]) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                if line.startswith(distributed_worker.REPORT):
                    reports.put(json.loads(line.removeprefix(distributed_worker.REPORT)))
        reports.put("the process has ended")

    def run(self, case: str, timeout: float = 90) -> None:
        if not self.processes:
            self.start()
        errors = []
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write(case + "\n")
            process.stdin.flush()
        for rank, reports in enumerate(self.reports):
            try:
                error = reports.get(timeout=timeout)
            except queue.Empty:
                error = f"no answer in {timeout} s"
            if error:
                stderr = (self.folder / f"stderr{rank}").read_text()[-2000:]
                errors.append(f"rank {rank}: {error}\n{stderr}")
        if errors:
            self.stop(kill=True)
        assert not errors, "\n".join(errors)

    def stop(self, *, kill: bool = False) -> list[int]:
        """The exit statuses."""
        for process in self.processes:
            assert process.stdin is not None
            if kill:
                process.kill()
            process.stdin.close()
        statuses = [process.wait(60) for process in self.processes]
        self.processes, self.reports = [], []
        return statuses


@pytest.fixture(scope="module")
def staging_runtime(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A runtime whose memory the CPU does not reach."""
    folder = tmp_path_factory.mktemp("staging_runtime")
    return str(runtime_shims.build(folder, runtime_shims.NO_DELEGATE, on_host_engine=True))


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory, staging_runtime: str) -> Iterator[Team]:
    """Rank 0 lends its memory to the CPU, rank 1 copies. The backend is what PyTorch chooses."""
    environments = ({}, {"GXU_RUNTIME": staging_runtime})
    team = Team(tmp_path_factory.mktemp("team"), "default", *environments)
    yield team
    assert not any(team.stop())


@pytest.fixture(scope="module", params=["lending", "staging"])
def uniform_team(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, staging_runtime: str
) -> Iterator[Team]:
    environment = {"GXU_RUNTIME": staging_runtime} if request.param == "staging" else {}
    team = Team(tmp_path_factory.mktemp(request.param), "cpu:gloo,gxu:gxuccl", environment, environment)
    yield team
    assert not any(team.stop())


COLLECTIVES = (
    *("broadcast", "all_reduce", "all_reduce_others", "reduce_and_coalesced", "all_gather", "gather_and_scatter"),
    *("reduce_scatter", "all_to_all", "point_to_point", "objects", "groups", "futures", "streams"),
)
TRAINING = (
    *("ddp", "ddp_gradients", "ddp_unused_parameters", "fsdp", "fsdp_with_replicas", "checkpoint"),
    *(
        "sync_batch_norm",
        "zero_redundancy_optimizer",
        "tensor_parallel",
        "dtensor",
        "functional_collectives",
        "pipeline",
    ),
)


@pytest.mark.parametrize("case", [*COLLECTIVES, "refusals", "lateness"])
def test_collectives(team: Team, case: str) -> None:
    team.run(f"collectives.{case}")


@pytest.mark.parametrize("case", [*TRAINING, "compiled_collectives", "compiled_ddp"])
def test_training(team: Team, case: str) -> None:
    team.run(f"training.{case}")


@pytest.mark.extended
@pytest.mark.parametrize("case", ["all_compiled_collectives", "compiled_tensor_parallel", "compiled_fsdp"])
def test_compiled(team: Team, case: str) -> None:
    team.run(f"training.{case}", timeout=200)


@pytest.mark.extended
@pytest.mark.parametrize("case", COLLECTIVES)
def test_collectives_of_one_kind(uniform_team: Team, case: str) -> None:
    uniform_team.run(f"collectives.{case}")


@pytest.mark.extended
@pytest.mark.parametrize("case", TRAINING)
def test_training_of_one_kind(uniform_team: Team, case: str) -> None:
    uniform_team.run(f"training.{case}")


TORCHRUN = """
import os, torch, torch.distributed as dist

rank = int(os.environ["LOCAL_RANK"])
device = torch.device("mychip", rank)
dist.init_process_group(device_id=device)
assert dist.get_backend() == "mychipccl" and dist.group.WORLD.bound_device_id == device
tensor = torch.full((3,), rank + 1.0, device=device)
dist.all_reduce(tensor)
assert tensor.tolist() == [3.0] * 3
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(3, 2).to(device))
model(tensor).sum().backward()
dist.barrier()
dist.destroy_process_group()
"""


def test_torchrun_and_another_name(run_python: RunPython, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(TORCHRUN)
    torchrun = ("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={RANKS}", "script.py")
    result = run_python(*torchrun, env={"GXU_DEVICE_NAME": "mychip", "GXU_DEVICE_COUNT": str(RANKS)}, timeout=90)
    assert result.returncode == 0, result.stderr


REGISTRATION = """
import sys, torch, torch.distributed as dist

before = {name for name in sys.modules if name.startswith("torch.distributed")}
dist.Backend.register_backend("vendorccl", lambda *arguments: None, devices=["gxu"])
cpu = dict(dist.Backend.backend_capability)
import gxu

assert {name for name in sys.modules if name.startswith("torch.distributed")} == before
assert not torch.gxu.is_initialized()
assert dist.get_default_backend_for_device("gxu") == "vendorccl" and dist.is_backend_available("gxuccl")
assert dist.get_default_backend_for_device("cpu") == "gloo"
assert {**cpu, "gxuccl": ["gxu"]} == dist.Backend.backend_capability
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
tensor = torch.ones(2)
dist.all_reduce(tensor)
try:
    dist.all_reduce(tensor.to("gxu"))
except RuntimeError as error:
    assert "No backend type associated with device type gxu" in str(error)
else:
    raise AssertionError("a group for the CPU took a gxu tensor")
try:
    dist.new_group(backend="gxuccl", pg_options=object())
except TypeError as error:
    assert "gxuccl takes pg_options of ProcessGroupGloo, not object" in str(error)
else:
    raise AssertionError("unknown options were taken")
group = dist.new_group(backend="gxuccl", pg_options=dist.ProcessGroupGloo._Options())
tensor = torch.arange(3.0, device="gxu")
dist.all_reduce(tensor, group=group)
assert tensor.tolist() == [0, 1, 2]
"""


def test_registration(run_python: RunPython) -> None:
    """gxu imports nothing more of torch.distributed, leaves other devices' backends alone, and is the default unless
    another package was first."""
    result = run_python("-c", REGISTRATION, env={"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"})
    assert result.returncode == 0, result.stderr
