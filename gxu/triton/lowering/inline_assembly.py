"""Writes ``tt.elementwise_inline_asm`` as operations on tiles, where its instructions mean the same on a CPU.

An instance of the assembly takes ``packed_element`` elements of each operand. Which ones is not specified, so each
element of the tile gets an instance of its own, all of whose elements are this one.
"""

from __future__ import annotations

from ..errors import UnsupportedError
from ..ir.module import Function, Op, Value
from ..ir.types import BITS, Type
from .emit import Emitter, blocks_with
from .ptx import Assembly, UnknownInstructionError

_NAME = "tt.elementwise_inline_asm"


def expand_inline_assembly(function: Function) -> None:
    """Rewrites the function in place. UnsupportedError names the first instruction that is not known."""
    for block in blocks_with(function, _NAME):
        expander = _Expander(block)
        for op in block.ops:
            if op.name == _NAME:
                expander.expand(op)
            else:
                expander.ops.append(op)
        block.ops = expander.ops


class _Expander(Emitter):
    def expand(self, op: Op) -> None:
        self.release(op)
        pack, shape = int(op.attrs["packed_element"]), op.result.type.shape
        outputs = [self._registers(result.type, pack) for result in op.results]
        registers: dict[str, Value] = {}
        number = sum(count for count, _ in outputs)
        for operand in op.operands:
            count, together = self._registers(operand.type, pack)
            for _ in range(count):
                registers[f"${number}"] = self._packed(operand, together)
                number += 1
        try:
            Assembly(self, registers, shape).run(op.attrs["asm_string"])
            number = 0
            for result, (count, _) in zip(op.results, outputs, strict=True):
                self._finish(result, registers[f"${number}"])
                number += count
        except UnknownInstructionError as error:
            self._refuse(str(error))
        except KeyError:
            self._refuse("no instruction for a result")

    def _refuse(self, instruction: str) -> None:
        raise UnsupportedError.at(
            f"operation {_NAME} ({' '.join(instruction.split())})",
            self.source.location,
            "inline assembly other than arithmetic is a GPU's: use triton.language or libdevice functions",
        ) from None

    @staticmethod
    def _registers(kind: Type, pack: int) -> tuple[int, int]:
        """How many registers ``pack`` elements take, and how many elements lie in one."""
        together = min(pack, max(1, 32 // BITS[kind.elem]))
        return pack // together, together

    def _packed(self, operand: Value, times: int) -> Value:
        """The bits of an element ``times`` times in a row."""
        width = BITS[operand.type.elem]
        shape = operand.type.shape
        if operand.type.is_pointer:
            return self.emit("tt.ptr_to_int", [operand], Type("i64", shape))
        if times == 1:
            return operand
        bits = self.emit("tt.bitcast", [operand], Type(f"i{width}", shape)) if operand.type.is_float else operand
        wide = self.emit("arith.extui", [bits], Type(f"i{width * times}", shape))
        return self.binary("arith.muli", wide, sum(1 << width * k for k in range(times)))

    def _finish(self, result: Value, register: Value) -> None:
        """Makes ``result`` the low bits of a register."""
        kind = result.type
        width = BITS[kind.elem]
        if register.type.elem == kind.elem:
            self.emit_as([result], "tt.bitcast", [register])
            return
        have = BITS[register.type.elem]
        if register.type.is_float:
            register = self.emit("tt.bitcast", [register], Type(f"i{have}", kind.shape))
        if have != width:
            name = "arith.trunci" if width < have else "arith.extui"
            register = self.emit(name, [register], Type(f"i{width}", kind.shape))
        self.emit_as([result], "tt.bitcast", [register])
