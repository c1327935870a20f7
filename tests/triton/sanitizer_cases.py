"""Runs kernels with good and bad accesses, for test_sanitizer.py: `python sanitizer_cases.py`.

A program of its own, because the runtime reads GXU_SANITIZE once. Prints a JSON object: for each case the error of the
next synchronising call (null: none), the error of the one after it, whether the outputs are what they must be, and the
numbers that the error must name.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl

from gxu.triton.driver import active_driver

Outcome = dict[str, Any]
CASES: dict[str, Callable[[], Outcome]] = {}


def case(function: Callable[[], Outcome]) -> Callable[[], Outcome]:
    CASES[function.__name__] = function
    return function


@triton.jit
def copy_masked(x, y, n, shift, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    v = tl.load(x + i + shift, i < n, other=7.0)  # line: masked load
    tl.store(y + i, v, i < n)


@triton.jit
def store_all(y, shift, B: tl.constexpr):
    i = (tl.program_id(2) * 3 + tl.program_id(1)) * B + tl.arange(0, B)
    tl.store(y + i + shift, i.to(tl.float32))  # line: store


@triton.jit
def strided(x, y, stride, B: tl.constexpr):
    i = tl.arange(0, B)
    tl.store(y + i, tl.load(x + i * stride))  # line: strided


@triton.jit
def indirect(x, index, y, B: tl.constexpr):
    i = tl.arange(0, B)
    tl.store(y + i, tl.load(x + tl.load(index + i)))  # line: indirect


@triton.jit
def add_up(x, index, total, old, B: tl.constexpr):
    i = tl.arange(0, B)
    before = tl.atomic_add(total + tl.load(index + i), tl.load(x + i))  # line: atomic
    tl.store(old + i, before)


@triton.jit
def scalar(x, y, at):
    tl.store(y, tl.load(x + at))  # line: scalar


@triton.jit
def swap(lock, y, at):
    tl.store(y, tl.atomic_cas(lock + at, 0, 1))  # line: cas


@triton.jit
def blocks(x, y, n, B: tl.constexpr, CHECK: tl.constexpr):
    p = tl.make_block_ptr(x, (n,), (1,), (0,), (B,), (0,))
    if CHECK:
        v = tl.load(p, boundary_check=(0,), padding_option="zero")
    else:
        v = tl.load(p)  # line: block
    tl.store(y + tl.arange(0, B), v)


@triton.jit
def pick(x, index, y, B: tl.constexpr):
    i = tl.arange(0, B)
    tl.store(y + i, tl.gather(tl.load(x + i), tl.load(index + i), 0))  # line: gather


@triton.jit
def through_table(table, y, B: tl.constexpr):
    i = tl.arange(0, B)
    x = tl.load(table).to(tl.pointer_type(tl.float32))
    tl.store(y + i, tl.load(x + i))  # line: table


@triton.jit
def wait(flag, at, y):
    while tl.load(flag + at, volatile=True) == 0:  # line: wait
        pass
    tl.store(y + tl.program_id(0), 1.0)


class Address:
    """Memory that a kernel gets without a tensor."""

    dtype = torch.float32

    def __init__(self, address: int) -> None:
        self.address = address

    def data_ptr(self) -> int:
        return self.address


def outcome(run: Callable[[], Any], right: Callable[[], bool], **numbers: int) -> Outcome:
    """Runs a kernel, and asks what went wrong until nothing did. A launch on pageable memory says it itself."""
    errors = [error for call in (run, torch.gxu.synchronize, torch.gxu.synchronize) if (error := error_of(call))]
    first, again, *_ = [*errors, None, None]
    return {"error": first, "again": again, "right": bool(right()), **numbers}


def error_of(call: Callable[[], Any]) -> str | None:
    try:
        call()
    except RuntimeError as error:
        return str(error)
    return None


def numbers(count: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """1, 2, 3 ..., none of them zero."""
    return torch.arange(1, count + 1, dtype=dtype)


@case
def masked_is_clean() -> Outcome:
    x, y = numbers(1000).to("gxu"), torch.zeros(1000, device="gxu")
    return outcome(lambda: copy_masked[(4,)](x, y, 1000, 0, B=256), lambda: torch.equal(y.cpu(), numbers(1000)))


@case
def masked_load_past_the_end() -> Outcome:
    x, y = numbers(1000).to("gxu"), torch.zeros(1024, device="gxu")
    expected = torch.cat([numbers(1000), torch.full((3,), 7.0)])
    return outcome(
        lambda: copy_masked[(4,)](x, y, 1003, 0, B=256),
        lambda: torch.equal(y.cpu()[:1003], expected),
        address=x.data_ptr() + 4000,
        base=x.data_ptr(),
    )


@case
def load_before_the_start() -> Outcome:
    x, y = numbers(64).to("gxu"), torch.zeros(64, device="gxu")
    return outcome(
        lambda: copy_masked[(1,)](x, y, 64, -5, B=64),
        lambda: torch.equal(y.cpu(), torch.cat([torch.full((5,), 7.0), numbers(59)])),
        address=x.data_ptr() - 20,
        base=x.data_ptr(),
    )


@case
def store_past_the_end() -> Outcome:
    y = torch.zeros(3 * 2 * 64 - 1, device="gxu")
    return outcome(
        lambda: store_all[(1, 3, 2)](y, 0, B=64),
        lambda: torch.equal(y.cpu(), torch.arange(383.0)),
        address=y.data_ptr() + 4 * 383,
        base=y.data_ptr(),
    )


@case
def store_into_the_neighbour() -> Outcome:
    """Two tensors of which an index of one reaches the other."""
    x, y = torch.full((128,), 3.0, device="gxu"), torch.full((128,), 5.0, device="gxu")
    low, high = sorted((x, y), key=lambda t: t.data_ptr())
    before = high.cpu()
    shift = (high.data_ptr() - low.data_ptr()) // 4
    return outcome(
        lambda: store_all[(1,)](low, shift, B=64), lambda: torch.equal(high.cpu(), before), address=high.data_ptr()
    )


@case
def strided_load() -> Outcome:
    x, y = numbers(64 * 3 - 3).to("gxu"), torch.zeros(64, device="gxu")
    return outcome(
        lambda: strided[(1,)](x, y, 3, B=64),
        lambda: torch.equal(y.cpu(), torch.cat([numbers(189)[::3], torch.zeros(1)])),
        address=x.data_ptr() + 4 * 189,
        base=x.data_ptr(),
    )


@case
def indirect_load() -> Outcome:
    index = torch.randperm(64)
    index[17] = 100_000_000
    x, y = numbers(64).to("gxu"), torch.zeros(64, device="gxu")
    expected = torch.where(index < 64, numbers(64)[index.clamp(max=63)], 0.0)
    device_index = index.to("gxu")
    return outcome(
        lambda: indirect[(1,)](x, device_index, y, B=64),
        lambda: torch.equal(y.cpu(), expected),
        address=x.data_ptr() + 400_000_000,
        base=x.data_ptr(),
    )


@case
def atomic_add() -> Outcome:
    index = torch.zeros(32, dtype=torch.int32)
    index[5], index[6] = -1, 9
    x, total, old = numbers(32).to("gxu"), torch.zeros(9, device="gxu"), torch.full((32,), -1.0, device="gxu")
    device_index = index.to("gxu")
    return outcome(
        lambda: add_up[(1,)](x, device_index, total, old, B=32),
        lambda: total.cpu().tolist() == [32 * 33 / 2 - 6 - 7] + [0] * 8 and old.cpu()[5] == 0 and old.cpu()[6] == 0,
        address=total.data_ptr() - 4,
        base=total.data_ptr(),
    )


@case
def atomic_cas() -> Outcome:
    lock, y = torch.zeros(1, dtype=torch.int32, device="gxu"), torch.ones(1, dtype=torch.int32, device="gxu")
    return outcome(
        lambda: swap[(1,)](lock, y, 1),
        lambda: lock.item() == 0 and y.item() == 0,
        address=lock.data_ptr() + 4,
        base=lock.data_ptr(),
    )


@case
def scalar_load() -> Outcome:
    x, y = numbers(10).to("gxu"), torch.ones(1, device="gxu")
    return outcome(lambda: scalar[(1,)](x, y, 12), lambda: y.item() == 0, address=x.data_ptr() + 48, base=x.data_ptr())


@case
def waits_for_other_memory() -> Outcome:
    """What every program waits for never comes: the kernel must end all the same."""
    flag, y = torch.ones(4, dtype=torch.int32, device="gxu"), torch.zeros(50, device="gxu")
    return outcome(lambda: wait[(50,)](flag, 4, y), lambda: bool((y.cpu() == 0).all()), address=flag.data_ptr() + 16)


@case
def null_pointer() -> Outcome:
    y = torch.ones(64, device="gxu")
    return outcome(lambda: copy_masked[(1,)](Address(0), y, 64, 0, B=64), lambda: bool((y.cpu() == 7).all()), address=0)


@case
def block_pointer() -> Outcome:
    x, y = numbers(61).to("gxu"), torch.ones(64, device="gxu")
    return outcome(
        lambda: blocks[(1,)](x, y, 61, B=64, CHECK=False),
        lambda: torch.equal(y.cpu(), torch.cat([numbers(61), torch.zeros(3)])),
        address=x.data_ptr() + 4 * 61,
        base=x.data_ptr(),
    )


@case
def checked_block_pointer_is_clean() -> Outcome:
    x, y = numbers(61).to("gxu"), torch.ones(64, device="gxu")
    return outcome(
        lambda: blocks[(1,)](x, y, 61, B=64, CHECK=True),
        lambda: torch.equal(y.cpu(), torch.cat([numbers(61), torch.zeros(3)])),
    )


@case
def gather_index() -> Outcome:
    index = torch.randint(0, 64, (64,), dtype=torch.int32)
    index[40] = -2
    x, y = numbers(64).to("gxu"), torch.zeros(64, device="gxu")
    device_index = index.to("gxu")
    good = index >= 0
    return outcome(
        lambda: pick[(1,)](x, device_index, y, B=64),
        lambda: torch.equal(y.cpu()[good], numbers(64)[index[good].long()]),
    )


@case
def freed_tensor() -> Outcome:
    x, y = numbers(64).to("gxu"), torch.zeros(64, device="gxu")
    address = x.data_ptr()
    del x
    return outcome(
        lambda: copy_masked[(1,)](Address(address), y, 64, 0, B=64),
        lambda: bool((y.cpu() == 7).all()),
        address=address,
    )


@case
def freed_tensor_before_a_new_one() -> Outcome:
    """The new tensor does not get the memory of the old one at once."""
    x, y = numbers(64).to("gxu"), torch.zeros(64, device="gxu")
    address = x.data_ptr()
    del x
    new = torch.full((64,), 5.0, device="gxu")
    return outcome(
        lambda: copy_masked[(1,)](Address(address), y, 64, 0, B=64),
        lambda: bool((y.cpu() == 7).all() and (new.cpu() == 5).all()),
        address=address,
    )


@case
def freed_tensor_through_a_table() -> Outcome:
    x, y = numbers(64).to("gxu"), torch.ones(64, device="gxu")
    address = x.data_ptr()
    table = torch.tensor([address], device="gxu")
    del x
    return outcome(lambda: through_table[(1,)](table, y, B=64), lambda: bool((y.cpu() == 0).all()), address=address)


@case
def tensor_freed_after_the_launch_is_clean() -> Outcome:
    y = torch.zeros(64, device="gxu")

    def run() -> None:
        x = numbers(64).to("gxu")
        copy_masked[(1,)](x, y, 64, 0, B=64)
        del x

    return outcome(run, lambda: torch.equal(y.cpu(), numbers(64)))


@case
def table_of_addresses_is_clean() -> Outcome:
    x, y = numbers(64).to("gxu"), torch.zeros(64, device="gxu")
    table = torch.tensor([x.data_ptr()], device="gxu")
    return outcome(lambda: through_table[(1,)](table, y, B=64), lambda: torch.equal(y.cpu(), numbers(64)))


@case
def view_reaches_its_whole_storage() -> Outcome:
    """A kernel may go from a view of a tensor to other elements of that tensor."""
    x, y = numbers(64).to("gxu"), torch.zeros(64, device="gxu")
    return outcome(lambda: copy_masked[(1,)](x[10:20], y, 64, -10, B=64), lambda: torch.equal(y.cpu(), numbers(64)))


@case
def host_tensors_are_clean() -> Outcome:
    x, y = numbers(100), torch.zeros(100)
    return outcome(lambda: copy_masked[(1,)](x, y, 100, 0, B=128), lambda: torch.equal(x, y))


@case
def pinned_tensor_past_the_end() -> Outcome:
    x, y = numbers(100).pin_memory(device="gxu"), torch.zeros(128)
    return outcome(
        lambda: copy_masked[(1,)](x, y, 101, 0, B=128),
        lambda: torch.equal(y[:101], torch.cat([numbers(100), torch.full((1,), 7.0)])),
        address=x.data_ptr() + 400,
        base=x.data_ptr(),
    )


@case
def host_tensor_past_the_end() -> Outcome:
    x, y = numbers(100), torch.zeros(128)
    return outcome(
        lambda: copy_masked[(1,)](x, y, 101, 0, B=128),
        lambda: torch.equal(y[:101], torch.cat([numbers(100), torch.full((1,), 7.0)])),
        address=x.data_ptr() + 400,
        base=x.data_ptr(),
    )


@case
def compiled_graph_is_clean() -> Outcome:
    def graph(x: torch.Tensor, w: torch.Tensor, i: torch.Tensor) -> torch.Tensor:
        h = torch.nn.functional.layer_norm(x + w[i], (37,)).softmax(-1)
        return torch.cat([h.flip(0), h.cumsum(1)]).sum(0) * h.amax()

    x, w, i = torch.randn(29, 37), torch.randn(11, 37), torch.randint(0, 11, (29,))
    arguments = [t.to("gxu") for t in (x, w, i)]
    found: list[torch.Tensor] = []
    return outcome(
        lambda: found.append(torch.compile(graph)(*arguments)),
        lambda: torch.allclose(found[0].cpu(), graph(x, w, i), atol=1e-5),
    )


if __name__ == "__main__":
    triton.runtime.driver.set_active(active_driver())
    torch.manual_seed(3)
    print(json.dumps({name: run() for name, run in CASES.items()}))
