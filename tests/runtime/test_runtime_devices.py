"""Version, start, errors and devices of the host engine."""

from __future__ import annotations

import ctypes
import re
import shutil
import threading
from ctypes import c_int, c_size_t
from pathlib import Path

import pytest
import runtime_abi as abi
from runtime_abi import Runtime, RuntimeFailure

MEMORY_LIMIT = 64 << 20  # bytes, as the fixture sets it


def test_library_exports_exactly_the_header(library: Path) -> None:
    declared = re.findall(r"^GXU_API [^(]*?\b(gxu\w+)\(", abi.HEADER.read_text(), re.MULTILINE)
    assert sorted(declared) == sorted(abi.PROTOTYPES)
    loaded = ctypes.CDLL(str(library))
    for name in declared:
        assert hasattr(loaded, name), name
    assert not hasattr(loaded, "_ZN3gxu4host12device_countEv"), "the engine's own symbols must stay hidden"


def test_version_and_error_texts_work_before_init(library: Path, tmp_path: Path) -> None:
    fresh = Runtime(Path(shutil.copy(library, tmp_path / "fresh.so")))
    assert fresh.number("gxuGetVersion") == 1000
    assert fresh.library.gxuGetErrorName(abi.OUT_OF_MEMORY) == b"gxuErrorOutOfMemory"
    assert fresh.library.gxuGetErrorString(abi.OUT_OF_MEMORY) == b"out of memory"
    assert fresh.library.gxuGetErrorName(12345) == b"unrecognized error code"
    with pytest.raises(RuntimeFailure, match="gxuInit has not been called") as failure:
        fresh.gxuSetDevice(0)
    assert failure.value.code == abi.NOT_INITIALIZED


def test_every_error_code_has_a_name(runtime: Runtime) -> None:
    codes = dict(re.findall(r"\b(gxu(?:Success|Error)\w*) = (\d+)", abi.HEADER.read_text()))
    assert len(codes) > 20
    for name, code in codes.items():
        assert runtime.library.gxuGetErrorName(int(code)).decode() == name
        assert runtime.library.gxuGetErrorString(int(code)) != b"unrecognized error code"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("GXU_DEVICE_COUNT", "0"),
        ("GXU_DEVICE_COUNT", "65"),
        ("GXU_DEVICE_COUNT", "two"),
        ("GXU_DEVICE_COUNT", "2x"),
        ("GXU_MEMORY_LIMIT", "0"),
        ("GXU_MEMORY_LIMIT", "-1"),
        ("GXU_MEMORY_LIMIT", "12Q"),
        ("GXU_MEMORY_LIMIT", "1MM"),
        ("GXU_MEMORY_LIMIT", "99999999999999T"),
    ],
)
def test_init_refuses_bad_environment(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    fresh = Runtime(Path(shutil.copy(library, tmp_path / "fresh.so")))
    monkeypatch.setenv(variable, value)
    with pytest.raises(RuntimeFailure, match=f"{variable} is '{value}': want") as failure:
        fresh.gxuInit(0)
    assert failure.value.code == abi.INVALID_VALUE
    monkeypatch.delenv(variable)
    fresh.gxuInit(0)  # a failed start can be repeated


@pytest.mark.parametrize(
    ("text", "expected"), [("1048576", 1 << 20), ("512k", 512 << 10), ("3M", 3 << 20), ("2G", 2 << 30), ("1T", 1 << 40)]
)
def test_memory_limit_suffixes(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: int
) -> None:
    fresh = Runtime(Path(shutil.copy(library, tmp_path / "fresh.so")))
    monkeypatch.setenv("GXU_MEMORY_LIMIT", text)
    fresh.gxuInit(0)
    free, total = c_size_t(), c_size_t()
    fresh.gxuMemGetInfo(ctypes.byref(free), ctypes.byref(total))
    assert total.value == expected
    assert 0 < free.value <= expected


def test_init_is_repeatable_and_takes_no_flags(runtime: Runtime) -> None:
    runtime.gxuInit(0)
    assert runtime.code("gxuInit", 1) == abi.INVALID_VALUE


def test_last_error_is_cleared_by_reading_and_belongs_to_the_thread(runtime: Runtime) -> None:
    assert runtime.code("gxuSetDevice", 7) == abi.INVALID_DEVICE
    assert runtime.message() == "device 7 does not exist: there are 2, numbered from 0"
    seen_by_other = []
    thread = threading.Thread(target=lambda: seen_by_other.append(runtime.code("gxuPeekAtLastError")))
    thread.start()
    thread.join()
    assert seen_by_other == [abi.SUCCESS]
    runtime.gxuSetDevice(0)  # success does not clear it
    assert runtime.code("gxuPeekAtLastError") == abi.INVALID_DEVICE
    assert runtime.code("gxuGetLastError") == abi.INVALID_DEVICE
    assert runtime.code("gxuGetLastError") == abi.SUCCESS


def test_devices_and_current_device_per_thread(runtime: Runtime) -> None:
    assert runtime.number("gxuGetDeviceCount") == 2
    runtime.gxuSetDevice(1)
    assert runtime.number("gxuGetDevice") == 1
    seen = []
    thread = threading.Thread(target=lambda: seen.append(runtime.number("gxuGetDevice")))
    thread.start()
    thread.join()
    assert seen == [0]
    for bad in (-1, 2):
        assert runtime.code("gxuSetDevice", bad) == abi.INVALID_DEVICE
    assert runtime.number("gxuGetDevice") == 1


def test_device_properties(runtime: Runtime) -> None:
    properties = abi.DeviceProperties(struct_size=ctypes.sizeof(abi.DeviceProperties))
    runtime.gxuGetDeviceProperties(ctypes.byref(properties), 1)
    assert re.fullmatch(rb"GXU \(host engine, \d+ threads\)", properties.name)
    assert re.fullmatch(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", properties.uuid)
    assert properties.uuid.endswith(b"1")
    assert (properties.triton_backend, properties.triton_arch, properties.delegate) == (b"gxu", b"1", b"cpu")
    assert (properties.major, properties.minor) == (1, 0)
    assert properties.total_memory == MEMORY_LIMIT
    assert (properties.multi_processor_count, properties.max_grid_size) == (48, 48)
    assert (properties.warp_size, properties.preferred_num_warps) == (32, 1)
    assert (properties.host_accessible, properties.concurrent_kernels) == (1, 1)
    assert properties.vector_bytes in (16, 32, 64)
    assert properties.L2_cache_size >= properties.L1_cache_size > 0
    assert runtime.code("gxuGetDeviceProperties", ctypes.byref(properties), 2) == abi.INVALID_DEVICE


def test_device_properties_of_a_longer_and_a_shorter_struct(runtime: Runtime) -> None:
    size = ctypes.sizeof(abi.DeviceProperties)

    class Longer(abi.DeviceProperties):
        _fields_ = (("future", ctypes.c_uint64),)

    longer = Longer(struct_size=ctypes.sizeof(Longer), future=77)
    runtime.gxuGetDeviceProperties(ctypes.byref(longer), 0)
    assert longer.multi_processor_count == 48
    assert longer.future == 0, "what this version does not know is zero"
    short = abi.DeviceProperties(struct_size=size - 8)
    with pytest.raises(RuntimeFailure, match=f"struct_size is {size - 8}: want at least {size}"):
        runtime.gxuGetDeviceProperties(ctypes.byref(short), 0)


def test_peers(runtime: Runtime) -> None:
    assert runtime.number("gxuDeviceCanAccessPeer", 0, 1) == 1
    assert runtime.number("gxuDeviceCanAccessPeer", 1, 1) == 0
    assert runtime.code("gxuDeviceCanAccessPeer", ctypes.byref(c_int()), 0, 2) == abi.INVALID_DEVICE
