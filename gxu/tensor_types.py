"""torch.gxu.FloatTensor and the like: PyTorch's older names for tensors of a device and a data type.

`x.type()` gives them, `isinstance` knows them, and calling one makes a tensor as torch.FloatTensor does. New code uses
`device=` and `dtype=`.
"""

from __future__ import annotations

from typing import Any

import torch

from gxu._name import DEVICE_TYPE

DTYPES = {
    "BFloat16Tensor": torch.bfloat16,
    "BoolTensor": torch.bool,
    "ByteTensor": torch.uint8,
    "CharTensor": torch.int8,
    "DoubleTensor": torch.float64,
    "FloatTensor": torch.float32,
    "HalfTensor": torch.float16,
    "IntTensor": torch.int32,
    "LongTensor": torch.int64,
    "ShortTensor": torch.int16,
}


class TensorType(type):
    """The type of these names."""

    dtype: torch.dtype
    is_sparse = False

    def __call__(cls, *args: Any) -> torch.Tensor:
        """A tensor of the given sizes, of the values of a sequence, or an empty one."""
        if len(args) == 1 and isinstance(args[0], torch.Tensor):
            return args[0].to(DEVICE_TYPE, cls.dtype)
        constructor: Any = getattr(torch, cls.__name__.rpartition(".")[2])
        tensor: torch.Tensor = constructor(*args)
        return tensor.to(DEVICE_TYPE)

    def __instancecheck__(cls, instance: object) -> bool:
        return (
            isinstance(instance, torch.Tensor)
            and instance.device.type == DEVICE_TYPE
            and instance.dtype == cls.dtype
            and instance.layout == torch.strided
        )

    def __repr__(cls) -> str:
        return f"<class '{cls.__name__}'>"


def make(name: str) -> TensorType:
    """The type of that name, a key of DTYPES."""
    # Tensor.type(...) goes by the type's full name.
    return TensorType(f"torch.{DEVICE_TYPE}.{name}", (), {"dtype": DTYPES[name]})


BFloat16Tensor = make("BFloat16Tensor")
BoolTensor = make("BoolTensor")
ByteTensor = make("ByteTensor")
CharTensor = make("CharTensor")
DoubleTensor = make("DoubleTensor")
FloatTensor = make("FloatTensor")
HalfTensor = make("HalfTensor")
IntTensor = make("IntTensor")
LongTensor = make("LongTensor")
ShortTensor = make("ShortTensor")
