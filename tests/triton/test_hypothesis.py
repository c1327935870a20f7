"""Kernels drawn by hypothesis (operation, type, shape, mask, axis) against numpy and Triton's interpreter.

A drawn example is one kernel, whose compilation is what costs, with `LAUNCHES` cases: sizes and inputs are arguments.
There are 70 + 60 + 50 + 30 examples of 10 cases in the default run, the same ones each time; `--extended` draws thirty
times as many.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gxu.conformance.triton.comparison import assert_close
from gxu.conformance.triton.data import generator, language_type, poison, random_bits, sample, torch_type
from gxu.conformance.triton.execution import interpret, kernel_of, launch

LAUNCHES = 10

_INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_FLOATS = ("float16", "float32", "float64")


def drawn(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy reports integers that wrap
        yield


def both(source: str, grid, args, meta, ulp: float = 0.0, interpreted: bool = True) -> list[torch.Tensor]:
    """Runs on gxu and in the interpreter; all tensors agree to `ulp`. Returns gxu's."""
    kernel = kernel_of(source)
    results = launch(kernel, grid, *args, **meta)
    if interpreted:
        for number, (got, wanted) in enumerate(zip(results, interpret(kernel, grid, *args, **meta), strict=True)):
            assert_close(got, wanted, ulp, 0.0, f"tensor {number} against the interpreter, in\n{source}")
    return results


# -- elementwise expressions -------------------------------------------------------------------------------------------

_BINARY = {
    "{a} + {b}": lambda a, b: a + b,
    "{a} - {b}": lambda a, b: a - b,
    "{a} * {b}": lambda a, b: a * b,
    "tl.minimum({a}, {b})": np.minimum,
    "tl.maximum({a}, {b})": np.maximum,
    "tl.where({a} < {b}, {b}, {a})": lambda a, b: np.where(a < b, b, a),
    "tl.where({a} == {b}, {a}, {a} + {b})": lambda a, b: np.where(a == b, a, a + b),
}
_INTEGER_BINARY = _BINARY | {
    "({a} & {b})": np.bitwise_and,
    "({a} | {b})": np.bitwise_or,
    "({a} ^ {b})": np.bitwise_xor,
}


@st.composite
def expressions(draw, dtype: str, depth: int = 3):
    """Text in a, b and c, and its value of three arrays, in the wrapping or rounding arithmetic of `dtype`."""
    if depth == 0 or draw(st.integers(0, 4)) == 0:
        number = draw(st.integers(0, 2))
        return "abc"[number], lambda *v: v[number]
    table = _INTEGER_BINARY if dtype in _INTEGERS else _BINARY
    text, function = draw(st.sampled_from(sorted(table.items(), key=lambda item: item[0])))
    left, value_left = draw(expressions(dtype, depth - 1))
    right, value_right = draw(expressions(dtype, depth - 1))
    return f"({text.format(a=left, b=right)})", lambda *v: function(value_left(*v), value_right(*v))


_MASKS = {
    "i < n": lambda i, n: i < n,
    "(i >= 3) & (i < n)": lambda i, n: (i >= 3) & (i < n),
    "(i % 5 != 2) & (i < n)": lambda i, n: (i % 5 != 2) & (i < n),
    "(i < n) | (i == 1)": lambda i, n: (i < n) | (i == 1),
    "(i // 4 % 2 == 0) & (i < n)": lambda i, n: (i // 4 % 2 == 0) & (i < n),
}
_ELEMENTWISE = """@triton.jit
def kernel(x, y, z, out, n, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    a = tl.load(x + i, mask={mask}, other=2)
    b = tl.load(y + i, mask=i < n, other=1)
    c = tl.load(z + i, mask=i < n, other=3)
    tl.store(out + i, {expression}, mask=i < n)
"""


@st.composite
def elementwise_kernels(draw):
    dtype = draw(st.sampled_from((*_INTEGERS, *_FLOATS)))
    text, value = draw(expressions(dtype))
    return dtype, text, value, draw(st.sampled_from(sorted(_MASKS))), draw(st.sampled_from((1, 8, 32, 128)))


def check_elementwise(case) -> None:
    dtype, text, value, mask, block = case
    kind = torch_type(dtype)
    source = _ELEMENTWISE.format(mask=mask, expression=text)
    for number in range(LAUNCHES):
        rng = generator(source, dtype, number)
        n = int(torch.randint(1, 5 * block + 2, (), generator=rng))
        # Small whole floats: sums and products are exact, whether or not they are fused.
        inputs = [sample(n + 2, kind, rng, "all" if dtype in _INTEGERS else "small") for _ in range(3)]
        if kind.is_floating_point:
            inputs = [torch.sign(x) * (x.abs() % 3) for x in inputs]
        args = [*inputs, poison((n + 2,), kind), n]
        out = both(source, (-(-n // block),), args, {"B": block}, interpreted=number == 0)[3]
        i = np.arange(n)
        a, b, c = (x.numpy()[:n].copy() for x in inputs)
        with np.errstate(all="ignore"):
            a = np.where(_MASKS[mask](i, n), a, np.array(2, a.dtype))
            wanted = np.asarray(value(a, b, c)).astype(a.dtype)
        assert_close(out[:n], torch.from_numpy(wanted), 0.0, 0.0, source)
        assert torch.equal(out[n:].double(), torch.full((2,), 77.0).double())


@given(elementwise_kernels())
@drawn(70)
def test_elementwise(case):
    check_elementwise(case)


@pytest.mark.extended
@given(elementwise_kernels())
@drawn(2100)
def test_many_elementwise(case):
    check_elementwise(case)


# -- reductions and scans ----------------------------------------------------------------------------------------------

_FOLD = """@triton.jit
def kernel(x, out, rows, columns, M: tl.constexpr, N: tl.constexpr):
    r = tl.program_id(0) * M + tl.arange(0, M)
    c = tl.arange(0, N)
    m = (r[:, None] < rows) & (c[None, :] < columns){extra}
    v = tl.load(x + {address}, mask=m, other=0)
    v = tl.where(m, v, {identity})
{store}
"""
_INFINITE = {"float('-inf')": -np.inf, "float('inf')": np.inf}
_FOLDS = ("sum", "max", "min", "argmax", "argmin", "cumsum", "cumsum reverse", "cumprod")


@st.composite
def folds(draw):
    return (
        draw(st.sampled_from(_FOLDS)),
        draw(st.sampled_from(("int32", "int64", "float32", "float64"))),
        draw(st.sampled_from((0, 1))),
        draw(st.sampled_from((1, 2, 8, 32))),
        draw(st.sampled_from((1, 4, 16, 128))),
        draw(st.booleans()),
        draw(st.sampled_from(("", " & (c[None, :] % 3 != 1)", " & (r[:, None] % 2 == 0)"))),
    )


def check_fold(case) -> None:
    function, dtype, axis, m, n, transposed, extra = case
    kind = torch_type(dtype)
    name, _, reverse = function.partition(" ")
    low = "float('-inf')" if dtype.startswith("float") else str(torch.iinfo(kind).min)
    high = "float('inf')" if dtype.startswith("float") else str(torch.iinfo(kind).max)
    identity = {"max": low, "argmax": low, "min": high, "argmin": high, "cumprod": "1"}.get(name, "0")
    scan = name.startswith("cum")
    if scan:
        call = f"tl.{name}(v, {axis}, reverse={bool(reverse)})"
        store = f"    tl.store(out + r[:, None] * N + c[None, :], {call})"
    else:
        place = "r" if axis else "tl.program_id(0) * N + c"
        store = f"    tl.store(out + {place}, tl.{name}(v, {axis}))"
    address = "c[None, :] * rows + r[:, None]" if transposed else "r[:, None] * columns + c[None, :]"
    source = _FOLD.format(extra=extra, address=address, identity=identity, store=store)
    for number in range(LAUNCHES):
        rng = generator(source, dtype, m, n, number)
        programs = int(torch.randint(1, 4, (), generator=rng))
        rows = int(torch.randint(1, programs * m + 1, (), generator=rng))
        columns = int(torch.randint(1, n + 1, (), generator=rng))
        # Whole numbers up to 8: their sums, and products of signs, are exact in every type.
        x = sample(rows * columns, kind, rng, "small")
        x = torch.where(x < 0, -1, 1).to(kind) if name == "cumprod" else x
        size = programs * m * n if scan else programs * (m if axis else n)
        out = poison((size,), torch.int32 if name.startswith("arg") else kind)
        results = both(source, (programs,), [x, out, rows, columns], {"M": m, "N": n}, interpreted=number == 0)
        data = x.numpy().reshape(columns, rows).T if transposed else x.numpy().reshape(rows, columns)
        full = np.full(
            (programs * m, n),
            _INFINITE[identity] if identity in _INFINITE else int(identity),
            data.dtype,
        )
        r, c = np.arange(programs * m)[:, None], np.arange(n)[None, :]
        keep = (r < rows) & (c < columns)
        keep = keep & (c % 3 != 1) if "c[None" in extra else keep & (r % 2 == 0) if extra else keep
        padded = np.zeros_like(full)
        padded[:rows, :columns] = data
        tiles = np.where(keep, padded, full).reshape(programs, m, n)
        tiles = np.flip(tiles, axis + 1) if reverse else tiles
        call = {"cumsum": np.cumsum, "cumprod": np.cumprod}.get(name) or getattr(np, name)
        wanted = call(tiles, axis=axis + 1)
        wanted = np.flip(wanted, axis + 1) if reverse else wanted
        assert_close(results[1], torch.from_numpy(wanted.reshape(-1).copy()), 0.0, 0.0, source)


@given(folds())
@drawn(60)
def test_reductions_and_scans(case):
    check_fold(case)


@pytest.mark.extended
@given(folds())
@drawn(1800)
def test_many_reductions_and_scans(case):
    check_fold(case)


# -- loads, stores and conversions -------------------------------------------------------------------------------------

_MOVE = """@triton.jit
def kernel(x, out, rows, columns, M: tl.constexpr, N: tl.constexpr):
    r = tl.program_id(0) * M + tl.arange(0, M)[:, None]
    c = tl.program_id(1) * N + tl.arange(0, N)[None, :]
    m = (r < rows) & (c < columns)
    v = tl.load(x + {source}, mask=m)
    tl.store(out + {target}, v.to({type}), mask=m{extra})
"""
_ADDRESSES = {
    "r * columns + c": lambda r, c, rows, columns: r * columns + c,
    "c * rows + r": lambda r, c, rows, columns: c * rows + r,
    "(rows - 1 - r) * columns + c": lambda r, c, rows, columns: (rows - 1 - r) * columns + c,
    "r * columns + (columns - 1 - c)": lambda r, c, rows, columns: r * columns + columns - 1 - c,
    "(r * columns + c) // columns * columns + (c + 1) % columns": lambda r, c, rows, columns: (
        r * columns + (c + 1) % columns
    ),
}
_STORE_MASKS = {
    "": lambda r, c: (r >= 0) & (c >= 0),
    " & (c % 4 < 3)": lambda r, c: (c % 4 < 3) & (r >= 0),
    " & (r + c != 5)": lambda r, c: r + c != 5,
    " & (c <= r)": lambda r, c: c <= r,
}


@st.composite
def moves(draw):
    source = draw(st.sampled_from(("bool", *_INTEGERS, *_FLOATS)))
    target = source
    if draw(st.booleans()) and source in _INTEGERS:
        target = draw(st.sampled_from((*_INTEGERS, "float32", "float64")))
    addresses = st.sampled_from(sorted(_ADDRESSES))
    tile = draw(st.sampled_from((1, 4, 16))), draw(st.sampled_from((1, 8, 64)))
    return source, target, draw(addresses), draw(addresses), tile, draw(st.sampled_from(sorted(_STORE_MASKS)))


def check_move(case) -> None:
    kind, target, source, destination, (m, n), extra = case
    text = _MOVE.format(source=source, target=destination, type=language_type(target), extra=extra)
    for number in range(LAUNCHES):
        rng = generator(text, kind, target, m, n, number)
        rows = int(torch.randint(1, 3 * m + 2, (), generator=rng))
        columns = int(torch.randint(1, 2 * n + 2, (), generator=rng))
        x = random_bits(rows * columns, torch_type(kind), rng)
        out = poison((rows * columns,), torch_type(target))
        grid = (-(-rows // m), -(-columns // n))
        results = both(text, grid, [x, out, rows, columns], {"M": m, "N": n}, 0.0, interpreted=number == 0)
        r, c = np.arange(rows)[:, None], np.arange(columns)[None, :]
        keep = np.broadcast_to(_STORE_MASKS[extra](r, c), (rows, columns))
        data = x.numpy()[_ADDRESSES[source](r, c, rows, columns)].astype(out.numpy().dtype)
        wanted = out.numpy().copy()
        wanted[_ADDRESSES[destination](r, c, rows, columns)[keep]] = data[keep]
        assert_close(results[1], torch.from_numpy(wanted), 0.0, 0.0, text)


@given(moves())
@drawn(50)
def test_loads_stores_and_conversions(case):
    check_move(case)


@pytest.mark.extended
@given(moves())
@drawn(1500)
def test_many_loads_stores_and_conversions(case):
    check_move(case)


# -- products ----------------------------------------------------------------------------------------------------------

_DOT = """@triton.jit
def kernel(x, y, out, m, n, k, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    r = tl.program_id(0) * M + tl.arange(0, M)[:, None]
    c = tl.program_id(1) * N + tl.arange(0, N)[None, :]
    acc = tl.zeros([M, N], {accumulator})
    for start in range(0, k, K):
        i = start + tl.arange(0, K)
        a = tl.load(x + {left}, mask=(r < m) & (i[None, :] < k), other=0)
        b = tl.load(y + {right}, mask=(i[:, None] < k) & (c < n), other=0)
        acc = tl.dot(a, b, acc, input_precision="ieee", out_dtype={accumulator})
    tl.store(out + r * n + c, acc{epilogue}, mask=(r < m) & (c < n))
"""
_EPILOGUES = {
    "": lambda v: v,
    " * 2 + 1": lambda v: v * 2 + 1,
    " - r.to(acc.dtype)": lambda v: v - np.arange(len(v))[:, None],
}


@st.composite
def products(draw):
    dtype = draw(st.sampled_from(("int8", "float16", "float32", "float64")))
    tile = tuple(draw(st.sampled_from(sizes)) for sizes in ((1, 4, 16), (1, 8, 32), (1, 4, 16)))
    return dtype, tile, draw(st.booleans()), draw(st.booleans()), draw(st.sampled_from(sorted(_EPILOGUES)))


def check_product(case) -> None:
    dtype, (tile_m, tile_n, tile_k), left, right, epilogue = case
    accumulator = {"int8": "int32", "float64": "float64"}.get(dtype, "float32")
    source = _DOT.format(
        accumulator=f"tl.{accumulator}",
        left="i[None, :] * m + r" if left else "r * k + i[None, :]",
        right="c * k + i[:, None]" if right else "i[:, None] * n + c",
        epilogue=epilogue,
    )
    for number in range(LAUNCHES):
        rng = generator(source, dtype, tile_m, tile_n, tile_k, number)
        m, n, k = (int(torch.randint(1, 2 * tile + 3, (), generator=rng)) for tile in (tile_m, tile_n, tile_k))
        # Whole numbers up to 8 and few of them: the result is exact in every order of additions.
        x, y = (sample(size, torch_type(dtype), rng, "small") for size in (m * k, k * n))
        args = [x, y, poison((m * n,), torch_type(accumulator)), m, n, k]
        meta = {"M": tile_m, "N": tile_n, "K": tile_k}
        out = both(source, (-(-m // tile_m), -(-n // tile_n)), args, meta, interpreted=number == 0)[2]
        a = x.double().numpy().reshape(k, m).T if left else x.double().numpy().reshape(m, k)
        b = y.double().numpy().reshape(n, k).T if right else y.double().numpy().reshape(k, n)
        wanted = torch.from_numpy(np.ascontiguousarray(_EPILOGUES[epilogue](a @ b)).reshape(-1))
        assert_close(out, wanted, 0.0, 0.0, source)


@given(products())
@drawn(30)
def test_products(case):
    check_product(case)


@pytest.mark.extended
@given(products())
@drawn(900)
def test_many_products(case):
    check_product(case)
