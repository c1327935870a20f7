"""Kernels that Triton's own NVIDIA backend compiled, launched through the cuda engine: what reaches the driver.

On the stand-in driver of tests/runtime/fake_cuda, which loads real cubins, checks their launches and writes them down.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import pytest
import torch
from process_helpers import RunPython

RUNTIME_TESTS = Path(__file__).resolve().parents[1] / "runtime"
sys.path.insert(0, str(RUNTIME_TESTS))

import cuda_engine  # noqa: E402

KERNELS = """
import sys, os, struct
import torch, triton, triton.language as tl
sys.path.insert(0, {tests!r})
import cuda_engine
from pathlib import Path
driver = cuda_engine.FakeDriver(Path(os.environ["GXU_CUDA_DRIVER"]))

@triton.jit
def scaled(x, out, n, half: tl.constexpr, scale, small, flag, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    tl.store(out + offsets, tl.load(x + offsets, mask=mask) * scale + small + flag, mask=mask)

@triton.jit
def product(a, b, out, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    m, n, k = tl.arange(0, M)[:, None], tl.arange(0, N)[None, :], tl.arange(0, K)
    left = tl.load(a + m * K + k[None, :])
    right = tl.load(b + k[:, None] * N + n)
    tl.store(out + m * N + n, tl.dot(left, right))

@triton.jit
def scratched(out, n, ROWS: tl.constexpr):
    block = tl.make_tensor_descriptor(out, [n, 64], [64, 1], [ROWS, 64])
    block.store([tl.program_id(0) * ROWS, 0], tl.zeros([ROWS, 64], tl.float32))

def allocate(size, alignment, stream):
    print("scratch", size, alignment)
    return torch.empty(size, dtype=torch.int8, device="gxu")

def show():
    torch.gxu.synchronize()
    for launch in driver.launches():
        count = launch.num_params
        shape = (*launch.grid, *launch.block[:1], launch.shared_memory_bytes, launch.cluster_width)
        print(launch.name.decode(), *shape, launch.programmatic_serialization,
              "|", *launch.param_sizes[:count], "|", *map(hex, launch.params[:count]))
    driver.reset()
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    pytest.importorskip("triton.backends.nvidia.compiler")
    driver = cuda_engine.build_fake_driver(tmp_path_factory.mktemp("fake_cuda"))
    return {"GXU_RUNTIME": "cuda", "GXU_CUDA_DRIVER": str(driver), "TRITON_DEFAULT_BACKEND": "gxu"}


def run(run_python: RunPython, environment: dict[str, str], body: str, folder: Path, timeout: float = 120) -> list[str]:
    script = folder / "script.py"  # Triton reads the source of its kernels from a file
    script.write_text(KERNELS.format(tests=str(RUNTIME_TESTS)) + body)
    result = run_python(str(script), timeout=timeout, env=environment)
    assert result.returncode == 0, result.stdout + result.stderr
    return str(result.stdout).splitlines()


def test_target_is_the_one_that_the_runtime_names(
    run_python: RunPython, environment: dict[str, str], tmp_path: Path
) -> None:
    body = """
target = triton.runtime.driver.active.get_current_target()
print(target.backend, target.arch, target.warp_size)
"""
    assert run(run_python, environment, body, tmp_path) == ["cuda 90 32"]


def test_parameters_threads_and_shared_memory(
    run_python: RunPython, environment: dict[str, str], tmp_path: Path
) -> None:
    body = """
x, out = torch.empty(1000, device="gxu"), torch.empty(1000, device="gxu")
kernel = scaled[(4, 1, 2)](x, out, 1000, 7, 0.5, -3, True, BLOCK=256, num_warps=8)
print(hex(x.data_ptr()), hex(out.data_ptr()), kernel.n_regs, kernel.n_spills)
show()
pinned = torch.empty(1000, pin_memory=True)
scaled[(1,)](pinned, out, 1000, 7, 0.5, -3, True, BLOCK=256)
show()
try:
    scaled[(1,)](torch.empty(1000), out, 1000, 7, 0.5, -3, True, BLOCK=256)
except ValueError as error:
    print(error)
a = torch.empty(128, 128, dtype=torch.float16, device="gxu")
kernel = product[(1,)](a, a, torch.empty(128, 128, device="gxu"), 128, 128, 128, num_warps=4)
print(kernel.metadata.shared)
show()
"""
    first, launched, pinned, refused, shared, large = run(run_python, environment, body, tmp_path)
    x, out, registers, spills = first.split()
    assert (registers, spills) == ("40", "0")
    half = struct.unpack("I", struct.pack("f", 0.5))[0]
    sizes = "8 8 4 4 4 1 8 8"
    values = f"{x} {out} 0x3e8 {half:#x} 0xfffffffd 0x1 0x0 0x0"
    assert launched == f"scaled 4 1 2 256 0 1 0 | {sizes} | {values}"
    assert pinned.startswith("scaled 1 1 1 128 0 1 0 | ")
    assert "cannot be accessed from Triton (cpu tensor?)" in refused
    assert int(shared) > 48 << 10, "this case is for kernels that need the attribute"
    assert large.startswith(f"product 1 1 1 128 {shared} 1 0 | 8 8 8 8 8 | ")


def test_clusters_and_programmatic_launches(run_python: RunPython, environment: dict[str, str], tmp_path: Path) -> None:
    body = """
x, out = torch.empty(1000, device="gxu"), torch.empty(1000, device="gxu")
scaled[(4,)](x, out, 1000, 7, 0.5, -3, True, BLOCK=256, num_ctas=2)
scaled[(4,)](x, out, 1000, 7, 0.5, -3, True, BLOCK=256, launch_pdl=True)
show()
"""
    clustered, programmatic = run(run_python, environment, body, tmp_path)
    assert clustered.startswith("scaled 8 1 1 128 "), "a program is a cluster"
    assert clustered.split(" | ")[0].endswith(" 2 0")
    assert programmatic.split(" | ")[0] == "scaled 4 1 1 128 0 1 1"


def test_scratch_memory_of_a_launch(run_python: RunPython, environment: dict[str, str], tmp_path: Path) -> None:
    body = """
triton.set_allocator(allocate)
out = torch.empty(64, 64, device="gxu")
kernel = scratched[(4,)](out, 64, ROWS=16)
print(kernel.metadata.global_scratch_size)
show()
"""
    allocated, size, launched = run(run_python, environment, body, tmp_path)
    assert int(size) > 0
    assert allocated.split()[:2] == ["scratch", str(4 * int(size))]
    assert int(launched.split()[-2], 16) != 0, "scratch memory comes before that of the profiler"
    assert launched.split()[-1] == "0x0"


@pytest.mark.skipif(torch.backends.cuda.is_built(), reason="eager operators run on PyTorch's cuda, without a driver")
def test_inductor_compiles_for_the_target_of_the_runtime(
    run_python: RunPython, environment: dict[str, str], tmp_path: Path
) -> None:
    """Forward and backward, with torch's own configurations: no grid rule, four or more warps."""
    body = """
def step(x, w):
    return ((x * 2 + 1).sin() * w).sum(-1)

x, w = (torch.empty(300, 1000, device="gxu", requires_grad=True) for _ in range(2))
compiled = torch.compile(step)
for _ in range(2):
    compiled(x, w).sum().backward()
show()
"""
    lines = run(run_python, environment, body, tmp_path)
    names = {line.split()[0] for line in lines}
    assert any("sum" in name for name in names)
    assert any("cos" in name for name in names), "the derivative of the sine"
    for line in lines:
        shape, sizes, values = line.split(" | ")
        grid, threads = int(shape.split()[1]), int(shape.split()[4])
        assert threads in (64, 128, 256, 512, 1024)
        assert grid > 48 or "sum" in line
        assert sizes.split()[-2:] == ["8", "8"]
        assert values.split()[-2:] == ["0x0", "0x0"], "no scratch memory"


@pytest.mark.extended
@pytest.mark.parametrize("how", ["cpp_wrapper", "aoti", "aoti with its kernels embedded"])
def test_wrappers_in_cpp_launch_for_the_target_of_the_runtime(
    run_python: RunPython, environment: dict[str, str], tmp_path: Path, how: str
) -> None:
    path = str(tmp_path / "model.pt2")
    body = f"""
import torch._inductor
from torch._inductor import config

class Step(torch.nn.Module):
    def forward(self, x):
        return ((x * 2 + 1).sin()).sum(-1)

x = torch.empty(300, 1000, device="gxu")
if {how!r} == "cpp_wrapper":
    config.cpp_wrapper = True
    model = torch.compile(Step())
else:
    config.aot_inductor.embed_kernel_binary = "embedded" in {how!r}
    exported = torch.export.export(Step(), (x,))
    model = torch._inductor.aoti_load_package(torch._inductor.aoti_compile_and_package(exported, package_path={path!r}))
driver.reset()
model(x)
print(hex(x.data_ptr()))
show()
"""
    *_, pointer, line = run(run_python, environment, body, tmp_path, timeout=400)
    shape, sizes, values = line.split(" | ")
    assert "sum" in shape.split()[0]
    assert int(shape.split()[4]) in (64, 128, 256, 512, 1024)
    assert values.split()[0] == pointer
    assert (sizes.split()[-2:], values.split()[-2:]) == (["8", "8"], ["0x0", "0x0"]), "scratch memory comes last"
