"""What a user sees who asks for something that cannot be: one sentence with what was asked, found and wanted."""

from __future__ import annotations

from pathlib import Path

import pytest
import runtime_shims
import torch
from process_helpers import RunPython

from gxu import _version
from gxu._version import check_torch_version

USE_DEVICE = "import torch; torch.ones(2, device='gxu')"


def last_line(run_python: RunPython, code: str, **env: str) -> str:
    """The message of the exception that ends `code` in a process of its own."""
    result = run_python("-c", code, env=env)
    assert result.returncode == 1, result.stderr
    return result.stderr.strip().splitlines()[-1]


def test_missing_runtime_library(run_python: RunPython, tmp_path: Path) -> None:
    path = str(tmp_path / "libmissing.so")
    message = last_line(run_python, USE_DEVICE, GXU_RUNTIME=path)
    assert message.startswith(f"RuntimeError: The GXU runtime library {path} does not exist")
    assert f"GXU_RUNTIME={path}" in message


def test_cuda_engine_that_is_not_built(run_python: RunPython) -> None:
    if runtime_shims.HOST_ENGINE.with_name("libgxu_runtime_cuda.so").exists():
        pytest.skip("the cuda engine is built here")
    message = last_line(run_python, USE_DEVICE, GXU_RUNTIME="cuda")
    assert "libgxu_runtime_cuda.so does not exist (GXU_RUNTIME=cuda)" in message


def test_unreadable_runtime_library(run_python: RunPython, tmp_path: Path) -> None:
    path = tmp_path / "libtext.so"
    path.write_text("not a library")
    message = last_line(run_python, USE_DEVICE, GXU_RUNTIME=str(path))
    assert message.startswith(f"RuntimeError: The GXU runtime library {path} cannot be loaded: ")


def test_folder_as_runtime_library(run_python: RunPython, tmp_path: Path) -> None:
    message = last_line(run_python, USE_DEVICE, GXU_RUNTIME=str(tmp_path))
    assert f"The GXU runtime library {tmp_path} does not exist" in message


@pytest.mark.parametrize(("version", "text"), [(999, "0.999"), (2000, "2.0")])
def test_runtime_library_of_another_version(run_python: RunPython, tmp_path: Path, version: int, text: str) -> None:
    path = runtime_shims.build(tmp_path, runtime_shims.version_only(version))
    message = last_line(run_python, USE_DEVICE, GXU_RUNTIME=str(path))
    assert f"The GXU runtime library {path} has ABI version {text}, but this torch-gxu needs version 1." in message


def test_library_that_is_no_runtime(run_python: RunPython, tmp_path: Path) -> None:
    path = runtime_shims.build(tmp_path, "int something_else;")
    message = last_line(run_python, USE_DEVICE, GXU_RUNTIME=str(path))
    assert f"The file {path} is not a GXU runtime library: it does not export gxuGetVersion." in message


def test_incomplete_runtime_library(run_python: RunPython, tmp_path: Path) -> None:
    path = runtime_shims.build(tmp_path, runtime_shims.version_only(torch.gxu._C.ABI_VERSION))
    message = last_line(run_python, USE_DEVICE, GXU_RUNTIME=str(path))
    assert f"The GXU runtime library {path} does not export gxu" in message


def test_gxu_runtime_that_names_nothing(run_python: RunPython) -> None:
    message = last_line(run_python, USE_DEVICE, GXU_RUNTIME="hots")
    assert message == (
        "RuntimeError: GXU_RUNTIME=hots names no runtime: expected 'host', 'cuda' or the path of a runtime library."
    )


def test_questions_about_devices_need_no_runtime(run_python: RunPython) -> None:
    code = "import torch; print(torch.gxu.is_available(), torch.gxu.device_count()); torch.manual_seed(1)"
    result = run_python("-c", code, env={"GXU_RUNTIME": "hots"})
    assert result.stdout.split() == ["False", "0"], result.stderr


@pytest.mark.parametrize("index", [64, 99, 127])
def test_device_index_out_of_range(index: int) -> None:
    for use in (
        lambda: torch.empty(1, device=f"gxu:{index}"),
        lambda: torch.ones(1).to(f"gxu:{index}"),
        lambda: torch.gxu.set_device(index),
        lambda: torch.gxu.get_device_properties(index),
        lambda: torch.gxu.synchronize(index),
        lambda: torch.gxu.Stream(index),
        lambda: torch.gxu.current_stream(index),
    ):
        with pytest.raises(RuntimeError, match=f"GXU device index {index} is out of range: this process has "):
            use()
    assert torch.gxu.current_device() == 0


def test_device_of_another_type() -> None:
    with pytest.raises(ValueError, match="Expected a gxu device, but got: cpu"):
        torch.gxu.set_device("cpu")
    with pytest.raises(ValueError, match=r"expected a torch\.device, a string or an integer"):
        torch.gxu.synchronize(1.5)


def test_mixed_devices() -> None:
    here, there = torch.ones(3, device="gxu"), torch.ones(3)
    message = "Expected all tensors to be on the same device, but found at least two devices, gxu:0 and cpu!"
    for use in (
        lambda: here + there,
        lambda: there * here,
        lambda: torch.mm(here.view(1, 3), there.view(3, 1)),
        lambda: torch.cat([here, there]),
        lambda: torch.add(here, here, out=there),
        lambda: here.add_(there),
        lambda: torch.ones(()).add_(here[0]),
        lambda: torch._foreach_add([here], [there]),
        lambda: torch.nn.functional.linear(here, there.view(1, 3)),
        lambda: torch.nn.functional.conv1d(here.view(1, 1, 3), there.view(1, 1, 3)),
    ):
        with pytest.raises(RuntimeError, match=message):
            use()


def test_mixed_gxu_devices(run_python: RunPython) -> None:
    code = "import torch; torch.ones(2, device='gxu:0') + torch.ones(2, device='gxu:1')"
    message = last_line(run_python, code, GXU_DEVICE_COUNT="2")
    assert "found at least two devices, gxu:0 and gxu:1!" in message


def test_cpu_scalars_mix_with_device_tensors() -> None:
    assert (torch.ones(2, device="gxu") + torch.tensor(2.0)).tolist() == [3, 3]
    assert (torch.arange(4, device="gxu")[torch.tensor([1, 3])]).tolist() == [1, 3]


FORKED = (
    "Cannot re-initialize GXU in forked subprocess. To use GXU with multiprocessing, you must use the 'spawn' start "
    "method"
)
FORK = """
import os, torch
print(torch.gxu.device_count())
x = torch.ones(2, device="gxu")
read, write = os.pipe()
if os.fork() == 0:
    messages = [str(torch.gxu._is_in_bad_fork()), str(torch.gxu.device_count())]
    for use in (lambda: torch.ones(2, device="gxu"), lambda: x + 1, lambda: x.add_(1), lambda: x.cpu(),
                lambda: torch.gxu.synchronize()):
        try:
            use()
        except RuntimeError as error:
            messages.append(str(error))
    del x  # frees device memory in the child
    torch.ones(2) + 1
    os.write(write, "\\n".join(messages).encode())
    os._exit(0)
os.close(write)
print(os.read(read, 10000).decode())
assert os.wait()[1] == 0
assert (x + 1).tolist() == [2, 2]
"""


def test_use_in_a_forked_child(run_python: RunPython) -> None:
    result = run_python("-c", FORK)
    assert result.returncode == 0, result.stderr
    count, in_bad_fork, child_count, *messages = result.stdout.splitlines()
    assert in_bad_fork == "True"
    assert child_count == count
    assert messages == [FORKED] * 5


def test_fork_before_the_first_use(run_python: RunPython) -> None:
    code = """
import os, torch
torch.manual_seed(3)
if os.fork() == 0:
    os._exit(int(torch.ones(3, device="gxu").sum().item()))
assert os.waitstatus_to_exitcode(os.wait()[1]) == 3
assert torch.ones(2, device="gxu").tolist() == [1, 1]
"""
    result = run_python("-c", code)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("found", ["2.10.1", "2.14.0+cpu", "3.0", "1.13", "unknown"])
def test_unsupported_torch(found: str) -> None:
    with pytest.raises(
        ImportError, match=rf"torch-gxu .* needs torch >=2.11,<2.14, but found torch {found}".replace("+", r"\+")
    ):
        check_torch_version(found)


@pytest.mark.parametrize("suffix", [".0", ".1+cu128", ".0a0+git1"])
def test_supported_torch(suffix: str) -> None:
    check_torch_version(".".join(torch.__version__.split(".")[:2]) + suffix)


def test_torch_that_gxu_was_not_built_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    built_with = tmp_path / "built_with_torch"
    built_with.write_text("2.11.0+cpu")
    monkeypatch.setattr(_version, "_BUILT_WITH", built_with)
    check_torch_version("2.11.1")
    with pytest.raises(
        ImportError, match=r"was built with torch 2\.11\.0\+cpu, but found torch 2\.13\.0; build it again"
    ):
        check_torch_version("2.13.0")


def test_import_checks_torch(run_python: RunPython) -> None:
    code = "import torch; torch.__version__ = '2.99.0'; import gxu"
    message = last_line(run_python, code, TORCH_DEVICE_BACKEND_AUTOLOAD="0")
    assert message.startswith("ImportError: torch-gxu ")
    assert "but found torch 2.99.0" in message


def test_pinned_memory_is_on_the_cpu() -> None:
    with pytest.raises(RuntimeError, match="Only dense CPU tensors can be pinned"):
        torch.empty(2, device="gxu", pin_memory=True)


@pytest.mark.parametrize(
    ("signature", "args", "error", "message"),
    [
        ("p", (torch.ones(1, device="meta"),), ValueError, r"Pointer argument \(at 0\) cannot be accessed from Triton"),
        ("ip", (1, "x"), TypeError, r"Pointer argument \(at 1\) must be a tensor"),
        ("i", (2**31,), OverflowError, r"Integer argument \(at 0\) does not fit in 32 bits: 2147483648"),
        ("b", (-129,), OverflowError, r"Integer argument \(at 0\) does not fit in 8 bits: -129"),
        ("i", (1.5,), TypeError, "integer"),
        ("f", ("x",), TypeError, "real number"),
        ("z", (1,), ValueError, "unknown type character 'z' at 0"),
        ("ii", (1,), TypeError, "expected a tuple of 2 arguments"),
    ],
)
def test_launch_with_wrong_arguments(signature: str, args: tuple, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        torch.gxu._C.launch(0, 1, 1, 1, 0, signature, args)


def test_launch_of_nothing() -> None:
    with pytest.raises(RuntimeError, match="gxuLaunchKernel"):
        torch.gxu._C.launch(0, 1, 1, 1, 0, "", ())
    with pytest.raises(ValueError, match="out of range"):
        torch.gxu._C.launch(0, -1, 1, 1, 0, "", ())


def test_image_that_is_no_kernel() -> None:
    with pytest.raises(RuntimeError, match=r"The kernel image 'softmax' \(5 bytes\) cannot be loaded: "):
        torch.gxu._C.module_load_data(b"hello", "softmax")
