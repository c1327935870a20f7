"""Reductions and scans: every function, type and axis; several operands, custom combinations, masks and loops."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch

from gxu.conformance.case import Case
from gxu.conformance.triton.comparison import Launch
from gxu.conformance.triton.data import FLOATS, INTEGERS, SIGNED, WIDE, generator, poison, sample, torch_type

_REDUCE = """@triton.jit
def multiply(a, b):
    return a * b


@triton.jit
def larger_pair(a, i, b, j):
    first = (a > b) | ((a == b) & (i < j))
    return tl.where(first, a, b), tl.where(first, i, j)


@triton.jit
def welford(mean_a, m2_a, count_a, mean_b, m2_b, count_b):
    count = count_a + count_b
    share = tl.where(count == 0, 0.0, count_b / count)
    delta = mean_b - mean_a
    return mean_a + delta * share, m2_a + m2_b + delta * delta * count_a * share, count


@triton.jit
def affine(a, b, c, d):
    return a * c, b * c + d


@triton.jit
def kernel(x, out, rows, columns, M: tl.constexpr, N: tl.constexpr):
    r = tl.arange(0, M)[:, None]
    c = tl.arange(0, N)[None, :]
    m = (r < rows) & (c < columns)
    v = tl.load(x + r * columns + c, mask=m, other={other})
{body}
"""
_STORES = {
    0: "    tl.store(out + tl.arange(0, N), {value}, mask=tl.arange(0, N) < columns)",
    1: "    tl.store(out + tl.arange(0, M), {value}, mask=tl.arange(0, M) < rows)",
    None: "    tl.store(out, {value})",
}
_SCAN_STORE = "    tl.store(out + r * columns + c, {value}, mask=m)"
#: Rows and columns of the data, and of the tile.
_SHAPES = ((1, 1, 1, 1), (5, 13, 8, 16), (3, 100, 4, 128), (64, 3, 64, 4), (16, 64, 16, 64))
_AXES = (0, 1, None)


def _name(shape: tuple[int, int, int, int], axis: int | None) -> str:
    rows, columns, m, n = shape
    return f"{rows}x{columns} in {m}x{n} axis={axis}"


def _check(
    body: str,
    x: torch.Tensor,
    shape: tuple,
    out: torch.Tensor,
    wanted: torch.Tensor,
    ulp: float,
    atol: float,
    other: str,
) -> None:
    rows, columns, m, n = shape
    args = [x.reshape(rows, columns), out, rows, columns]
    exact = ulp == 0
    interpreted = 0.0 if exact else 2 * ulp
    Launch(
        _REDUCE.format(other=other, body=body), (1,), args, {"M": m, "N": n}, {1: wanted}, ulp, atol, interpreted, atol
    ).check()


def _identity(function: str, dtype: str) -> str:
    """What masked elements hold, so that they change nothing."""
    if function in ("max", "argmax"):
        return "float('-inf')" if dtype in FLOATS else str(torch.iinfo(torch_type(dtype)).min)
    if function in ("min", "argmin"):
        return "float('inf')" if dtype in FLOATS else str(torch.iinfo(torch_type(dtype)).max)
    return "1" if function in ("prod", "cumprod") else "0"


def _reduce(function: str, dtype: str, shape: tuple[int, int, int, int], axis: int | None, keep: bool) -> None:
    rng = generator(function, dtype, shape, axis, keep)
    rows, columns, m, n = shape
    kind = torch_type(dtype)
    exact = function in ("max", "min", "argmax", "argmin", "xor_sum", "reduce_or") or not kind.is_floating_point
    domain = "unit" if function == "prod" and kind.is_floating_point else "near" if function == "sum" else "small"
    x = sample(rows * columns, kind, rng, domain).reshape(rows, columns)
    index = function.startswith("arg")
    data, wanted = _wanted(function, x, axis)
    result = torch.int32 if index else kind
    if function == "sum" and not kind.is_floating_point and kind.itemsize < 4:
        result = torch.int32 if kind.is_signed else torch.uint32
    call = f"tl.{function}(v, axis={axis})" if function != "prod" else f"tl.reduce(v, {axis}, multiply)"
    if keep and axis is not None:
        call = call.replace(")", ", keep_dims=True)")
        call = f"tl.reshape({call}, [{n if axis == 0 else m}])"
    out = poison(tuple(wanted.shape) or (1,), result)
    body = _STORES[axis].format(value=call)
    size = rows * columns if axis is None else x.shape[axis]
    # Every partial result rounds, by half a unit: at most once an element, rarely in one direction.
    atol = 0.0 if exact else size**0.5 * float(data) * torch.finfo(kind).eps
    if not kind.is_floating_point:
        wanted = wanted.to(result)
    _check(body, x, shape, out, wanted.reshape(out.shape), 0.0 if exact else 2.0, atol, _identity(function, dtype))


def _wanted(function: str, x: torch.Tensor, axis: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest absolute value that a partial result can have, and the result, wide."""
    wide = x.double() if x.dtype.is_floating_point else x.to(torch.int64)
    dims = (0, 1) if axis is None else (axis,)
    largest = wide.double().abs().amax()
    if function == "sum":
        return wide.double().abs().sum(dims).amax(), wide.sum(dims)
    if function in ("max", "min"):
        return largest, wide.amax(dims) if function == "max" else wide.amin(dims)
    numpy = wide.numpy()
    if function in ("argmax", "argmin"):
        return largest, torch.from_numpy(np.asarray(getattr(np, function)(numpy, axis=axis)))
    ufunc = {"xor_sum": np.bitwise_xor, "reduce_or": np.bitwise_or, "prod": np.multiply}[function]
    result = torch.from_numpy(np.asarray(ufunc.reduce(numpy, axis=dims if axis is None else axis)))
    return largest, result if x.dtype.is_floating_point else result.to(x.dtype)


def _scan(function: str, dtype: str, shape: tuple[int, int, int, int], axis: int, reverse: bool) -> None:
    rng = generator(function, dtype, shape, axis, reverse)
    rows, columns, _, _ = shape
    kind = torch_type(dtype)
    x = sample(rows * columns, kind, rng, "near" if kind.is_floating_point else "small").reshape(rows, columns)
    numpy = (x.double() if kind.is_floating_point else x.to(torch.int64)).numpy()
    numpy = np.flip(numpy, axis) if reverse else numpy
    accumulate = {"cumsum": np.add, "cumprod": np.multiply, "running_max": np.maximum}[function].accumulate
    with np.errstate(all="ignore"):
        accumulated = accumulate(numpy, axis=axis)
    wanted = torch.from_numpy((np.flip(accumulated, axis) if reverse else accumulated).copy())
    atol, ulp = 0.0, 0.0
    if kind.is_floating_point and function != "running_max":
        size = x.shape[axis]
        ulp = 2.0 * size if function == "cumprod" else 2.0
        atol = size * float(np.abs(numpy).sum(axis).max()) * torch.finfo(kind).eps if function == "cumsum" else 0.0
    else:
        wanted = wanted.to(kind)
    call = f"tl.{function}(v, {axis}, reverse={reverse})"
    if function == "running_max":
        call = f"tl.associative_scan(v, {axis}, tl.standard._elementwise_max, reverse={reverse})"
    body = _SCAN_STORE.format(value=call)
    # Masked elements come first where a scan runs backwards: they must not count.
    other = "float('-inf')" if function == "running_max" and kind.is_floating_point else _scan_identity(function, dtype)
    _check(body, x, shape, poison((rows, columns), kind), wanted, ulp, atol, other)


def _scan_identity(function: str, dtype: str) -> str:
    return _identity({"running_max": "max"}.get(function, function), dtype)


def _pair(dtype: str, shape: tuple[int, int, int, int], axis: int) -> None:
    """The largest element and, of equals, its first place, by a combination of two operands."""
    rows, columns, m, n = shape
    x = sample(rows * columns, torch_type(dtype), generator("pair", dtype, shape, axis), "small").reshape(rows, columns)
    place = f"tl.broadcast_to({'c' if axis else 'r'}, [{m}, {n}])"
    body = f"    value, place = tl.reduce((v, {place}), {axis}, larger_pair)\n"
    wide = x.double() if x.dtype.is_floating_point else x.to(torch.int64)
    first = torch.from_numpy(np.argmax(wide.numpy(), axis=axis))
    wanted = wide.amax(axis) * 1000 + first
    kind = torch.float64 if x.dtype.is_floating_point else torch.int64
    value = f"value.to(tl.{str(kind).removeprefix('torch.')}) * 1000 + place"
    body += _STORES[axis].format(value=value)
    _check(body, x, shape, poison(tuple(wanted.shape), kind), wanted, 0.0, 0.0, _identity("max", dtype))


def _welford(dtype: str, shape: tuple[int, int, int, int], axis: int) -> None:
    rows, columns, _, _ = shape
    x = sample(rows * columns, torch_type(dtype), generator("welford", dtype, shape, axis), "near").reshape(
        rows, columns
    )
    body = f"    mean, m2, count = tl.reduce((v, tl.zeros_like(v), m.to(v.dtype)), {axis}, welford)\n"
    body += _STORES[axis].format(value="m2")
    wide = x.double()
    wanted = ((wide - wide.mean(axis, keepdim=True)) ** 2).sum(axis)
    atol = 64 * x.shape[axis] * torch.finfo(x.dtype).eps
    _check(body, x, shape, poison(tuple(wanted.shape), x.dtype), wanted, 16.0, atol, "0")


def _affine(dtype: str, shape: tuple[int, int, int, int], axis: int, reverse: bool) -> None:
    """The linear recurrence h = x h + 1, as an associative scan of two operands."""
    rows, columns, _, _ = shape
    x = sample(rows * columns, torch_type(dtype), generator("affine", dtype, shape, axis), "unit").reshape(
        rows, columns
    )
    numpy = x.double().numpy()
    numpy = np.moveaxis(np.flip(numpy, axis) if reverse else numpy, axis, 0)
    state, states = np.zeros(numpy.shape[1:]), []
    for factor in numpy:
        state = state * factor + 1
        states.append(state)
    stacked = np.moveaxis(np.stack(states), 0, axis)
    wanted = torch.from_numpy((np.flip(stacked, axis) if reverse else stacked).copy())
    body = f"    p, h = tl.associative_scan((v, m.to(v.dtype)), {axis}, affine, reverse={reverse})\n"
    body += _SCAN_STORE.format(value="h")
    atol = 64 * x.shape[axis] * torch.finfo(x.dtype).eps
    _check(body, x, shape, poison((rows, columns), x.dtype), wanted, 8.0, atol, "0")


def cases() -> Iterator[Case]:
    def add(operator: str, dtype: str, variant: str, function: Callable[..., None], *args: object) -> Case:
        return Case(operator, dtype, variant, lambda: function(*args))

    for function in ("sum", "max", "min", "argmax", "argmin", "xor_sum", "reduce_or", "prod"):
        logic = function in ("xor_sum", "reduce_or")
        types: tuple[str, ...] = INTEGERS if logic else (*INTEGERS[:5], "uint32", *FLOATS)
        if function in ("argmax", "argmin", "prod"):
            types = ("int8", "int32", "int64", "uint32", "float16", "float32", "float64")
        for dtype in types:
            for number, shape in enumerate(_SHAPES):
                for axis in _AXES if number in (1, 3) else ((number % 3, None)[number % 3 == 2],):
                    if axis is None and function.startswith("arg") and shape[1] != shape[3]:
                        continue  # the flat index is one of the tile, which has more columns
                    yield add(function, dtype, _name(shape, axis), _reduce, function, dtype, shape, axis, False)
            if axis is None or number:
                yield add(function, dtype, "keep_dims", _reduce, function, dtype, _SHAPES[1], 1, True)
    for function in ("cumsum", "cumprod", "running_max"):
        for dtype in (*SIGNED, "uint32", "float16", *WIDE):
            if function != "cumsum" and dtype in ("int8", "int16"):
                continue  # the scan's result is wider than its operand
            for shape in _SHAPES[1:4]:
                for axis in (0, 1):
                    for reverse in (False, True):
                        variant = _name(shape, axis) + (" reverse" if reverse else "")
                        yield add(function, dtype, variant, _scan, function, dtype, shape, axis, reverse)
    for shape in _SHAPES:
        for axis in (0, 1):
            for dtype in ("int32", "float32", "float64", "int8"):
                yield add("reduce_pair", dtype, _name(shape, axis), _pair, dtype, shape, axis)
            for dtype in WIDE:
                yield add("reduce_welford", dtype, _name(shape, axis), _welford, dtype, shape, axis)
                for reverse in (False, True):
                    variant = _name(shape, axis) + (" reverse" if reverse else "")
                    yield add("scan_affine", dtype, variant, _affine, dtype, shape, axis, reverse)
