"""Inductor's Triton templates on gxu: which tiles they are tried with, and that products and convolutions are right.

Whether a template is worth it is measured while compiling; these tests leave it no choice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from inductor_helpers import assert_close, in_double, launches_of, to_device
from torch._inductor import config as inductor_config
from torch._inductor.async_compile import AsyncCompile
from torch._inductor.codegen import triton as codegen
from torch._inductor.utils import run_and_get_code

from gxu.inductor import config, template_tiles
from gxu.inductor.template_tiles import Tile

pytestmark = pytest.mark.filterwarnings("ignore:TypedStorage is deprecated", "ignore:dynamo_pgo force disabled")

#: No library calls to choose from, one tile, and fusion whether or not the two kernels alone look faster today.
ONLY_TEMPLATES = {
    "max_autotune": True,
    "max_autotune_gemm_backends": "TRITON",
    "max_autotune_conv_backends": "TRITON",
    "test_configs.max_mm_configs": 1,
    "benchmark_epilogue_fusion": False,
    "force_disable_caches": True,
}


@pytest.mark.parametrize("m", [1, 3, 16, 17, 100, 128, 1000, 4096])
@pytest.mark.parametrize("n", [1, 50, 512, 3000])
@pytest.mark.parametrize("k", [1, 64, 1000])
@pytest.mark.parametrize("min_programs", [1, 2, 48])
def test_product_tiles(m: int, n: int, k: int, min_programs: int) -> None:
    """Powers of two, no larger than the problem asks, and small ones where there would be too few programs."""
    tiles = template_tiles.product(m, n, k, min_programs)
    assert len(set(tiles)) == len(tiles) > 0
    for tile in tiles:
        assert all(block & (block - 1) == 0 for block in tile)
        assert tile.block_m < 2 * m
        assert tile.block_n < 2 * max(n, template_tiles.MIN_BLOCK)
        assert tile.block_k < 2 * max(k, template_tiles.MIN_BLOCK)
        programs = -(-m // tile.block_m) * -(-n // tile.block_n)
        assert programs >= min_programs or max(tile.block_m, tile.block_n) <= 4 * template_tiles.MIN_BLOCK


def test_tiles_of_known_problems() -> None:
    assert template_tiles.product(4096, 4096, 4096, 2)[0] == Tile(128, 256, 256)
    assert template_tiles.product(1, 4096, 4096, 2)[0] == Tile(1, 256, 256)
    assert template_tiles.product(256, 256, 64, 4) == [Tile(128, 128, 64)]
    assert template_tiles.decoding_splits(1, 8) == 8
    assert template_tiles.decoding_splits(3, 8) == 3
    assert template_tiles.decoding_splits(100, 8) == template_tiles.decoding_splits(0, 1) == 1
    assert len(list(template_tiles.exhaustive(64, 64, 64))) == 3 * 3 * 2


def check_template(
    fn: Callable[..., Any], *args: Any, kernels: int = 1, double: bool = True, **options: Any
) -> list[str]:
    """Compiles `fn` with templates only, compares with the CPU (in double precision), and returns the generated code.

    The compiled function launches `kernels` kernels: what follows the product is part of it.
    """
    torch._dynamo.reset()
    expected = fn(*(in_double(args) if double else args))
    device_args = to_device(args, "gxu")
    with inductor_config.patch({**ONLY_TEMPLATES, **options}):
        compiled = torch.compile(fn, fullgraph=True)
        result, code = run_and_get_code(compiled, *device_args)
    assert_close(result, expected)
    result, launches = launches_of(lambda: compiled(*device_args))
    assert_close(result, expected)
    assert launches == kernels
    assert "triton_tem_" in code[0]
    assert "extern_kernels." not in code[0]
    return code


def test_product_with_epilogue() -> None:
    a, b, c = torch.randn(70, 130) / 10, torch.randn(130, 45), torch.randn(70, 45)
    check_template(lambda a, b, c: torch.relu(a @ b) * c, a, b, c)


def test_product_of_nan_and_infinity() -> None:
    a, b = torch.randn(40, 33), torch.randn(33, 20)
    a[3, 5], a[7, 32], b[0, 19] = float("nan"), float("inf"), float("-inf")
    check_template(lambda a, b: a @ b, a, b)


def test_product_with_prologue() -> None:
    """The conversion of an operand, for which the library would want it in memory."""
    a, b = torch.randint(-128, 128, (50, 70), dtype=torch.int8), torch.randn(70, 40, dtype=torch.bfloat16)
    check_template(lambda a, b: (a.to(b.dtype) @ b).relu(), a, b, double=False, prologue_fusion=True)


def test_bias_and_scalars() -> None:
    a, b, c = torch.randn(33, 64) / 8, torch.randn(64, 50), torch.randn(50)
    check_template(lambda c, a, b: torch.addmm(c, a, b, alpha=0.5, beta=2).tanh(), c, a, b)


def test_batches() -> None:
    a, b, c = torch.randn(3, 40, 70) / 8, torch.randn(3, 70, 50), torch.randn(3, 40, 50)
    check_template(lambda c, a, b: torch.baddbmm(c, a, b, alpha=2, beta=0.5).relu(), c, a, b)
    check_template(lambda a, b: torch.bmm(a, b) + 1, a.bfloat16(), b.bfloat16())


@pytest.mark.parametrize("k", [17, 32, 40, 256, 300])
def test_sum_of_two_products(k: int) -> None:
    """Of few summands, too: torch takes no tile that is as long as they are many."""
    a, c = torch.randn(2, 40, k) / k**0.5
    b, d = torch.randn(2, k, 50)
    check_template(lambda a, b, c, d: a @ b + c @ d, a, b, c, d)


def test_integers() -> None:
    a, b = (torch.randint(-128, 128, shape, dtype=torch.int8) for shape in ((50, 64), (64, 48)))
    check_template(lambda a, b: torch._int_mm(a, b) + 1, a, b, double=False)


def test_groups() -> None:
    """Rows of one matrix go to the groups' own matrices, one group has none; and batches without offsets."""
    a, b = (torch.randn(shape) / 8 for shape in ((60, 64), (4, 64, 32)))
    a, b, ends = a.bfloat16(), b.bfloat16(), torch.tensor([17, 20, 20, 60], dtype=torch.int32)
    rows = zip(a.double().tensor_split(ends[:-1].tolist()), b.double(), strict=True)
    expected = torch.cat([group @ matrix for group, matrix in rows])
    torch._dynamo.reset()
    with inductor_config.patch(ONLY_TEMPLATES):
        grouped = torch.compile(torch._grouped_mm, fullgraph=True)
        result, code = run_and_get_code(grouped, a.to("gxu"), b.to("gxu"), ends.to("gxu"))
        assert_close(result, expected)
        assert "extern_kernels." not in code[0]
        batches = a.reshape(4, 15, 64)
        assert_close(grouped(batches.to("gxu"), b.to("gxu")), batches.double() @ b.double())


def test_workers_and_the_generated_file_get_the_same_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker compiles a template once, whether torch or the generated file asks for it; files of equal names are
    equal."""
    early, late = [], []
    of_generated_file = AsyncCompile.triton

    def triton(self: AsyncCompile, kernel_name: str, source_code: str, *args: Any, **kwargs: Any) -> Any:
        late.append(source_code)
        return of_generated_file(self, kernel_name, source_code, *args, **kwargs)

    monkeypatch.setattr(AsyncCompile, "triton", triton)
    monkeypatch.setattr(codegen.async_compile, "use_process_pool", lambda: True)
    monkeypatch.setattr(codegen.async_compile, "triton", lambda name, source: early.append(source))
    a, b = torch.randn(2, 24, 64).bfloat16() / 8, torch.randn(2, 64, 32).bfloat16() / 8
    torch._dynamo.reset()
    with inductor_config.patch(ONLY_TEMPLATES):
        result = torch.compile(lambda a, b: torch._grouped_mm(a, b).sin())(a.to("gxu"), b.to("gxu"))
    assert_close(result, (a.double() @ b.double()).sin())
    assert early and set(early) <= set(late)


@pytest.mark.parametrize("rowwise", [False, True])
def test_scaled_fp8(rowwise: bool) -> None:
    a, b = torch.randn(32, 64).to(torch.float8_e4m3fn), torch.randn(48, 64).to(torch.float8_e4m3fn)
    scale_a, scale_b = (torch.rand(32, 1), torch.rand(1, 48)) if rowwise else (torch.tensor(0.5), torch.tensor(2.0))

    def fn(a: torch.Tensor, b: torch.Tensor, s: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        if a.device.type == "cpu":  # which has one scale for all rows in torch 2.11
            return a.double() @ b.double().t() * s.double() * t.double()
        return torch._scaled_mm(a, b.t(), s, t, out_dtype=torch.bfloat16)

    check_template(fn, a, b, scale_a, scale_b, double=False)


def test_convolution() -> None:
    """Bias and activation are a kernel of their own in the channels-last format: Inductor describes a template's result
    in the order of its dimensions, and what follows it in the order of its memory. Grouped ones it takes through NCHW,
    which is a copy."""
    x, w, b = torch.randn(2, 16, 9, 11), torch.randn(24, 16, 3, 3) / 12, torch.randn(24)
    x, w = (t.to(memory_format=torch.channels_last) for t in (x, w))
    check_template(lambda x, w, b: torch.relu(torch.conv2d(x, w, b, padding=1, stride=2)), x, w, b, kernels=2)
    w = w[:, :8].contiguous(memory_format=torch.channels_last)
    check_template(lambda x, w, b: torch.conv2d(x, w, b, groups=2), x, w, b, kernels=2)


def test_dynamic_shapes() -> None:
    """One kernel for every number of rows, chosen for the first."""
    torch._dynamo.reset()
    with inductor_config.patch(ONLY_TEMPLATES):
        compiled = torch.compile(lambda a, b: torch.relu(a @ b), fullgraph=True, dynamic=True)
        for rows in (40, 5, 133):
            a, b = torch.randn(rows, 70) / 8, torch.randn(70, 30)
            assert_close(compiled(a.to("gxu"), b.to("gxu")), torch.relu(a.double() @ b.double()))


def test_library_is_a_choice_and_the_default() -> None:
    """Without max_autotune no template is considered; with it the winner is measured, and right whichever it is."""
    a, b = torch.randn(60, 64) / 8, torch.randn(64, 60)
    fn = lambda a, b: torch.relu(a @ b)  # noqa: E731
    expected = fn(a.double(), b.double())
    for mode in (None, "max-autotune-no-cudagraphs"):
        torch._dynamo.reset()
        with inductor_config.patch(force_disable_caches=True):
            result, code = run_and_get_code(torch.compile(fn, mode=mode), a.to("gxu"), b.to("gxu"))
        assert_close(result, expected)
        assert mode is not None or "extern_kernels.mm" in code[0]


def test_config_is_obeyed() -> None:
    """More programs are asked for, so the tiles are smaller; the configuration is part of Inductor's cache key."""
    from gxu.inductor.templates import min_programs

    assert min_programs() == torch.get_num_threads()
    with config.patch(min_template_programs=48):
        assert min_programs() == 48
        key = config.save_config_portable()
    assert key != config.save_config_portable()
