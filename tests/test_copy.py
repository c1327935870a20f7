"""Copies between CPU and gxu, between dtypes, layouts and devices."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import runtime_shims
import torch
from process_helpers import RunPython

DTYPES = [
    torch.float32,
    torch.float64,
    torch.bfloat16,
    torch.float16,
    torch.int8,
    torch.int64,
    torch.bool,
    torch.complex64,
]

LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "contiguous": lambda x: x,
    "transposed": lambda x: x.t(),
    "sliced": lambda x: x[1::2, ::3],
    "expanded": lambda x: x[:, :1].expand(-1, 5),
    "offset": lambda x: x.flatten()[7:20],
    "empty": lambda x: x[:0],
    "scalar": lambda x: x[2, 3],
}


def sample(dtype: torch.dtype) -> torch.Tensor:
    values = torch.randn(9, 7, dtype=torch.complex64 if dtype.is_complex else torch.float32) * 50
    values[0, 0] = float("nan") if dtype.is_floating_point else 1
    values[0, 1] = float("inf") if dtype.is_floating_point else 0
    return values.to(dtype)


def same(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_there_and_back(dtype: torch.dtype, layout: str) -> None:
    x = LAYOUTS[layout](sample(dtype))
    there = x.to("gxu")
    assert there.is_gxu
    assert there.dtype == dtype
    same(there.cpu(), x)


@pytest.mark.parametrize("target", DTYPES, ids=str)
@pytest.mark.parametrize("source", DTYPES, ids=str)
def test_between_dtypes(source: torch.dtype, target: torch.dtype) -> None:
    x = torch.randint(0, 2, (5, 6)).to(source) if target == torch.bool else torch.randint(0, 100, (5, 6)).to(source)
    expected = x.to(target)
    same(x.to("gxu").to(target).cpu(), expected)
    same(x.to("gxu", target).cpu(), expected)
    same(x.to("gxu").to("cpu", target), expected)


@pytest.mark.parametrize("target", ["contiguous", "transposed", "sliced", "offset"])
@pytest.mark.parametrize("source", ["contiguous", "transposed", "sliced", "offset"])
@pytest.mark.parametrize(("to", "origin"), [("gxu", "cpu"), ("cpu", "gxu"), ("gxu", "gxu")])
def test_between_layouts(to: str, origin: str, source: str, target: str) -> None:
    shapes = {"contiguous": (4, 3), "transposed": (4, 3), "sliced": (4, 3), "offset": (12,)}
    x = (
        torch.randn(3, 4).t()
        if source == "transposed"
        else torch.randn(8, 9)[::2, ::3]
        if source == "sliced"
        else torch.randn(12)
    )
    x = x.reshape(shapes[source]) if source in ("contiguous", "offset") else x
    base = torch.zeros(9, 9)
    views = {
        "contiguous": lambda y: y.flatten()[:12].view(4, 3),
        "transposed": lambda y: y[:3, :4].t(),
        "sliced": lambda y: y[1:9:2, ::3],
        "offset": lambda y: y.flatten()[5:17],
    }
    x = x.reshape(shapes[target])
    expected = base.clone()
    views[target](expected).copy_(x)
    there = base.to(to, copy=True)
    views[target](there).copy_(x.to(origin))
    same(there.cpu(), expected)


def test_broadcasting_copy() -> None:
    x = torch.zeros(3, 4, device="gxu")
    x.copy_(torch.arange(4.0))
    same(x.cpu(), torch.arange(4.0).expand(3, 4))
    x.copy_(torch.tensor(5, device="gxu"))
    assert x.unique().tolist() == [5.0]
    with pytest.raises(RuntimeError, match="expanded size"):
        x.copy_(torch.zeros(5))


def test_conjugate_and_negative_views() -> None:
    x = torch.randn(5, 3, dtype=torch.complex64)
    y = x.to("gxu")
    assert y.conj().is_conj()
    same(y.conj().cpu(), x.conj())
    same(y.conj().imag.cpu(), x.conj().imag)
    same(torch.zeros(5, 3, dtype=torch.complex64, device="gxu").copy_(x.conj()).cpu(), x.conj().resolve_conj())
    same(torch.zeros(5, 3, dtype=torch.complex64).copy_(y.conj()), x.conj().resolve_conj())
    target = torch.zeros(5, 3, dtype=torch.complex64, device="gxu")
    target.conj().copy_(y)
    same(target.cpu(), x.conj().resolve_conj())


@pytest.mark.parametrize("non_blocking", [False, True])
@pytest.mark.parametrize("size", [1, 1000, 300_000])
def test_pinned_memory(size: int, non_blocking: bool) -> None:
    x = torch.randn(size).pin_memory()
    there = x.to("gxu", non_blocking=non_blocking)
    back = torch.empty(size, pin_memory=True).copy_(there * 2, non_blocking=non_blocking)
    torch.gxu.synchronize()
    same(back, x * 2)


def test_non_blocking_with_pageable_memory_is_done_on_return() -> None:
    x = torch.randn(1000, device="gxu")
    same(x.to("cpu", non_blocking=True), x.cpu())


def test_numpy() -> None:
    array = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    x = torch.from_numpy(array).to("gxu")
    assert np.array_equal(x.cpu().numpy(), array)
    assert torch.tensor(array, device="gxu").tolist() == array.tolist()
    with pytest.raises(TypeError, match="can't convert gxu:0 device type tensor to numpy"):
        x.numpy()


def test_values_for_python() -> None:
    x = torch.tensor([[1.5, -2.0]], device="gxu")
    assert x[0, 1].item() == -2.0
    assert x.tolist() == [[1.5, -2.0]]
    assert bool(x.sum() < 0)
    assert int(torch.tensor(7, device="gxu")) == 7
    assert "device='gxu:0'" in repr(x)


def test_storage() -> None:
    x = torch.arange(6.0, device="gxu")
    storage = x.untyped_storage()
    assert storage.device == torch.device("gxu:0")
    assert storage.is_gxu
    copy = storage.cpu()
    assert copy.device.type == "cpu"
    assert copy.gxu().is_gxu
    x.untyped_storage().resize_(8)
    assert x.untyped_storage().nbytes() == 8
    x.untyped_storage().resize_(24)
    assert x[:2].tolist() == [0.0, 1.0]


def test_save_and_load() -> None:
    buffer = io.BytesIO()
    x = torch.randn(3, device="gxu")
    torch.save({"x": x, "view": x[1:]}, buffer)
    buffer.seek(0)
    loaded = torch.load(buffer)
    assert loaded["x"].is_gxu
    same(loaded["x"].cpu(), x.cpu())
    assert loaded["view"].untyped_storage().data_ptr() == loaded["x"].untyped_storage().data_ptr()
    buffer.seek(0)
    assert torch.load(buffer, map_location="cpu")["x"].device.type == "cpu"


def test_gradients_cross_devices() -> None:
    x = torch.randn(4, requires_grad=True)
    (x.to("gxu") * 3).sum().cpu().backward()
    same(x.grad, torch.full((4,), 3.0))


def test_between_devices(run_python: RunPython) -> None:
    code = """
import torch
x = torch.randn(5, 7)
on_0, on_1 = x.to("gxu:0"), x.to("gxu:1")
assert on_1.device.index == 1 and torch.equal(on_1.cpu(), x)
assert torch.equal(on_0.to("gxu:1").cpu(), x)
assert torch.equal(on_0.t().to("gxu:1", torch.float64).cpu(), x.t().double())
on_1.zero_().copy_(on_0[:1])
assert torch.equal(on_1.cpu(), x[:1].expand(5, 7))
assert torch.gxu.can_device_access_peer(0, 1) in (True, False)
"""
    result = run_python("-c", code, env={"GXU_DEVICE_COUNT": "2"})
    assert result.returncode == 0, result.stderr


NO_DELEGATE = """
import torch, warnings
assert torch.gxu.get_device_properties().delegate == ""
x = torch.randn(6, 5)
y = x.to("gxu")
for view in (lambda t: t, lambda t: t.t(), lambda t: t[1::2, ::2], lambda t: t[:0], lambda t: t[:, :1].expand(6, 4)):
    assert torch.equal(view(y).cpu(), view(x))
    assert torch.equal(view(y).clone().cpu(), view(x))
    assert torch.equal(view(y).to(torch.float64).cpu(), view(x).double())
target, expected = torch.zeros(6, 5, device="gxu"), torch.zeros(6, 5)
target[1::2, 1:4].copy_(y[1::2, 1:4])
expected[1::2, 1:4] = x[1::2, 1:4]
assert torch.equal(target.cpu(), expected)
c = torch.randn(3, dtype=torch.complex64)
assert torch.equal(c.to("gxu").conj().cpu(), c.conj())
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    assert torch.allclose((y @ y.t() + 1).cpu(), x @ x.t() + 1)
    y.mul_(2)
    y + 1
assert torch.equal(y.cpu(), x * 2)
texts = [str(w.message) for w in caught]
assert sum("'aten::mm'" in t and "runs on the CPU, with copies" in t for t in texts) == 1, texts
assert sum("'aten::add'" in t for t in texts) == 1, texts
conv = torch.nn.Conv1d(2, 3, 2)
z = torch.randn(1, 2, 5)
assert torch.allclose(conv(z), conv.to("gxu")(z.to("gxu")).cpu(), atol=1e-6)
x.pin_memory().to("gxu", non_blocking=True)
torch.gxu.synchronize()
try:
    torch.gxu._C.launch(0, 1, 1, 1, 0, "p", (x,))
except ValueError as error:
    assert "cannot be accessed from Triton (cpu tensor?)" in str(error)
else:
    raise AssertionError("a CPU pointer was launched on a device that cannot read it")
"""


def test_device_without_delegate(run_python: RunPython, tmp_path: Path) -> None:
    library = runtime_shims.build(tmp_path, runtime_shims.NO_DELEGATE, on_host_engine=True)
    result = run_python("-c", NO_DELEGATE, env={"GXU_RUNTIME": str(library)})
    assert result.returncode == 0, result.stderr
