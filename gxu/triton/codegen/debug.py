"""Source lines of the LLVM IR: DWARF metadata that names the line of the kernel behind each instruction."""

from __future__ import annotations

import os

from ..ir.module import Location

NONTEMPORAL = 6  # the metadata node that marks stores past the caches


class SourceLines:
    """Hands out ``!dbg`` references for one function, and in the end the metadata that they refer to."""

    _SUBPROGRAM, _FIRST = 0, NONTEMPORAL + 1  # numbers of the metadata nodes: the subprogram, and the first free one

    def __init__(self) -> None:
        self.suffix = ""  # what an instruction that is written now ends with
        self._known: dict[Location, str] = {}
        self._files: dict[str, int] = {}
        self._nodes: list[str] = []

    def enter(self, location: Location) -> str:
        """Instructions come from ``location`` from now on. Returns the old suffix, to be set again."""
        outer = self.suffix
        if location.line:
            known = self._known.get(location)
            if known is None:
                known = self._known[location] = self._refer(location)
            self.suffix = known
        return outer

    def _node(self, text: str) -> int:
        self._nodes.append(text)
        return self._FIRST + len(self._nodes) - 1

    def _refer(self, location: Location) -> str:
        scope = self._files.get(location.file)
        if scope is None:
            file = self._node(_file(location.file))
            scope = self._node(f"!DILexicalBlockFile(scope: !{self._SUBPROGRAM}, file: !{file}, discriminator: 0)")
            self._files[location.file] = scope
        return f", !dbg !{self._node(f'!DILocation(line: {location.line}, column: 1, scope: !{scope})')}"

    def attachment(self) -> str:
        """What the definition of the function ends with."""
        return f"!dbg !{self._SUBPROGRAM} " if self._nodes else ""

    def metadata(self, name: str, location: Location) -> list[str]:
        """The module's metadata for the function ``name`` that starts at ``location``. Only the lines are described:
        nothing of it reaches the image but the table of lines."""
        marks = "!{i32 1}"
        if not self._nodes:
            return [f"!{NONTEMPORAL} = {marks}"]
        nodes = [
            f'distinct !DISubprogram(name: "{name}", scope: !2, file: !2, line: {location.line}, type: !3, '
            f"scopeLine: {location.line}, spFlags: DISPFlagDefinition | DISPFlagOptimized, unit: !1)",
            'distinct !DICompileUnit(language: DW_LANG_Python, file: !2, producer: "gxu", isOptimized: true, '
            "runtimeVersion: 0, emissionKind: DebugDirectivesOnly)",
            _file(location.file),
            "!DISubroutineType(types: !4)",
            "!{}",
            '!{i32 2, !"Debug Info Version", i32 3}',
            marks,
            *self._nodes,
        ]
        numbered = [f"!{number} = {node}" for number, node in enumerate(nodes)]
        return ["!llvm.dbg.cu = !{!1}", "!llvm.module.flags = !{!5}", *numbered]


def _file(path: str) -> str:
    folder, name = os.path.split(path)
    return f"!DIFile(filename: {_quoted(name)}, directory: {_quoted(folder)})"


def _quoted(text: str) -> str:
    """A string of LLVM's: everything but plain characters as its bytes."""
    return '"' + "".join(chr(b) if 32 <= b < 127 and b not in b'"\\' else f"\\{b:02X}" for b in text.encode()) + '"'
