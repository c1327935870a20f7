"""Tiles that are read along one axis and written along the other."""

import re

import pytest
import torch
import triton
import triton.language as tl

SHAPES = [(1, 1), (16, 16), (64, 48), (33, 70), (100, 17), (5, 300), (257, 129)]
DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.int64, torch.bool]


@triton.jit
def add_transposed(x, y, out, rows, columns, BLOCK_ROWS: tl.constexpr, BLOCK_COLUMNS: tl.constexpr):
    row = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)[:, None]
    column = tl.program_id(1) * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)[None, :]
    mask = (row < rows) & (column < columns)
    a = tl.load(x + row + column * rows, mask)
    b = tl.load(y + row * columns + column, mask)
    tl.store(out + row * columns + column, a + b, mask)


def random(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    if dtype.is_floating_point:
        return torch.randn(shape).to(dtype)
    return torch.randint(0, 2 if dtype == torch.bool else 50, shape).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("blocks", [(16, 16), (32, 64), (128, 64), (8, 256)], ids=str)
def test_sum_with_a_transpose(dtype: torch.dtype, blocks: tuple[int, int]) -> None:
    for rows, columns in SHAPES:
        x, y = random((columns, rows), dtype), random((rows, columns), dtype)
        guarded = torch.full((rows * columns + 64,), 1, dtype=dtype, device="gxu")
        grid = (triton.cdiv(rows, blocks[0]), triton.cdiv(columns, blocks[1]))
        add_transposed[grid](x.to("gxu"), y.to("gxu"), guarded, rows, columns, *blocks)
        expected = x.t() ^ y if dtype == torch.bool else x.t() + y
        torch.testing.assert_close(guarded[:-64].cpu().view(rows, columns), expected, rtol=0, atol=0)
        assert (guarded[-64:].cpu() == 1).all()


@triton.jit
def transpose_in_place(x, n, BLOCK: tl.constexpr):
    row, column = tl.arange(0, BLOCK)[:, None], tl.arange(0, BLOCK)[None, :]
    mask = (row < n) & (column < n)
    tl.store(x + row * n + column, tl.load(x + column * n + row, mask), mask)


@pytest.mark.parametrize("n", [1, 16, 45, 64])
def test_in_place(n: int) -> None:
    x = torch.randn(n, n)
    result = x.to("gxu")
    transpose_in_place[(1,)](result, n, 64)
    torch.testing.assert_close(result.cpu(), x.t(), rtol=0, atol=0)


@triton.jit
def masked_gather(x, rows, out, n, BLOCK: tl.constexpr):
    """out[i, j] = x[rows[j], i], or -3 where i > j or rows[j] is negative."""
    i, j = tl.arange(0, BLOCK)[:, None], tl.arange(0, BLOCK)[None, :]
    row = tl.load(rows + j, j < n, other=-1)
    value = tl.load(x + row * n + i, (i < n) & (row >= 0) & (i <= j), other=-3)
    tl.store(out + i * n + j, value, (i < n) & (j < n))


def test_rows_that_are_looked_up() -> None:
    n = 57
    x = torch.randn(n, n)
    rows = torch.randint(-2, n, (n,))
    out = torch.empty(n, n, device="gxu")
    masked_gather[(1,)](x.to("gxu"), rows.to("gxu"), out, n, 64)
    i, j = torch.arange(n)[:, None], torch.arange(n)[None, :]
    expected = torch.where((rows[j] >= 0) & (i <= j), x[rows[j].clamp(0), i], -3.0)
    torch.testing.assert_close(out.cpu(), expected, rtol=0, atol=0)


def test_blocks_are_used() -> None:
    """The loop form says that the load goes block by block: without that, each element would be gathered."""
    x = torch.randn(64, 64, device="gxu")
    kernel = add_transposed[(1, 1)](x, x, torch.empty_like(x), 64, 64, 64, 64)
    assert "blocks that transpose" in kernel.asm["loops"]


@triton.jit
def interleave(x, out, n, ROWS: tl.constexpr, BLOCK: tl.constexpr, COSTLY: tl.constexpr):
    """out[j, i] = x[i, j], or its softplus."""
    row, column = tl.arange(0, ROWS)[:, None], tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)[None, :]
    value = tl.load(x + row * n + column, column < n)
    if COSTLY:
        value = tl.where(value > 20, value, tl.log(1 + tl.exp(value)))
    tl.store(out + row + column * ROWS, value, column < n)


@pytest.mark.parametrize("costly", [False, True])
@pytest.mark.parametrize("rows", [2, 4, 16])
def test_arithmetic_does_not_go_along_a_short_axis(rows: int, costly: bool) -> None:
    """A loop over two or four rows leaves most lanes empty: worse than a scattered store behind much arithmetic."""
    x = torch.randn(rows, 77, dtype=torch.float64) * 10
    out = torch.full((77 * rows + 16,), -7.0, device="gxu")
    kernel = interleave[(2,)](x.float().to("gxu"), out, 77, rows, 64, costly)
    expected = torch.nn.functional.softplus(x.float().double()) if costly else x.float().double()
    torch.testing.assert_close(out[:-16].cpu().double().view(77, rows), expected.t(), rtol=1e-5, atol=1e-6)
    assert (out[-16:].cpu() == -7).all()
    if costly and rows < 8:
        lanes = [int(word) for word in re.findall(r"vector (\d+)", kernel.asm["loops"])]
        assert min(lanes) > rows, kernel.asm["loops"]


@triton.jit
def to_channels_last(x, out, C, numel, K, PERIOD: tl.constexpr, Y: tl.constexpr, X: tl.constexpr):
    """out[o, k, c] = x[o, c, k], with the (o, c) of a tile as one axis; PERIOD is C, or 0 where C is not known."""
    y = tl.program_id(1) * Y + tl.arange(0, Y)[:, None]
    k = tl.program_id(0) * X + tl.arange(0, X)[None, :]
    channels = PERIOD if PERIOD else C
    value = tl.load(x + k + K * y, (k < K) & (y < numel))
    tl.store(out + y % channels + channels * k + K * channels * (y // channels), value, (k < K) & (y < numel))


@triton.jit
def from_channels_last(x, out, C, numel, K, PERIOD: tl.constexpr, Y: tl.constexpr, X: tl.constexpr):
    y = tl.program_id(1) * Y + tl.arange(0, Y)[:, None]
    k = tl.program_id(0) * X + tl.arange(0, X)[None, :]
    channels = PERIOD if PERIOD else C
    value = tl.load(x + y % channels + channels * k + K * channels * (y // channels), (k < K) & (y < numel))
    tl.store(out + k + K * y, value, (k < K) & (y < numel))


CHANNELS_LAST = [(5, 64, 9), (3, 48, 25), (7, 20, 9), (2, 16, 49), (4, 32, 16), (9, 3, 17), (1, 112, 1)]


@pytest.mark.parametrize(
    ("shape", "block", "dtype"),
    [
        *((shape, block, torch.float32) for shape in CHANNELS_LAST for block in ((64, 16), (16, 32))),
        *((shape, (64, 64), dtype) for shape in CHANNELS_LAST[:3] for dtype in DTYPES[1:]),
        ((5, 64, 9), (256, 8), torch.bfloat16),
    ],
    ids=str,
)
def test_channels_last(shape: tuple[int, int, int], block: tuple[int, int], dtype: torch.dtype) -> None:
    """Both directions, with and without a known number of channels; blocks that end within an axis of the tile."""
    outer, channels, inner = shape
    numel = outer * channels * inner
    x = random(shape, dtype)
    grid = (triton.cdiv(inner, block[1]), triton.cdiv(outer * channels, block[0]))
    for period in (channels, 0):
        for kernel, source, expected in (
            (to_channels_last, x, x.transpose(1, 2)),
            (from_channels_last, x.transpose(1, 2), x),
        ):
            guarded = torch.full((numel + 64,), 1, dtype=dtype, device="gxu")
            kernel[grid](
                source.contiguous().to("gxu"), guarded, channels, outer * channels, inner, period, block[0], block[1]
            )
            assert torch.equal(guarded[:numel].cpu(), expected.reshape(-1)), (kernel, period)
            assert (guarded[numel:].cpu() == 1).all()


@pytest.mark.parametrize("kernel", [to_channels_last, from_channels_last], ids=["to", "from"])
def test_channels_last_goes_by_blocks(kernel: triton.JITFunction) -> None:
    """Remainders do not hide that an access is contiguous, and a tile of nine columns is no reason to gather."""
    x, out = torch.randn(4, 64, 9), torch.empty(4, 64, 9, device="gxu")
    compiled = kernel[(1, 1)](x.to("gxu"), out, 64, 256, 9, 64, 256, 16)
    assert "blocks that transpose" in compiled.asm["loops"]
    assert "scatter" not in compiled.asm["llir"].__str__().split("define")[1]
