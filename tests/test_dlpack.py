"""DLPack and NumPy exchange of gxu tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.dlpack import DLDeviceType, to_dlpack

EXT_DEVICE, CPU = int(DLDeviceType.kDLExtDev), int(DLDeviceType.kDLCPU)


def test_device_is_an_extension_device() -> None:
    assert torch.ones(2, device="gxu").__dlpack_device__() == (EXT_DEVICE, 0)
    assert torch.ones(2).__dlpack_device__() == (CPU, 0), "other devices answer as before"


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.int64, torch.complex64]
)
@pytest.mark.parametrize("through", ["tensor", "capsule"])
def test_torch_shares_the_memory(dtype: torch.dtype, through: str) -> None:
    x = torch.testing.make_tensor((4, 6, 3), dtype=dtype, device="gxu")[1:, ::2].transpose(0, 2)
    y = torch.from_dlpack(x) if through == "tensor" else torch.from_dlpack(to_dlpack(x))
    assert y.device == x.device
    assert (y.dtype, y.shape, y.stride(), y.data_ptr()) == (x.dtype, x.shape, x.stride(), x.data_ptr())
    y.zero_()
    assert not x.any()
    del x
    assert not (y + 0).any(), "the memory lives as long as one of them"


def test_numpy_shares_the_memory_where_the_cpu_reaches_it() -> None:
    x = torch.arange(12.0, device="gxu").view(3, 4)
    array = np.from_dlpack(x[:, 1:], device="cpu")
    np.testing.assert_array_equal(array, np.arange(12.0).reshape(3, 4)[:, 1:])
    assert array.ctypes.data == x.data_ptr() + 4
    x.mul_(10)
    torch.gxu.synchronize()
    assert array[2, 0] == 90
    del x
    assert array[2, 2] == 110, "the array keeps the memory"


def test_numpy_copies_when_asked() -> None:
    x = torch.arange(4.0, device="gxu")
    array = np.from_dlpack(x, device="cpu", copy=True)
    x.zero_()
    assert array.tolist() == [0, 1, 2, 3]


def test_export_waits_for_queued_work() -> None:
    x = torch.zeros(100_000, device="gxu")
    torch.gxu.synchronize()
    pinned = torch.ones(100_000).pin_memory()
    x.copy_(pinned, non_blocking=True)
    assert np.from_dlpack(x, device="cpu").all()


def test_copies_between_devices() -> None:
    array = np.random.default_rng(0).standard_normal((3, 5))
    x = torch.from_dlpack(array, device="gxu")
    assert x.device.type == "gxu"
    np.testing.assert_array_equal(x.cpu().numpy(), array)
    y = torch.from_dlpack(x, device="cpu")
    assert y.device.type == "cpu"
    np.testing.assert_array_equal(y.numpy(), array)
    y.zero_()
    np.testing.assert_array_equal(x.cpu().numpy(), array)
    with pytest.raises(ValueError, match="without copying"):
        torch.from_dlpack(x, device="cpu", copy=False)
    assert torch.from_dlpack(x, copy=True).data_ptr() != x.data_ptr()


def test_what_cannot_be_exported_says_why() -> None:
    x = torch.ones(2, device="gxu", requires_grad=True)
    for device in (None, (CPU, 0)):
        with pytest.raises(BufferError, match=r"require gradient, use tensor\.detach\(\)"):
            x.__dlpack__(dl_device=device)
        with pytest.raises(BufferError, match="conjugate bit"):
            torch.ones(2, dtype=torch.complex64, device="gxu").conj().__dlpack__(dl_device=device)


def test_numpy_conversions_of_torch() -> None:
    x = torch.arange(6.0, device="gxu").view(2, 3)
    for convert in (torch.Tensor.numpy, np.asarray, np.array):
        with pytest.raises(TypeError, match=r"can't convert gxu:0 device type tensor to numpy. Use Tensor.cpu\(\)"):
            convert(x)
    np.testing.assert_array_equal(x.numpy(force=True), np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(x.requires_grad_().numpy(force=True), np.arange(6.0).reshape(2, 3))
    array = np.array([[1, 2], [3, 4]], dtype=np.int16)
    for make in (torch.tensor, torch.as_tensor, torch.asarray):
        made = make(array, device="gxu")
        assert (made.device.type, made.dtype, made.tolist()) == ("gxu", torch.int16, array.tolist())
    assert torch.from_numpy(array).to("gxu").tolist() == array.tolist()
    assert isinstance(x.detach().tolist(), list)
    assert x[1, 2].item() == 5


def test_patched_symbols_are_still_there() -> None:
    """Fails when torch renames what gxu/compat.py replaces, or answers for renamed backends itself (pytorch#195815)."""
    import inspect

    device = inspect.unwrap(torch.Tensor.__dlpack_device__)
    assert device is not torch.Tensor.__dlpack_device__
    with pytest.raises(ValueError, match="Unknown device type gxu for Dlpack"):
        device(torch.ones(1, device="gxu"))
    parameters = inspect.signature(inspect.unwrap(torch.Tensor.__dlpack__)).parameters
    assert {"stream", "max_version", "dl_device", "copy"} <= set(parameters)
