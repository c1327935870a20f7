"""Kernels that come back from Inductor's cache: without Triton's frontend, and with all that launches of theirs had."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import triton
from torch import Tensor

from gxu.inductor import autotuner

SIZE = 1003


def work(x: Tensor, y: Tensor) -> Tensor:
    return (x * y + x.sin()).relu() - y


@pytest.fixture(params=[False, True], ids=["static", "dynamic"])
def dynamic(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def compile_again(dynamic: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Compiles, runs and checks `work` as a new process would that has the caches of the test's earlier ones."""
    from torch._inductor.utils import clear_caches

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "triton"))

    def run() -> None:
        torch._dynamo.reset()
        clear_caches()
        x, y = torch.randn(SIZE), torch.randn(SIZE)
        x[3], y[5] = torch.nan, torch.inf
        compiled = torch.compile(work, dynamic=dynamic)
        for _ in range(2):  # the second call has another launcher
            torch.testing.assert_close(
                compiled(x.to("gxu"), y.to("gxu")).cpu(), work(x, y), equal_nan=True, rtol=1e-6, atol=1e-6
            )

    with torch._inductor.config.patch(compile_threads=1):
        yield run
    torch._dynamo.reset()
    clear_caches()


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The kernels that were given to Triton's compiler, which looks into its own cache first."""
    given: list[object] = []
    compile_kernel = triton.compile

    def record(src: object, **options: object) -> object:
        given.append(src)
        return compile_kernel(src, **options)

    monkeypatch.setattr(triton, "compile", record)
    return given


def test_loaded_kernels_need_no_compiler(compile_again: Callable[[], None], compilations: list[object]) -> None:
    compile_again()
    assert len(compilations) == 1
    compile_again()
    assert len(compilations) == 1


def test_images_come_with_the_graph(
    compile_again: Callable[[], None], compilations: list[object], tmp_path: Path
) -> None:
    compile_again()
    shutil.rmtree(tmp_path / "triton")
    compile_again()
    assert len(compilations) == 1


def test_always_compile(
    compile_again: Callable[[], None], compilations: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_again()
    monkeypatch.setenv("TRITON_ALWAYS_COMPILE", "1")
    compile_again()
    assert len(compilations) == 2


def test_a_damaged_image_is_an_error(compile_again: Callable[[], None], tmp_path: Path) -> None:
    compile_again()
    (image,) = (tmp_path / "triton").rglob("*.cubin")
    contents = bytearray(image.read_bytes())
    contents[len(contents) // 2] ^= 1
    image.write_bytes(contents)
    with pytest.raises(RuntimeError, match="is damaged; delete the Triton cache"):
        compile_again()


def test_hooks_see_launches_of_loaded_kernels(compile_again: Callable[[], None], compilations: list[object]) -> None:
    """Triton's hooks get what only Triton's own kernel knows: it is looked up when the first of them listens."""
    compile_again()
    launches: list[dict[str, object]] = []

    def listen(metadata: object) -> None:
        launches.append(metadata.get())  # type: ignore[attr-defined]

    hooks = triton.knobs.runtime.launch_enter_hook
    listening = autotuner.DeviceCachingAutotuner._make_launchers

    def make_launchers(self: autotuner.DeviceCachingAutotuner) -> None:
        listening(self)
        if listen not in hooks.calls:
            hooks.add(listen)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(autotuner.DeviceCachingAutotuner, "_make_launchers", make_launchers)
        try:
            compile_again()
        finally:
            hooks.remove(listen)
    assert len(launches) == 2
    assert all(str(launch["name"]).startswith("triton_poi_fused") for launch in launches)
    assert len(compilations) == 2


def test_hooks_see_loads_of_stored_kernels(compile_again: Callable[[], None], compilations: list[object]) -> None:
    """Triton's own kernel tells such hooks, and launches: the stored one is not loaded."""
    compile_again()
    loaded: list[str] = []

    def listen(module: object, function: object, name: str, group: object, key: object) -> None:
        loaded.append(name)

    hooks = triton.knobs.runtime.kernel_load_end_hook
    hooks.add(listen)
    try:
        compile_again()
    finally:
        hooks.remove(listen)
    assert len(loaded) == 1
    assert loaded[0].startswith("triton_poi_fused")
    assert len(compilations) == 2


def test_the_setting_leaves_kernels_to_triton(compile_again: Callable[[], None], compilations: list[object]) -> None:
    """torch's own switch for such kernels."""
    with torch._inductor.config.patch(use_static_cuda_launcher=False):
        compile_again()
        compile_again()
    assert len(compilations) == 2
