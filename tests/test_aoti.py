"""AOTInductor on gxu: a package is made once, then loaded in Python and in C++."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import aoti_model
import pytest
import torch
from process_helpers import ROOT, RunPython
from torch import Tensor
from torch._functorch import config as functorch_config
from torch.torch_version import TorchVersion

TESTS = Path(__file__).parent
_CMAKE_OF_PYTHON = Path(sys.executable).with_name("cmake")
CMAKE = str(_CMAKE_OF_PYTHON) if _CMAKE_OF_PYTHON.exists() else "cmake"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch._dynamo.reset()
    path = tmp_path_factory.mktemp("aoti") / "model.pt2"
    aoti_model.compile_package(str(path))
    return path


def expected(batch: int, model: aoti_model.Model | None = None) -> tuple[Tensor, ...]:
    """In double precision, on the CPU."""
    model = aoti_model.make_model() if model is None else model
    with torch.no_grad():
        return model.double()(*(x.double() for x in aoti_model.make_inputs(batch)))


def run(compiled: Any, batch: int, device: str = "gxu") -> list[Tensor]:
    x, on_cpu = aoti_model.make_inputs(batch)
    return compiled(x.to(device), on_cpu)


def assert_outputs(outputs: Any, reference: tuple[Tensor, ...], device: str = "gxu:0") -> None:
    assert [str(t.device) for t in outputs] == [device, device, "cpu"]
    for actual, wanted in zip(outputs, reference, strict=True):
        torch.testing.assert_close(actual.cpu().double(), wanted, rtol=1e-4, atol=1e-5)


def test_every_batch(package: Path) -> None:
    compiled = torch._inductor.aoti_load_package(str(package))
    for batch in (6, 1, 2, 333, 4096):
        assert_outputs(run(compiled, batch), expected(batch))


def test_runs_on_the_current_stream(package: Path) -> None:
    compiled = torch._inductor.aoti_load_package(str(package))
    stream = torch.gxu.Stream()
    x, on_cpu = aoti_model.make_inputs(50)
    with torch.gxu.stream(stream):
        outputs = compiled(x.to("gxu", non_blocking=True), on_cpu)
    stream.synchronize()
    assert_outputs(outputs, expected(50))


def test_new_constants(package: Path) -> None:
    compiled = torch._inductor.aoti_load_package(str(package))
    model = aoti_model.make_model()
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.add_(0.125)
    state = {name: tensor.to("gxu") for name, tensor in model.state_dict().items()}
    assert set(compiled.get_constant_fqns()) == set(state)
    compiled.load_constants(state, check_full_update=True)
    assert_outputs(run(compiled, 9), expected(9, model))

    with torch.no_grad():
        model.float().scale.mul_(3)  # one of them, in place of the copy
    compiled.load_constants({"scale": model.scale.to("gxu")}, check_full_update=False)
    assert_outputs(run(compiled, 9), expected(9, model))


def test_four_threads_on_one_container(package: Path) -> None:
    from torch._inductor.package import load_package

    compiled = load_package(str(package), num_runners=2)
    batches = [1 + 37 * i for i in range(24)]
    references = [expected(batch) for batch in batches]

    def work(batch: int) -> list[Tensor]:
        with torch.gxu.stream(torch.gxu.Stream()):
            outputs = run(compiled, batch)
            torch.gxu.current_stream().synchronize()
        return outputs

    with ThreadPoolExecutor(4) as pool:
        for outputs, reference in zip(pool.map(work, batches), references, strict=True):
            assert_outputs(outputs, reference)


def test_process_without_a_compiler(package: Path, run_python: RunPython) -> None:
    """PyTorch's loader alone imports nothing of Inductor or Triton; aoti_load_package, part of Inductor, compiles
    nothing."""
    code = f"""
import sys, torch
loader = torch._C._aoti.AOTIModelPackageLoader({str(package)!r}, "model", False, 1, -1)
x = torch.linspace(-1, 1, 24).reshape(3, 8)
y = torch.linspace(2, 3, 15).reshape(3, 5)
outputs = loader.boxed_run([x.to("gxu"), y])
print(*(round(v, 4) for v in outputs[0].cpu().flatten().tolist()))
print([name for name in sys.modules if name.startswith(("triton", "torch._inductor", "torch._dynamo", "llvmlite"))])
torch._inductor.aoti_load_package({str(package)!r})(x.to("gxu"), y)
compilers = ("llvmlite", "gxu.triton.codegen", "gxu.triton.lowering", "torch._inductor.graph")
print([name for name in sys.modules if name.startswith(compilers)])
"""
    result = run_python("-c", code)
    assert result.returncode == 0, result.stderr
    values, imported, compilers = result.stdout.splitlines()
    assert imported == "[]"
    assert compilers == "[]"
    x = torch.linspace(-1, 1, 24, dtype=torch.float64).reshape(3, 8)
    wanted = aoti_model.make_model().double()(x, torch.zeros(3, 5, dtype=torch.float64))[0]
    actual = torch.tensor([float(v) for v in values.split()], dtype=torch.float64)
    torch.testing.assert_close(actual, wanted.flatten().detach(), rtol=1e-3, atol=1e-4)


def test_device_index(package: Path, run_python: RunPython) -> None:
    code = f"""
import sys, torch
sys.path.insert(0, {str(TESTS)!r})
import aoti_model
compiled = torch._inductor.aoti_load_package({str(package)!r}, device_index=1)
x, y = aoti_model.make_inputs(5)
outputs = compiled(x.to("gxu:1"), y)
print([str(t.device) for t in outputs], torch.gxu.current_device())
model = aoti_model.make_model()
for actual, wanted in zip(outputs, model(x, y)):
    torch.testing.assert_close(actual.cpu(), wanted, rtol=1e-4, atol=1e-5)
"""
    result = run_python("-c", code, env={"GXU_DEVICE_COUNT": "2"})
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "['gxu:1', 'gxu:1', 'cpu'] 0"


def with_metadata(package: Path, path: Path, **values: str) -> Path:
    """A copy of the package whose metadata says something else."""
    with zipfile.ZipFile(package) as source, zipfile.ZipFile(path, "w") as target:
        for item in source.infolist():
            content = source.read(item)
            if item.filename.endswith("_metadata.json"):
                content = json.dumps(json.loads(content) | values).encode()
            target.writestr(item, content, zipfile.ZIP_STORED)
    return path


REFUSED = [
    ("GXU_TORCH_VERSION", "2.12.1", "was compiled with PyTorch 2.12.1, but this is PyTorch"),
    ("GXU_SHIM_VERSION", "1000", "was compiled with a newer torch-gxu, whose C ABI has version 1000"),
    ("GXU_ABI_VERSION", "2001", "was compiled for version 2001 of the runtime's ABI"),
    ("GXU_TARGET", "gxu:other", "was compiled for devices of the kind gxu:other, but gxu:0 is"),
    ("GXU_CPU_FLAGS", "fma avx8192", "was compiled for a CPU that has the instructions avx8192, which this CPU lacks"),
]


@pytest.mark.parametrize(("key", "value", "message"), REFUSED, ids=[row[0] for row in REFUSED])
def test_package_for_something_else_is_refused(
    package: Path, tmp_path: Path, key: str, value: str, message: str
) -> None:
    other = with_metadata(package, tmp_path / "other.pt2", **{key: value})
    with pytest.raises(RuntimeError, match=message) as error:
        torch._inductor.aoti_load_package(str(other))
    assert "compile the model again" in str(error.value)
    assert_outputs(run(torch._inductor.aoti_load_package(str(package)), 3), expected(3))


@pytest.mark.skipif(torch.version.cuda is not None, reason="a torch for CUDA wants an installed CUDA for this")
def test_cmake_takes_torchs_own_target(tmp_path: Path, run_python: RunPython) -> None:
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.18)\nproject(program LANGUAGES CXX)\n"
        "find_package(Torch REQUIRED)\nfind_package(Gxu REQUIRED)\n"
        'get_target_property(linked gxu::torch INTERFACE_LINK_LIBRARIES)\nmessage(STATUS "links <${linked}>")\n'
    )
    prefix = run_python(str(ROOT / "examples" / "aoti_cpp" / "export.py"), "--cmake-prefix-path").stdout.strip()
    command = [CMAKE, "-S", str(tmp_path), "-B", str(tmp_path / "build"), f"-DCMAKE_PREFIX_PATH={prefix}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "links <torch>" in done.stdout


def test_cpp_program_without_python(tmp_path: Path, run_python: RunPython) -> None:
    example = ROOT / "examples" / "aoti_cpp"
    made = run_python(str(example / "export.py"), "model.pt2")
    assert made.returncode == 0, made.stderr
    prefix = run_python(str(example / "export.py"), "--cmake-prefix-path").stdout.strip()
    for command in (
        # torch's own configuration wants an installed CUDA where torch was built for CUDA: the program does without it.
        [
            *(CMAKE, "-S", str(example), "-B", "build", f"-DCMAKE_PREFIX_PATH={prefix}"),
            "-DCMAKE_DISABLE_FIND_PACKAGE_Torch=ON",
        ],
        [CMAKE, "--build", "build"],
    ):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, done.stdout + done.stderr
    libraries = subprocess.run(["ldd", "build/aoti_cpp"], cwd=tmp_path, capture_output=True, text=True).stdout
    assert "libgxu_torch" in libraries
    assert "python" not in libraries.replace("/python", "")  # folders are named after it

    result = subprocess.run(["build/aoti_cpp", "model.pt2", "3"], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    code = (
        f"import sys, torch\nsys.path.insert(0, {str(example)!r})\nimport export\ntorch.manual_seed(0)\n"
        "model = export.Model().double()\ntorch.manual_seed(0)\nmodel.load_state_dict(export.Model().state_dict())\n"
        "x = torch.arange(24, dtype=torch.float64).div(10).reshape(3, 8)\n"
        "probabilities, normalisers = model(x)\n"
        "for row in torch.cat([probabilities, normalisers[:, None]], 1).tolist(): print(*row)"
    )
    reference = run_python("-c", code)
    assert reference.returncode == 0, reference.stderr
    numbers = [[float(v) for v in line.split()] for line in result.stdout.splitlines()]
    wanted = [[float(v) for v in line.split()] for line in reference.stdout.splitlines()]
    torch.testing.assert_close(torch.tensor(numbers), torch.tensor(wanted), rtol=1e-4, atol=1e-5)

    # What goes wrong is one sentence.
    environment = os.environ | {"GXU_RUNTIME": "/nowhere/libgxu_runtime.so"}
    failed = subprocess.run(
        ["build/aoti_cpp", "model.pt2", "3"], cwd=tmp_path, capture_output=True, text=True, env=environment
    )
    assert failed.returncode == 1
    assert "/nowhere/libgxu_runtime.so does not exist" in failed.stderr


@pytest.mark.extended
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"aot_inductor.embed_kernel_binary": True},
        {"aot_inductor.package_constants_on_disk_format": "binary_blob"},
        {"aot_inductor.weight_use_caching_allocator": True},
        {"triton.autotune_at_compile_time": False},
        {"freezing": True},
        {"aot_inductor.use_runtime_constant_folding": True},
    ],
    ids=lambda options: next(iter(options), "defaults"),
)
def test_ways_to_package(options: dict[str, object], tmp_path: Path) -> None:
    torch._dynamo.reset()
    path = tmp_path / "model.pt2"
    aoti_model.compile_package(str(path), options)
    compiled = torch._inductor.aoti_load_package(str(path))
    for batch in (4, 1000):
        assert_outputs(run(compiled, batch), expected(batch))


def test_library_without_a_package(tmp_path: Path) -> None:
    """torch._export.aot_compile and aot_load, which PyTorch deprecates."""
    torch._dynamo.reset()
    model, inputs = aoti_model.make_model().to("gxu"), aoti_model.make_inputs(6)
    args = (inputs[0].to("gxu"), inputs[1])
    library = torch._export.aot_compile(model, args)
    for device in ("gxu", "gxu:0"):
        assert_outputs(run(torch._export.aot_load(library, device), 6), expected(6))
    with pytest.raises(RuntimeError, match="Unsupported device nothing"):
        torch._export.aot_load(library, "nothing")
    runner = torch.gxu._C.AOTIModelContainerRunner(library, 1, "gxu")
    names = runner.get_constant_names_to_original_fqns()
    changed = {name: 2 * tensor for name, tensor in model.state_dict().items() if name == "scale"}
    (internal,) = (name for name, original in names.items() if original == "scale")
    runner.update_constant_buffer({internal: changed["scale"]}, use_inactive=False, validate_full_updates=False)
    outputs = runner.run([args[0], args[1]])
    with torch.no_grad():
        model.scale.mul_(2)
    assert_outputs(outputs, expected(6, model.cpu()))


# torch 2.11 compiles a backward pass that is not compiled at once without the C++ wrapper's options, on every device.
@functorch_config.patch(force_non_lazy_backward_lowering=TorchVersion(torch.__version__) < (2, 12))
def test_compiled_by_aotinductor() -> None:
    """`torch.compile(options={"use_aoti": True})`: forward and backward pass are a library each."""
    torch._dynamo.reset()
    reference = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.GELU(), torch.nn.Linear(16, 4))
    model = copy.deepcopy(reference).to("gxu")
    compiled = torch.compile(model, fullgraph=True, options={"use_aoti": True})
    x = torch.randn(3, 8)
    result = compiled(x.to("gxu"))
    torch.testing.assert_close(result.cpu(), reference(x))
    result.square().sum().backward()
    reference(x).square().sum().backward()
    for parameter, wanted in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad.cpu(), wanted.grad)


def softmax_of_product(a: Tensor, b: Tensor) -> Tensor:
    return torch.softmax(a @ b, -1) + 1


LOAD_FUNCTION = """
import sys, torch
with open(sys.argv[1], "rb") as file:
    loaded = torch.compiler.load_compiled_function(file)
a, b = torch.randn(3, 8), torch.randn(8, 5)
torch.testing.assert_close(loaded(a.to("gxu"), b.to("gxu")).cpu(), torch.softmax(a @ b, -1) + 1)
print(torch._dynamo.utils.counters["inductor"]["fxgraph_cache_miss"])
"""


@pytest.mark.skipif(TorchVersion(torch.__version__) < (2, 12), reason="torch 2.11 has no aot_compile of such functions")
def test_compiled_function_in_a_file(tmp_path: Path, run_python: RunPython) -> None:
    """`aot_compile`, `save_compiled_function` and `load_compiled_function`, in another process without its caches."""
    torch._dynamo.reset()
    a, b = torch.randn(3, 8), torch.randn(8, 5)
    inputs = (a.to("gxu"), b.to("gxu"))
    compiled = torch.compile(softmax_of_product, fullgraph=True).aot_compile((inputs, {}))
    torch.testing.assert_close(compiled(*inputs).cpu(), softmax_of_product(a, b))
    compiled.save_compiled_function(str(tmp_path / "function"))
    caches = {name: str(tmp_path / name) for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")}
    loaded = run_python("-c", LOAD_FUNCTION, str(tmp_path / "function"), env=caches)
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout == "0\n"
