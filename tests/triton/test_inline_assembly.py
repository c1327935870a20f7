"""PTX in ``tl.inline_asm_elementwise``: arithmetic agrees with numpy; what only a GPU has is refused by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from triton_helpers import launch

from gxu.triton.errors import UnsupportedError

COUNT = 200


@triton.jit
def apply(
    x, y, z, out, n, ASM: tl.constexpr, CONSTRAINTS: tl.constexpr, PACK: tl.constexpr, B: tl.constexpr
):  # one result, of the type of `out`
    i = tl.arange(0, B)
    args = [tl.load(x + i, i < n), tl.load(y + i, i < n), tl.load(z + i, i < n)]
    v = tl.inline_asm_elementwise(ASM, CONSTRAINTS, args, dtype=out.dtype.element_ty, is_pure=True, pack=PACK)
    tl.store(out + i, v, i < n)


def run(assembly, x, y, z, dtype, pack=1, constraints="=r,r,r,r"):
    out = torch.zeros(COUNT, dtype=dtype)
    return launch(
        apply, (1,), x, y, z, out, COUNT, ASM=assembly, CONSTRAINTS=constraints, PACK=pack, B=256
    )[3].cpu().numpy()  # fmt: skip


def integers(seed=0):
    edges = [0, 1, -1, 31, 32, 33, -(2**31), 2**31 - 1, 0x1234, 0x7654, 0x8F01]
    rows = np.random.default_rng(seed).integers(-(2**31), 2**31, (3, COUNT), dtype=np.int64).astype(np.int32)
    for row in rows:
        row[::7] = np.random.default_rng(seed).choice(edges, len(row[::7]))
        row[1::7] %= 40
    return rows


def floats(seed=0):
    rows = (np.random.default_rng(seed).standard_normal((3, COUNT)) * 3).astype(np.float32)
    for k, row in enumerate(rows):
        row[:8] = np.roll(np.array([0, -0.0, np.inf, -np.inf, np.nan, 1e-40, 3e38, 448.5], np.float32), k)
    return rows


U, S = np.uint32, np.int32


def _permuted(x, y, z):
    data = np.stack([x, y], 1).view(np.uint8).reshape(-1, 8)
    result = np.zeros((len(x), 4), np.uint8)
    for k in range(4):
        choice = z.view(U) >> U(4 * k)
        byte = data[np.arange(len(x)), choice & 7]
        result[:, k] = np.where(choice & 8, (byte.view(np.int8) >> 7).view(np.uint8), byte)
    return result.view(S).ravel()


def _shifted(x, y, operation):
    amount = y.view(U).astype(np.uint64)
    return np.where(amount > 31, 0, operation(x.view(U).astype(np.uint64), amount & 31)).astype(U).view(S)


def _table(x, y, z, table):
    result = np.zeros_like(x)
    for row in range(8):
        if table >> row & 1:
            parts = [v if row >> bit & 1 else ~v for v, bit in ((x, 2), (y, 1), (z, 0))]
            result |= parts[0] & parts[1] & parts[2]
    return result


INTEGERS = {
    "add.s32 $0, $1, $2;": lambda x, y, z: x + y,
    "sub.u32 $0, $1, 7;": lambda x, y, z: x - 7,
    "mul.lo.s32 $0, $1, $2;": lambda x, y, z: x * y,
    "mul.hi.s32 $0, $1, $2;": lambda x, y, z: (x.astype(np.int64) * y >> 32).astype(S),
    "mul.hi.u32 $0, $1, $2;": lambda x, y, z: (x.view(U).astype(np.uint64) * y.view(U) >> np.uint64(32)).astype(S),
    "mad.lo.s32 $0, $1, $2, $3;": lambda x, y, z: x * y + z,
    "min.u32 $0, $1, $2;": lambda x, y, z: np.minimum(x.view(U), y.view(U)).view(S),
    "max.s32 $0, $1, $2;": lambda x, y, z: np.maximum(x, y),
    "abs.s32 $0, $1;": lambda x, y, z: np.abs(x),
    "neg.s32 $0, $1;": lambda x, y, z: -x,
    "and.b32 $0, $1, 0x0F0F0F0F;": lambda x, y, z: x & 0x0F0F0F0F,
    "{ .reg .b32 t; or.b32 t, $1, $2; xor.b32 $0, t, $3; }": lambda x, y, z: (x | y) ^ z,
    "not.b32 $0, $1; // a comment": lambda x, y, z: ~x,
    "shl.b32 $0, $1, $2;": lambda x, y, z: _shifted(x, y, np.left_shift),
    "shr.u32 $0, $1, $2;": lambda x, y, z: _shifted(x, y, np.right_shift),
    "shr.s32 $0, $1, $2;": lambda x, y, z: x >> np.minimum(y.view(U), 31).astype(S),
    "shf.l.wrap.b32 $0, $1, $2, $3;": lambda x, y, z: (
        ((y.view(U).astype(np.uint64) << np.uint64(32) | x.view(U)) << (z.view(U) & U(31)).astype(np.uint64))
        >> np.uint64(32)
    ).astype(U).view(S),
    "shf.r.clamp.b32 $0, $1, $2, $3;": lambda x, y, z: (
        (y.view(U).astype(np.uint64) << np.uint64(32) | x.view(U)) >> np.minimum(z.view(U), U(32)).astype(np.uint64)
    ).astype(U).view(S),
    "lop3.b32 $0, $1, $2, $3, 0xE8;": lambda x, y, z: _table(x, y, z, 0xE8),
    "lop3.b32 $0, $1, $2, $3, 0x6A;": lambda x, y, z: _table(x, y, z, 0x6A),
    "prmt.b32 $0, $1, $2, $3;": _permuted,
    "prmt.b32 $0, $1, $2, 0x9531;": lambda x, y, z: _permuted(x, y, np.full_like(x, 0x9531)),
    "{ .reg .pred p; setp.lt.s32 p, $1, $2; selp.b32 $0, $2, $3, p; }": lambda x, y, z: np.where(x < y, y, z),
    "{ .reg .pred p; setp.gt.u32 p, $1, $2; mov.b32 $0, $1; @p mov.b32 $0, $3; }": lambda x, y, z: np.where(
        x.view(U) > y.view(U), z, x
    ),
    "{ .reg .pred p, q; setp.ne.s32 p, $1, 1; not.pred q, p; mov.u32 $0, 5; @!q add.u32 $0, $0, $2; }": (
        lambda x, y, z: np.where(x != 1, y + 5, 5)
    ),
    "{ .reg .b16 a, b; mov.b32 {a, b}, $1; mov.b32 $0, {b, a}; }": lambda x, y, z: (
        (x.view(U) >> U(16)) | (x.view(U) << U(16))
    ).view(S),
    "{ .reg .u16 t; cvt.u16.u32 t, $1; cvt.s32.s16 $0, t; }": lambda x, y, z: x.astype(np.int16).astype(S),
    "{ .reg .u64 t; mul.wide.u32 t, $1, $2; shr.u64 t, t, 20; cvt.u32.u64 $0, t; }": lambda x, y, z: (
        x.view(U).astype(np.uint64) * y.view(U) >> np.uint64(20)
    ).astype(U).view(S),
}  # fmt: skip


@pytest.mark.parametrize("assembly", INTEGERS)
def test_integer_instructions(assembly):
    x, y, z = integers()
    with np.errstate(all="ignore"):
        expected = INTEGERS[assembly](x, y, z)
    np.testing.assert_array_equal(run(assembly, *map(torch.from_numpy, (x, y, z)), torch.int32), expected)


FLOATS = {
    # Each product is rounded by itself, where the plain forms may fuse.
    "{ .reg .f32 t; mul.rn.f32 t, $1, $2; add.rn.f32 $0, t, $3; }": (lambda x, y, z: x * y + z, 0),
    "sub.rn.f32 $0, $1, $2;": (lambda x, y, z: x - y, 0),
    "div.rn.f32 $0, $1, $2;": (lambda x, y, z: x / y, 0),
    "div.full.ftz.f32 $0, $1, $2;": (lambda x, y, z: x / y, 0),
    "fma.rn.f32 $0, $1, $2, $3;": (lambda x, y, z: np.float64(x) * np.float64(y) + z, 1e-7),
    "min.f32 $0, $1, $2;": (lambda x, y, z: np.fmin(x, y), 0),
    "max.NaN.f32 $0, $1, $2;": (lambda x, y, z: np.maximum(x, y), 0),
    "abs.f32 $0, $1;": (lambda x, y, z: np.abs(x), 0),
    "neg.f32 $0, $1;": (lambda x, y, z: -x, 0),
    "mov.f32 $0, $1;": (lambda x, y, z: x, 0),
    "add.f32 $0, $1, 0f3FC00000;": (lambda x, y, z: x + np.float32(1.5), 0),
    "rcp.approx.ftz.f32 $0, $1;": (lambda x, y, z: 1 / x, 1e-7),
    "sqrt.rn.f32 $0, $1;": (lambda x, y, z: np.sqrt(x), 0),
    "rsqrt.approx.f32 $0, $1;": (lambda x, y, z: 1 / np.sqrt(np.float64(x)), 3e-7),
    "ex2.approx.f32 $0, $1;": (lambda x, y, z: np.exp2(np.float64(x)), 3e-7),
    "lg2.approx.f32 $0, $1;": (lambda x, y, z: np.log2(np.float64(x)), 3e-7),
    "tanh.approx.f32 $0, $1;": (lambda x, y, z: np.tanh(np.float64(x)), 3e-7),
    "{ .reg .f32 s; sin.approx.f32 s, $1; mul.f32 $0, s, s; }": (lambda x, y, z: np.sin(np.float64(x)) ** 2, 1e-6),
    "cvt.rpi.f32.f32 $0, $1;": (lambda x, y, z: np.ceil(x), 0),
    "{ .reg .b16 h; cvt.rn.f16.f32 h, $1; cvt.f32.f16 $0, h; }": (lambda x, y, z: np.float32(np.float16(x)), 0),
    "{ .reg .pred p; setp.gt.f32 p, $1, 1.; @p mov.f32 $0, $1; @!p ex2.approx.f32 $0, $1; @!p mul.f32 $0, $0, 2.; }": (
        lambda x, y, z: np.where(x > 1, x, 2 * np.exp2(np.float64(x))), 3e-7,
    ),
    "{ .reg .pred p; setp.neu.f32 p, $1, $2; selp.f32 $0, $3, 0., p; }": (lambda x, y, z: np.where(x != y, z, 0), 0),
}  # fmt: skip


@pytest.mark.parametrize("assembly", FLOATS)
def test_float_instructions(assembly):
    x, y, z = floats()
    function, tolerance = FLOATS[assembly]
    with np.errstate(all="ignore"):
        expected = function(x, y, z).astype(np.float32)
    got = run(assembly, *map(torch.from_numpy, (x, y, z)), torch.float32, constraints="=f,f,f,f")
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=0)


def test_conversions_between_floats_and_integers():
    x, y, z = map(torch.from_numpy, floats())
    expected = torch.nan_to_num(x.double(), 0).trunc().clamp(-(2**31), 2**31 - 1).int()
    np.testing.assert_array_equal(run("cvt.rzi.s32.f32 $0, $1;", x, y, z, torch.int32), expected)
    whole = torch.from_numpy(integers()[0])
    np.testing.assert_array_equal(run("cvt.rn.f32.s32 $0, $1;", whole, y, z, torch.float32), whole.float())


@pytest.mark.parametrize(
    ("kind", "dtype", "largest"), [("e4m3x2", torch.float8_e4m3fn, 448), ("bf16x2", torch.bfloat16, None)]
)
def test_pairs_of_narrow_floats(kind, dtype, largest):
    x, y, z = map(torch.from_numpy, floats())
    saturating = ".satfinite" if largest else ""
    bits = run(f"cvt.rn{saturating}.{kind}.f32 $0, $1, $2;", x, y, z, torch.int32)
    size = dtype.itemsize
    halves = bits.view(np.uint8).reshape(-1, 4)[:, : 2 * size].reshape(-1, 2, size)
    for half, source in ((halves[:, 0], y), (halves[:, 1], x)):
        got = torch.from_numpy(half.copy()).view(dtype).flatten().float()
        expected = source.clamp(-largest, largest) if largest else source
        torch.testing.assert_close(got, expected.to(dtype).float(), rtol=0, atol=0, equal_nan=True)


def test_packed_elements():
    """Four bytes a register: each element of the tile is its own, whatever its neighbours in the register are."""
    x, y, z = (torch.randint(-128, 128, (COUNT,), dtype=torch.int8) for _ in range(3))
    assembly = "{ .reg .b32 t; shl.b32 t, $1, 3; and.b32 t, t, 0xF8F8F8F8; or.b32 $0, t, $2; }"
    got = run(assembly, x, y, z, torch.int8, pack=4)
    np.testing.assert_array_equal(got, ((x << 3) | y).numpy())
    two = "add.f32 $0, $2, $4; add.f32 $1, $3, $5;"
    a, b, c = map(torch.from_numpy, floats())
    got = run(two, a, b, c, torch.float32, pack=2, constraints="=f,=f,f,f,f,f,f,f")
    np.testing.assert_array_equal(got, (a + b).numpy())


@triton.jit
def two_results(x, out, more, B: tl.constexpr):
    i = tl.arange(0, B)
    asm: tl.constexpr = "and.b32 $0, $2, 0xFFFF0000; sub.f32 $1, $2, $0;"
    high, low = tl.inline_asm_elementwise(
        asm, "=f,=f,f", [tl.load(x + i)], dtype=(tl.float32, tl.float32), is_pure=False, pack=1
    )
    scalar = tl.inline_asm_elementwise("mul.rn.f32 $0, $1, 2.0;", "=f,f", [tl.load(x)], tl.float32, True, 1)
    tl.store(out + i, high + scalar)
    tl.store(more + i, low)


def test_several_results_and_scalars():
    x = torch.randn(64)
    _, out, more = launch(two_results, (1,), x, torch.zeros(64), torch.zeros(64), B=64)
    high = (x.view(torch.int32) & -0x10000).view(torch.float32)
    assert torch.equal(out.cpu(), high + 2 * x[0])
    assert torch.equal(more.cpu(), x - high)


@pytest.mark.parametrize(
    "assembly",
    [
        "mov.u32 $0, %laneid;",
        "bar.sync 0;",
        "ld.global.b32 $0, [$1];",
        "shfl.sync.bfly.b32 $0, $1, 16, 31, -1;",
        "add.sat.s32 $0, $1, $2;",
        "cvt.rn.satfinite.e2m1x2.f32 $0, $1, $2;",
        "and.b32 t, $1, $2;",
        "v_add_u32 $0, $1, $2",
    ],
)
def test_what_is_not_arithmetic_is_refused(assembly):
    with pytest.raises(UnsupportedError, match=r"tt\.elementwise_inline_asm \(.*inline assembly other than") as caught:
        run(assembly, *map(torch.from_numpy, integers()), torch.int32)
    assert "kernel apply" in str(caught.value)
    assert f"{__file__}:" in str(caught.value)
