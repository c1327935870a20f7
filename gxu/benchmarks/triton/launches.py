"""What a launch costs when there is nothing to compute: from Python, and through the launcher in C++."""

from __future__ import annotations

import collections
import functools
import itertools
from typing import Any

import torch
import triton

from gxu.benchmarks.device import DEVICE
from gxu.benchmarks.triton.row import Case, Row, Settings, median_us
from gxu.triton.driver import packed_signature

GROUP = "launch"
DISPATCH_BAR, LAUNCHER_BAR = 1 / 1.1, 1.0
CALLS = 200


@triton.jit
def empty_kernel(x_ptr, n):
    return


def cases() -> list[Case]:
    return [
        Case("launch from Python", GROUP, functools.partial(_from_python, "launch from Python")),
        Case("launch through the launcher", GROUP, functools.partial(_launcher, "launch through the launcher")),
    ]


def _from_python(name: str, settings: Settings) -> Row:
    """`kernel[grid](...)` of a kernel without a body; the bound is the same with a launcher that does nothing."""
    synchronize = torch.get_device_module(DEVICE).synchronize
    x = torch.zeros(1, device=DEVICE)
    compiled: Any = empty_kernel[(1,)](x, 1)
    launch = compiled.run

    def calls(launcher: Any) -> None:
        compiled._run = launcher
        for _ in range(CALLS):
            empty_kernel[(1,)](x, 1)
        synchronize()

    def nothing(*args: object) -> None:
        return

    times = median_us({"gxu": lambda: calls(launch), "dispatch": lambda: calls(nothing)}, settings)
    compiled._run = launch
    gxu, dispatch = times["gxu"] / CALLS, times["dispatch"] / CALLS
    return Row(name, GROUP, gxu, None, None, None, dispatch, "Triton's dispatch", dispatch / gxu, DISPATCH_BAR)


def _launcher(name: str, settings: Settings) -> Row:
    """`gxu._C.launch` of one program, and an operator on an empty tensor, both in loops that are not Python's.

    The launches run with their queue, so their time includes the programs. The operator is `aten::add.out`, with no
    element to add, called by TorchScript's interpreter.
    """
    from gxu import _C

    synchronize = torch.get_device_module(DEVICE).synchronize
    x = torch.zeros(1, device=DEVICE)
    compiled: Any = empty_kernel[(1,)](x, 1)
    driver: Any = triton.runtime.driver.active
    stream = driver.get_current_stream(driver.get_current_device())
    # A parameter that is 1 is compiled in, so it is not passed on.
    arguments = (compiled.function, 1, 1, 1, stream, packed_signature([*compiled.src.signature.values()]), (x, 1))
    empty = torch.zeros(0)

    def launches() -> None:
        collections.deque(itertools.starmap(_C.launch, itertools.repeat(arguments, CALLS)), maxlen=0)
        synchronize()

    adds = _operator_calls()
    times = median_us({"gxu": launches, "operator": lambda: adds(empty, CALLS)}, settings)
    gxu, operator = times["gxu"] / CALLS, times["operator"] / CALLS
    return Row(name, GROUP, gxu, None, None, None, operator, "ATen operator", operator / gxu, LAUNCHER_BAR)


def _operator_calls() -> Any:
    """f(x, n): `torch.add(x, x, out=x)` n times without Python."""
    graph = torch._C.parse_ir(
        """
        graph(%x : Tensor, %n : int):
          %one : int = prim::Constant[value=1]()
          %true : bool = prim::Constant[value=1]()
          prim::Loop(%n, %true)
            block0(%i : int):
              %y : Tensor = aten::add(%x, %x, %one, %x)
              -> (%true)
          return (%x)
        """
    )
    return torch._C._create_function_from_graph("adds", graph)
