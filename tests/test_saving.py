"""Saving, loading, copying and pickling gxu tensors, modules, optimisers and storages."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from process_helpers import RunPython
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import nn
from torch.torch_version import TorchVersion

GXU = torch.device("gxu", 0)
CPU = torch.device("cpu")


def saved(value: object, **options: Any) -> io.BytesIO:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    buffer.seek(0)
    return buffer


def pickled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))  # noqa: S301


def to_gxu(storage: torch.UntypedStorage, location: str) -> torch.UntypedStorage:
    return storage.gxu()  # type: ignore[attr-defined]


LOCATIONS: list[tuple[Any, torch.device]] = [
    (None, GXU),
    ("cpu", CPU),
    ("gxu", GXU),
    ("gxu:0", GXU),
    (CPU, CPU),
    (torch.device("gxu"), GXU),
    ({"gxu:0": "cpu"}, CPU),
    ({"cuda:0": "cpu"}, GXU),
    (lambda storage, location: storage, CPU),
    (lambda storage, location: None, GXU),
    (to_gxu, GXU),
]


@pytest.mark.parametrize("weights_only", [True, False])
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("location", range(len(LOCATIONS)))
def test_every_map_location(location: int, zipped: bool, weights_only: bool) -> None:
    map_location, expected = LOCATIONS[location]
    x = torch.randn(3, 5, device="gxu")
    file = saved({"x": x}, _use_new_zipfile_serialization=zipped)
    loaded = torch.load(file, map_location=map_location, weights_only=weights_only)["x"]
    assert loaded.device == expected
    assert torch.equal(loaded.cpu(), x.cpu())


def test_other_devices_files_load_on_gxu() -> None:
    x = torch.randn(3)
    assert torch.load(saved(x), map_location="gxu").device == GXU
    assert torch.load(saved(x), map_location={"cpu": "gxu:0"}).device == GXU
    assert torch.load(saved(torch.randn(3, device="gxu")), map_location="meta").device.type == "meta"


def test_missing_device_is_one_sentence() -> None:
    with pytest.raises(RuntimeError, match=r"deserialize object on GXU device 7 but torch.gxu.device_count\(\) is 1"):
        torch.load(saved(torch.ones(1, device="gxu")), map_location="gxu:7")


def test_mapped_files(tmp_path: Path) -> None:
    x = torch.randn(100, device="gxu")
    file = tmp_path / "x.pt"
    torch.save(x, file)
    for map_location, expected in ((None, GXU), ("cpu", CPU), ("gxu", GXU)):
        loaded = torch.load(file, map_location=map_location, mmap=True)
        assert loaded.device == expected
        assert torch.equal(loaded.cpu(), x.cpu())


DTYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2),
    *(torch.int8, torch.uint8, torch.int16, torch.uint16, torch.int32, torch.uint64, torch.int64, torch.bool),
    *(torch.complex64, torch.complex128),
]
# Pickle cannot load tensors of these on any device: torch's own error is about UntypedStorage.
NOT_PICKLED = {torch.float8_e4m3fn, torch.float8_e5m2, torch.uint16, torch.uint64}


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_through_save_pickle_and_deepcopy(dtype: torch.dtype) -> None:
    x = torch.testing.make_tensor((7, 3), dtype=dtype, device="cpu")
    y = x.to("gxu")
    copies = [torch.load(saved(y)), copy.deepcopy(y)]
    if dtype not in NOT_PICKLED:
        copies.append(pickled(y))
    for copied in copies:
        assert (copied.device, copied.dtype) == (GXU, dtype)
        assert copied.data_ptr() != y.data_ptr()
        assert torch.equal(copied.cpu().view(torch.uint8), x.view(torch.uint8))


def test_geometry_and_bits_are_kept() -> None:
    x = torch.randn(6, 5, 4, dtype=torch.complex64, device="gxu")
    for tensor in (x[1:, ::2].transpose(0, 2), x.conj(), x.imag, x[:0], x.to(memory_format=torch.contiguous_format)):
        for copied in (torch.load(saved(tensor)), pickled(tensor)):
            assert (copied.shape, copied.stride(), copied.is_conj()) == (
                tensor.shape,
                tensor.stride(),
                tensor.is_conj(),
            )
            assert torch.equal(copied.cpu(), tensor.cpu())


@pytest.mark.parametrize("through", ["save", "pickle", "deepcopy"])
def test_views_stay_views(through: str) -> None:
    x = torch.arange(10.0, device="gxu")
    copies: dict[str, Callable[[Any], Any]] = {
        "save": lambda value: torch.load(saved(value)),
        "pickle": pickled,
        "deepcopy": copy.deepcopy,
    }
    whole, part = copies[through]([x, x[2:5]])
    part.zero_()
    # Pickle sees each tensor's storage apart, on every device.
    assert whole.tolist() == ([0, 1, 2, 3, 4, 5, 6, 7, 8, 9] if through == "pickle" else [0, 1, 0, 0, 0, 5, 6, 7, 8, 9])
    assert x.tolist() == list(range(10))


def make_model() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8, bias=False), nn.BatchNorm1d(8), nn.Linear(8, 2))


def test_state_dicts_cross_devices() -> None:
    source = make_model().to("gxu")
    source(torch.randn(16, 4, device="gxu"))
    state = source.state_dict()
    on_cpu, on_gxu = make_model(), make_model().to("gxu")
    on_cpu.load_state_dict(state)
    on_gxu.load_state_dict(on_cpu.state_dict())
    for name, value in on_gxu.state_dict().items():
        assert value.device == GXU
        assert on_cpu.state_dict()[name].device == CPU
        assert torch.equal(value, state[name])
    assigned = make_model()
    assigned.load_state_dict(state, assign=True)
    assert all(value.device == GXU for value in assigned.state_dict().values())
    with torch.device("meta"):
        empty = make_model()
    empty.to_empty(device="gxu").load_state_dict(on_cpu.state_dict())
    x = torch.randn(3, 4, device="gxu")
    source.eval(), on_gxu.eval(), empty.eval()
    assert torch.equal(empty(x), source(x))


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD, torch.optim.RMSprop])
def test_optimisers_go_on_after_loading_on_either_device(kind: Any) -> None:
    def step(model: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device) -> None:
        optimizer.zero_grad()
        model(torch.linspace(-1, 1, 16, device=device).view(4, 4)).square().sum().backward()
        optimizer.step()

    torch.manual_seed(0)
    model = make_model().to("gxu")
    optimizer = kind(model.parameters(), lr=0.01)
    step(model, optimizer, GXU)
    file = saved({"model": model.state_dict(), "optimizer": optimizer.state_dict()}).getvalue()
    step(model, optimizer, GXU)
    for device in (GXU, CPU):
        state = torch.load(io.BytesIO(file), map_location=device)
        other = make_model().to(device)
        other.load_state_dict(state["model"])
        resumed = kind(other.parameters(), lr=0.01)
        resumed.load_state_dict(state["optimizer"])
        step(other, resumed, device)
        for (name, value), expected in zip(other.state_dict().items(), model.state_dict().values(), strict=True):
            torch.testing.assert_close(value.cpu(), expected.cpu(), msg=lambda text, name=name: f"{name}: {text}")


def test_whole_modules_and_parameters() -> None:
    model = make_model().to("gxu")
    for copied in (
        torch.load(saved(model), weights_only=False),
        copy.deepcopy(model),
        pickled(model),
    ):
        parameter = copied[0].weight
        assert isinstance(parameter, nn.Parameter)
        assert (parameter.device, parameter.requires_grad) == (GXU, True)
        assert torch.equal(parameter, model[0].weight)
        assert parameter.data_ptr() != model[0].weight.data_ptr()
    with pytest.raises(RuntimeError, match="Only Tensors created explicitly by the user"):
        copy.deepcopy(model[0].weight * 2)
    assert copy.copy(model[0].weight).data_ptr() == model[0].weight.data_ptr()


def test_safetensors(tmp_path: Path) -> None:
    """safetensors knows names of devices at compile time, and others by number: gxu adds its own."""
    file = tmp_path / "x.safetensors"
    tensors = {"a": torch.randn(5, 3, device="gxu"), "b": torch.arange(4, device="gxu")}
    save_file(tensors, file)
    for loaded in (load_file(file), load_file(file, device=0), load_file(file, device="gxu")):
        assert {name: value.tolist() for name, value in loaded.items()} == {
            name: value.tolist() for name, value in tensors.items()
        }
    assert load_file(file)["a"].device == CPU
    for device in (0, "gxu", "gxu:0"):
        assert load_file(file, device=device)["a"].device == GXU
        with safe_open(file, framework="pt", device=device) as opened:
            assert opened.get_tensor("b").device == GXU
            assert opened.get_slice("a")[1:2].tolist() == tensors["a"][1:2].tolist()
    with pytest.raises(SafetensorError, match="device nonsense is invalid"):
        safe_open(file, framework="pt", device="nonsense")
    model, other = make_model().to("gxu"), make_model().to("gxu")
    save_model(model, str(file))
    load_model(other, file)
    assert all(torch.equal(left, right) for left, right in zip(model.parameters(), other.parameters(), strict=True))
    assert other[0].weight.device == GXU


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
def test_untyped_storages() -> None:
    x = torch.arange(4, dtype=torch.uint8, device="gxu")
    storage = x.untyped_storage()
    assert (storage.device, storage.nbytes(), storage.data_ptr(), storage.tolist()) == (
        GXU,
        4,
        x.data_ptr(),
        [0, 1, 2, 3],
    )
    storage[1] = 9
    assert x.tolist() == [0, 9, 2, 3]
    storage.resize_(6)
    assert storage.nbytes() == 6
    assert x.tolist() == [0, 9, 2, 3]
    assert storage.fill_(5).tolist() == [5] * 6
    assert storage.clone().data_ptr() != storage.data_ptr()
    assert storage.cpu().device == CPU
    assert torch.UntypedStorage(3).gxu().device == GXU  # type: ignore[attr-defined]
    assert torch.UntypedStorage(3).to(device="gxu").device == GXU
    assert copy.deepcopy(storage).tolist() == storage.tolist()
    assert torch.load(saved(storage), weights_only=False).device == GXU
    view = torch.empty(0, dtype=torch.int16, device="gxu").set_(storage, 1, (2,))
    assert view.tolist() == [0x0505] * 2
    storage.resize_(0)
    assert storage.nbytes() == 0


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
def test_typed_storages() -> None:
    storage = torch.arange(3.0, device="gxu").storage()
    assert (storage.device, storage.is_gxu, storage[2], storage.cpu().device) == (GXU, True, 2.0, CPU)
    assert list(pickled(storage)) == [0, 1, 2]


@pytest.mark.filterwarnings("ignore:The argument 'device' of Tensor")
def test_sharing_and_pinning_of_storages() -> None:
    x = torch.ones(3, device="gxu")
    assert x.share_memory_() is x
    knows_gxu = TorchVersion(torch.__version__) >= (2, 12)  # torch 2.11 does not
    assert x.is_shared() == knows_gxu
    assert x.untyped_storage().share_memory_().is_shared() == knows_gxu
    assert not x.is_pinned()
    with pytest.raises(RuntimeError, match="only dense CPU tensors can be pinned"):
        x.pin_memory()
    with pytest.raises(TypeError, match="only CPU memory can be pinned"):
        x.untyped_storage().pin_memory()
    host = torch.ones(3)
    assert not host.is_pinned()
    assert not host.untyped_storage().is_pinned()
    for pinned in (host.pin_memory(), host.pin_memory("gxu"), torch.ones(3, pin_memory=True)):
        assert pinned.is_pinned()
        assert pinned.untyped_storage().is_pinned("gxu")
        assert pinned.device == CPU
    assert host.untyped_storage().pin_memory("gxu").is_pinned("gxu")


def test_several_devices(run_python: RunPython, tmp_path: Path) -> None:
    code = """
import copy, io, json, pickle, sys
import torch
from multiprocessing.reduction import ForkingPickler
from safetensors.torch import load_file, save_file
from torch.profiler import ProfilerActivity, profile

x = torch.arange(6.0, device="gxu:1")
buffer = io.BytesIO()
torch.save(x, buffer)

def load(**options):
    buffer.seek(0)
    return torch.load(buffer, **options).device

assert [str(load()), str(load(map_location={"gxu:1": "gxu:0"})), str(load(map_location="gxu"))] == [
    "gxu:1", "gxu:0", "gxu:0"]
with torch.gxu.device(1):
    assert str(load(map_location="gxu")) == "gxu:1"
for copied in (copy.deepcopy(x), pickle.loads(pickle.dumps(x)), torch.from_dlpack(x)):
    assert copied.device == x.device and copied.tolist() == x.tolist()
shared = ForkingPickler.loads(ForkingPickler.dumps(x))
assert shared.device == x.device and shared.data_ptr() == x.data_ptr()
assert x.__dlpack_device__()[1] == 1
save_file({"x": x}, "x.safetensors")
assert str(load_file("x.safetensors", device=1)["x"].device) == "gxu:1"
assert str(load_file("x.safetensors", device="gxu:1")["x"].device) == "gxu:1"

y = torch.ones(6, device="gxu:0")
gxu_activity = getattr(ProfilerActivity, "GXU", ProfilerActivity.PrivateUse1)  # which torch 2.11 has not
with profile(activities=[ProfilerActivity.CPU, gxu_activity]) as profiler:
    x.sqrt(), y.exp()
    y.copy_(x)
profiler.export_chrome_trace("trace.json")
events = json.load(open("trace.json"))["traceEvents"]
kernels = {event["name"]: event["pid"] for event in events if event.get("cat") == "kernel"}
assert kernels == {"aten::sqrt [delegate]": 1, "aten::exp [delegate]": 0}, kernels
names = {event["pid"]: event["args"]["name"] for event in events if event["name"] == "process_name"}
assert (names[0], names[1]) == ("GXU 0", "GXU 1"), names
assert [event["name"] for event in events if event.get("cat") == "gpu_memcpy"] == ["Memcpy DtoD"]
print("good")
"""
    result = run_python("-c", code, env={"GXU_DEVICE_COUNT": "2"})
    assert result.stdout == "good\n", result.stderr


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor", "ignore:Sparse CSR tensor support")
@pytest.mark.parametrize("through", ["save", "deepcopy"])
def test_sparse_and_quantized_tensors(through: str) -> None:
    x = torch.randn(4, 3)
    per_channel = torch.quantize_per_channel(
        x, torch.tensor([0.1, 0.2, 0.3, 0.4]), torch.tensor([0, 1, 2, 3]), 0, torch.qint8
    )
    for tensor in (
        x.relu().to_sparse(),
        x.relu().to_sparse_csr(),
        torch.quantize_per_tensor(x, 0.1, 3, torch.quint8),
        per_channel,
    ):
        moved = tensor.to("gxu")
        copied = torch.load(saved(moved)) if through == "save" else copy.deepcopy(moved)
        assert (copied.device, copied.layout, copied.dtype) == (GXU, tensor.layout, tensor.dtype)
        left, right = (value.dequantize() if value.is_quantized else value.to_dense() for value in (copied, tensor))
        assert torch.equal(left.cpu(), right)
