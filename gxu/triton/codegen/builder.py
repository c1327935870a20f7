"""Writes LLVM IR as text, level by level.

A *level* is the straight-line code of the function, of a loop or of a branch. An instruction goes to the deepest level
that one of its operands belongs to, so whatever does not vary in a loop leaves it as it is written: hoisting costs
nothing and needs no pass. Code that must not leave its level (a load after a store, a division) names a minimum depth.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from .debug import SourceLines
from .values import LLVM_TYPE, Val, constant

if TYPE_CHECKING:
    from .sanitizer import Sanitizer
    from .streams import Streams

_ALONE_OFFSET = 32  # of `alone` in gxuHostServices (csrc/runtime/host/gxu_host_kernel.h)


class Level:
    """Code of one level: its text so far, and the label of the basic block that is being written."""

    def __init__(self, label: str) -> None:
        self.lines: list[str] = []
        self.block = label
        self.memo: dict[object, Val] = {}
        self.packed: dict[object, object] = {}  # operands of products, see dot_packing.Packing.once


class Loop:
    """A loop that is open: its induction variable and its carried values. Set ``next`` before it closes."""

    def __init__(self, iv: Val, carried: list[Val]) -> None:
        self.iv = iv
        self.carried = carried
        self.next: list[Val] = []
        self.results: list[Val] = []
        self.following: Val | None = None  # the next induction value, where it is not the sum with the step


class Guard:
    """Code that runs under a condition: the values it computes, and what they are after it."""

    def __init__(self) -> None:
        self.next: list[Val] = []
        self.results: list[Val] = []


class While:
    """A while loop that is open; see :meth:`Builder.while_loop`."""

    def __init__(self, builder: Builder, label: str, carried: list[Val]) -> None:
        self.builder = builder
        self.label = label
        self.carried = carried
        self.condition: Val | None = None
        self.passed: list[Val] = []
        self.next: list[Val] = []
        self.next_refs: list[str] = []
        self.level: Level | None = None

    @contextlib.contextmanager
    def body(self) -> Iterator[None]:
        self.builder.push(self.label)
        yield
        self.next_refs = [self.builder.scalar(v) for v in self.next]
        self.level = self.builder.pop()


class Builder:
    """State of one LLVM function that is being written."""

    def __init__(self, *, fp_fusion: bool = True) -> None:
        self.fast_flags = "contract" if fp_fusion else ""
        self.levels: list[Level] = [Level("entry")]
        self.declarations: dict[str, str] = {}
        self.globals: dict[str, str] = {}
        self.lanes = 1
        self.avx512 = False  # whether vectors are those of AVX-512
        self.converts_bf16 = False  # whether AVX-512 rounds to bf16
        self.sanitizer: Sanitizer | None = None  # where the kernel's accesses are checked
        self.streams: Streams | None = None  # where stores may go past the caches
        self.source = SourceLines()
        self._names = 0
        self._alone: Val | None = None

    # -- names, levels, raw instructions ------------------------------------------------------------------------------

    @property
    def depth(self) -> int:
        return len(self.levels) - 1

    def name(self, stem: str = "v") -> str:
        self._names += 1
        return f"{stem}{self._names}"

    def line(self, text: str, depth: int) -> None:
        self.levels[depth].lines.append(f"  {text}{self.source.suffix}")

    def label(self, label: str, depth: int) -> None:
        level = self.levels[depth]
        level.lines.append(f"{label}:")
        level.block = label

    def emit(
        self, elem: str, expression: str, depth: int, lanes: int = 1, *, multiple: int = 1, nonneg: bool = False
    ) -> Val:
        ref = self.define(expression, depth)
        return Val(elem, ref, depth, lanes, multiple=multiple, nonneg=nonneg)

    def call(self, function: str, elem: str, arguments: Sequence[Val], lanes: int, depth: int | None = None) -> Val:
        """A call of an external function or intrinsic; declares it on first use."""
        args = [self.wide(a) if lanes > 1 else self.scalar(a) for a in arguments]
        types = [f"<{lanes} x {LLVM_TYPE[a.elem]}>" if lanes > 1 else LLVM_TYPE[a.elem] for a in arguments]
        result = f"<{lanes} x {LLVM_TYPE[elem]}>" if lanes > 1 else LLVM_TYPE[elem]
        self.declare(function, result, types)
        where = max([depth or 0, *(a.depth for a in arguments)])
        joined = ", ".join(f"{t} {a}" for t, a in zip(types, args, strict=True))
        return self.emit(elem, f"call {result} @{function}({joined})", where, lanes)

    def declare(self, function: str, result: str, types: Sequence[str]) -> None:
        self.declarations.setdefault(function, f"declare {result} @{function}({', '.join(types)})")

    def string(self, text: str) -> str:
        """A constant C string; returns its name."""
        data = text.encode() + b"\0"
        escaped = "".join(f"\\{byte:02X}" for byte in data)
        name = f"gxu_text{len(self.globals)}"
        self.globals[name] = f'@{name} = internal constant [{len(data)} x i8] c"{escaped}"'
        return f"@{name}"

    def memory_depth(self, *values: Val | None, at_least: int = 0) -> int:
        return max([at_least, *(v.depth for v in values if v is not None)])

    # -- scalars and vectors ------------------------------------------------------------------------------------------

    def scalar(self, value: Val) -> str:
        if value.lanes != 1 or value.ref is None:
            raise AssertionError(f"{value} is not the same in all lanes")
        return value.ref

    def wide(self, value: Val, lanes: int | None = None) -> str:
        """The value as a vector operand of ``lanes`` lanes (those of the open vector loop by default)."""
        lanes = lanes or self.lanes
        if lanes == 1:
            return self.scalar(value)
        if value.lanes == lanes and value.ref is not None:
            return value.ref
        known = value.wide.get(lanes)
        if known is None:
            known = value.wide[lanes] = self._widen(value, lanes)
        return known

    def _widen(self, value: Val, lanes: int) -> str:
        scalar_type = LLVM_TYPE[value.elem]
        if value.is_progression:
            base = value.base
            assert base is not None and value.lanes == lanes, f"{value} in a loop of {lanes} lanes"
            if value.elem == "ptr":
                offsets = ", ".join(f"i64 {lane * value.stride}" for lane in range(lanes))
                return self.define(
                    f"getelementptr i8, ptr {self.scalar(base)}, <{lanes} x i64> <{offsets}>", base.depth
                )
            if base.const is not None:
                numbers = [constant(base.const + lane * value.stride, value.elem).ref for lane in range(lanes)]
                return "<" + ", ".join(f"{scalar_type} {n}" for n in numbers) + ">"
            steps = ", ".join(f"{scalar_type} {constant(lane * value.stride, value.elem).ref}" for lane in range(lanes))
            return self.define(f"add <{lanes} x {scalar_type}> {self.wide(base, lanes)}, <{steps}>", base.depth)
        if value.lanes != 1:
            raise AssertionError(f"{value} used in a loop of {lanes} lanes")
        if value.const is not None:
            return f"splat ({scalar_type} {value.ref})"
        one = self.define(
            f"insertelement <{lanes} x {scalar_type}> poison, {scalar_type} {value.ref}, i32 0", value.depth
        )
        return self.define(
            f"shufflevector <{lanes} x {scalar_type}> {one}, <{lanes} x {scalar_type}> poison, "
            f"<{lanes} x i32> zeroinitializer",
            value.depth,
        )

    def define(self, expression: str, depth: int) -> str:
        ref = "%" + self.name()
        self.line(f"{ref} = {expression}", depth)
        return ref

    def vector_type(self, elem: str) -> str:
        return f"<{self.lanes} x {LLVM_TYPE[elem]}>" if self.lanes > 1 else LLVM_TYPE[elem]

    def operands(self, *values: Val) -> tuple[int, list[str], int]:
        """Lanes, operand texts and depth of an instruction over ``values``: scalar when all of them are."""
        lanes = self.lanes if any(v.lanes > 1 for v in values) else 1
        refs = [self.wide(v) if lanes > 1 else self.scalar(v) for v in values]
        return lanes, refs, max(v.depth for v in values)

    # -- generic instructions -----------------------------------------------------------------------------------------

    def binary(self, opcode: str, a: Val, b: Val, elem: str | None = None) -> Val:
        lanes, (x, y), depth = self.operands(a, b)
        kind = LLVM_TYPE[a.elem]
        return self.emit(elem or a.elem, f"{opcode} {_vec(kind, lanes)} {x}, {y}", depth, lanes)

    def unary(self, opcode: str, a: Val) -> Val:
        lanes, (x,), depth = self.operands(a)
        return self.emit(a.elem, f"{opcode} {_vec(LLVM_TYPE[a.elem], lanes)} {x}", depth, lanes)

    def cast(self, opcode: str, a: Val, elem: str) -> Val:
        lanes, (x,), depth = self.operands(a)
        to = _vec(LLVM_TYPE[elem], lanes)
        return self.emit(elem, f"{opcode} {_vec(LLVM_TYPE[a.elem], lanes)} {x} to {to}", depth, lanes)

    def compare(self, opcode: str, a: Val, b: Val) -> Val:
        if a.elem == "bf16" and opcode.startswith("fcmp"):
            a, b = self.bf16_to_f32(a), self.bf16_to_f32(b)
        return self.binary(opcode, a, b, elem="i1")

    def bf16_to_f32(self, value: Val) -> Val:
        """Exact: bf16 is the upper half of float32, and is held as its bits."""
        if isinstance(value.const, float):
            return constant(value.const, "f32")
        return self.cast("bitcast", self.binary("shl", self.cast("zext", value, "i32"), constant(16, "i32")), "f32")

    def select(self, condition: Val, a: Val, b: Val) -> Val:
        if condition.const is not None:
            return a if condition.const else b
        if a is b:
            return a
        lanes, (c, x, y), depth = self.operands(condition, a, b)
        kind = _vec(LLVM_TYPE[a.elem], lanes)
        nonneg = a.nonneg and b.nonneg
        return self.emit(a.elem, f"select {_vec('i1', lanes)} {c}, {kind} {x}, {kind} {y}", depth, lanes, nonneg=nonneg)

    def intrinsic(self, stem: str, *arguments: Val, elem: str | None = None) -> Val:
        """``llvm.<stem>`` overloaded on its first argument's type."""
        lanes = self.lanes if any(a.lanes > 1 for a in arguments) else 1
        kind = {"half": "f16", "float": "f32", "double": "f64"}.get(
            LLVM_TYPE[arguments[0].elem], LLVM_TYPE[arguments[0].elem]
        )
        suffix = f"v{lanes}{kind}" if lanes > 1 else kind
        return self.call(f"llvm.{stem}.{suffix}", elem or arguments[0].elem, arguments, lanes)

    # -- control flow -------------------------------------------------------------------------------------------------

    def push(self, label: str) -> Level:
        level = Level(label)
        self.levels.append(level)
        return level

    def pop(self) -> Level:
        return self.levels.pop()

    @contextlib.contextmanager
    def outside(self, depth: int) -> Iterator[None]:
        """Code written inside the ``with`` goes to the level of ``depth``, in front of what is open inside it."""
        inner = self.levels[depth + 1 :]
        del self.levels[depth + 1 :]
        yield
        self.levels += inner

    @contextlib.contextmanager
    def loop(
        self, elem: str, start: Val, end: Val, step: Val, carried: Sequence[Val] = (), *, nonneg: bool = True
    ) -> Iterator[Loop]:
        """``for iv = start; iv < end; iv += step`` around the code written inside the ``with``.

        The body sets ``loop.next``, one value for each of ``carried``; afterwards ``loop.results`` holds the last ones.
        A carried value has the shape of its first value.
        """
        kind = LLVM_TYPE[elem]
        first = [self.wide(v, v.lanes) if v.lanes > 1 else self.scalar(v) for v in carried]
        known = start.const is not None and end.const is not None
        label, exit_label = self.name("loop"), self.name("exit")
        enters = "true"
        if not known:
            enters = self.define(f"icmp slt {kind} {start.ref}, {end.ref}", self.depth)
        elif start.const >= end.const:  # type: ignore[operator]
            enters = "false"
        self.push(label)
        divisor = min(start.multiple, step.multiple)
        iv = Val(elem, "%" + self.name("i"), self.depth, multiple=divisor, nonneg=nonneg and start.nonneg)
        if isinstance(end.bound, int) and iv.nonneg:
            iv.bound = max(0, end.bound - 1)
        opened = Loop(iv, [Val(v.elem, "%" + self.name("c"), self.depth, v.lanes) for v in carried])
        yield opened
        following = [
            self.wide(v, c.lanes) if c.lanes > 1 else self.scalar(v)
            for v, c in zip(opened.next, opened.carried, strict=True)
        ]
        if opened.following is None:
            opened.following = self.emit(elem, f"add nsw {kind} {iv.ref}, {step.ref}", self.depth)
        increment = opened.following.ref
        again = self.define(f"icmp slt {kind} {increment}, {end.ref}", self.depth)
        level = self.pop()
        parent = self.levels[-1]
        latch, before = level.block, parent.block
        lines = parent.lines
        lines.append(f"  br i1 {enters}, label %{label}, label %{exit_label}")
        lines.append(f"{label}:")
        lines.append(f"  {iv.ref} = phi {kind} [ {start.ref}, %{before} ], [ {increment}, %{latch} ]")
        for value, one, other in zip(opened.carried, first, following, strict=True):
            lines.append(f"  {value.ref} = phi {value.type} [ {one}, %{before} ], [ {other}, %{latch} ]")
        lines += level.lines
        lines.append(f"  br i1 {again}, label %{label}, label %{exit_label}")
        lines.append(f"{exit_label}:")
        parent.block = exit_label
        for value, one, other in zip(opened.carried, first, following, strict=True):
            result = Val(value.elem, "%" + self.name("r"), self.depth, value.lanes)
            lines.append(f"  {result.ref} = phi {value.type} [ {one}, %{before} ], [ {other}, %{latch} ]")
            opened.results.append(result)

    @contextlib.contextmanager
    def guarded(self, condition: Val, otherwise: Sequence[Val] = ()) -> Iterator[Guard]:
        """Code written inside the ``with`` runs only if the scalar ``condition`` holds.

        The body sets ``guard.next``; ``guard.results`` are those values, or ``otherwise`` where it did not run.
        """
        guard = Guard()
        if condition.const == 1:
            yield guard
            guard.results = list(guard.next)
            return
        others = [self.wide(v, v.lanes) if v.lanes > 1 else self.scalar(v) for v in otherwise]
        label, join = self.name("then"), self.name("join")
        reference = self.scalar(condition)
        self.push(label)
        yield guard
        values = [
            self.wide(v, o.lanes) if o.lanes > 1 else self.scalar(v) for v, o in zip(guard.next, otherwise, strict=True)
        ]
        level = self.pop()
        parent = self.levels[-1]
        before = parent.block
        parent.lines += [f"  br i1 {reference}, label %{label}, label %{join}", f"{label}:", *level.lines]
        parent.lines += [f"  br label %{join}", f"{join}:"]
        for value, other, old in zip(values, others, otherwise, strict=True):
            result = Val(old.elem, "%" + self.name("r"), self.depth, old.lanes)
            parent.lines.append(
                f"  {result.ref} = phi {result.type} [ {value}, %{level.block} ], [ {other}, %{before} ]"
            )
            guard.results.append(result)
        parent.block = join

    @contextlib.contextmanager
    def branch(self, condition: Val) -> Iterator[None]:
        with self.guarded(condition):
            yield

    @contextlib.contextmanager
    def while_loop(self, carried: Sequence[Val]) -> Iterator[While]:
        """A loop that decides in its middle: code, ``loop.condition``, then ``with loop.body():`` and ``loop.next``.

        Only scalars are carried. After it, ``loop.passed`` (values of the first part) are valid.
        """
        first = [self.scalar(v) for v in carried]
        label, body_label, exit_label = self.name("while"), self.name("do"), self.name("done")
        self.push(label)
        opened = While(self, body_label, [Val(v.elem, "%" + self.name("c"), self.depth) for v in carried])
        yield opened
        level = self.pop()
        parent = self.levels[-1]
        condition, inner = opened.condition, opened.level
        assert condition is not None and inner is not None
        lines = parent.lines
        lines += [f"  br label %{label}", f"{label}:"]
        for value, one, other in zip(opened.carried, first, opened.next_refs, strict=True):
            lines.append(f"  {value.ref} = phi {value.type} [ {one}, %{parent.block} ], [ {other}, %{inner.block} ]")
        lines += level.lines
        lines.append(f"  br i1 {self.scalar(condition)}, label %{body_label}, label %{exit_label}")
        lines += [f"{body_label}:", *inner.lines, f"  br label %{label}", f"{exit_label}:"]
        parent.block = exit_label
        for value in opened.passed:
            value.depth = min(value.depth, self.depth)

    def either(
        self, condition: Val, then: Callable[[], Sequence[Val]], otherwise: Callable[[], Sequence[Val]]
    ) -> list[Val]:
        """``then()`` or ``otherwise()`` by the scalar ``condition``; both give the same number of scalars."""
        labels, join = [self.name("then"), self.name("else")], self.name("join")
        written = []
        for label, body in zip(labels, (then, otherwise), strict=True):
            self.push(label)
            values = list(body())
            refs = [self.scalar(v) for v in values]
            written.append((self.pop(), values, refs))
        parent = self.levels[-1]
        lines = parent.lines
        lines.append(f"  br i1 {self.scalar(condition)}, label %{labels[0]}, label %{labels[1]}")
        for label, (level, _, _) in zip(labels, written, strict=True):
            lines += [f"{label}:", *level.lines, f"  br label %{join}"]
        lines.append(f"{join}:")
        parent.block = join
        results = []
        (first, values, first_refs), (second, _, second_refs) = written
        for value, one, other in zip(values, first_refs, second_refs, strict=True):
            result = Val(value.elem, "%" + self.name("r"), self.depth)
            lines.append(f"  {result.ref} = phi {result.type} [ {one}, %{first.block} ], [ {other}, %{second.block} ]")
            results.append(result)
        return results

    def alone(self) -> Val:
        """Whether the engine runs this call alone with its atomics; see ``alone`` in gxuHostServices."""
        if self._alone is None:
            word = self.define(
                f"load i32, ptr {self.define(f'getelementptr i8, ptr %services, i64 {_ALONE_OFFSET}', 0)}", 0
            )
            self._alone = self.emit("i1", f"icmp ne i32 {word}, 0", 0)
        return self._alone

    def text(self) -> str:
        return "\n".join(self.levels[0].lines)


def _vec(kind: str, lanes: int) -> str:
    return kind if lanes == 1 else f"<{lanes} x {kind}>"
