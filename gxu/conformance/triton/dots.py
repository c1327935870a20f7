"""Matrix products: types, shapes, precisions, accumulators, batches, loops over the inner dimension."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch

from gxu.conformance.case import Case
from gxu.conformance.triton.comparison import Launch
from gxu.conformance.triton.data import generator, poison, sample, torch_type

_DOT = """@triton.jit
def kernel(x, y, z, out, m, n, k, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    r = tl.arange(0, M)[:, None]
    c = tl.arange(0, N)[None, :]
    inner = tl.arange(0, K)
    a = tl.load(x + r * k + inner[None, :], mask=(r < m) & (inner[None, :] < k), other={zero})
    b = tl.load(y + {index}, mask=(inner[:, None] < k) & (c < n), other={zero})
    acc = tl.load(z + r * n + c, mask=(r < m) & (c < n), other=0)
    v = {expression}
    tl.store(out + r * n + c, v, mask=(r < m) & (c < n))
"""
_LOOP = """@triton.jit
def kernel(x, y, z, out, m, n, k, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    r = tl.program_id(0) * M + tl.arange(0, M)[:, None]
    c = tl.program_id(1) * N + tl.arange(0, N)[None, :]
    acc = tl.load(z + r * n + c, mask=(r < m) & (c < n), other=0)
    for start in range(0, k, K):
        inner = start + tl.arange(0, K)
        a = tl.load(x + r * k + inner[None, :], mask=(r < m) & (inner[None, :] < k), other={zero})
        b = tl.load(y + inner[:, None] * n + c, mask=(inner[:, None] < k) & (c < n), other={zero})
        acc = tl.dot(a, b, acc{how})
    tl.store(out + r * n + c, acc, mask=(r < m) & (c < n))
"""
_BATCHED = """@triton.jit
def kernel(x, y, out, BATCH: tl.constexpr, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    b = tl.arange(0, BATCH)[:, None, None]
    r = tl.arange(0, M)[None, :, None]
    c = tl.arange(0, N)[None, None, :]
    left = tl.load(x + b * M * K + r * K + tl.arange(0, K)[None, None, :])
    right = tl.load(y + b * K * N + tl.arange(0, K)[None, :, None] * N + c)
    tl.store(out + b * M * N + r * N + c, tl.dot(left, right, input_precision="ieee"{how}))
"""
_SHAPES = ((1, 1, 1), (2, 3, 5), (16, 16, 16), (7, 33, 20), (32, 64, 16), (1, 64, 40), (13, 1, 64))
_ACCUMULATORS = {
    "int8": "int32",
    "float8_e4m3fn": "float32",
    "float8_e5m2": "float32",
    "float16": "float32",
    "bfloat16": "float32",
    "float32": "float32",
    "float64": "float64",
}


def cases() -> Iterator[Case]:
    for dtype in _ACCUMULATORS:
        for shape in _SHAPES:
            variant = "x".join(map(str, shape))
            yield Case("dot", dtype, variant, partial(_dot, dtype, shape, ""))
            yield Case("dot", dtype, f"{variant} accumulate", partial(_dot, dtype, shape, "acc"))
            yield Case("dot", dtype, f"{variant} transposed", partial(_dot, dtype, shape, "transposed"))
            yield Case("dot_loop", dtype, variant, partial(_loop, dtype, shape, ""))
        for batch in (1, 3, 4):
            yield Case("dot_batched", dtype, f"{batch}", partial(_batched, dtype, batch))
    for precision in ("ieee", "tf32", "tf32x3", "bf16x3", "bf16x6"):
        for shape in _SHAPES[1:5]:
            variant = f"{precision} {'x'.join(map(str, shape))}"
            yield Case("dot_precision", "float32", variant, partial(_loop, "float32", shape, precision))
    for dtype in ("float16",):
        for shape in _SHAPES[1:5]:
            variant = f"out float16 {'x'.join(map(str, shape))}"
            yield Case("dot_out_dtype", dtype, variant, partial(_dot, dtype, shape, "float16"))


#: The type of the result where it is not float32, which is the default.
_OUT = {"int8": ", out_dtype=tl.int32", "float64": ", out_dtype=tl.float64"}


def _zero(dtype: str) -> str:
    """What masked elements are; integers do not become float8."""
    return "0.0" if dtype.startswith("float8") else "0"


def _power(number: int) -> int:
    return max(1, 1 << (number - 1).bit_length())


def _operands(dtype: str, shape: tuple[int, int, int], *key: object) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    m, n, k = shape
    rng = generator("dot", dtype, shape, *key)
    kind = torch_type(dtype)
    domain = "near" if kind.is_floating_point else "all"
    accumulator = torch_type(_ACCUMULATORS[dtype])
    x, y = sample(m * k, kind, rng, domain).reshape(m, k), sample(k * n, kind, rng, domain).reshape(k, n)
    return x, y, sample(m * n, accumulator, rng, "small").reshape(m, n)


def _wanted(x: torch.Tensor, y: torch.Tensor, z: torch.Tensor | None) -> torch.Tensor:
    wide = torch.float64 if x.is_floating_point() else torch.int64
    product = x.to(wide) @ y.to(wide)
    return product if z is None else product + z.to(wide)


def _bound(x: torch.Tensor, y: torch.Tensor, accumulator: torch.dtype) -> float:
    """The rounding of sums of as large numbers as the products' absolute values give, in the accumulator's type."""
    if not accumulator.is_floating_point:
        return 0.0
    largest = float((x.double().abs() @ y.double().abs()).max()) + 9
    return 2 * max(1.0, x.shape[-1] ** 0.5) * largest * torch.finfo(accumulator).eps


def _dot(dtype: str, shape: tuple[int, int, int], how: str) -> None:
    m, n, k = shape
    x, y, z = _operands(dtype, shape, how)
    accumulator = torch_type("float16" if how == "float16" else _ACCUMULATORS[dtype])
    index = "c * k + inner[:, None]" if how == "transposed" else "inner[:, None] * n + c"
    right = y.T.contiguous() if how == "transposed" else y
    options = 'input_precision="ieee"' + _OUT.get(dtype, "")
    expression = f"tl.dot(a, b, acc, {options})" if how == "acc" else f"tl.dot(a, b, {options})"
    if how == "float16":
        expression = "tl.dot(a, b, out_dtype=tl.float16)"
    wanted = _wanted(x, y, z if how == "acc" else None)
    args = [x, right, z, poison((m, n), accumulator), m, n, k]
    meta = {"M": _power(m), "N": _power(n), "K": _power(k)}
    atol = _bound(x, y, accumulator)
    text = _DOT.format(index=index, expression=expression, zero=_zero(dtype))
    Launch(text, (1,), args, meta, {3: wanted}, 1.0, atol, 0.0 if dtype.startswith(("int", "float3")) else None).check()


def _loop(dtype: str, shape: tuple[int, int, int], precision: str) -> None:
    m, n, k = shape
    x, y, z = _operands(dtype, shape, "loop", precision)
    accumulator = torch_type(_ACCUMULATORS[dtype])
    args = [x, y, z, poison((m, n), accumulator), m, n, k]
    meta = {"M": min(16, _power(m)), "N": min(16, _power(n)), "K": 8}
    grid = (-(-m // meta["M"]), -(-n // meta["N"]))
    # At least as exact as asked: tf32 and bf16 operands have 11 and 8 bits.
    atol = _bound(x, y, accumulator) * (2**13 if precision == "tf32" else 2**9 if precision == "bf16x3" else 1)
    how = f', input_precision="{precision or "ieee"}"' + _OUT.get(dtype, "")
    text = _LOOP.format(how=how, zero=_zero(dtype))
    Launch(text, grid, args, meta, {3: _wanted(x, y, z)}, 1.0, atol, interpreter_ulp=None).check()


def _batched(dtype: str, batch: int) -> None:
    size = _power(batch)
    rng = generator("batched", dtype, batch)
    kind, accumulator = torch_type(dtype), torch_type(_ACCUMULATORS[dtype])
    domain = "near" if kind.is_floating_point else "all"
    x = sample(size * 8 * 16, kind, rng, domain).reshape(size, 8, 16)
    y = sample(size * 16 * 4, kind, rng, domain).reshape(size, 16, 4)
    args = [x, y, poison((size, 8, 4), accumulator)]
    how = _OUT.get(dtype, "")
    meta = {"BATCH": size, "M": 8, "N": 4, "K": 16}
    atol = _bound(x, y, accumulator)
    Launch(_BATCHED.format(how=how), (1,), args, meta, {2: _wanted(x, y, None)}, 1.0, atol, None).check()
