"""Operators and functions of triton.language on single elements, for all types."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from gxu.conformance.case import Case
from gxu.conformance.triton.data import FLOATS, INTEGERS, SIGNED, WIDE
from gxu.conformance.triton.pointwise import Pointwise, fused, square_root

_NUMBERS = (*INTEGERS, *FLOATS)
_LOGIC = ("bool", *INTEGERS)


def _quotient(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """C's division: towards zero."""
    pairs = zip(a.tolist(), b.tolist(), strict=True)
    values = [abs(p) // abs(q) * (1 if (p < 0) == (q < 0) else -1) for p, q in pairs]
    return np.array(values, dtype=object).astype(a.dtype)


def _remainder(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a - _quotient(a, b) * b


def _high_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    bits = a.dtype.itemsize * 8
    product = [(p * q) >> bits for p, q in zip(a.tolist(), b.tolist(), strict=True)]
    return np.array(product, dtype=object).astype(a.dtype)


def _ceiling(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return _quotient(a + (b - 1).astype(a.dtype), b)


def _clamp_number(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    return torch.fmin(torch.fmax(a, b), c)


def _clamp_nan(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    return torch.where(a.isnan(), a, _clamp_number(a, b, c))


def _constants(a: np.ndarray) -> np.ndarray:
    two, three = np.array(2, a.dtype), np.array(3, a.dtype)
    return a * three + two - a


def _comparison(name: str, symbol: str) -> Pointwise:
    function = getattr(torch, name)
    numpy = {"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal}
    numpy |= {"gt": np.greater, "ge": np.greater_equal}
    return Pointwise(
        f"{name}", f"a {symbol} b", ("bool", *_NUMBERS), function, numpy[name], ("all", "all"), result="bool"
    )


_CONDITION = "tl.where(a > b, a, b)"

# The interpreter is not asked (None) where it propagates NaN and Triton does not, rounds `fma` twice, or takes Python's
# `and`, `or` and `not` of whole tiles.
TABLE = [
    Pointwise("add", "a + b", _NUMBERS, torch.add, np.add, ("all", "all")),
    Pointwise("sub", "a - b", _NUMBERS, torch.sub, np.subtract, ("all", "all")),
    Pointwise("mul", "a * b", _NUMBERS, torch.mul, np.multiply, ("all", "all")),
    Pointwise("neg", "-a", (*SIGNED, *FLOATS), torch.neg, np.negative),
    Pointwise("truediv", "a / b", WIDE, torch.div, None, ("all", "all"), ulp=1),
    Pointwise("truediv", "a / b", ("float16", "bfloat16"), torch.div, None, ("near", "positive"), ulp=1),
    Pointwise("fdiv", "tl.fdiv(a, b)", WIDE, torch.div, None, ("all", "all"), ulp=1),
    Pointwise("div_rn", "tl.div_rn(a, b)", ("float32",), torch.div, None, ("all", "all")),
    Pointwise("floordiv", "a // b", INTEGERS, None, _quotient, ("all", "nonzero")),
    Pointwise("mod", "a % b", INTEGERS, None, _remainder, ("all", "nonzero")),
    Pointwise("mod", "a % b", FLOATS, torch.fmod, None, ("near", "positive"), ulp=0),
    Pointwise("div_constant", "a // 7", INTEGERS, None, lambda a: _quotient(a, np.full_like(a, 7))),
    Pointwise("mod_constant", "a % 12", INTEGERS, None, lambda a: _remainder(a, np.full_like(a, 12))),
    Pointwise("cdiv", "tl.cdiv(a, b)", INTEGERS, None, _ceiling, ("small", "nonzero")),
    Pointwise("and", "a & b", _LOGIC, None, np.bitwise_and, ("all", "all")),
    Pointwise("or", "a | b", _LOGIC, None, np.bitwise_or, ("all", "all")),
    Pointwise("xor", "a ^ b", _LOGIC, None, np.bitwise_xor, ("all", "all")),
    Pointwise("invert", "~a", _LOGIC, None, np.invert),
    Pointwise("lshift", "a << b", INTEGERS, None, np.left_shift, ("all", "shift")),
    Pointwise("rshift", "a >> b", INTEGERS, None, np.right_shift, ("all", "shift")),
    Pointwise("umulhi", "tl.umulhi(a, b)", ("uint32", "uint64"), None, _high_product, ("all", "all")),
    Pointwise("abs", "tl.abs(a)", (*SIGNED, *FLOATS), torch.abs, np.abs, ulp=0),
    Pointwise(
        "minimum", "tl.minimum(a, b)", _NUMBERS, torch.fmin, np.minimum, ("all", "all"), ulp=0, interpreter_ulp=None
    ),
    Pointwise(
        "maximum", "tl.maximum(a, b)", _NUMBERS, torch.fmax, np.maximum, ("all", "all"), ulp=0, interpreter_ulp=None
    ),
    Pointwise(
        "minimum_nan",
        "tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)",
        FLOATS,
        torch.minimum,
        None,
        ("all", "all"),
        ulp=0,
    ),
    Pointwise(
        "maximum_nan",
        "tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)",
        FLOATS,
        torch.maximum,
        None,
        ("all", "all"),
        ulp=0,
    ),
    Pointwise(
        "clamp",
        "tl.clamp(a, b, c)",
        FLOATS,
        _clamp_number,
        None,
        ("all", "unit", "positive"),
        ulp=0,
        interpreter_ulp=None,
    ),
    Pointwise(
        "clamp_nan",
        "tl.clamp(a, b, c, propagate_nan=tl.PropagateNan.ALL)",
        FLOATS,
        _clamp_nan,
        None,
        ("all", "unit", "positive"),
        ulp=0,
    ),
    Pointwise("where", _CONDITION, _NUMBERS, lambda a, b: torch.where(a > b, a, b), np.maximum, ("all", "all"), ulp=0),
    Pointwise(
        "fma", "tl.fma(a, b, c)", FLOATS, fused, None, ("unit", "positive", "positive"), ulp=0.51, interpreter_ulp=None
    ),
    Pointwise(
        "multiply_add",
        "a * b + c",
        FLOATS,
        lambda a, b, c: a * b + c,
        None,
        ("positive",) * 3,
        ulp=1.5,
        interpreter_ulp=2,
    ),
    *(
        _comparison(name, symbol)
        for name, symbol in {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}.items()
    ),
    Pointwise(
        "logical_and",
        "(a > b) and (b > 3)",
        ("int32",),
        None,
        lambda a, b: (a > b) & (b > 3),
        ("all",) * 2,
        "bool",
        interpreter_ulp=None,
    ),
    Pointwise(
        "logical_or",
        "(a > b) or (b > 3)",
        ("int32",),
        None,
        lambda a, b: (a > b) | (b > 3),
        ("all",) * 2,
        "bool",
        interpreter_ulp=None,
    ),
    Pointwise(
        "not", "not (a > b)", ("int32",), None, lambda a, b: ~(a > b), ("all",) * 2, "bool", interpreter_ulp=None
    ),
    Pointwise(
        "constant_operand",
        "a * 3 + 2 - a",
        _NUMBERS,
        lambda a: a * 3 + 2 - a,
        _constants,
        ("small",),
        ulp=2,
    ),
    Pointwise("constant_first", "2 - a", _NUMBERS, lambda a: 2 - a, lambda a: np.array(2, a.dtype) - a, ("small",)),
    Pointwise("exp", "tl.exp(a)", WIDE, torch.exp, ulp=2, interpreter_ulp=3),
    Pointwise("exp2", "tl.exp2(a)", WIDE, torch.exp2, ulp=2, interpreter_ulp=3),
    Pointwise("log", "tl.log(a)", WIDE, torch.log, ulp=2, interpreter_ulp=3),
    Pointwise("log2", "tl.log2(a)", WIDE, torch.log2, ulp=2, interpreter_ulp=3),
    Pointwise("sin", "tl.sin(a)", WIDE, torch.sin, ulp=2, interpreter_ulp=3, domains=("near",)),
    Pointwise("cos", "tl.cos(a)", WIDE, torch.cos, ulp=2, interpreter_ulp=3, domains=("near",)),
    Pointwise("sqrt", "tl.sqrt(a)", WIDE, square_root),
    Pointwise("sqrt_rn", "tl.sqrt_rn(a)", ("float32",), square_root),
    Pointwise("rsqrt", "tl.rsqrt(a)", WIDE, torch.rsqrt, ulp=1.5, interpreter_ulp=3),
    Pointwise("erf", "tl.erf(a)", WIDE, torch.erf, ulp=7, interpreter_ulp=8),
    Pointwise("floor", "tl.floor(a)", WIDE, torch.floor, ulp=0),
    Pointwise("ceil", "tl.ceil(a)", WIDE, torch.ceil, ulp=0),
    Pointwise("sigmoid", "tl.sigmoid(a)", WIDE, torch.sigmoid, ulp=4, interpreter_ulp=6, domains=("near",)),
]


def cases() -> Iterator[Case]:
    for row in TABLE:
        yield from row.cases()
