"""What a kernel can be called with: numbers, annotated types, None, tuples, functions, and everything with memory."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from triton_helpers import launch


@triton.jit
def store_number(out, number):
    tl.store(out, number)


@pytest.mark.parametrize(
    "number",
    [0, 1, -1, 16, True, False, 2**31 - 1, 2**31, -(2**31), -(2**31) - 1, 2**63 - 1, -(2**63), 2**63, 2**64 - 1],
)
def test_integers_keep_their_value(number):
    out = torch.zeros(1, dtype=torch.int64 if number < 2**63 else torch.uint64)
    (out,) = launch(store_number, (1,), out, number)
    assert out.item() == number


def test_integers_that_no_type_holds():
    with pytest.raises(OverflowError):
        launch(store_number, (1,), torch.zeros(1, dtype=torch.int64), 2**64)


@pytest.mark.parametrize("number", [0.0, -0.0, 0.1, -1e-40, 1e300, math.inf, -math.inf, math.nan])
def test_floats_are_float32(number):
    (out,) = launch(store_number, (1,), torch.zeros(1, dtype=torch.float64), number)
    with np.errstate(over="ignore"):
        expected = np.float64(np.float32(number))
    assert out.numpy().tobytes() == expected.tobytes() or (math.isnan(number) and math.isnan(out.item()))


@triton.jit
def store_annotated(
    out,
    a: tl.float64,
    b: tl.float32,
    c: tl.float16,
    d: tl.bfloat16,
    e: tl.int8,
    f: tl.uint8,
    g: tl.int64,
    h: tl.int1,
    i: tl.uint16,
):
    tl.store(out, a)
    tl.store(out + 1, b)
    tl.store(out + 2, c)
    tl.store(out + 3, d)
    tl.store(out + 4, e)
    tl.store(out + 5, f)
    tl.store(out + 6, g)
    tl.store(out + 7, h)
    tl.store(out + 8, i)


def test_annotations_name_the_type():
    (out,) = launch(store_annotated, (1,), torch.zeros(9).double(), 0.1, 0.1, 0.1, 0.1, -128, 255, -7, 1, 65535)
    halves = [torch.tensor(0.1, dtype=kind).double().item() for kind in (torch.float32, torch.float16, torch.bfloat16)]
    assert out.tolist() == [0.1, *halves, -128, 255, -7, 1, 65535]


def test_annotated_numbers_are_checked():
    with pytest.raises(OverflowError, match=r"at 5.*8 bits: 128"):
        launch(store_annotated, (1,), torch.zeros(9).double(), 0.1, 0.1, 0.1, 0.1, 128, 255, -7, 1, 65535)


@triton.jit
def cast(out, x, T: tl.constexpr, B: tl.constexpr):
    i = tl.arange(0, B)
    tl.store(out + i, tl.load(x + i).to(T))


def test_types_as_arguments():
    x = torch.tensor([1.7, -2.5, 100.25, 3.0])
    for name, kind in ((tl.int32, torch.int32), (tl.float16, torch.float16), (tl.bfloat16, torch.bfloat16)):
        out, _ = launch(cast, (1,), torch.zeros(4), x, T=name, B=4)
        assert torch.equal(out, x.to(kind).float())


@triton.jit
def plus_one(x):
    return x + 1


@triton.jit
def times_two(x):
    return x * 2


@triton.jit
def apply_both(x, first: tl.constexpr, second):
    tl.store(x, second(first(tl.load(x))))


def test_functions_as_arguments():
    assert launch(apply_both, (1,), torch.tensor([3.0]), plus_one, times_two)[0].item() == 8
    assert launch(apply_both, (1,), torch.tensor([3.0]), times_two, plus_one)[0].item() == 7


@triton.jit
def optional(out, bias, scale=None, extra=7):
    if bias is None:
        tl.store(out, -1.0)
    else:
        tl.store(out, tl.load(bias))
    if scale is None:
        tl.store(out + 1, extra)
    else:
        tl.store(out + 1, scale * 2)


def test_none_and_defaults():
    assert launch(optional, (1,), torch.zeros(2), None)[0].tolist() == [-1, 7]
    assert launch(optional, (1,), torch.zeros(2), torch.tensor([5.0]), 3)[0].tolist() == [5, 6]
    assert launch(optional, (1,), torch.zeros(2), None, extra=9)[0].tolist() == [-1, 9]


class Piece(NamedTuple):
    data: Any
    size: int
    scale: float


@triton.jit
def from_tuples(out, piece, nested, B: tl.constexpr):
    i = tl.arange(0, B)
    v = tl.load(piece.data + i, mask=i < piece.size, other=0) * piece.scale
    tl.store(out + i, v + nested[0][1] + nested[1][0] + tl.load(nested[2][0][0]))


@triton.jit
def from_constant_tuple(out, numbers: tl.constexpr, none):
    for j in tl.static_range(len(numbers)):
        tl.store(out + j, numbers[j])
    tl.store(out + len(numbers), len(none))


def test_tuples_named_nested_empty_and_constant():
    data, out = torch.randn(8), torch.zeros(8, device="gxu")
    one = torch.tensor([100.0], device="gxu")
    from_tuples[(1,)](out, Piece(data.to("gxu"), 5, 2.0), ((None, 3), (1.5,), ((one,), 4)), B=8)
    expected = torch.where(torch.arange(8) < 5, data * 2, 0) + 4.5 + 100
    torch.testing.assert_close(out.cpu(), expected)
    assert launch(from_constant_tuple, (1,), torch.full((4,), 9.0), (5, 6, 7), ())[0].tolist() == [5, 6, 7, 0]


@triton.jit
def add_one(x, out, n, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(out + i, tl.load(x + i, i < n) + 1, i < n)


class Memory:
    """Anything with ``data_ptr()`` and a ``dtype``."""

    dtype = torch.float32

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array

    def data_ptr(self) -> int:
        address: int = self.array.ctypes.data
        return address


def test_memory_of_every_kind():
    source = torch.randn(13)
    kinds = {
        "gxu": source.to("gxu"),
        "cpu": source.clone(),
        "offset": torch.cat([source[:1], source]).to("gxu")[1:],
        "parameter": torch.nn.Parameter(source.to("gxu")),
        "object": Memory(source.numpy().copy()),
        "reinterpreted": triton.reinterpret(source.to("gxu").view(torch.int32), tl.float32),
    }
    for name, x in kinds.items():
        outputs = [torch.zeros(13, device="gxu"), torch.zeros(13), Memory(np.zeros(13, np.float32))]
        for out in outputs:
            add_one[(4,)](x, out, 13, B=4)
            torch.gxu.synchronize()
            values = torch.from_numpy(out.array) if isinstance(out, Memory) else out.cpu()
            assert torch.equal(values, source + 1), (name, out)


def test_reinterpreted_as_another_type():
    bits = torch.tensor([0x3C00, 0x4000], dtype=torch.int16, device="gxu")
    out = torch.zeros(2, device="gxu")
    add_one[(1,)](triton.reinterpret(bits, tl.float16), out, 2, B=2)
    assert out.tolist() == [2.0, 3.0]


class Broken(Memory):
    """Specialised with an address, and without one when the kernel starts."""

    def __init__(self, error: Exception) -> None:
        super().__init__(np.zeros(4, np.float32))
        self.error, self.asked = error, 0

    def data_ptr(self) -> int:
        self.asked += 1
        if self.asked > 1:
            raise self.error
        return super().data_ptr()


def test_memory_that_cannot_be_reached():
    out = torch.zeros(4, device="gxu")
    with pytest.raises(ValueError, match=r"at 0.*tensor on meta.*gxu:0"):
        add_one[(1,)](torch.zeros(4, device="meta"), out, 4, B=4)
    with pytest.raises(RuntimeError, match="the memory went away"):
        add_one[(1,)](Broken(RuntimeError("the memory went away")), out, 4, B=4)
    with pytest.raises(TypeError, match="object"):
        add_one[(1,)](object(), out, 4, B=4)
    add_one[(1,)](out, out, 4, B=4)
    assert out.tolist() == [1, 1, 1, 1]


@triton.jit(do_not_specialize=["n"], do_not_specialize_on_alignment=["x"])
def fill_unspecialised(x, n, B: tl.constexpr):
    i = tl.arange(0, B)
    tl.store(x + i, n, i < n)


@triton.jit
def fill(x, n, B: tl.constexpr):
    i = tl.arange(0, B)
    tl.store(x + i, n, i < n)


def test_specialisation_can_be_turned_off():
    for kernel, count in ((fill_unspecialised, 1), (fill, 4)):
        compiled = set()
        for n, offset in ((1, 0), (16, 0), (17, 0), (17, 1)):
            x = torch.zeros(40, device="gxu")
            compiled.add(kernel[(1,)](x[offset:], n, B=32))
            assert x.tolist() == [0.0] * offset + [float(n)] * n + [0.0] * (40 - n - offset)
        assert len(compiled) == count


@triton.jit(noinline=True)
def affine(a, b):
    return a * b + 1


@triton.jit
def call_affine(out, a):
    tl.store(out, affine(affine(a, 3), a))


def test_calls_that_stay_calls():
    assert launch(call_affine, (1,), torch.zeros(1), 4)[0].item() == (4 * 3 + 1) * 4 + 1
