"""gxu._C.launch: from Python values to the parameter slots of a kernel."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest
import runtime_shims
import torch
from torch.utils._debug_mode import DebugMode

C = torch.gxu._C

#: `show` writes the parameter slots from the second on to where the first one points; `add` adds a number to n others.
SOURCE = """
#include <string.h>
#include "gxu_host_kernel.h"
GXU_HOST_KERNEL(show, 0, 0, 0, 8, 1, 2, 4, 8, 1, 2, 4, 8, 2, 2, 4, 8, 1, 8)
GXU_HOST_KERNEL_EXPORT void show(const uint64_t *params, const gxuHostGrid *grid, int64_t begin, int64_t end,
                                 void *scratch, const gxuHostServices *services) {
  memcpy((void *)params[0], params + 1, 14 * sizeof(uint64_t));
}
GXU_HOST_KERNEL(add, 0, 0, 0, 8, 4, 4)
GXU_HOST_KERNEL_EXPORT void add(const uint64_t *params, const gxuHostGrid *grid, int64_t begin, int64_t end,
                                void *scratch, const gxuHostServices *services) {
  float *x = (float *)params[0], value;
  memcpy(&value, params + 1, sizeof(value));
  int32_t n = (int32_t)params[2], programs = grid->x * grid->y * grid->z;
  for (int64_t p = begin; p < end; ++p)
    for (int64_t i = n * p / programs; i < n * (p + 1) / programs; ++i) x[i] += value;
}
"""


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> int:
    folder: Path = tmp_path_factory.mktemp("kernels")
    code, image = folder / "kernels.c", folder / "kernels.so"
    code.write_text(SOURCE)
    command = ["cc", "-O1", "-shared", "-fPIC", f"-I{runtime_shims.HEADER_FOLDER}", str(code), "-o", str(image)]
    subprocess.run(command, check=True)
    return C.module_load_data(image.read_bytes(), "kernels")


def test_every_type(module: int) -> None:
    show = C.module_get_function(module, "show")
    slots = torch.zeros(14, dtype=torch.int64, device="gxu")
    x = torch.ones(3, device="gxu")
    args = (slots, -1, -2, -3, -4, 255, 65535, 2**32 - 1, 2**64 - 1, 1.5, 1.5, -2.25, 0.1, True, x, "a constexpr")
    C.launch(show, 1, 1, 1, 0, "pbhilBHILeyfd?p-", args)
    torch.gxu.synchronize()
    raw = struct.pack("<14q", *slots.tolist())
    fields = [raw[8 * i : 8 * i + 8] for i in range(14)]
    assert [struct.unpack_from("<" + c, field)[0] for c, field in zip("bhiqBHIQ", fields, strict=False)] == list(
        args[1:9]
    )
    assert struct.unpack_from("<e", fields[8])[0] == 1.5
    assert struct.unpack_from("<H", fields[9])[0] == 0x3FC0  # 1.5 in bf16
    assert struct.unpack_from("<f", fields[10])[0] == -2.25
    assert struct.unpack_from("<d", fields[11])[0] == 0.1
    assert fields[12][0] == 1
    assert struct.unpack_from("<Q", fields[13])[0] == x.data_ptr()


@pytest.mark.parametrize("grid", [(1, 1, 1), (48, 1, 1), (4, 3, 5)])
def test_grids_and_pointers(module: int, grid: tuple[int, int, int]) -> None:
    add = C.module_get_function(module, "add")
    x = torch.zeros(1001, device="gxu")
    before = C.launch_count()
    C.launch(add, *grid, 0, "pfi", (x, 2.0, 1001))
    C.launch(add, *grid, 0, "pfi", (x.data_ptr(), 1, 1001))
    C.launch(add, *grid, C.get_raw_stream(0), "pfi", (torch.nn.Parameter(x), 0.5, 1001))
    assert C.launch_count() == before + 3
    assert x.tolist() == [3.5] * 1001  # reading waits for the stream


def test_views_and_host_memory(module: int) -> None:
    add = C.module_get_function(module, "add")
    x = torch.zeros(10, device="gxu")
    C.launch(add, 1, 1, 1, 0, "pfi", (x[4:], 1.0, 3))
    assert x.tolist() == [0.0] * 4 + [1.0] * 3 + [0.0] * 3
    y = torch.zeros(4).pin_memory()
    C.launch(add, 1, 1, 1, 0, "pfi", (y, 1.0, 4))  # the host engine reads host memory
    torch.gxu.synchronize()
    assert y.tolist() == [1.0] * 4


def test_a_launch_on_pageable_memory_waits(module: int) -> None:
    add = C.module_get_function(module, "add")
    launcher = C.KernelLauncher(add, (2, 1, 1), "pfi", (), None)
    stream = torch.gxu.Stream()
    for step in range(20):
        y = torch.zeros(1000)
        C.launch(add, 4, 1, 1, stream.gxu_stream, "pfi", (y, 1.0, 1000))
        assert y.eq(1).all(), step  # the CPU's own operator, without a word to the stream
        launcher(y, 1.0, 1000, stream=stream.gxu_stream)
        assert y.eq(2).all(), step


def test_a_captured_launch_on_pageable_memory_runs_in_replays(module: int) -> None:
    add = C.module_get_function(module, "add")
    y = torch.zeros(100)
    graph = torch.gxu.Graph()
    with torch.gxu.graph(graph):
        C.launch(add, 1, 1, 1, C.get_raw_stream(0), "pfi", (y, 1.0, 100))
    assert y.eq(0).all()
    graph.replay()
    torch.gxu.synchronize()
    assert y.eq(1).all()


def test_launches_of_one_stream_run_in_order_with_operators(module: int) -> None:
    add = C.module_get_function(module, "add")
    with torch.gxu.stream(torch.gxu.Stream()):
        x = torch.zeros(100, device="gxu")
        for step in range(50):
            C.launch(add, 3, 1, 1, C.get_raw_stream(0), "pfi", (x, 1.0, 100))
            x.mul_(2)
            assert x[7].item() == 2 * (2 ** (step + 1) - 1) or step > 20
        del x


def test_freed_memory_is_not_reused_before_the_kernel_ran(module: int) -> None:
    add = C.module_get_function(module, "add")
    for _ in range(200):
        x = torch.zeros(1000, device="gxu")
        C.launch(add, 4, 1, 1, 0, "pfi", (x, 1.0, 1000))
        del x
        y = torch.zeros(1000, device="gxu")
        assert y.sum().item() == 0


def test_empty_grid_launches_nothing(module: int) -> None:
    add = C.module_get_function(module, "add")
    before = C.launch_count()
    for grid in ((0, 1, 1), (1, 0, 1), (1, 1, 0)):
        C.launch(add, *grid, 0, "pfi", (torch.zeros(1, device="gxu"), 1.0, 1))
    assert C.launch_count() == before


def test_none_is_a_null_pointer(module: int) -> None:
    C.launch(C.module_get_function(module, "add"), 1, 1, 1, 0, "pfi", (None, 1.0, 0))
    torch.gxu.synchronize()


def test_unknown_function(module: int) -> None:
    with pytest.raises(RuntimeError, match="gxuModuleGetFunction"):
        C.module_get_function(module, "no_such_kernel")


def test_module_from_a_file(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="gxuModuleLoad"):
        C.module_load(str(tmp_path / "missing.so"))


@pytest.mark.parametrize("dynamic", [False, True])
def test_inductor_launches_directly(monkeypatch: pytest.MonkeyPatch, dynamic: bool) -> None:
    """Generated kernels go to the runtime from their second call on, past Triton's launcher and torch's method."""
    from gxu.inductor import autotuner

    built = []

    def record(result: object, launcher: object, run: object) -> object:
        built.append(build_run(result, launcher, run))
        return built[-1]

    build_run = autotuner.build_run
    monkeypatch.setattr(autotuner, "build_run", record)
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: x * 3 + 7, dynamic=dynamic)
    x = torch.randn(50, device="gxu")
    compiled(x)
    (run,) = built
    assert isinstance(run, C.KernelLauncher) == (not dynamic)  # which knows its grid
    with monkeypatch.context() as patch:
        patch.setattr(autotuner.CachingAutotuner, "run", None)
        torch.testing.assert_close(compiled(x).cpu(), x.cpu() * 3 + 7)
    # Who profiles gets what torch's method records.
    with torch.profiler.profile() as profile:
        torch.testing.assert_close(compiled(x).cpu(), x.cpu() * 3 + 7)
    assert any(event.name.startswith("triton_poi_fused") for event in profile.events())
    assert len(built) == 1


def test_debug_modes_see_launches() -> None:
    """Also those of kernels whose calls went straight to the runtime before."""
    compiled = torch.compile(lambda x: x.cos() * 3 - 1)
    x = torch.randn(40, device="gxu")
    for _ in range(2):
        compiled(x)
    with DebugMode() as mode:
        torch.testing.assert_close(compiled(x).cpu(), x.cpu().cos() * 3 - 1)
    assert "triton_poi_fused" in mode.debug_string()
    torch.testing.assert_close(compiled(x).cpu(), x.cpu().cos() * 3 - 1)


def test_kernel_launcher(module: int) -> None:
    """The launcher in C: constants are passed over, and whoever watches, or asks for more, gets the slow way."""
    slow: list[tuple[tuple[object, ...], dict[str, object]]] = []
    watch = {"profiler": False, "modes": 0}
    launch = C.KernelLauncher(
        C.module_get_function(module, "add"),
        (2, 1, 1),
        "pf-i",
        ((watch, "profiler"), (watch, "modes")),
        lambda *args, **options: slow.append((args, options)),
    )
    x = torch.zeros(5, device="gxu")
    launch(x, 1.5, "constant", 5, stream=0)
    assert not slow and x.tolist() == [1.5] * 5
    arguments = (x, 1.5, "constant", 5)
    watch["modes"] = 1
    launch(*arguments, stream=0)
    watch["modes"] = 0
    launch(*arguments, stream=0, benchmark_run=True)
    launch(*arguments[:3], stream=0)
    del watch["profiler"]
    launch(*arguments, stream=0)
    options = {"stream": 0}
    assert slow == [
        (arguments, options),
        (arguments, options | {"benchmark_run": True}),
        (arguments[:3], options),
        (arguments, options),
    ]
    assert x.tolist() == [1.5] * 5
    watch["profiler"] = False
    for wrong, error in (((x, "text", 0, 5), TypeError), ((x.cpu(), 1.5, 0, 1 << 40), OverflowError)):
        with pytest.raises(error):
            launch(*wrong, stream=0)
    with pytest.raises(TypeError, match="tuple of pairs"):
        C.KernelLauncher(0, (1, 1, 1), "p", ((1, 2),), print)


def test_autotuners_forget_their_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that is tuned or pickled again starts from torch's method."""
    from gxu.inductor.autotuner import GXUCachingAutotuner

    kernels = []
    build = GXUCachingAutotuner._build_fast_launcher

    def record(kernel: GXUCachingAutotuner, launcher: object) -> object:
        kernels.append(kernel)
        return build(kernel, launcher)

    monkeypatch.setattr(GXUCachingAutotuner, "_build_fast_launcher", record)
    compiled = torch.compile(lambda x: (x * 5 - 2).sin())
    x = torch.randn(60, device="gxu")
    compiled(x)
    (kernel,) = kernels
    assert "run" in vars(kernel)
    kernel._cached_launcher = None
    assert "run" not in vars(kernel)
    torch.testing.assert_close(compiled(x).cpu(), (x.cpu() * 5 - 2).sin())
    assert "run" in vars(kernel)


def test_device_guard_for_generated_code() -> None:
    """The guard in C: exceptions pass through it, and arguments are checked as those of `torch.gxu.device` are."""
    with pytest.raises(ZeroDivisionError), torch.gxu._DeviceGuard(0):
        _ = 1 / 0
    assert torch.gxu.current_device() == 0
    with pytest.raises(RuntimeError, match="GXU device index 99 is out of range"), torch.gxu._DeviceGuard(99):
        pass
    with pytest.raises(RuntimeError, match="GXU device index -1 is out of range"):
        C.set_device(-1)
    assert C.exchange_device(0) == 0
    with pytest.raises(RuntimeError, match="GXU device index 99 is out of range"):
        C.exchange_device(99)
    for arguments in ((), (0, 0), ("0",)):
        with pytest.raises(TypeError):
            torch.gxu._DeviceGuard(*arguments)
        with pytest.raises(TypeError):
            C.exchange_device(*arguments)
