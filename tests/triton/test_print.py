"""device_print: what stands on standard output."""

from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def printed(x, n, B: tl.constexpr, HEX: tl.constexpr):
    i = tl.arange(0, B)
    tl.device_print("value", tl.load(x + i) * 2, hex=HEX)
    tl.store(x + i, 0)


@triton.jit
def operands(x, n, B: tl.constexpr):
    i = tl.arange(0, B)
    v = tl.load(x + i[:, None] * 2 + tl.arange(0, 2)[None, :])
    tl.device_print("two", v, tl.sum(tl.sum(v, 1), 0))
    tl.device_print("none at 100 %")
    if n > 2:
        tl.device_print("n", n)


def lines(capfd, kernel, grid, *args, **meta):
    capfd.readouterr()
    kernel[grid](*args, **meta)
    torch.gxu.synchronize()
    return capfd.readouterr().out.splitlines()


def test_every_element_is_a_line(capfd):
    x = torch.arange(16, dtype=torch.int32, device="gxu") - 8
    got = lines(capfd, printed, (1,), x, 1, B=16, HEX=False)
    assert got == [f"pid (0, 0, 0) idx ({i:2}) value: {(i - 8) * 2}" for i in range(16)]
    assert (x == 0).all()


def test_types(capfd):
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        x = torch.tensor([0.5, -1.25], dtype=dtype, device="gxu")
        got = lines(capfd, printed, (1,), x, 1, B=2, HEX=False)
        assert got == [f"pid (0, 0, 0) idx ({i}) value: {v:f}" for i, v in enumerate([1.0, -2.5])]
    for dtype in (torch.uint8, torch.int8, torch.int64, torch.uint64):
        x = torch.tensor([3, 100], dtype=dtype).to("gxu")
        got = lines(capfd, printed, (1,), x, 1, B=2, HEX=False)
        second = -56 if dtype == torch.int8 else 200
        assert got == [f"pid (0, 0, 0) idx ({i}) value: {v}" for i, v in enumerate([6, second])]


def test_hexadecimal(capfd):
    x = torch.tensor([5, -1], dtype=torch.int32, device="gxu")
    got = lines(capfd, printed, (1,), x, 1, B=2, HEX=True)
    assert got == ["pid (0, 0, 0) idx (0) value: 0x0000000a", "pid (0, 0, 0) idx (1) value: 0xfffffffe"]


def test_several_operands_and_programs(capfd):
    x = torch.arange(4, dtype=torch.float32, device="gxu")
    got = lines(capfd, operands, (1, 2, 1), x, 3, B=2)
    expected = []
    for y in range(2):
        pid = f"pid (0, {y}, 0)"
        expected += [f"{pid} idx ({i}, {j}) two: (operand 0) {i * 2 + j:f}" for i in range(2) for j in range(2)]
        expected += [f"{pid} idx () two: (operand 1) 6.000000", f"{pid} none at 100 %", f"{pid} idx () n: 3"]
    assert sorted(line.rstrip() for line in got) == sorted(line.rstrip() for line in expected)
