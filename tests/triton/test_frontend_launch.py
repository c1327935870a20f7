"""Around a launch: grids, streams, hooks, warmup, autotuning, heuristics, benchmarks, debug mode."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import triton
import triton.language as tl
from triton import knobs


@pytest.fixture
def fresh_knobs() -> Iterator[None]:
    with knobs.runtime.scope(), knobs.compilation.scope():
        yield


@pytest.fixture
def empty_cache(fresh_knobs: None, tmp_path: Any) -> Iterator[None]:
    with knobs.cache.scope():
        knobs.cache.dir = str(tmp_path)
        yield


@triton.jit
def number_programs(out, columns, rows):
    x, y, z = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    at = out + (z * rows + y) * columns + x
    tl.store(at, tl.load(at) + (z * tl.num_programs(1) + y) * tl.num_programs(0) + x + 1)


@pytest.mark.parametrize(
    ("grid", "count"),
    [
        ((7,), 7),
        ([7], 7),
        ((7, 3), 21),
        ([7, 3, 2], 42),
        (lambda meta: (meta["columns"], meta["rows"]), 21),
        ((torch.tensor([7]).numel() * 7,), 7),
        ((1, 3, 1), 3),
        ((0,), 0),
        ((7, 0, 3), 0),
    ],
)
def test_grids(grid, count):
    shape = grid({"columns": 7, "rows": 3}) if callable(grid) else grid
    columns, rows, _ = (*shape, 1, 1)[:3]
    out = torch.zeros(64, dtype=torch.int32, device="gxu")
    number_programs[grid](out, columns=columns, rows=rows)
    assert out.tolist() == [*range(1, count + 1)] + [0] * (64 - count)


@pytest.mark.parametrize(("grid", "error"), [((-1,), ValueError), ((2**32,), ValueError), ((1.5,), TypeError)])
def test_grids_that_cannot_be(grid, error):
    out = torch.zeros(4, dtype=torch.int32, device="gxu")
    with pytest.raises(error):
        number_programs[grid](out, 1, 1)
    number_programs[(2,)](out, 2, 1)
    assert out.tolist() == [1, 2, 0, 0]


def describe(grid: Any, metadata: Any, args: dict[str, Any]) -> dict[str, Any]:
    return {"name": f"add<{args['n']}>", "elements": args["n"], "grid": grid, "warps": metadata.num_warps}


@triton.jit(launch_metadata=describe, repr=lambda special: f"add_{special.constants['B']}")
def add(x, out, n, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(out + i, tl.load(x + i, i < n) + 1, i < n)


def test_hooks_in_their_order(empty_cache):
    seen: list[tuple[Any, ...]] = []

    def enter(metadata: Any) -> None:
        data = metadata.get()
        seen.append(("enter", data["name"], data["elements"], data["grid"], data["warps"], data["stream"]))

    def leave(metadata: Any) -> None:
        seen.append(("exit", metadata.get()["name"]))

    def before_load(module: Any, function: Any, name: str, group: Any, key: Any) -> None:
        seen.append(("load", module, name))

    def after_load(module: Any, function: Any, name: str, group: Any, key: Any) -> None:
        seen.append(("loaded", bool(function), name))

    hooks = [
        (knobs.runtime.launch_enter_hook, enter),
        (knobs.runtime.launch_exit_hook, leave),
        (knobs.runtime.kernel_load_start_hook, before_load),
        (knobs.runtime.kernel_load_end_hook, after_load),
    ]
    for chain, hook in hooks:
        chain.add(hook)
    knobs.runtime.jit_cache_hook = lambda **info: seen.append(("miss", info["fn"].name))
    knobs.runtime.jit_post_compile_hook = lambda **info: seen.append(("compiled", info["compile"]["signature"]))
    knobs.compilation.listener = lambda **info: seen.append(
        ("listener", info["cache_hit"], [name for name, _ in info["times"].lowering_stages])
    )
    add.device_caches.clear()
    x = torch.zeros(5, device="gxu")
    try:
        for _ in range(2):
            add[(2,)](x, x, 5, B=4, num_warps=2)
    finally:
        for chain, hook in hooks:
            chain.remove(hook)
    add[(2,)](x, x, 5, B=4, num_warps=2)
    launched = [("enter", "add<5>", 5, (2,), 2, 0), ("exit", "add<5>")]
    stages = [event for event in seen if event[0] == "listener"]
    assert [event for event in seen if event[0] != "listener"] == [
        ("miss", "add"),
        ("compiled", {"x": "*fp32", "out": "*fp32", "n": "i32", "B": "constexpr"}),
        ("load", None, "add_4"),
        ("loaded", True, "add_4"),
        *launched,
        *launched,
    ]
    assert len(stages) == 1
    assert stages[0][1] is False
    assert {"ttir", "loops", "llir", "cubin"} <= set(stages[0][2])
    assert x.tolist() == [3] * 5


def test_a_cache_hook_can_stop_the_compilation(empty_cache):
    knobs.runtime.jit_cache_hook = lambda **info: True
    add.device_caches.clear()
    x = torch.zeros(5, device="gxu")
    assert add[(2,)](x, x, 5, B=4) is None
    assert x.tolist() == [0] * 5


def test_pre_run_hooks(fresh_knobs):
    calls = []

    @triton.jit
    def hooked(x):
        tl.store(x, 4)

    hooked.add_pre_run_hook(lambda *args, **kwargs: calls.append((len(args), kwargs["num_warps"])))
    x = torch.zeros(1, device="gxu")
    hooked[(1,)](x, num_warps=4)
    assert calls == [(1, 4)]
    assert x.item() == 4


def test_warmup_compiles_without_launching(empty_cache):
    add.device_caches.clear()
    compiled = add.warmup(torch.float32, torch.float32, 100, B=64, grid=(1,), num_warps=4)
    assert isinstance(compiled, triton.compiler.CompiledKernel)
    assert compiled.module is None  # loaded by the first launch
    assert compiled.metadata.num_warps == 4
    assert compiled.metadata.shared == 1
    x = torch.zeros(100, device="gxu")
    compiled[(2, 1, 1)](x, x, 100, 64)
    assert x.tolist() == [1] * 100
    # Programs divide by registers and shared memory; an autotuner skips kernels that spill.
    assert (compiled.n_regs, compiled.n_spills) == (32, 0)
    assert compiled.n_max_threads >= 32 * 64
    assert add[(2,)](x, x, 100, B=64, num_warps=4) is compiled


def test_streams():
    x = torch.zeros(5, device="gxu")
    torch.gxu.synchronize()
    stream = torch.gxu.Stream()
    with torch.gxu.stream(stream):
        for _ in range(20):
            add[(2,)](x, x, 5, B=4)
    stream.synchronize()
    assert x.tolist() == [20] * 5


def test_autotune_with_all_its_options(fresh_knobs):
    started: list[int] = []
    pruned: list[int] = []

    def early(configs: list[triton.Config], arguments: dict[str, Any], **meta: Any) -> list[triton.Config]:
        kept = [config for config in configs if config.kwargs["B"] >= 64]
        pruned.append(len(configs) - len(kept))
        return kept

    configs = [
        triton.Config({"B": block}, num_warps=warps, num_stages=3, pre_hook=lambda args: started.append(args["n"]))
        for block in (16, 64, 256)
        for warps in (1, 8)
    ]

    @triton.autotune(
        [*configs, triton.Config({"B": 128}, maxnreg=64)],
        key=["n"],
        reset_to_zero=["out"],
        restore_value=["x"],
        prune_configs_by={"early_config_prune": early},
        do_bench=lambda call, quantiles: triton.testing.do_bench(call, warmup=1, rep=2, quantiles=quantiles),
    )
    @triton.heuristics({"EVEN": lambda args: args["n"] % args["B"] == 0})
    @triton.jit
    def accumulate(x, out, n, B: tl.constexpr, EVEN: tl.constexpr):
        i = tl.program_id(0) * B + tl.arange(0, B)
        v = tl.load(x + i) if EVEN else tl.load(x + i, i < n)
        tl.atomic_add(out + i, v, i < n)
        tl.store(x + i, v + 1, i < n)

    for n in (1000, 1024):
        x, out = torch.arange(float(n), device="gxu"), torch.zeros(n, device="gxu")
        accumulate[lambda meta, n=n: (triton.cdiv(n, meta["B"]),)](x, out, n)
        # However often the configurations ran: once from the original values, in the end.
        assert torch.equal(out.cpu(), torch.arange(float(n)))
        assert torch.equal(x.cpu(), torch.arange(float(n)) + 1)
        assert accumulate.best_config.kwargs["B"] >= 64
        assert len(accumulate.configs_timings) == 5
    assert pruned == [2, 2]
    assert set(started) == {1000, 1024}
    count = len(started)
    accumulate[(16,)](torch.zeros(1024, device="gxu"), torch.zeros(1024, device="gxu"), 1024)
    assert len(started) <= count + 1  # tuned before: no more than the launch itself


@pytest.mark.parametrize("mode", ["min", "max", "mean", "median"])
def test_do_bench(mode):
    x = torch.zeros(1 << 16, device="gxu")
    calls = []

    def call() -> None:
        calls.append(1)
        add[(64,)](x, x, 1 << 16, B=1024)

    milliseconds = triton.testing.do_bench(call, warmup=1, rep=3, return_mode=mode, grad_to_none=[x])
    assert 1e-4 < milliseconds < 1000
    assert x[0].item() == len(calls)
    low, high = triton.testing.do_bench(call, warmup=1, rep=3, quantiles=[0.1, 0.9])
    assert 1e-4 < low <= high


def test_do_bench_measures_the_kernel_and_not_its_launch():
    @triton.jit
    def spin(out, n):
        total = 0.0
        for i in range(n):
            total = total * 0.5 + i
        tl.store(out, total)

    out = torch.zeros(1, device="gxu")
    short, long = (triton.testing.do_bench(lambda n=n: spin[(1,)](out, n), warmup=1, rep=5) for n in (10, 3_000_000))
    assert long > 1.0  # 3 million dependent additions take at least 4 cycles each
    assert long > 10 * short


def test_set_allocator_is_never_asked(fresh_knobs):
    def refuse(size: int, alignment: int, stream: int | None) -> torch.Tensor:
        raise AssertionError("a kernel of gxu asked for global scratch memory")

    triton.set_allocator(refuse)
    try:
        x = torch.zeros(5, device="gxu")
        add[(2,)](x, x, 5, B=4)
        assert x.tolist() == [1] * 5
    finally:
        triton.set_allocator(triton.runtime._allocation.NullAllocator())


@triton.jit
def checked(x, limit):
    v = tl.load(x)
    tl.device_assert(v < limit, "over the limit")
    tl.store(x, v + 1)


def test_debug_mode_turns_assertions_on():
    x = torch.full((1,), 9.0, device="gxu")
    checked[(1,)](x, 5)
    assert x.item() == 10  # assertions are off without debug=True
    checked[(1,)](x, 11, debug=True)
    assert x.item() == 11
