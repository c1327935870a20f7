"""Reads MLIR's generic textual form (one grammar for every operation) into :mod:`gxu.triton.ir.module`.

The printer puts one operation on a line, so the reader goes line by line: an operation, an operation that opens
its regions (``({`` at the end), ``}, {`` between regions, ``}) ...`` that closes them, a block header, or an entry of
the location table at either end of the text.
"""

from __future__ import annotations

import re
import struct
from typing import Any

from .float8 import FORMATS, float8_bits
from .module import Block, Function, Location, Module, Op, Region, Value
from .types import BITS, FLOATS, parse_type

_OP = re.compile(
    r'^\s*(?:(?P<results>%[^=]+?) = )?"(?P<name>[^"]+)"\((?P<operands>[^)]*)\)(?:\[(?P<successors>[^\]]*)\])?'
)
_BLOCK = re.compile(r"^\s*\^(?P<label>\w+)(?:\((?P<args>.*)\))?:")
_LOC_ENTRY = re.compile(r"^#(loc\d*) = loc\((.*)\)$")
_LOC_REF = re.compile(r" loc\((#loc\d*|unknown|[^()]*(?:\([^()]*\))?[^()]*)\)$")
_FILE_LINE = re.compile(r'^"(.*)":(\d+):\d+$')
_ARG = re.compile(r"(%[\w.$-]+): (.*?)(?: loc\(.*)?$")
_OPEN, _CLOSE = "<({[", ">)}]"
_STRUCT_OF_BITS = {16: ("<H", "<e"), 32: ("<I", "<f"), 64: ("<Q", "<d")}


def read_module(text: str) -> Module:
    """Parses the generic form of a module of ``tt.func`` operations.

    Raises ValueError, naming the line, when the text is not what Triton's printer writes.
    """
    return _Reader(text).read()


def split_top_level(text: str, separator: str = ",") -> list[str]:
    """Splits at separators that stand outside quotes and brackets; an arrow ``->`` is no bracket."""
    parts, depth, start, i, end = [], 0, 0, 0, len(text)
    while i < end:
        c = text[i]
        if c == '"':
            i += 1
            while text[i] != '"':
                i += 2 if text[i] == "\\" else 1
        elif c in _OPEN:
            depth += 1
        elif c in _CLOSE:
            if not (c == ">" and text[i - 1] == "-"):
                depth -= 1
        elif c == separator and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
        i += 1
    tail = text[start:].strip()
    return [*parts, tail] if tail else parts


def _matching(text: str, start: int) -> int:
    """Index just past the bracket that closes the one at ``start``."""
    depth, i = 0, start
    while True:
        c = text[i]
        if c == '"':
            i += 1
            while text[i] != '"':
                i += 2 if text[i] == "\\" else 1
        elif c in _OPEN:
            depth += 1
        elif c in _CLOSE and not (c == ">" and text[i - 1] == "-"):
            depth -= 1
            if depth == 0:
                return i + 1
        i += 1


def parse_number(text: str, elem: str) -> int | float:
    """A number as MLIR prints it: decimal, true/false, or the bit pattern of a float in hexadecimal.

    Of an 8-bit float it is the encoding, as an integer: that is what compiled code holds.
    """
    if text in ("true", "false"):
        return int(text == "true")
    if elem in FORMATS:
        return int(text, 16) if text.startswith("0x") else float8_bits(float(text), elem)
    if elem in FLOATS:
        if text.startswith("0x"):
            return _float_of_bits(int(text, 16), elem)
        return float(text)
    return int(text, 0)


def _float_of_bits(bits: int, elem: str) -> float:
    if elem == "bf16":
        bits, elem = bits << 16, "f32"
    integer, real = _STRUCT_OF_BITS[BITS[elem]]
    number: float = struct.unpack(real, struct.pack(integer, bits))[0]
    return number


def _numbers_of_bytes(data: bytes, elem: str) -> list[int | float]:
    """The numbers of a large constant tile, which MLIR prints as its bytes."""
    size = max(1, BITS[elem] // 8)
    numbers = (int.from_bytes(data[i : i + size], "little") for i in range(0, len(data), size))
    return [_float_of_bits(bits, elem) if elem in FLOATS - FORMATS.keys() else bits for bits in numbers]


def parse_attribute(text: str) -> Any:
    """One attribute value as a Python object: int, float, bool, str, or a list for arrays and non-splat constants."""
    text = text.strip()
    if text.startswith('"'):
        return text[1:-1].encode().decode("unicode_escape")
    if text in ("true", "false"):
        return text == "true"
    if text.startswith("dense<"):
        end = _matching(text, len("dense"))
        elem = parse_type(text[end:].split(":", 1)[1]).elem
        inner = text[len("dense<") : end - 1]
        if inner.startswith('"0x'):
            return _numbers_of_bytes(bytes.fromhex(inner[3:-1]), elem)
        if inner.startswith("["):
            return [parse_number(n, elem) for n in re.findall(r"[^\[\],\s]+", inner)]
        return parse_number(inner, elem)
    if text.startswith("array<"):
        _, _, inner = text[len("array<") : -1].partition(":")
        return [parse_number(n.strip(), "i64") for n in inner.split(",")] if inner.strip() else []
    if text.startswith("["):
        return [parse_attribute(part) for part in split_top_level(text[1:-1])]
    if text.startswith("{"):
        return parse_attributes(text[1:-1])
    number, colon, type_text = text.rpartition(" : ")
    if colon and (type_text in BITS or type_text == "index"):
        return parse_number(number, type_text)
    return text


def parse_attributes(text: str) -> dict[str, Any]:
    attrs: dict[str, Any] = {}
    for part in split_top_level(text):
        key, equals, value = part.partition(" = ")
        attrs[key.strip('"')] = parse_attribute(value) if equals else True
    return attrs


def _unescaped(text: str) -> str:
    """A string as MLIR prints it: a backslash, or the code of a byte, after a backslash."""
    if "\\" not in text:
        return text
    plain = re.sub(
        rb"\\(\\|[0-9A-F]{2})",
        lambda found: b"\\" if found[1] == b"\\" else bytes.fromhex(found[1].decode()),
        text.encode(),
    )
    return plain.decode(errors="replace")


class _Reader:
    def __init__(self, text: str) -> None:
        self.lines = text.splitlines()
        self.at = 0
        self.values: dict[str, Value] = {}
        self.raw_locations: dict[str, str] = {}
        self.locations: dict[str, Location] = {}

    def read(self) -> Module:
        for line in self.lines:
            if entry := _LOC_ENTRY.match(line):
                self.raw_locations["#" + entry[1]] = entry[2]
        while not self.lines[self.at].lstrip().startswith('"builtin.module"'):
            self.at += 1
        module = self.operation()
        functions = {}
        for op in module.body.ops:
            if op.name != "tt.func":
                raise ValueError(f"module-level operation {op.name}")
            arg_attrs = op.attrs.get("arg_attrs") or [{}] * len(op.body.args)
            name = op.attrs["sym_name"]
            functions[name] = Function(name, op.body.args, op.regions[0], arg_attrs, op.location)
        return Module(functions)

    def location(self, text: str) -> Location:
        """The innermost file and line of a location: call sites and names are looked through."""
        known = self.locations.get(text)
        if known is None:
            known = self.locations[text] = self._resolve(text)
        return known

    def _resolve(self, text: str) -> Location:
        for _ in range(64):
            if text.startswith("#loc"):
                text = self.raw_locations.get(text, "unknown")
            elif match := _FILE_LINE.match(text):
                return Location(_unescaped(match[1]), int(match[2]))
            elif text.startswith("callsite("):
                callee, _, caller = text[len("callsite(") : -1].partition(" at ")
                # Triton's own library functions say little: name the line of the user's kernel.
                return self.location(caller) if self.location(caller).line else self.location(callee)
            elif text.startswith('"') and text.endswith(")"):
                text = text[text.index('"', 1) + 2 : -1]
            else:
                break
        return Location()

    def operation(self) -> Op:
        line = self.lines[self.at]
        match = _OP.match(line)
        if match is None:
            raise ValueError(f"line {self.at + 1} is not an operation: {line.strip()!r}")
        self.at += 1
        regions: list[Region] = []
        rest = line[match.end() :].lstrip()
        attrs: dict[str, Any] = {}
        if rest.startswith("<{"):
            end = _matching(rest, 0)
            attrs = parse_attributes(rest[2 : end - 2])
            rest = rest[end:].lstrip()
        # Operands are resolved before the regions are read: names inside a region may shadow them.
        operands = [self.value(name) for name in split_top_level(match["operands"])]
        if rest.startswith("({"):
            while True:
                regions.append(self.region())
                closing = self.lines[self.at].lstrip()
                self.at += 1
                if not closing.startswith("}, {"):
                    break
            rest = closing[2:].lstrip()
        if rest.startswith("{"):
            end = _matching(rest, 0)
            attrs.update(parse_attributes(rest[1 : end - 1]))
            rest = rest[end:].lstrip()
        location = Location()
        if found := _LOC_REF.search(rest):
            location = self.location(found[1])
            rest = rest[: found.start()]
        op = Op(match["name"], operands, [], attrs, regions, location)
        for operand in operands:
            operand.uses.append(op)
        for region in regions:
            region.op = op
        if match["successors"]:
            op.successors = [s.strip().split("(")[0].lstrip("^") for s in match["successors"].split(",")]
        self._results(op, match["results"], rest)
        return op

    def _results(self, op: Op, names: str | None, rest: str) -> None:
        if not names:
            return
        arrow = rest[_matching(rest, rest.index("(")) :].split("->", 1)[1].strip()
        types = split_top_level(arrow[1:-1]) if arrow.startswith("(") else [arrow]
        index = 0
        for name in names.split(","):
            base, _, count = name.strip().partition(":")
            for i in range(int(count or 1)):
                value = Value(parse_type(types[index]), f"{base}#{i}" if count else base, op=op, index=index)
                op.results.append(value)
                self.values[value.name] = value
                index += 1

    def value(self, name: str) -> Value:
        return self.values[name]

    def region(self) -> Region:
        region = Region([])
        outer = dict(self.values)
        block = Block("bb0", [], [], region)
        region.blocks.append(block)
        while not (line := self.lines[self.at].lstrip()).startswith("}"):
            if header := _BLOCK.match(line):
                self.at += 1
                if block.ops or block.args:
                    block = Block(header["label"], [], [], region)
                    region.blocks.append(block)
                block.label = header["label"]
                for index, part in enumerate(split_top_level(header["args"] or "")):
                    arg = _ARG.match(part)
                    if arg is None:
                        raise ValueError(f"block argument {part!r}")
                    value = Value(parse_type(arg[2]), arg[1], block=block, index=index)
                    block.args.append(value)
                    self.values[value.name] = value
                continue
            op = self.operation()
            op.parent = block
            block.ops.append(op)
        if not block.ops:
            region.blocks.remove(block)  # an empty region: the else of an if without one
        self.values = outer
        return region
