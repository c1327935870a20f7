"""Modules and kernel launches of the host engine."""

from __future__ import annotations

import ctypes
import math
import re
import struct
from collections.abc import Callable
from ctypes import c_double, c_int64, c_void_p
from pathlib import Path

import pytest
import runtime_abi as abi
from runtime_abi import Runtime, RuntimeFailure
from runtime_gate import Gate, ints, wait_for


def test_module_from_memory_and_from_file(runtime: Runtime, image: Path) -> None:
    data = image.read_bytes()
    handles = [runtime.made("gxuModuleLoadData", data, len(data)) for _ in range(3)]
    handles += [runtime.made("gxuModuleLoad", str(image).encode()) for _ in range(2)]
    out = runtime.upload(bytes(4 * 7))
    for handle in handles:
        function = runtime.function(handle, "count")
        assert runtime.function(handle, "count") == function
        runtime.launch(function, (7, 1, 1), (c_void_p(out),))
    runtime.gxuModuleUnload(handles.pop())  # waits for the launch; the same file stays loaded for the other
    for handle in handles:
        runtime.launch(runtime.function(handle, "count"), (7, 1, 1), (c_void_p(out),))
        runtime.gxuModuleUnload(handle)
    assert ints(runtime.download(out, 28)) == [9] * 7
    assert runtime.code("gxuModuleUnload", handles[0]) == abi.INVALID_HANDLE
    assert runtime.code("gxuLaunchKernel", function, 1, 1, 1, 1, 1, 1, 0, None, None) == abi.INVALID_HANDLE
    runtime.gxuFree(out)


@pytest.mark.parametrize("from_file", [True, False])
def test_two_images_in_the_same_place_are_two_modules(runtime: Runtime, tmp_path: Path, from_file: bool) -> None:
    """The dynamic loader takes equal names for equal libraries; a recompiled kernel must not run the old code."""
    path = tmp_path / "kernel.so"
    out = runtime.upload(bytes(4))
    handles = []
    for number in (11, 22):
        source = tmp_path / f"kernel{number}.c"
        source.write_text(
            '#include "gxu_host_kernel.h"\n'
            "GXU_HOST_KERNEL(store, 0, 0, 0, 8)\n"
            "GXU_HOST_KERNEL_EXPORT void store(const uint64_t *params, const gxuHostGrid *grid, int64_t begin,\n"
            "    int64_t end, void *scratch, const gxuHostServices *services) {\n"
            "  (void)grid, (void)begin, (void)end, (void)scratch, (void)services;\n"
            f"  *(int32_t *)(uintptr_t)params[0] = {number};\n"
            "}\n"
        )
        path.unlink(missing_ok=True)
        abi.compile_kernels(source, path)
        data = path.read_bytes()
        if from_file:
            handles.append(runtime.made("gxuModuleLoad", str(path).encode()))
        else:
            handles.append(runtime.made("gxuModuleLoadData", data, len(data)))
        runtime.launch(runtime.function(handles[-1], "store"), (1, 1, 1), (c_void_p(out),))
        assert ints(runtime.download(out, 4)) == [number]
    for handle in handles:
        runtime.gxuModuleUnload(handle)
    runtime.gxuFree(out)


def test_loading_many_modules_keeps_no_descriptors(runtime: Runtime, image: Path) -> None:
    data = image.read_bytes()
    before = len(list(Path("/proc/self/fd").iterdir()))
    handles = [runtime.made("gxuModuleLoadData", data, len(data)) for _ in range(64)]
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2
    for handle in handles:
        runtime.gxuModuleUnload(handle)


def test_bad_images_are_refused(runtime: Runtime, image: Path, tmp_path: Path) -> None:
    data = image.read_bytes()
    other_cpu = bytearray(data)
    other_cpu[18] ^= 0x40  # e_machine
    for bad, reason in (
        (b"not an image", "is not an ELF shared object"),
        (b"\x7fELF", "is not an ELF shared object"),
        (data[:100], "cut off"),
        (data[: len(data) // 3], "cut off"),
        (bytes(other_cpu), "is for ELF machine"),
    ):
        with pytest.raises(RuntimeFailure, match=reason) as failure:
            runtime.made("gxuModuleLoadData", bad, len(bad))
        assert failure.value.code == abi.INVALID_IMAGE
        path = tmp_path / "bad.so"
        path.write_bytes(bad)
        with pytest.raises(RuntimeFailure, match=reason) as failure:
            runtime.made("gxuModuleLoad", str(path).encode())
        assert failure.value.code == abi.INVALID_IMAGE
        assert str(path) in failure.value.message
    with pytest.raises(RuntimeFailure, match="No such file") as failure:
        runtime.made("gxuModuleLoad", str(tmp_path / "missing.so").encode())
    assert failure.value.code == abi.FILE_NOT_FOUND
    with pytest.raises(RuntimeFailure, match="not a regular file"):
        runtime.made("gxuModuleLoad", str(tmp_path).encode())


def test_image_with_an_unresolved_symbol_names_it(runtime: Runtime, tmp_path: Path) -> None:
    source = tmp_path / "unresolved.c"
    source.write_text("extern int no_such_function(void);\nint caller(void) { return no_such_function(); }\n")
    path = abi.compile_kernels(source, tmp_path / "unresolved.so")
    with pytest.raises(RuntimeFailure, match="no_such_function") as failure:
        runtime.made("gxuModuleLoad", str(path).encode())
    assert failure.value.code == abi.INVALID_IMAGE


@pytest.mark.parametrize(
    ("kernel", "code", "message"),
    [
        ("absent", abi.NOT_FOUND, "no symbol 'absent'"),
        ("no_info", abi.NOT_FOUND, "no symbol 'no_info_gxu_info'"),
        ("only_info", abi.NOT_FOUND, "no symbol 'only_info'"),
        ("old_version", abi.INVALID_IMAGE, "kernel 'old_version' has kernel format version 42: this engine wants 1"),
        ("bad_size", abi.INVALID_IMAGE, "kernel 'bad_size': parameter 1 has 3 bytes, want 1, 2, 4 or 8"),
        ("bad_flags", abi.INVALID_IMAGE, "kernel 'bad_flags' has unknown flags 0x40"),
        ("huge_scratch", abi.INVALID_IMAGE, "scratch memory"),
    ],
)
def test_wrong_kernel_descriptions_are_refused(
    runtime: Runtime, module: int, kernel: str, code: int, message: str
) -> None:
    with pytest.raises(RuntimeFailure, match=re.escape(message)) as failure:
        runtime.function(module, kernel)
    assert failure.value.code == code


@pytest.mark.parametrize("grid", [(1, 1, 1), (48, 1, 1), (1, 1, 13), (7, 5, 3), (1021, 1, 1), (65537, 2, 1)])
def test_every_program_runs_once_with_its_coordinates(
    runtime: Runtime, module: int, stream: int, grid: tuple[int, int, int]
) -> None:
    programs = math.prod(grid)
    counts = runtime.upload(bytes(4 * (programs + 1)))
    runtime.launch(runtime.function(module, "count"), grid, (c_void_p(counts),), stream)
    assert ints(runtime.download(counts, 4 * (programs + 1), stream)) == [1] * programs + [0]
    runtime.gxuFree(counts)

    out = runtime.memory(12 * programs)
    runtime.gxuMemsetAsync(out, 0xFF, 12 * programs, stream)
    runtime.launch(runtime.function(module, "coordinates"), grid, (c_void_p(out),), stream)
    found = ints(runtime.download(out, 12 * programs, stream))
    x, y, z = grid
    assert found == [v for k in range(z) for j in range(y) for i in range(x) for v in (i, j, k)]
    runtime.gxuFree(out)


def test_parameters_of_every_size_are_copied_at_the_launch(runtime: Runtime, module: int, stream: int) -> None:
    out = runtime.memory(41 * 8)
    kinds = (ctypes.c_int8, ctypes.c_int16, ctypes.c_int32, ctypes.c_int64)
    values = [kinds[i % 4](-1 - i) for i in range(40)]
    gate = Gate(runtime, stream)
    runtime.launch(runtime.function(module, "show_params"), (1, 1, 1), (c_void_p(out), *values), stream)
    expected = [out] + [value.value % 256 ** ctypes.sizeof(value) for value in values]
    for value in values:
        value.value = 0  # the launch took its copy
    gate.open()
    assert list(struct.unpack("41Q", runtime.download(out, 41 * 8, stream))) == expected
    runtime.gxuFree(out)


def test_slots_of_narrow_parameters_are_zero_beyond_the_value(runtime: Runtime, module: int, stream: int) -> None:
    out = runtime.memory(32)
    wide, narrow = runtime.function(module, "show_wide"), runtime.function(module, "show_narrow")
    for _ in range(3):
        runtime.launch(wide, (1, 1, 1), (c_void_p(out), *(c_int64(-1),) * 3), stream)
        assert struct.unpack("4Q", runtime.download(out, 32, stream)) == (out, *(2**64 - 1,) * 3)
        runtime.launch(
            narrow, (1, 1, 1), (c_void_p(out), ctypes.c_int8(-1), ctypes.c_int16(-2), ctypes.c_int32(-3)), stream
        )
        assert struct.unpack("4Q", runtime.download(out, 32, stream)) == (out, 0xFF, 0xFFFE, 0xFFFFFFFD)
    runtime.gxuFree(out)


def test_launch_arguments_are_checked(runtime: Runtime, module: int, stream: int) -> None:
    function = runtime.function(module, "count")
    out = runtime.memory(4)
    arguments = (c_void_p(out),)
    for grid in ((0, 1, 1), (1, 0, 1), (1, 1, 0)):
        with pytest.raises(RuntimeFailure, match=r"kernel 'count': the grid .* has a zero dimension") as failure:
            runtime.launch(function, grid, arguments)
        assert failure.value.code == abi.INVALID_VALUE
    with pytest.raises(RuntimeFailure, match=r"more than 2\^62 programs"):
        runtime.launch(function, (2**32 - 1,) * 3, arguments)
    for block in ((0, 1, 1), (2048, 1, 1), (32, 33, 1)):
        with pytest.raises(RuntimeFailure, match=r"must have 1 to 1024 threads"):
            runtime.launch(function, (1, 1, 1), arguments, block=block)
    with pytest.raises(RuntimeFailure, match="1 parameters but kernel_params is NULL"):
        runtime.gxuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, None, None)
    with pytest.raises(RuntimeFailure, match=r"kernel_params\[0\] of 1 is NULL"):
        runtime.gxuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, None, (c_void_p * 1)())
    runtime.gxuSetDevice(1)
    with pytest.raises(RuntimeFailure, match="belongs to device 0 but the current device is 1") as failure:
        runtime.launch(function, (1, 1, 1), arguments, stream)
    assert failure.value.code == abi.INVALID_HANDLE
    runtime.gxuFree(out)


def test_dynamic_shared_memory_attribute(runtime: Runtime, module: int) -> None:
    function = runtime.function(module, "count")
    runtime.gxuFuncSetAttribute(function, 8, 1024)
    assert runtime.code("gxuFuncSetAttribute", function, 8, -1) == abi.INVALID_VALUE
    assert runtime.code("gxuFuncSetAttribute", function, 8, 2**31 - 1) == abi.INVALID_VALUE
    assert runtime.code("gxuFuncSetAttribute", function, 9, 1) == abi.INVALID_VALUE


def test_small_launches_stay_on_one_thread(runtime: Runtime, module: int, stream: int) -> None:
    out = runtime.upload(bytes(4 * 101))
    runtime.launch(runtime.function(module, "count_calls"), (100, 1, 1), (c_void_p(out), c_int64(100)), stream)
    found = ints(runtime.download(out, 404, stream))
    assert found == [1] * 100 + [1], "all programs in one call of the kernel"
    runtime.gxuFree(out)


def test_ordered_kernels_get_their_programs_in_order(runtime: Runtime, module: int, stream: int) -> None:
    turn = runtime.upload(struct.pack("q", 0))
    runtime.launch(runtime.function(module, "chain"), (500, 2, 1), (c_void_p(turn),), stream)
    assert struct.unpack("q", runtime.download(turn, 8, stream)) == (1000,)
    runtime.gxuFree(turn)


def test_scratch_belongs_to_the_worker_and_is_aligned(runtime: Runtime, module: int, stream: int) -> None:
    out = runtime.upload(bytes(4 * 301))
    runtime.launch(runtime.function(module, "use_scratch"), (301, 1, 1), (c_void_p(out),), stream)
    assert ints(runtime.download(out, 4 * 301, stream)) == [1] * 301
    runtime.gxuFree(out)


def test_images_may_use_libm(runtime: Runtime, module: int, stream: int) -> None:
    out = runtime.upload(struct.pack("33d", *[math.nan] * 33))
    runtime.launch(runtime.function(module, "sines"), (33, 1, 1), (c_void_p(out),), stream)
    found = struct.unpack("33d", runtime.download(out, 33 * 8, stream))
    assert found == pytest.approx([math.sin(i) for i in range(33)], abs=1e-15)
    assert ctypes.sizeof(c_double) == 8
    runtime.gxuFree(out)


def test_device_print_writes_whole_lines(runtime: Runtime, module: int, capfd: pytest.CaptureFixture[str]) -> None:
    runtime.launch(runtime.function(module, "hello"), (1, 1, 1), (c_void_p(0),))
    runtime.gxuStreamSynchronize(None)
    assert capfd.readouterr().out == "hello from the device\n"


@pytest.mark.parametrize(
    "synchronise",
    [
        lambda runtime, stream, event: runtime.gxuStreamSynchronize(stream),
        lambda runtime, stream, event: runtime.gxuDeviceSynchronize(),
        lambda runtime, stream, event: runtime.gxuEventSynchronize(event),
        lambda runtime, stream, event: runtime.download(runtime.memory(4), 4, stream),
    ],
    ids=["stream", "device", "event", "copy"],
)
def test_failed_assertion_is_reported_once_by_the_next_synchronising_call(
    runtime: Runtime, module: int, stream: int, synchronise: Callable[[Runtime, int, int], object]
) -> None:
    out = runtime.upload(bytes(4 * 50))
    event = runtime.event()
    runtime.launch(runtime.function(module, "assert_at"), (50, 1, 1), (c_void_p(out), c_int64(17)), stream)
    runtime.gxuEventRecord(event, stream)
    assert wait_for(lambda: runtime.code("gxuStreamQuery", stream) == abi.SUCCESS), "a query does not report it"
    runtime.gxuSetDevice(1)
    runtime.gxuDeviceSynchronize()  # another device does not report it
    runtime.gxuSetDevice(0)
    with pytest.raises(RuntimeFailure) as failure:
        synchronise(runtime, stream, event)
    assert failure.value.code == abi.LAUNCH_FAILED
    assert failure.value.message == "kernel 'assert_at' failed: index out of bounds: 0 <= tmp4 < 7"
    runtime.gxuStreamSynchronize(stream)
    runtime.gxuDeviceSynchronize()
    runtime.launch(runtime.function(module, "count"), (50, 1, 1), (c_void_p(out),), stream)
    assert ints(runtime.download(out, 200, stream)) == [2] * 50, "the device works on"
    runtime.gxuEventDestroy(event)
    runtime.gxuFree(out)
