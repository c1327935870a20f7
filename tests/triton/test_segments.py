"""Values that several segments of a kernel need: read again from memory, or kept; and scalars between reductions."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl
from triton_helpers import agree, assert_same, launch


@triton.jit
def normalise(x_ptr, y_ptr, z_ptr, n, TWICE: tl.constexpr, B: tl.constexpr):
    row = tl.program_id(0)
    j = tl.arange(0, B)
    mask = j < n
    x = tl.load(x_ptr + row * n + j, mask, other=0.0)
    mean = tl.sum(x, 0) / n
    centred = tl.where(mask, x - mean, 0.0)
    rstd = 1.0 / tl.sqrt(tl.sum(centred * centred, 0) / n + 1e-5)
    tl.store(y_ptr + row * n + j, centred * rstd, mask)
    if TWICE:
        # After the store: what it needs of x must be what was loaded above.
        tl.store(z_ptr + row, tl.sum(tl.where(mask, tl.exp2(x) * (j + 1), 0.0), 0))


def normalised(x):
    x = x.double()
    return ((x - x.mean(1, keepdim=True)) / (x.var(1, correction=0, keepdim=True) + 1e-5).sqrt()).float()


@pytest.mark.parametrize("n", [1, 63, 200, 256])
@pytest.mark.parametrize("twice", [False, True])
def test_rows_are_normalised_in_place(n, twice):
    """One tensor as input and output: no segment sees in x what this program has stored to y."""
    x = torch.randn(5, n)
    on_gxu, z = x.to("gxu"), torch.zeros(5, device="gxu")
    normalise[(5,)](on_gxu, on_gxu, z, n, TWICE=twice, B=256)
    assert_same(on_gxu.cpu(), normalised(x), rtol=1e-4, atol=1e-5)
    if twice:
        expected = (x.double().exp2() * torch.arange(1, n + 1)).sum(1).float()
        assert_same(z.cpu(), expected, rtol=1e-4, atol=1e-4)


def test_a_row_is_read_again_rather_than_kept():
    kernel = normalise.warmup(*[torch.float32] * 3, 200, TWICE=False, B=256, grid=(1,))
    assert "buffer" not in kernel.asm["loops"]
    assert kernel.asm["loops"].count("while %mask") == 3


@triton.jit
def overwritten(x_ptr, y_ptr, n, B: tl.constexpr):
    j = tl.arange(0, B)
    x = tl.load(x_ptr + j, j < n, other=0.0)
    total = tl.sum(x, 0)
    tl.store(x_ptr + j, x * 0 - 1, j < n)
    half = total / 2
    tl.store(y_ptr + j, x + tl.sum(x * half, 0), j < n)


@pytest.mark.parametrize("n", [1, 77, 128])
def test_loads_come_before_stores_to_the_same_argument(n):
    agree(overwritten, (1,), torch.randn(128), torch.zeros(128), n, B=128, rtol=1e-4, atol=1e-4)


@triton.jit
def reversed_row(x_ptr, y_ptr, n, B: tl.constexpr):
    j = tl.arange(0, B)
    x = tl.load(x_ptr + j, j < n, other=0.0)
    scale = tl.sum(x, 0) / n
    tl.store(y_ptr + (n - 1 - j), x + scale, j < n)


@pytest.mark.parametrize("n", [1, 50, 100])
def test_a_row_is_reversed_as_another_tensor(n):
    x = torch.randn(128)
    agree(reversed_row, (1,), x, torch.zeros(128), n, B=128, rtol=1e-5, atol=1e-5)


@triton.jit
def gradients(x_ptr, dy_ptr, rstd_ptr, dx_ptr, dw_ptr, rows, n, B: tl.constexpr):
    j = tl.arange(0, B)
    mask = j < n
    dw = tl.zeros([B], tl.float32)
    for row in range(rows):
        x = tl.load(x_ptr + row * n + j, mask, other=0.0)
        dy = tl.load(dy_ptr + row * n + j, mask, other=0.0)
        rstd = tl.load(rstd_ptr + row)
        x_hat = tl.where(mask, x * rstd, 0.0)
        c1 = tl.sum(x_hat * dy, 0) / n
        c2 = tl.sum(dy, 0) / n
        tl.store(dx_ptr + row * n + j, (dy - (x_hat * c1 + c2)) * rstd, mask)
        dw += dy * x_hat
    tl.store(dw_ptr + j, dw, mask)


@pytest.mark.parametrize("n", [1, 100, 256])
@pytest.mark.parametrize("in_place", [False, True])
def test_gradients_may_replace_what_they_come_from(n, in_place):
    rows = 7
    x, dy, rstd = torch.randn(rows, n), torch.randn(rows, n), torch.rand(rows)
    on_gxu = [t.to("gxu") for t in (x, dy, rstd)]
    dx = on_gxu[1] if in_place else torch.zeros(rows, n, device="gxu")
    dw = torch.zeros(n, device="gxu")
    gradients[(1,)](*on_gxu, dx, dw, rows, n, B=256)
    x_hat = x.double() * rstd.double()[:, None]
    c1, c2 = (x_hat * dy).mean(1, keepdim=True), dy.double().mean(1, keepdim=True)
    assert_same(dx.cpu(), ((dy - (x_hat * c1 + c2)) * rstd[:, None]).float(), rtol=1e-4, atol=1e-4)
    assert_same(dw.cpu(), (dy * x_hat).sum(0).float(), rtol=1e-4, atol=1e-4)


def test_scalars_between_reductions_do_not_part_them():
    kernel = gradients.warmup(*[torch.float32] * 5, 7, 200, B=256, grid=(1,))
    lines = kernel.asm["loops"].splitlines()
    at = [i for i, line in enumerate(lines) if "reduce" in line]
    assert len(at) == 2
    assert at[1] == at[0] + 1


@triton.jit
def products(x_ptr, y_ptr, out_ptr, n, MASK: tl.constexpr, B: tl.constexpr):
    j = tl.arange(0, B)
    m = j < n
    x = tl.load(x_ptr + j, m, other=0.0)
    if MASK == "both":
        y = tl.load(y_ptr + j, m, other=0.0)
    elif MASK == "one":
        y = tl.load(y_ptr + j)
    else:
        y = tl.load(y_ptr + j, j < n - 3, other=0.0)
    tl.store(out_ptr, tl.sum(x * y, 0))
    tl.store(out_ptr + 1, tl.sum(x * y + x, 0))
    tl.store(out_ptr + 2, tl.sum(tl.where(m, x, 0.0) - x.to(tl.float16).to(tl.float32), 0))


@pytest.mark.parametrize("n", [3, 63, 64, 100, 128])
@pytest.mark.parametrize("mask", ["both", "one", "other"])
@pytest.mark.parametrize("special", [0.0, float("inf"), float("nan")])
def test_sums_of_masked_products(n, mask, special):
    """Zero times what lies outside the mask is nothing, unless that is not finite: then the sum is NaN."""
    x, y = torch.randn(128), torch.randn(128)
    y[120:] = special
    out = launch(products, (1,), x, y, torch.zeros(3), n, MASK=mask, B=128)[2]
    inside = torch.arange(128)
    x = torch.where(inside < n, x, 0.0).double()
    y = y if mask == "one" else torch.where(inside < (n if mask == "both" else n - 3), y, 0.0)
    product = x * y.double()
    half = x.float().half().double()
    expected = torch.stack([product.sum(), (product + x).sum(), (x - half).sum()]).float()
    assert_same(out, expected, rtol=1e-3, atol=1e-4)


@triton.jit
def chained(x_ptr, out_ptr, n, B: tl.constexpr):
    i, j = tl.arange(0, 4), tl.arange(0, B)
    mask = (i[:, None] < 3) & (j[None, :] < n)
    at = i[:, None] * n + j[None, :]
    x = tl.load(x_ptr + at, mask, other=0.0)
    largest = tl.max(tl.max(x, 1), 0)
    limit = largest * 0.5 + 1
    total = tl.sum(tl.sum(tl.where(mask, x * x, 0.0), 1), 0)
    if total > limit:
        total = total / limit
    unused = total * 2
    tl.device_assert(unused == unused)
    tl.store(out_ptr + at, x / (total + limit), mask)


@pytest.mark.parametrize("n", [5, 64])
def test_scalars_go_through_branches(n):
    agree(chained, (1,), torch.randn(3 * 64).abs() + 1, torch.zeros(3 * 64), n, B=64, rtol=1e-4, atol=1e-5)


@triton.jit
def copied(x_ptr, y_ptr, out_ptr, n, B: tl.constexpr):
    j = tl.arange(0, B)
    x = tl.load(x_ptr + j)
    tl.store(y_ptr + j, tl.where(j < n, x, 7.0) * 2, j < n)
    tl.store(out_ptr, tl.argmax(x, 0))
    tl.store(out_ptr + 1, tl.sum(x.to(tl.int32), 0))


@pytest.mark.parametrize("n", [-3, 0, 1, 255, 256, 300, 511, 512, 600])
def test_whole_vectors_within_a_bound_go_without_its_mask(n):
    """The store ends at the bound, the reductions beside it do not."""
    x = torch.randperm(512).float()
    _, y, out = launch(copied, (1,), x, torch.zeros(512), torch.zeros(2, dtype=torch.int32), n, B=512)
    assert_same(y, torch.where(torch.arange(512) < n, 2 * x, 0.0))
    assert out.tolist() == [int(x.argmax()), 512 * 511 // 2]
    loops = copied.warmup(torch.float32, torch.float32, torch.int32, 5, B=512, grid=(1,)).asm["loops"]
    assert "first while" in loops


@triton.jit
def softmax(x_ptr, y_ptr, sum_ptr, n, BASE: tl.constexpr, SELF: tl.constexpr, B: tl.constexpr):
    row = tl.program_id(0)
    j = tl.arange(0, B)
    mask = j < n
    x = tl.load(x_ptr + row * B + j, mask, other=-float("inf")).to(tl.float32)
    largest = tl.max(x, 0) if SELF else tl.load(sum_ptr + row)
    if BASE == 2:
        e = tl.exp2((x - largest) * 1.4426950408889634)
    else:
        e = tl.exp(x - largest)
    total = tl.sum(e, 0)
    tl.store(y_ptr + row * B + j, e / total, mask)
    tl.store(sum_ptr + row, total)


@pytest.mark.parametrize("n", [-1, 0, 1, 63, 64, 65, 400, 511, 512])
@pytest.mark.parametrize("base", ["e", 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_sums_of_exponentials_end_with_the_mask(n, base, dtype):
    """Rows of -inf, of NaN and with an infinity give NaN, as does an empty row."""
    x = torch.randn(6, 512).to(dtype)
    x[1] = -float("inf")
    x[2] = float("nan")
    x[3, 0], x[4, 0] = float("inf"), -float("inf")
    _, y, sums = launch(softmax, (6,), x, torch.zeros(6, 512), torch.zeros(6), n, BASE=base, SELF=True, B=512)
    inside = x.double()[:, : max(n, 0)]
    if n <= 0:
        assert sums.isnan().all()
        assert_same(y, torch.zeros(6, 512))
        return
    e = (inside - inside.amax(1, keepdim=True)).exp()
    assert_same(sums, e.sum(1).float(), rtol=1e-5)
    assert_same(y[:, :n], (e / e.sum(1, keepdim=True)).float(), rtol=1e-4, atol=1e-7)
    assert_same(y[:, n:], torch.zeros(6, 512 - n))


@pytest.mark.parametrize("largest", [0.5, -float("inf"), float("nan")])
def test_sums_of_exponentials_relative_to_any_number(largest):
    """What is outside the mask counts where the number is not the maximum: -inf less -inf is NaN."""
    x, sums = torch.randn(1, 512), torch.tensor([largest])
    total = launch(softmax, (1,), x, torch.zeros(1, 512), sums, 100, BASE="e", SELF=False, B=512)[2]
    x[:, 100:] = -float("inf")
    assert_same(total, (x.double() - largest).exp().sum(1).float(), rtol=1e-5)


def test_only_a_row_less_its_own_maximum_ends_with_its_mask():
    types = [torch.float32] * 3
    own, other = (softmax.warmup(*types, 100, BASE="e", SELF=s, B=512, grid=(1,)) for s in (True, False))
    assert own.asm["loops"].count("mostly while") == 1
    assert "mostly while" not in other.asm["loops"]


@triton.jit
def scale_groups(x_ptr, weight_ptr, bias_ptr, y_ptr, rows, columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    i, j = tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    at = tl.program_id(0) * rows * columns + i[:, None] * columns + j[None, :]
    mask = (i < rows)[:, None] & (j < columns)[None, :]
    weight = tl.load(weight_ptr + i, i < rows, other=0.0)
    bias = tl.load(bias_ptr + j, j < columns, other=0.0)
    x = tl.load(x_ptr + at, mask, other=0.0)
    x = x - tl.sum(x) / (rows * columns)
    tl.store(y_ptr + at, x * weight[:, None] + bias[None, :], mask)


@pytest.mark.parametrize(("rows", "columns"), [(1, 5), (4, 4), (3, 17)])
@pytest.mark.parametrize("in_place", [False, True])
def test_rows_and_columns_loaded_in_front_of_a_reduction(rows, columns, in_place):
    """Tiles of one dimension, read in one segment and broadcast in the next, which stores tiles of two."""
    x, weight, bias = torch.randn(3, rows, columns), torch.randn(rows), torch.randn(columns)
    source, *parameters = (t.to("gxu") for t in (x, weight, bias))
    y = source if in_place else torch.full_like(source, float("nan"))
    scale_groups[(3,)](source, *parameters, y, rows, columns, ROWS=4, COLUMNS=32)
    assert_same(y.cpu(), (x - x.mean((1, 2), keepdim=True)) * weight[:, None] + bias, rtol=1e-4, atol=1e-5)
