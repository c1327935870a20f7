"""Writes ``tt.dot_scaled`` as operations on tiles and a ``tt.dot``.

Operands hold one element a value (fp8, bf16, fp16) or two a byte (e2m1, the first in the low bits), and may come with
scales: one for a group of 16 or 32 elements along the inner dimension. They are scaled and widened to bf16 where that
is exact, as Triton documents, else to float32. Products add up in float32.

Formats are those of the OCP microscaling specification 1.0: an e2m1 element is sign, two bits of exponent (bias 1) and
one of mantissa; an e8m0 scale is a power of two (bias 127), and NaN where all its bits are set.
"""

from __future__ import annotations

from ..errors import UnsupportedError
from ..ir.module import Function, Op, Value
from ..ir.types import FLOATS, Type
from .emit import Emitter, blocks_with

# Triton's ScaleDotElemType.
_E2M1, _BF16, _FP16 = 4, 5, 6
_EQUAL = 0  # the predicate of arith.cmpi


def expand_scaled_dots(function: Function) -> None:
    """Rewrites the function in place, where it has scaled dots."""
    for block in blocks_with(function, "tt.dot_scaled"):
        _Expander(block).expand()


class _Expander(Emitter):
    def expand(self) -> None:
        for op in self.block.ops:
            if op.name == "tt.dot_scaled":
                self._dot(op)
            else:
                self.ops.append(op)
        self.block.ops = self.ops

    def _dot(self, op: Op) -> None:
        self.release(op)
        (a,), (b,), (c,), a_scale, b_scale = op.segments()
        a_format, b_format = op.attrs["a_elem_type"], op.attrs["b_elem_type"]
        elem = "bf16" if self._fits_bf16(a_format, a_scale) and self._fits_bf16(b_format, b_scale) else "f32"
        rank = len(a.type.shape)
        inner, outer = rank - 1, rank - 2
        left = self._elements(a, a_format, inner if op.attrs["lhs_k_pack"] else outer, elem)
        right = self._elements(b, b_format, outer if op.attrs["rhs_k_pack"] else inner, elem)
        if a_scale:
            left = self._scaled(left, a_scale[0], inner, elem)
        if b_scale:
            order = [*range(rank - 2), inner, outer]  # scales of b are given as [N, K // group]
            shape = tuple(b_scale[0].type.shape[axis] for axis in order)
            kind = b_scale[0].type.with_shape(shape)
            right = self._scaled(right, self.emit("tt.trans", [b_scale[0]], kind, order=order), outer, elem)
        self.emit_as(op.results, "tt.dot", [left, right, c], inputPrecision=2, maxNumImpreciseAcc=0)

    @staticmethod
    def _fits_bf16(elem_format: int, scale: list[Value]) -> bool:
        """Whether every element times every scale has at most the 8 significant bits of bf16."""
        if elem_format == _BF16:
            return not scale or scale[0].type.elem == "i8"
        return elem_format != _FP16

    def _elements(self, operand: Value, elem_format: int, packed: int, elem: str) -> Value:
        """The operand as ``elem``, a byte of two elements of e2m1 apart along the dimension ``packed``."""
        if elem_format != _E2M1:
            return self._float(operand, elem)
        twice = self._repeated(operand, packed, 2)
        shape = twice.type.shape
        line = self.emit("tt.make_range", [], Type("i32", (shape[packed],)), start=0, end=shape[packed])
        high = self.binary("arith.andi", line, 1)
        shift = self.emit("arith.trunci", [self.binary("arith.shli", high, 2)], Type("i8", line.type.shape))
        bits = self.binary("arith.shrui", twice, self._along(shift, packed, shape))
        # Exponent and mantissa read as float16's are the element, at a bias of 15 instead of 1.
        half = Type("i16", shape)
        wide = self.emit("arith.extui", [bits], half)
        number = self.binary("arith.shli", self.binary("arith.andi", wide, 7), 9)
        sign = self.binary("arith.shli", self.binary("arith.andi", wide, 8), 12)
        element = self.emit("tt.bitcast", [self.binary("arith.ori", number, sign)], Type("f16", shape))
        scaled = self.binary("arith.mulf", element, float(2**14))
        return self._float(scaled, elem)

    def _scaled(self, operand: Value, scale: Value, axis: int, elem: str) -> Value:
        """operand * scale, where each scale serves the neighbours of a group along ``axis``."""
        group = operand.type.shape[axis] // scale.type.shape[axis]
        factor = self._repeated(self._factor(scale), axis, group)
        return self._float(self.binary("arith.mulf", self._float(operand, "f32"), factor), elem)

    def _factor(self, scale: Value) -> Value:
        """The scales as float32: e8m0 in bytes, or fp8."""
        if scale.type.elem in FLOATS:
            return self._float(scale, "f32")
        if scale.type.elem != "i8":
            raise UnsupportedError.at(f"scales of {scale.type.elem} in dot_scaled", self.source.location)
        bits = self.emit("arith.extui", [scale], Type("i32", scale.type.shape))
        number = self.binary("arith.shli", bits, 23)
        smallest = self.constant(1 << 22, number.type)  # 2**-127 is a subnormal number
        number = self.select(self.compare(bits, 0, _EQUAL), smallest, number)
        not_a_number = self.constant(0x7FC00000, number.type)
        number = self.select(self.compare(bits, 255, _EQUAL), not_a_number, number)
        return self.emit("tt.bitcast", [number], Type("f32", scale.type.shape))

    def _repeated(self, value: Value, axis: int, times: int) -> Value:
        """Each element ``times`` times, next to one another along ``axis``."""
        shape = value.type.shape
        before, after = shape[: axis + 1], shape[axis + 1 :]
        rows, columns = value.type.with_shape(before).numel, value.type.with_shape(after).numel
        result = self._reshaped(value, (rows, 1, columns))
        result = self.emit("tt.broadcast", [result], value.type.with_shape((rows, times, columns)))
        return self._reshaped(result, (*shape[:axis], shape[axis] * times, *after))

    def _along(self, line: Value, axis: int, shape: tuple[int, ...]) -> Value:
        """A tile of ``shape`` whose elements vary along ``axis`` alone, as ``line`` does."""
        for other in range(len(shape)):
            if other != axis:
                kind = line.type.with_shape((*line.type.shape[:other], 1, *line.type.shape[other:]))
                line = self.emit("tt.expand_dims", [line], kind, axis=other)
        return self.emit("tt.broadcast", [line], line.type.with_shape(shape))

    def _reshaped(self, value: Value, shape: tuple[int, ...]) -> Value:
        return self.emit("tt.reshape", [value], value.type.with_shape(shape))

    def _float(self, value: Value, elem: str) -> Value:
        return value if value.type.elem == elem else self.emit("tt.fp_to_fp", [value], Type(elem, value.type.shape))
