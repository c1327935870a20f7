"""PyTorch on the cuda engine: tensors, copies, streams, events, operators, on memory that the host does not reach."""

from __future__ import annotations

import pytest
import torch
from cuda_engine import FakeDriver
from process_helpers import RunPython

BODY = """
import warnings
warnings.simplefilter("ignore")  # operators run on the CPU, with copies, and say so
import torch
properties = torch.gxu.get_device_properties(1)
assert (properties.triton_backend, properties.triton_arch, properties.host_accessible) == ("cuda", "90", False)
torch.manual_seed(0)
x = torch.randn(37, 19)
on_gxu = x.to("gxu")
assert torch.equal(on_gxu.cpu(), x)
assert torch.equal(on_gxu.t().contiguous().cpu(), x.t())
assert torch.equal(on_gxu.to("gxu:1")[3:5, ::2].cpu(), x[3:5, ::2])
assert torch.equal(on_gxu.to(torch.float64).cpu(), x.double())
pinned = x.pin_memory()
stream, start, end = torch.gxu.Stream(), torch.gxu.Event(enable_timing=True), torch.gxu.Event(enable_timing=True)
with torch.gxu.stream(stream):
    start.record()
    moved = pinned.to("gxu", non_blocking=True)
    end.record()
end.synchronize()
assert start.elapsed_time(end) >= 0
assert torch.equal(moved.cpu(), x)
layer = torch.nn.Linear(19, 5)
there = torch.nn.Linear(19, 5).to("gxu")
there.load_state_dict(layer.state_dict())
for module, batch in ((layer, x), (there, on_gxu)):
    module(batch).relu().sum().backward()
torch.testing.assert_close(there.weight.grad.cpu(), layer.weight.grad)
before = torch.gxu.memory_allocated()
del moved
assert torch.gxu.memory_allocated() < before
try:
    torch.empty(1 << 40, device="gxu")
except torch.OutOfMemoryError as error:
    assert "a limit of 64.00 MiB" in str(error), error
print("done")
"""


@pytest.mark.skipif(torch.backends.cuda.is_built(), reason="operators run on PyTorch's cuda, without a driver")
def test_tensors(run_python: RunPython, fake_driver: FakeDriver) -> None:
    environment = {"GXU_RUNTIME": "cuda", "GXU_CUDA_DRIVER": str(fake_driver.path)}
    result = run_python("-c", BODY, timeout=60, env=environment)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "done\n"
