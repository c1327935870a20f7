"""torch.profiler on gxu: kernels, copies and operators on a lane of the device, tied to what enqueued them."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
import triton
import triton.language as tl
from process_helpers import RunPython
from torch._C._profiler import _ExperimentalConfig
from torch.profiler import DeviceType, ProfilerActivity, profile, record_function, schedule

BOTH = (ProfilerActivity.CPU, ProfilerActivity.PrivateUse1)
Events = list[dict[str, Any]]


@triton.jit
def triple_kernel(x, y, n, block: tl.constexpr):
    offsets = tl.program_id(0) * block + tl.arange(0, block)
    tl.store(y + offsets, 3 * tl.load(x + offsets, mask=offsets < n), mask=offsets < n)


def triple(x: torch.Tensor) -> torch.Tensor:
    y = torch.empty_like(x)
    triple_kernel[(triton.cdiv(x.numel(), 64),)](x, y, x.numel(), 64)
    return y


def trace_of(profiler: profile, folder: Path) -> Events:
    file = folder / "trace.json"
    profiler.export_chrome_trace(str(file))
    events: Events = json.loads(file.read_text())["traceEvents"]
    return events


def of_category(events: Events, category: str) -> Events:
    return [event for event in events if event.get("cat") == category]


def inside(event: dict[str, Any], outer: dict[str, Any], slack: float = 0.01) -> bool:
    """Whether `event` lies in the time of `outer`; `slack` in microseconds."""
    return bool(outer["ts"] - slack <= event["ts"] and event["ts"] + event["dur"] <= outer["ts"] + outer["dur"] + slack)


def test_trace_has_kernels_operators_and_copies_on_the_lane_of_the_device(tmp_path: Path) -> None:
    host, x = torch.randn(33, 7), torch.randn(1000, device="gxu")
    triple(x)  # compiled before
    torch.gxu.synchronize()
    with profile(activities=BOTH) as profiler:
        triple(x)
        (x @ x).sqrt()
        host.to("gxu").cpu()
        pinned = torch.empty(100).pin_memory()
        pinned.to("gxu", non_blocking=True)
    events = trace_of(profiler, tmp_path)

    kernels = {event["name"]: event for event in of_category(events, "kernel")}
    assert {"triple_kernel", "aten::dot [delegate]", "aten::sqrt [delegate]"} <= set(kernels)
    copies = of_category(events, "gpu_memcpy")
    assert [(event["name"], event["args"]["bytes"]) for event in copies] == [
        ("Memcpy HtoD", 33 * 7 * 4),
        ("Memcpy DtoH", 33 * 7 * 4),
        ("Memcpy HtoD", 400),
    ]
    for event in (*kernels.values(), *copies):
        assert (event["pid"], event["tid"], event["args"]["device"], event["args"]["stream"]) == (0, 0, 0, 0)
        assert event["dur"] >= 0
    assert kernels["triple_kernel"]["args"]["grid"] == [16, 1, 1]
    assert kernels["triple_kernel"]["args"]["device"] == 0
    names = {(event["pid"], event["args"]["name"]) for event in events if event["name"] == "process_name"}
    assert (0, "GXU 0") in names
    assert not any("GPU" in str(event["args"].get("labels")) for event in events if event["name"] == "process_labels")
    lanes = {event["args"]["name"] for event in events if event["name"] == "thread_name" and event["pid"] == 0}
    assert lanes == {"default stream"}

    # An operator on the delegate lies within its own operator on the CPU.
    (operator,) = (event for event in of_category(events, "cpu_op") if event["name"] == "aten::sqrt")
    assert inside(kernels["aten::sqrt [delegate]"], operator, slack=20), "two clocks"
    assert kernels["aten::sqrt [delegate]"]["args"]["External id"] == operator["args"]["External id"]

    # A kernel has an arrow from the call that enqueued it.
    (launch,) = (event for event in of_category(events, "privateuse1_runtime") if event["name"] == "gxuLaunchKernel")
    assert launch["args"]["correlation"] == kernels["triple_kernel"]["args"]["correlation"]
    arrows = {
        event["ph"]: event for event in of_category(events, "ac2g") if event["id"] == launch["args"]["correlation"]
    }
    assert arrows["s"]["ts"] == launch["ts"]
    assert arrows["s"]["tid"] == launch["tid"] == threading.get_native_id()
    assert arrows["f"]["ts"] == kernels["triple_kernel"]["ts"]


def test_key_averages_show_device_time(tmp_path: Path) -> None:
    a = torch.randn(200, 200, device="gxu")
    a @ a
    with profile(activities=BOTH, record_shapes=True) as profiler:
        for _ in range(5):
            a @ a
    averages = {entry.key: entry for entry in profiler.key_averages()}
    product = averages["aten::mm"]
    kernels = [event for event in profiler.events() if event.device_type == DeviceType.PrivateUse1]
    assert [event.name for event in kernels] == ["aten::mm [delegate]"] * 5
    total = sum(event.time_range.elapsed_us() for event in kernels)
    assert product.device_time_total == pytest.approx(total)
    assert 0 < product.device_time_total <= product.cpu_time_total
    assert averages["aten::matmul"].device_time_total == pytest.approx(total)
    assert averages["aten::matmul"].self_device_time_total == 0
    table = profiler.key_averages(group_by_input_shape=True).table(sort_by="self_device_time_total")
    assert "Self GXU" in table
    assert "[200, 200]" in table
    assert product.gxu_time_total == product.self_gxu_time_total == product.device_time_total
    assert profiler.key_averages().table(sort_by="self_gxu_time_total") == profiler.key_averages().table(
        sort_by="self_device_time_total"
    )


def test_ranges_do_not_count_for_the_calls_inside_them() -> None:
    """What a range spans on the device is an entry of its own; the call's total is that of its kernels."""
    a = torch.randn(200, 200, device="gxu")
    a @ a
    with profile(activities=BOTH) as profiler, record_function("outer part"):
        a @ a
        with record_function("inner part"):
            a @ a
    kernels = [event for event in profiler.events() if event.name == "aten::mm [delegate]"]
    total = sum(event.time_range.elapsed_us() for event in kernels)
    (outer,) = (
        entry for entry in profiler.key_averages() if entry.key == "outer part" and entry.device_type == DeviceType.CPU
    )
    assert outer.device_time_total == pytest.approx(total)
    assert outer.self_device_time_total == 0


def test_stacks_are_exported_by_device_time(tmp_path: Path) -> None:
    a = torch.randn(200, 200, device="gxu")
    with profile(activities=BOTH, with_stack=True, experimental_config=_ExperimentalConfig(verbose=True)) as profiler:
        a @ a
    profiler.export_stacks(str(tmp_path / "stacks"), "self_gxu_time_total")
    with pytest.raises(ValueError, match="self_gxu_time_total"):
        profiler.export_stacks(str(tmp_path / "stacks"), "self_unknown_time_total")


def test_record_function_spans_its_work_on_the_device(tmp_path: Path) -> None:
    x = torch.randn(100, device="gxu")
    triple(x)
    torch.gxu.synchronize()
    with profile(activities=BOTH) as profiler:
        with record_function("outer part"):
            y = triple(x)
            with record_function("inner part"):
                y = triple(y)
        triple(y)
    events = trace_of(profiler, tmp_path)
    ranges = {event["name"]: event for event in of_category(events, "gpu_user_annotation")}
    first, second, third = sorted(of_category(events, "kernel"), key=lambda event: event["ts"])
    assert inside(first, ranges["outer part"])
    assert inside(second, ranges["inner part"])
    assert not any(inside(third, event) for event in ranges.values())
    host = {event["name"] for event in of_category(events, "user_annotation")}
    assert {"outer part", "inner part"} <= host


def test_streams_have_lanes_of_their_own(tmp_path: Path) -> None:
    side = torch.gxu.Stream()
    x = torch.randn(100, device="gxu")
    triple(x)
    torch.gxu.synchronize()
    with profile(activities=BOTH) as profiler:
        triple(x)
        with torch.gxu.stream(side):
            triple(x)
            x.sqrt()
    events = trace_of(profiler, tmp_path)
    kernels = [event for event in of_category(events, "kernel") if event["name"] == "triple_kernel"]
    assert {event["tid"] for event in kernels} == {0, 1}
    (operator,) = (event for event in of_category(events, "kernel") if event["name"] == "aten::sqrt [delegate]")
    assert operator["tid"] == 1, "an operator on the delegate is on the lane of the stream that it was called on"
    lanes = {event["args"]["name"] for event in events if event["name"] == "thread_name" and event["pid"] == 0}
    assert lanes == {"default stream", "stream 1"}


def test_profile_of_the_device_alone_names_what_ran(tmp_path: Path) -> None:
    x = torch.randn(100, device="gxu")
    triple(x)
    with profile(activities=[ProfilerActivity.PrivateUse1]) as profiler:
        triple(x)
        x.sqrt()
    events = trace_of(profiler, tmp_path)
    assert {event["name"] for event in of_category(events, "kernel")} == {"triple_kernel", "aten::sqrt [delegate]"}
    assert of_category(events, "cpu_op") == []


def test_profile_of_the_cpu_alone_has_no_device_in_it(tmp_path: Path) -> None:
    x = torch.randn(100, device="gxu")
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        x.sqrt()
    events = trace_of(profiler, tmp_path)
    assert of_category(events, "kernel") == []
    assert "aten::sqrt" in {event["name"] for event in of_category(events, "cpu_op")}


def test_backward_and_other_threads_are_linked(tmp_path: Path) -> None:
    x = torch.randn(30, 30, device="gxu", requires_grad=True)
    with profile(activities=BOTH) as profiler:
        (x @ x).sum().backward()
    products = [
        entry for entry in profiler.events() if entry.name == "aten::mm" and entry.device_type == DeviceType.CPU
    ]
    assert len(products) == 3
    assert len({entry.thread for entry in products}) == 2, "backward has a thread of its own"
    assert all(len(entry.kernels) == 1 for entry in products)


def test_schedule_calls_back_for_each_cycle(tmp_path: Path) -> None:
    x = torch.randn(100, device="gxu")
    triple(x)
    seen: list[int] = []

    def ready(profiler: profile) -> None:
        seen.append(sum(event.name == "triple_kernel" for event in profiler.events()))

    with profile(
        activities=BOTH, schedule=schedule(wait=1, warmup=1, active=2, repeat=2), on_trace_ready=ready
    ) as profiler:
        for _ in range(8):
            triple(x)
            torch.gxu.synchronize()
            profiler.step()
    assert seen == [2, 2]


def test_reports_of_failed_kernels_are_left_to_the_program(run_python: RunPython, tmp_path: Path) -> None:
    code = """
import torch, triton
import triton.language as tl
from torch.profiler import ProfilerActivity, profile

@triton.jit(debug=True)
def refuse(x):
    tl.device_assert(tl.load(x) > 0, "too small")

x = torch.zeros(1, device="gxu")
gxu_activity = getattr(ProfilerActivity, "GXU", ProfilerActivity.PrivateUse1)  # which torch 2.11 has not
profiler = profile(activities=[ProfilerActivity.CPU, gxu_activity])
profiler.start()
refuse[(1,)](x)
try:
    profiler.stop()
except RuntimeError as error:
    print("stop:", "too small" in str(error))
"""
    script = tmp_path / "failing.py"
    script.write_text(code)
    result = run_python(str(script))
    assert result.stdout == "stop: True\n", result.stderr


def test_profile_where_there_is_no_device(run_python: RunPython) -> None:
    """A profile of everything is then one of the CPU, and does not start the runtime."""
    code = """
import torch
from torch.profiler import profile
with profile() as profiler:
    torch.ones(2) + 1
print("aten::add" in [event.key for event in profiler.key_averages()], torch.gxu.is_available())
"""
    result = run_python("-c", code, env={"GXU_VISIBLE_DEVICES": ""})
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "True False"


def test_memory_events_name_the_device(tmp_path: Path) -> None:
    with profile(activities=BOTH, profile_memory=True) as profiler:
        x = torch.empty(5000, device="gxu")
        del x
    device_type = int(DeviceType.PrivateUse1.value)
    events = [event["args"] for event in trace_of(profiler, tmp_path) if event["name"] == "[memory]"]
    first, second = (arguments for arguments in events if arguments["Device Type"] == device_type)
    assert first["Bytes"] == -second["Bytes"] >= 20_000
    assert first["Addr"] == second["Addr"]
    assert first["Device Id"] == 0
    assert first["Total Allocated"] == second["Total Allocated"] + first["Bytes"]
    assert first["Total Reserved"] >= first["Total Allocated"]
    averages = {entry.key: entry for entry in profiler.key_averages()}
    assert averages["aten::empty"].self_device_memory_usage == first["Bytes"]


def test_nothing_is_recorded_outside_a_profile() -> None:
    x = torch.randn(100, device="gxu")
    with profile(activities=BOTH) as first:
        x.sqrt()
    x.sin()
    with profile(activities=BOTH) as second:
        x.cos()
    names = [
        [event.name for event in profiler.events() if event.device_type == DeviceType.PrivateUse1]
        for profiler in (first, second)
    ]
    assert names == [["aten::sqrt [delegate]"], ["aten::cos [delegate]"]]


def test_autograd_profiler_without_kineto_measures_with_events() -> None:
    x = torch.randn(300, 300, device="gxu")
    x @ x
    with torch.autograd.profiler.profile(use_device="gxu", use_kineto=False) as profiler:
        x @ x
    (product,) = (event for event in profiler.function_events if event.name == "aten::mm")
    assert 0 < product.device_time_total <= 1.5 * product.cpu_time_total + 100


def test_stacks_and_modules_work(tmp_path: Path) -> None:
    model = torch.nn.Linear(4, 4).to("gxu")
    with profile(activities=BOTH, with_stack=True, with_modules=True, with_flops=True, record_shapes=True) as profiler:
        model(torch.randn(2, 4, device="gxu"))
    (product,) = (entry for entry in profiler.key_averages() if entry.key == "aten::addmm")
    assert product.flops == 2 * 2 * 4 * 4
    assert trace_of(profiler, tmp_path)
