"""Index form: how a tile's value changes along each of its axes.

For every dimension of a tile: 0 where the value does not vary, a number where it grows by that much from one index to
the next (elements; bytes for pointers), ``SYMBOLIC`` where the step is the same everywhere but not known, and
``VARIES`` else.
"""

from __future__ import annotations

from typing import Final

from ..ir.module import Op, Value, constant_of, post_order
from ..ir.types import BITS, Type, byte_size

VARIES: Final = None
SYMBOLIC: Final = "symbolic"
Stride = int | str | None

_LINEAR = {"arith.addi", "arith.subi", "tt.addptr"}
REMAINDERS: Final = {"arith.remsi", "arith.remui"}
QUOTIENTS: Final = {"arith.divsi", "arith.divui"}
# Elements, a vector of four bytes each with AVX-512: what wraps more often is no progression at all.
SHORTEST_PERIOD: Final = 16
PRESERVING: Final = {"arith.extsi", "arith.extui", "arith.trunci", "arith.index_cast", "arith.index_castui"}


class StrideAnalysis:
    """Strides of values, computed on demand and remembered."""

    def __init__(self) -> None:
        self._known: dict[Value, tuple[Stride, ...]] = {}
        # Loop-carried tiles that the lowering keeps as `initial value + scalar`: they vary as their initial value.
        self.same_as: dict[Value, Value] = {}

    def of(self, value: Value) -> tuple[Stride, ...]:
        if value not in self._known:
            for each in post_order(value, self._follows_from, self._known):
                self._known[each] = self._compute(each)
        return self._known[value]

    def _follows_from(self, value: Value) -> list[Value]:
        if value in self.same_as:
            return [self.same_as[value]]
        op = value.op
        if op is None or op.regions or not value.type.shape:
            return []
        return [operand for operand in op.operands if operand.type.shape]

    def _compute(self, value: Value) -> tuple[Stride, ...]:
        rank = len(value.type.shape)
        if rank == 0:
            return ()
        if value in self.same_as:
            return self.of(self.same_as[value])
        op = value.op
        if op is None:
            return _varying(value)
        rule = _RULES.get(op.name)
        if rule is not None:
            strides = rule(self, op)
        elif op.name in _LINEAR:
            strides = self._linear(op)
        elif op.name in PRESERVING:
            strides = self.of(op.operands[0])
        else:
            strides = self._elementwise(value, op)
        return tuple(_bounded(s, size, value.type) for s, size in zip(strides, value.type.shape, strict=True))

    def _linear(self, op: Op) -> tuple[Stride, ...]:
        scale = byte_size(op.result.type.pointee) if op.name == "tt.addptr" else 1
        sign = -1 if op.name == "arith.subi" else 1
        left, right = (self.of(v) for v in op.operands)
        return tuple(_sum(a, _scaled(b, scale * sign)) for a, b in zip(left, right, strict=True))

    def _elementwise(self, value: Value, op: Op) -> tuple[Stride, ...]:
        shape = value.type.shape
        if op.regions or any(v.type.shape != shape for v in op.operands):
            return _varying(value)
        return tuple(0 if all(self.of(v)[d] == 0 for v in op.operands) else VARIES for d in range(len(shape)))


class PieceStrides(StrideAnalysis):
    """Strides between the points where remainders and quotients of a progression change course.

    ``i % 512`` grows by one from each index to the next but at multiples of 512. So these strides say which axis to go
    along, and not what an address is.
    """

    def __init__(self, exact: StrideAnalysis) -> None:
        super().__init__()
        self.same_as = exact.same_as

    def _elementwise(self, value: Value, op: Op) -> tuple[Stride, ...]:
        strides = super()._elementwise(value, op)
        if op.name not in REMAINDERS | QUOTIENTS:
            return strides
        period = constant_of(op.operands[1])
        if not isinstance(period, int) or period < SHORTEST_PERIOD:
            return strides
        inside = self.of(op.operands[0])
        remains = op.name in REMAINDERS
        return tuple(
            (step if remains else 0) if step == 1 else stride for step, stride in zip(inside, strides, strict=True)
        )


def _bounded(stride: Stride, size: int, kind: Type) -> Stride:
    """A stride that makes an integer wrap within the tile is none; narrow integers wrap wherever they start."""
    if size == 1 or stride == 0:
        return 0
    if kind.is_integer and isinstance(stride, int):
        bits = BITS[kind.elem]
        if bits < 32 or abs(stride) * size >= 1 << (bits - 1):
            return VARIES
    return stride


def _varying(value: Value) -> tuple[Stride, ...]:
    return tuple(0 if size == 1 else VARIES for size in value.type.shape)


def _sum(a: Stride, b: Stride) -> Stride:
    if a is VARIES or b is VARIES:
        return VARIES
    if isinstance(a, int) and isinstance(b, int):
        return a + b
    return SYMBOLIC


def _scaled(a: Stride, factor: int) -> Stride:
    return a * factor if isinstance(a, int) else a


def _make_range(analysis: StrideAnalysis, op: Op) -> tuple[Stride, ...]:
    return (1,)


def _uniform(analysis: StrideAnalysis, op: Op) -> tuple[Stride, ...]:
    return (0,) * len(op.result.type.shape)


def _constant(analysis: StrideAnalysis, op: Op) -> tuple[Stride, ...]:
    return _uniform(analysis, op) if not isinstance(op.attrs["value"], list) else _varying(op.result)


def _expand_dims(analysis: StrideAnalysis, op: Op) -> tuple[Stride, ...]:
    strides = list(analysis.of(op.operands[0]))
    strides.insert(op.attrs["axis"], 0)
    return tuple(strides)


def _broadcast(analysis: StrideAnalysis, op: Op) -> tuple[Stride, ...]:
    return analysis.of(op.operands[0])


def _trans(analysis: StrideAnalysis, op: Op) -> tuple[Stride, ...]:
    strides = analysis.of(op.operands[0])
    return tuple(strides[d] for d in op.attrs["order"])


def _reshape(analysis: StrideAnalysis, op: Op) -> tuple[Stride, ...]:
    """Strides survive where the source's dimensions merge into one progression, or where only unit dimensions move."""
    source = op.operands[0]
    strides, shape = analysis.of(source), source.type.shape
    dims = [(size, stride) for size, stride in zip(shape, strides, strict=True) if size != 1]
    target = op.result.type.shape
    if [size for size, _ in dims] == [size for size in target if size != 1]:
        remaining = iter(dims)
        return tuple(0 if size == 1 else next(remaining)[1] for size in target)
    if all(stride == 0 for _, stride in dims):
        return (0,) * len(target)
    inner = dims[-1][1]
    if not isinstance(inner, int):
        return _varying(op.result)
    expected = inner
    for size, stride in reversed(dims):
        if stride != expected:
            return _varying(op.result)
        expected *= size
    result: list[Stride] = []
    step = inner
    for size in reversed(target):
        result.append(step)
        step *= size
    return tuple(reversed(result))


def _product(analysis: StrideAnalysis, op: Op) -> tuple[Stride, ...]:
    left, right = op.operands
    factor = constant_of(right) if op.name == "arith.muli" else _power(constant_of(right))
    if isinstance(factor, int):
        return tuple(_scaled(s, factor) for s in analysis.of(left))
    if op.name == "arith.muli" and isinstance(constant_of(left), int):
        number = constant_of(left)
        assert isinstance(number, int)
        return tuple(_scaled(s, number) for s in analysis.of(right))
    result: list[Stride] = []
    for a, b in zip(analysis.of(left), analysis.of(right), strict=True):
        if a == 0 and b == 0:
            result.append(0)
        elif a is VARIES or b is VARIES or (a != 0 and b != 0) or op.name == "arith.shli":
            result.append(VARIES)
        else:
            # The other factor does not vary along this axis: the step is unknown, but the same at every index.
            result.append(SYMBOLIC)
    return tuple(result)


def _power(exponent: int | float | None) -> int | None:
    return 1 << exponent if isinstance(exponent, int) and 0 <= exponent < 62 else None


_RULES = {
    "tt.make_range": _make_range,
    "arith.constant": _constant,
    "tt.splat": _uniform,
    "tt.expand_dims": _expand_dims,
    "tt.broadcast": _broadcast,
    "tt.trans": _trans,
    "tt.gather": lambda analysis, op: _varying(op.result),
    "gxu.exchange": lambda analysis, op: _varying(op.result),
    "tt.atomic_rmw": lambda analysis, op: _varying(op.result),
    "tt.atomic_cas": lambda analysis, op: _varying(op.result),
    "tt.reshape": _reshape,
    "arith.muli": _product,
    "arith.shli": _product,
}
