"""Inline assembly in PTX, as operations of the IR: straight-line arithmetic, which means the same on a CPU.

Registers hold bits, and each instruction says as what it reads them (PTX ISA 8.5, chapter 9.7). What differs: functions
with ``.approx`` are as exact as the backend's own, and ``.ftz`` keeps subnormal numbers.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..ir.module import Value
from ..ir.types import BITS, Type
from .emit import Emitter

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_INSTRUCTION = re.compile(r"(?:@(!?)([\w$]+)\s+)?([a-z]\w*(?:[.:]+\w+)*)\s*(.*)", re.DOTALL)
_TYPE = re.compile(r"(?:[sub](?:8|16|32|64)|f16|bf16|f16x2|bf16x2|f32|f64|pred|e4m3x2|e5m2x2)\Z")
_ROUNDINGS = {"rn": "rn", "rz": "rz", "rm": "rd", "rp": "ru"}
_COMPARISONS = {"eq": 0, "ne": 1, "lt": 2, "le": 3, "gt": 4, "ge": 5, "lo": 6, "ls": 7, "hi": 8, "hs": 9}
_UNSIGNED = {2: 6, 3: 7, 4: 8, 5: 9}
_FLOAT_COMPARISONS = {"eq": 1, "gt": 2, "ge": 3, "lt": 4, "le": 5, "ne": 6, "num": 7} | {
    "equ": 8, "gtu": 9, "geu": 10, "ltu": 11, "leu": 12, "neu": 13, "nan": 14
}  # fmt: skip
_FUNCTIONS = {
    "ex2": "math.exp2", "lg2": "math.log2", "sin": "math.sin", "cos": "math.cos", "tanh": "math.tanh",
    "sqrt": "tt.precise_sqrt", "rsqrt": "math.rsqrt",
}  # fmt: skip
_FLOAT_BINARY = {"add": "addf", "sub": "subf", "mul": "mulf", "div": "divf"}
_BITWISE = {"and": "arith.andi", "or": "arith.ori", "xor": "arith.xori"}
# What any instruction may carry and this target need not tell apart.
_IGNORED = frozenset(("approx", "full", "ftz"))


class UnknownInstructionError(Exception):
    """An instruction that only a GPU has, or that is not known here; the argument is its text."""


@dataclass(frozen=True)
class _Instruction:
    text: str
    negated: bool
    predicate: str
    name: str
    modifiers: tuple[str, ...]
    types: tuple[str, ...]
    operands: tuple[str, ...]


def _statements(assembly: str) -> Iterator[str]:
    """The instructions and declarations, without the braces of blocks. (Those of vectors have no semicolon.)"""
    for part in _COMMENT.sub(" ", assembly).split(";"):
        text = part.strip()
        while text.startswith(("{", "}")):
            text = text[1:].strip()
        if text:
            yield text


def _parse(text: str) -> _Instruction:
    match = _INSTRUCTION.fullmatch(text)
    if match is None:
        raise UnknownInstructionError(text)
    negated, predicate, opcode, rest = match.groups()
    name, *parts = re.split(r"[.:]+", opcode)
    types = tuple(part for part in parts if _TYPE.match(part))
    modifiers = tuple(part for part in parts if part not in types and part not in _IGNORED)
    operands = tuple(part.strip() for part in re.split(r",(?![^{]*\})", rest))
    return _Instruction(text, bool(negated), predicate or "", name, modifiers, types, operands)


def _elem(ptx_type: str) -> str:
    """The element type of a PTX type: ``s32``, ``u32`` and ``b32`` are i32."""
    if ptx_type == "pred":
        return "i1"
    return ptx_type if ptx_type in BITS else f"i{ptx_type[1:]}"


def _number(text: str, elem: str) -> int | float:
    if found := re.fullmatch(r"0([fFdD])([0-9a-fA-F]+)", text):
        if elem[0] == "i":
            return int(found[2], 16)
        number: float = struct.unpack(">f" if found[1] in "fF" else ">d", bytes.fromhex(found[2]))[0]
        return number
    return float(text) if elem in ("f16", "bf16", "f32", "f64") else int(text.rstrip("U"), 0)


class Assembly:
    """Runs assembly on ``registers``, which map names (``$0``) to values; ``emitter`` takes the operations."""

    def __init__(self, emitter: Emitter, registers: dict[str, Value], shape: tuple[int, ...]) -> None:
        self.e = emitter
        self.registers = registers
        self.shape = shape

    def run(self, assembly: str) -> None:
        for statement in _statements(assembly):
            if not statement.startswith(".reg"):
                self._run(_parse(statement))

    def _run(self, instruction: _Instruction) -> None:
        name = instruction.name
        handler: Callable[[_Instruction], list[Value]] | None = getattr(self, f"_do_{name}", None)
        if handler is None:
            handler = self._unary if name in _FUNCTIONS else self._bitwise if name in _BITWISE else None
        if handler is None or not instruction.types:
            raise UnknownInstructionError(instruction.text)
        try:
            results = handler(instruction)
        except (KeyError, ValueError, IndexError):  # a register, number, modifier or operand that is not there
            raise UnknownInstructionError(instruction.text) from None
        for target, result in zip(self._names(instruction.operands[0]), results, strict=True):
            if instruction.predicate and (old := self.registers.get(target)) is not None:
                new = self._resized(result, old.type.elem)
                test = self.registers[instruction.predicate]
                result = self.e.select(test, *((old, new) if instruction.negated else (new, old)))
            self.registers[target] = result

    @staticmethod
    def _names(operand: str) -> list[str]:
        return [part.strip() for part in operand.strip("{}").split(",")]

    # -- values -------------------------------------------------------------------------------------------------------

    def _type(self, elem: str) -> Type:
        return Type(elem, self.shape)

    def _read(self, operand: str, ptx_type: str) -> Value:
        """An operand as a type: bits beyond it are cut off, and what is missing is zero."""
        elem = _elem(ptx_type)
        if re.match(r"-?[0-9.]", operand):
            return self.e.constant(_number(operand, elem), self._type(elem))
        if operand.startswith("!"):
            return self.e.binary("arith.xori", self._read(operand[1:], ptx_type), 1)
        return self._resized(self.registers[operand], elem)

    def _reads(self, instruction: _Instruction, count: int) -> list[Value]:
        if len(instruction.operands) != count + 1:
            raise ValueError
        return [self._read(operand, instruction.types[-1]) for operand in instruction.operands[1:]]

    def _resized(self, value: Value, elem: str) -> Value:
        if value.type.elem == elem:
            return value
        bits, wanted = BITS[value.type.elem], BITS[elem]
        if bits != wanted:
            value = self._bits(value)
            value = self.e.emit("arith.trunci" if wanted < bits else "arith.extui", [value], self._type(f"i{wanted}"))
        return self._cast(value, elem)

    def _bits(self, value: Value) -> Value:
        return self._cast(value, f"i{BITS[value.type.elem]}")

    def _cast(self, value: Value, elem: str) -> Value:
        return value if value.type.elem == elem else self.e.emit("tt.bitcast", [value], self._type(elem))

    def _convert(self, name: str, value: Value, elem: str) -> Value:
        return self.e.emit(name, [value], self._type(elem))

    def _float(self, value: Value, elem: str) -> Value:
        return value if value.type.elem == elem else self._convert("tt.fp_to_fp", value, elem)

    def _extern(self, symbol: str, arguments: list[Value], elem: str) -> Value:
        return self.e.emit("tt.extern_elementwise", arguments, self._type(elem), symbol=symbol)

    @staticmethod
    def _only(instruction: _Instruction, *allowed: str) -> None:
        if any(modifier not in allowed for modifier in instruction.modifiers):
            raise ValueError

    # -- moves and bits -----------------------------------------------------------------------------------------------

    def _do_mov(self, instruction: _Instruction) -> list[Value]:
        self._only(instruction)
        target, source = instruction.operands
        kind = instruction.types[-1]
        if target.startswith("{"):
            parts = len(self._names(target))
            width = BITS[_elem(kind)] // parts
            whole = self._read(source, kind)
            cuts = [self.e.binary("arith.shrui", whole, width * k) for k in range(parts)]
            return [self._resized(cut, f"i{width}") for cut in cuts]
        if source.startswith("{"):
            names = self._names(source)
            return [self._joined([self._read(name, f"b{BITS[_elem(kind)] // len(names)}") for name in names])]
        return [self._read(source, kind)]

    def _joined(self, parts: list[Value]) -> Value:
        """One register of several, the first in the low bits."""
        width = BITS[parts[0].type.elem]
        whole = None
        for k, part in enumerate(parts):
            wide = self.e.binary("arith.shli", self._resized(self._bits(part), f"i{width * len(parts)}"), width * k)
            whole = wide if whole is None else self.e.binary("arith.ori", whole, wide)
        assert whole is not None
        return whole

    def _bitwise(self, instruction: _Instruction) -> list[Value]:
        self._only(instruction)
        return [self.e.binary(_BITWISE[instruction.name], *self._reads(instruction, 2))]

    def _do_not(self, instruction: _Instruction) -> list[Value]:
        (x,) = self._reads(instruction, 1)
        return [self.e.binary("arith.xori", x, 1 if x.type.elem == "i1" else -1)]

    def _shift(self, name: str, value: Value, amount: Value) -> Value:
        """A shift by any unsigned amount: beyond the width it leaves zeros, or copies of the sign."""
        last = BITS[value.type.elem] - 1
        near = self.e.binary("arith.minui", amount, last)
        result = self.e.binary(name, value, self._resized(near, value.type.elem))
        if name == "arith.shrsi":
            return result
        return self.e.select(self.e.compare(amount, last, 8), self.e.constant(0, value.type), result)

    def _shifted(self, instruction: _Instruction, name: str) -> list[Value]:
        self._only(instruction)
        _, value, amount = instruction.operands
        return [self._shift(name, self._read(value, instruction.types[-1]), self._read(amount, "u32"))]

    def _do_shl(self, instruction: _Instruction) -> list[Value]:
        return self._shifted(instruction, "arith.shli")

    def _do_shr(self, instruction: _Instruction) -> list[Value]:
        return self._shifted(instruction, "arith.shrsi" if instruction.types[-1][0] == "s" else "arith.shrui")

    def _do_shf(self, instruction: _Instruction) -> list[Value]:
        """A funnel shift: 32 bits of a register pair."""
        direction, mode = instruction.modifiers
        low, high, amount = self._reads(instruction, 3)
        limited = {"wrap": ("arith.andi", 31), "clamp": ("arith.minui", 32)}[mode]
        pair, by = self._joined([low, high]), self._resized(self.e.binary(limited[0], amount, limited[1]), "i64")
        if direction == "l":
            return [self._resized(self.e.binary("arith.shrui", self._shift("arith.shli", pair, by), 32), "i32")]
        return [self._resized(self.e.binary("arith.shrui", pair, by), "i32")]

    def _do_lop3(self, instruction: _Instruction) -> list[Value]:
        """Any function of three bits: a table of eight."""
        *operands, table = instruction.operands[1:]
        chosen = int(table, 0)
        result = self.e.constant(0, self._type("i32"))
        for row in (row for row in range(8) if chosen >> row & 1):
            term = self.e.constant(-1, self._type("i32"))
            for k, operand in enumerate(operands):
                bits = self._read(operand, "b32")
                if not row >> (2 - k) & 1:
                    bits = self.e.binary("arith.xori", bits, -1)
                term = self.e.binary("arith.andi", term, bits)
            result = self.e.binary("arith.ori", result, term)
        return [result]

    def _do_prmt(self, instruction: _Instruction) -> list[Value]:
        """Four bytes, each chosen out of eight; bit 3 of a choice repeats the byte's sign."""
        self._only(instruction)
        low, high, choice = self._reads(instruction, 3)
        pair, parts = self._joined([low, high]), []
        for k in range(4):
            chosen = self.e.binary("arith.shrui", choice, 4 * k)
            amount = self.e.binary("arith.shli", self.e.binary("arith.andi", chosen, 7), 3)
            byte = self._resized(self.e.binary("arith.shrui", pair, self._resized(amount, "i64")), "i8")
            signs = self.e.compare(self.e.binary("arith.andi", chosen, 8), 0, 1)
            parts.append(self.e.select(signs, self.e.binary("arith.shrsi", byte, 7), byte))
        return [self._joined(parts)]

    # -- comparisons --------------------------------------------------------------------------------------------------

    def _do_setp(self, instruction: _Instruction) -> list[Value]:
        (comparison,) = instruction.modifiers
        x, y = self._reads(instruction, 2)
        if x.type.is_float:
            return [self.e.compare(x, y, _FLOAT_COMPARISONS[comparison])]
        predicate = _COMPARISONS[comparison]
        if instruction.types[-1][0] != "s":
            predicate = _UNSIGNED.get(predicate, predicate)
        return [self.e.compare(x, y, predicate)]

    def _do_selp(self, instruction: _Instruction) -> list[Value]:
        _, x, y, test = instruction.operands
        kind = instruction.types[-1]
        return [self.e.select(self._read(test, "pred"), self._read(x, kind), self._read(y, kind))]

    # -- arithmetic ---------------------------------------------------------------------------------------------------

    def _arithmetic(self, instruction: _Instruction) -> list[Value]:
        """Sum, difference, product and quotient. One that names its rounding never fuses with another."""
        x, y = self._reads(instruction, 2)
        elem = x.type.elem
        if not x.type.is_float:
            return self._integers(instruction, x, y)
        self._only(instruction, *_ROUNDINGS)
        if instruction.modifiers and elem in ("f32", "f64"):
            return [self._extern(f"{instruction.name}_{_ROUNDINGS[instruction.modifiers[0]]}", [x, y], elem)]
        return [self.e.binary(f"arith.{_FLOAT_BINARY[instruction.name]}", x, y)]

    _do_add = _do_sub = _do_mul = _do_div = _arithmetic

    def _integers(self, instruction: _Instruction, x: Value, y: Value) -> list[Value]:
        name, signed = instruction.name, instruction.types[-1][0] == "s"
        self._only(instruction, *(("lo", "hi", "wide") if name == "mul" else ()))
        if name == "div":
            return [self.e.binary("arith.divsi" if signed else "arith.divui", x, y)]
        if name != "mul" or "lo" in instruction.modifiers:
            return [self.e.binary({"add": "arith.addi", "sub": "arith.subi", "mul": "arith.muli"}[name], x, y)]
        return [self._wide_product(x, y, signed=signed, high="hi" in instruction.modifiers)]

    def _wide_product(self, x: Value, y: Value, *, signed: bool, high: bool) -> Value:
        width = BITS[x.type.elem]
        wide = {16: "i32", 32: "i64"}[width]
        product = self.e.binary(
            "arith.muli", *(self._convert("arith.extsi" if signed else "arith.extui", v, wide) for v in (x, y))
        )
        return self._resized(self.e.binary("arith.shrui", product, width), x.type.elem) if high else product

    def _do_fma(self, instruction: _Instruction) -> list[Value]:
        self._only(instruction, "rn")
        arguments = self._reads(instruction, 3)
        return [self.e.emit("math.fma", arguments, arguments[0].type)]

    def _do_mad(self, instruction: _Instruction) -> list[Value]:
        x, y, z = self._reads(instruction, 3)
        if x.type.is_float:
            return self._do_fma(instruction)
        self._only(instruction, "lo")
        return [self.e.binary("arith.addi", self.e.binary("arith.muli", x, y), z)]

    def _extremum(self, instruction: _Instruction) -> list[Value]:
        x, y = self._reads(instruction, 2)
        name = instruction.name
        if x.type.is_float:
            self._only(instruction, "NaN")
            return [self.e.binary(f"arith.{name}{'imumf' if instruction.modifiers else 'numf'}", x, y)]
        self._only(instruction)
        return [self.e.binary(f"arith.{name}{'si' if instruction.types[-1][0] == 's' else 'ui'}", x, y)]

    _do_min = _do_max = _extremum

    def _do_abs(self, instruction: _Instruction) -> list[Value]:
        self._only(instruction)
        (x,) = self._reads(instruction, 1)
        return [self.e.emit("math.absf" if x.type.is_float else "math.absi", [x], x.type)]

    def _do_neg(self, instruction: _Instruction) -> list[Value]:
        self._only(instruction)
        (x,) = self._reads(instruction, 1)
        if x.type.is_float:
            return [self.e.emit("arith.negf", [x], x.type)]
        return [self.e.binary("arith.subi", self.e.constant(0, x.type), x)]

    def _unary(self, instruction: _Instruction) -> list[Value]:
        self._only(instruction, "rn")
        (x,) = self._reads(instruction, 1)
        wide = self._float(x, "f64" if x.type.elem == "f64" else "f32")
        return [self._float(self.e.emit(_FUNCTIONS[instruction.name], [wide], wide.type), x.type.elem)]

    def _do_rcp(self, instruction: _Instruction) -> list[Value]:
        self._only(instruction, "rn")
        (x,) = self._reads(instruction, 1)
        return [self._extern("div_rn", [self.e.constant(1.0, x.type), x], x.type.elem)]

    # -- conversions --------------------------------------------------------------------------------------------------

    def _do_cvt(self, instruction: _Instruction) -> list[Value]:
        to, source = instruction.types
        if to.endswith("x2"):
            return [self._pair(instruction, to, source)]
        x = self._read(instruction.operands[1], source)
        elem = _elem(to)
        rounding = {"rni": "rn", "rzi": "rz", "rmi": "rd", "rpi": "ru"}
        if x.type.is_float and elem[0] == "i":
            (mode,) = instruction.modifiers
            whole = self._integral(x, rounding[mode])
            return [self._convert("arith.fptosi" if to[0] == "s" else "arith.fptoui", whole, elem)]
        if x.type.is_float:
            if x.type.elem == elem:
                (mode,) = instruction.modifiers
                return [self._integral(x, rounding[mode])]
            self._only(instruction, "rn")
            return [self._float(x, elem)]
        if elem[0] != "i":
            self._only(instruction, "rn")
            return [self._convert("arith.sitofp" if source[0] == "s" else "arith.uitofp", x, elem)]
        self._only(instruction)
        if BITS[elem] > BITS[x.type.elem]:
            return [self._convert("arith.extsi" if source[0] == "s" else "arith.extui", x, elem)]
        return [self._resized(x, elem)]

    def _integral(self, x: Value, mode: str) -> Value:
        return self._extern({"rn": "rint", "rz": "trunc", "rd": "floor", "ru": "ceil"}[mode], [x], x.type.elem)

    def _pair(self, instruction: _Instruction, to: str, source: str) -> Value:
        """Two numbers made narrower; the first operand's goes to the high half."""
        elem = {"e4m3x2": "f8E4M3FN", "e5m2x2": "f8E5M2", "f16x2": "f16", "bf16x2": "bf16"}[to]
        largest = {"f8E4M3FN": 448.0, "f8E5M2": 57344.0}.get(elem)
        self._only(instruction, "rn", *(("satfinite",) if largest else ()))
        if source != "f32":
            raise ValueError
        halves = self._reads(instruction, 2)
        if largest:
            ends = [self.e.constant(end, self._type("f32")) for end in (-largest, largest)]
            halves = [self.e.emit("tt.clampf", [half, *ends], half.type, propagateNan=1) for half in halves]
        return self._joined([self._float(half, elem) for half in reversed(halves)])
