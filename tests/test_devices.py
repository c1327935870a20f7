"""Several devices in one process: which there are, guards, peer copies, and what each has of its own."""

from __future__ import annotations

import pytest
from process_helpers import RunPython


def run_on(run_python: RunPython, count: int, code: str, visible: str | None = None) -> str:
    environment = {"GXU_DEVICE_COUNT": str(count), "GXU_VISIBLE_DEVICES": visible}
    result = run_python("-c", "import torch, threading\n" + code, env=environment)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_visible_devices_are_chosen_and_ordered(run_python: RunPython) -> None:
    code = "print([torch.gxu.get_device_properties(i).uuid[-2:] for i in range(torch.gxu.device_count())])"
    assert run_on(run_python, 4, code) == "['00', '01', '02', '03']\n"
    assert run_on(run_python, 4, code, "3,1") == "['03', '01']\n"
    assert run_on(run_python, 4, code, "2") == "['02']\n"


@pytest.mark.parametrize("visible", ["4", "0,-1", "0,0", "0;1", "1,", ",1", "a"])
def test_wrong_visible_devices(run_python: RunPython, visible: str) -> None:
    environment = {"GXU_DEVICE_COUNT": "4", "GXU_VISIBLE_DEVICES": visible}
    result = run_python("-c", "import torch; torch.ones(1, device='gxu')", env=environment)
    assert f"GXU_VISIBLE_DEVICES is '{visible}': want different numbers from 0 to 3" in result.stderr


@pytest.mark.parametrize("visible", ["", "-1"])
def test_devices_can_be_hidden(run_python: RunPython, visible: str) -> None:
    """As with CUDA_VISIBLE_DEVICES."""
    code = """
assert torch.gxu.device_count() == 0 and not torch.gxu.is_available() and not torch.accelerator.is_available()
torch.manual_seed(0)
try:
    torch.ones(1, device="gxu")
except RuntimeError as error:
    print(error)
"""
    assert "which hides all devices: unset it, or name some" in run_on(run_python, 2, code, visible)


def test_guards(run_python: RunPython) -> None:
    run_on(
        run_python,
        4,
        """
gxu = torch.gxu
assert gxu.device_count() == torch.accelerator.device_count() == 4
gxu.set_device(2)
assert gxu.current_device() == torch.accelerator.current_device_index() == 2
assert torch.empty(1, device="gxu").device.index == 2
with gxu.device(1), gxu.device("gxu:3"), gxu.device_of(torch.empty(1, device="gxu:0")):
    assert gxu.current_device() == 0
    with torch.accelerator.device_index(1), torch.device("gxu"):
        assert torch.empty(1).device.index == 1
    assert gxu.current_device() == 0
with gxu.device(None), gxu.device(-1):
    assert gxu.current_device() == 2
seen = []
thread = threading.Thread(target=lambda: seen.append(gxu.current_device()))
thread.start(), thread.join()
assert seen == [0] and gxu.current_device() == 2
# Operators run on the device of their arguments, and leave the current one alone.
x = torch.arange(4.0, device="gxu:3", requires_grad=True)
(x * 2).sum().backward()
assert x.grad.device.index == 3 and gxu.current_device() == 2
for index in (4, 63, 64, 200):
    try:
        gxu.set_device(index)
    except RuntimeError as error:
        assert "out of range" in str(error)
    else:
        raise AssertionError(index)
""",
    )


def test_copies_between_devices(run_python: RunPython) -> None:
    run_on(
        run_python,
        3,
        """
x = torch.randn(1000, 37)
chain = x.to("gxu:0").to("gxu:1").to("gxu:2", non_blocking=True)
torch.gxu.synchronize(2)
assert torch.equal(chain.cpu(), x) and chain.device.index == 2
y = torch.empty(37, 1000, device="gxu:1").t().copy_(chain)
assert torch.equal(y.cpu(), x)
half = torch.empty(500, 37, dtype=torch.float16, device="gxu:0").copy_(chain[::2])
assert torch.equal(half.cpu(), x[::2].half())
assert torch.gxu.can_device_access_peer(0, 1) and not torch.gxu.can_device_access_peer(1, 1)
try:
    torch.ones(3, device="gxu:0") + torch.ones(3, device="gxu:1")
except RuntimeError as error:
    assert "gxu:0" in str(error) and "gxu:1" in str(error)
else:
    raise AssertionError
""",
    )


def test_memory_and_streams_of_each_device(run_python: RunPython) -> None:
    run_on(
        run_python,
        2,
        """
gxu = torch.gxu
before = [gxu.memory_allocated(index) for index in range(2)]
x = torch.empty(1 << 20, device="gxu:1")
assert [gxu.memory_allocated(index) - before[index] for index in range(2)] == [0, 4 << 20]
gxu.reset_peak_memory_stats(1)
assert gxu.max_memory_allocated(1) == gxu.memory_allocated(1)
stream = gxu.Stream(device=1)
with gxu.stream(stream):
    assert gxu.current_device() == 1 and gxu.current_stream() == stream
    assert gxu.current_stream(0) == gxu.default_stream(0)
    y = x.fill_(3) * 2
    done = stream.record_event()
gxu.current_stream(0).wait_event(done)
assert (y.to("gxu:0") == 6).all()
assert gxu.current_device() == 0
""",
    )
