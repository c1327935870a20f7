"""The reader of MLIR's generic form: types, attributes, regions, locations."""

from __future__ import annotations

import math
import struct

import pytest
import triton
import triton.language as tl
from triton._C.libtriton import ir
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from gxu.triton.compiler import GXUBackend
from gxu.triton.ir.module import walk
from gxu.triton.ir.reader import parse_number, read_module, split_top_level
from gxu.triton.ir.types import Type, byte_size, parse_type


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("i32", Type("i32")),
        ("index", Type("i64")),
        ("bf16", Type("bf16")),
        ("tensor<8xf32>", Type("f32", (8,))),
        ("tensor<8x512x!tt.ptr<f16>>", Type("ptr", (8, 512), "f16")),
        ("tensor<1x2x4xi1>", Type("i1", (1, 2, 4))),
        ("!tt.ptr<i64>", Type("ptr", (), "i64")),
        ("!tt.ptr<f8E4M3FN>", Type("ptr", (), "f8E4M3FN")),
    ],
)
def test_types(text, expected):
    assert parse_type(text) == expected


@pytest.mark.parametrize("text", ["complex<f32>", "tuple<i32>", "memref<4xf32>", "i37", ""])
def test_unknown_types_are_named(text):
    with pytest.raises(ValueError, match="is not one that"):
        parse_type(text)


def test_sizes_of_types():
    assert [byte_size(e) for e in ("i1", "i8", "f8E5M2", "bf16", "i32", "f64", "ptr")] == [1, 1, 1, 2, 4, 8, 8]
    assert Type("f32", (4, 8)).numel == 32
    assert str(Type("ptr", (4, 8), "f32")) == "4x8x*f32"
    assert str(Type("i1")) == "i1"


@pytest.mark.parametrize(
    ("text", "elem", "number"),
    [
        ("true", "i1", 1),
        ("false", "i1", 0),
        ("-17", "i32", -17),
        ("0x7F800000", "f32", math.inf),
        ("0xFF800000", "f32", -math.inf),
        ("0xFC00", "f16", -math.inf),
        ("0xFF80", "bf16", -math.inf),
        ("0xFFF0000000000000", "f64", -math.inf),
        ("1.500000e+00", "f32", 1.5),
    ],
)
def test_numbers(text, elem, number):
    assert parse_number(text, elem) == number


def test_numbers_that_are_not():
    assert math.isnan(parse_number("0x7FC00000", "f32"))
    assert math.isnan(parse_number("0x7E00", "f16"))
    with pytest.raises(ValueError, match=r"zz|invalid"):
        parse_number("zz", "i32")


def test_splitting_respects_quotes_brackets_and_arrows():
    assert split_top_level('a, "b, c", <d, e>, (f, g) -> (h, i), j') == [
        "a",
        '"b, c"',
        "<d, e>",
        "(f, g) -> (h, i)",
        "j",
    ]
    assert split_top_level("") == []
    assert split_top_level('"say \\"hi, you\\"", 2') == ['"say \\"hi, you\\""', "2"]


@triton.jit
def helper(a):
    return tl.sum(a, 0)


@triton.jit
def sample(x, out, n, B: tl.constexpr):
    i = tl.arange(0, B)
    total = tl.zeros([B], tl.float32)
    count = 0
    for k in range(0, n, B):
        v = tl.load(x + k + i, k + i < n, other=float("-inf"))
        total += v
        count += 1
        if count > 3:
            total -= 1.0
        else:
            total += float("nan")
    tl.store(out, helper(total) + count)


def generic_text(kernel, signature, constants):
    target = GPUTarget("gxu", "1", 32)
    backend = GXUBackend(target)
    options = backend.parse_options({})
    context = ir.context()
    ir.load_dialects(context)
    source = ASTSource(kernel, signature, constants, {(0,): [["tt.divisibility", 16]]})
    module = source.make_ir(
        target, options, backend.get_codegen_implementation(options), backend.get_module_map(), context
    )
    module = backend.make_ttir(module, {}, options)
    module.set_attr("generic", ir.builder(context).get_unit_attr())
    return module.str()


@pytest.fixture(scope="module")
def function():
    text = generic_text(sample, {"x": "*fp32", "out": "*fp32", "n": "i32", "B": "constexpr"}, {(3,): 32})
    return read_module(text).kernel("sample")


def test_functions_and_arguments(function):
    assert [str(a.type) for a in function.args] == ["*f32", "*f32", "i32"]
    assert function.arg_attrs[0]["tt.divisibility"] == 16
    assert "tt.divisibility" not in function.arg_attrs[2]
    assert function.location.file == __file__


def test_regions_results_and_uses(function):
    loop = next(op for op in walk(function.entry) if op.name == "scf.for")
    assert len(loop.results) == len(loop.body.args) - 1 == len(loop.operands) - 3
    assert loop.body.terminator.name == "scf.yield"
    branch = next(op for op in walk(loop.body) if op.name == "scf.if")
    assert len(branch.regions) == 2
    for op in walk(function.entry):
        assert op.parent is not None
        assert op in op.parent.ops
        for operand in op.operands:
            assert op in operand.uses
        for index, result in enumerate(op.results):
            assert (result.op, result.index) == (op, index)


def test_optional_operands_and_constants(function):
    load = next(op for op in walk(function.entry) if op.name == "tt.load")
    pointer, mask, other = load.segments()[:3]
    assert [len(pointer), len(mask), len(other)] == [1, 1, 1]
    assert other[0].op.attrs["value"] == -math.inf
    assert any(
        op.name == "arith.constant" and isinstance(op.attrs["value"], float) and math.isnan(op.attrs["value"])
        for op in walk(function.entry)
    )


def test_locations_name_the_users_line(function):
    first = sample.starting_line_number
    reduce = next(op for op in walk(function.entry) if op.name == "tt.reduce")
    assert reduce.location.file == __file__
    store = next(op for op in walk(function.entry) if op.name == "tt.store")
    assert store.location.line > first
    # A library function's operation is placed at the call, not inside triton's own files.
    assert "site-packages" not in reduce.location.file


def test_unreadable_text_names_its_line():
    with pytest.raises(ValueError, match="line 2"):
        read_module('"builtin.module"() ({\n  this is no operation\n}) : () -> ()\n')


def test_bits_of_a_bfloat_constant():
    assert parse_number("0x3FC0", "bf16") == struct.unpack("<f", struct.pack("<I", 0x3FC00000))[0] == 1.5
