"""tl.dot_scaled: formats of both operands, scales that are there or not, packing, shapes; against float64.

Elements and scales are decoded by the tables of the OCP microscaling specification.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch

from gxu.conformance.case import Case
from gxu.conformance.triton.comparison import Launch
from gxu.conformance.triton.data import generator

_PRODUCT = """@triton.jit
def kernel(a, a_scale, b, b_scale, acc, out,
           A_FORMAT: tl.constexpr, B_FORMAT: tl.constexpr, A_SCALED: tl.constexpr, B_SCALED: tl.constexpr,
           A_ROWS: tl.constexpr, A_COLUMNS: tl.constexpr, B_ROWS: tl.constexpr, B_COLUMNS: tl.constexpr,
           A_ALONG_K: tl.constexpr, B_ALONG_K: tl.constexpr, M: tl.constexpr, N: tl.constexpr, GROUPS: tl.constexpr):
    m, n, g = tl.arange(0, M), tl.arange(0, N), tl.arange(0, GROUPS)
    x = tl.load(a + tl.arange(0, A_ROWS)[:, None] * A_COLUMNS + tl.arange(0, A_COLUMNS)[None, :])
    y = tl.load(b + tl.arange(0, B_ROWS)[:, None] * B_COLUMNS + tl.arange(0, B_COLUMNS)[None, :])
    x_scale, y_scale = None, None
    if A_SCALED:
        x_scale = tl.load(a_scale + m[:, None] * GROUPS + g[None, :])
    if B_SCALED:
        y_scale = tl.load(b_scale + n[:, None] * GROUPS + g[None, :])
    at = m[:, None] * N + n[None, :]
    v = tl.dot_scaled(
        x, x_scale, A_FORMAT, y, y_scale, B_FORMAT, tl.load(acc + at), lhs_k_pack=A_ALONG_K, rhs_k_pack=B_ALONG_K
    )
    tl.store(out + at, v)
"""
_TYPES = {"e4m3": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2, "bf16": torch.bfloat16, "fp16": torch.float16}
_E2M1 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], dtype=torch.float64)
_FORMATS = ("e2m1", *_TYPES)
_SHAPES = ((16, 32, 64), (1, 16, 32), (32, 4, 128))
_GROUP = 32  # elements along k that share a scale


def cases() -> Iterator[Case]:
    for a in _FORMATS:
        for b in _FORMATS:
            for m, n, k in _SHAPES:
                yield Case("dot_scaled", f"{a},{b}", f"{m}x{n}x{k}", partial(_check, a, b, m, n, k))
            for scaled in ((True, False), (False, True), (False, False)):
                variant = f"scales {scaled[0]},{scaled[1]}"
                yield Case("dot_scaled", f"{a},{b}", variant, partial(_check, a, b, 16, 16, 64, scaled))
    for packed in ((True, False), (False, True), (False, False)):
        variant = f"packed along k {packed[0]},{packed[1]}"
        yield Case(
            "dot_scaled", "e2m1,e2m1", variant, partial(_check, "e2m1", "e2m1", 16, 32, 64, (True, True), packed)
        )


def _operand(rows: int, columns: int, kind: str, axis: int, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """(as the kernel gets it, its numbers) of a random matrix; two e2m1 elements that follow on `axis` share a byte."""
    if kind != "e2m1":
        x = torch.randn(rows, columns, generator=rng).to(_TYPES[kind])
        return x, x.double()
    codes = torch.randint(0, 16, (rows, columns), generator=rng)
    pairs = codes.movedim(axis, -1).unflatten(-1, (-1, 2))
    packed = (pairs[..., 0] | pairs[..., 1] << 4).movedim(-1, axis)
    return packed.to(torch.uint8).contiguous(), _E2M1[codes]


def _check(
    a_kind: str,
    b_kind: str,
    m: int,
    n: int,
    k: int,
    scaled: tuple[bool, bool] = (True, True),
    along_k: tuple[bool, bool] = (True, True),
) -> None:
    rng = generator("dot_scaled", a_kind, b_kind, m, n, k, scaled, along_k)
    a, left = _operand(m, k, a_kind, 1 if along_k[0] else 0, rng)
    b, right = _operand(k, n, b_kind, 0 if along_k[1] else 1, rng)
    groups = k // _GROUP
    scales = [torch.randint(120, 136, (size, groups), generator=rng).to(torch.uint8) for size in (m, n)]
    factors = [torch.exp2(s.double() - 127).repeat_interleave(_GROUP, 1) for s in scales]
    left = left * factors[0] if scaled[0] else left
    right = right * factors[1].T if scaled[1] else right
    acc = torch.randn(m, n, generator=rng)
    out = torch.full((m, n), float("nan"))
    meta = {
        "A_FORMAT": a_kind, "B_FORMAT": b_kind, "A_SCALED": scaled[0], "B_SCALED": scaled[1],
        "A_ROWS": a.shape[0], "A_COLUMNS": a.shape[1], "B_ROWS": b.shape[0], "B_COLUMNS": b.shape[1],
        "A_ALONG_K": along_k[0], "B_ALONG_K": along_k[1], "M": m, "N": n, "GROUPS": groups,
    }  # fmt: skip
    # k + 1 additions in float32 of terms as large as these.
    atol = float((left.abs() @ right.abs() + acc.double().abs()).max()) * (k + 1) * 2.0**-24
    args = [a, scales[0], b, scales[1], acc, out]
    Launch(_PRODUCT, (1,), args, meta, {5: left @ right + acc.double()}, 0.0, atol, interpreter_ulp=None).check()
