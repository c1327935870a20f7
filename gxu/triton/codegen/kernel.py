"""Writes one kernel: the entry that the runtime calls, the loop over programs, and the program itself."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..analysis.effects import has_atomics, waits_for_others
from ..analysis.strides import StrideAnalysis
from ..errors import UnsupportedError
from ..ir.module import Block, Function, Op, Value
from ..ir.types import byte_size
from ..lowering.form import form_loops
from ..lowering.hazards import stale_loads
from ..lowering.loops import RESULTS, Loop, Root, loops_of, render
from ..lowering.operands import lies_transposed, only_multiplied, untransposed
from ..lowering.reads import KEPT_OPERANDS
from ..lowering.reuse import repeated_values, shared_scalar_loops
from ..lowering.segments import Segments, is_root
from ..lowering.walk import Walker
from . import atomics, integers, memory
from .alone import Alone
from .assertions import assume, device_assert
from .builder import Builder
from .control import CONTROL, CarriedBuffer, flows_into
from .elementwise import ELEMENTWISE
from .evaluate import ZERO, Buffer, Evaluator
from .nests import NestWriter
from .printing import device_print
from .sanitizer import Sanitizer
from .streams import Streams
from .target import AVX512_BYTES, Target
from .values import Val, constant

# Barriers: nothing to do in a program that runs on one thread.
_NOTHING = {"ttg.barrier", "gpu.barrier", "tt.debug_barrier"}
# GXU_HOST_KERNEL_ORDERED, GXU_HOST_KERNEL_ATOMICS, GXU_HOST_KERNEL_ALONE_SHIFT
_ORDERED, _ATOMICS, _ALONE_SHIFT = 1, 2, 8
# A root that waits to be planned: its kind, its operation, and for a buffer the value and the memory.
Pending = tuple[str, Op, Value | None, Buffer | None]
# Bytes behind the last buffer that a vector at a buffer's end may read over.
_OVERREAD = 512
_LINE = 64  # bytes of a cache line: alignment of buffers


@dataclass
class Kernel:
    """A kernel as LLVM IR, with what the runtime must know about it."""

    name: str
    llvm: str
    loops: str
    parameter_sizes: list[int]
    scratch_bytes: int
    work_per_program: int


class KernelWriter:
    def __init__(self, function: Function, target: Target, *, fp_fusion: bool, sanitize: bool = False) -> None:
        self.function = function
        self.target = target
        self.b = Builder(fp_fusion=fp_fusion)
        self.b.avx512 = target.vector_bytes == AVX512_BYTES
        self.b.converts_bf16 = self.b.avx512 and target.has("avx512bf16")
        self.segments = Segments(function)
        self.strides = StrideAnalysis()
        self.e = Evaluator(self.b, self.strides, self.segments.order, self.room)
        if sanitize:
            self.b.sanitizer = Sanitizer(self.b, self.e.scalars)
        self.walker = Walker(self.strides, lambda value: value in self.e.buffers)
        self.pending: list[Pending] = []
        self.carried: dict[Buffer, CarriedBuffer] = {}  # by the buffer that gets the next value
        self.accumulators: dict[tuple[Op, int], CarriedBuffer] = {}  # by the yield that gives the next value
        self.scratch = 0
        self.work = 0
        self.alone = Alone()
        self.form: list[str] = []
        self.indent = 0
        self._scalar_ops: dict[str, Callable[[Op], None]] = {
            "arith.constant": self._constant,
            "ub.poison": self._poison,
            "tt.get_program_id": self._program_id,
            "tt.get_num_programs": self._num_programs,
            "tt.load": self._load,
            "tt.store": self._store,
            "tt.atomic_rmw": self._atomic,
            "tt.atomic_cas": self._atomic,
            "tt.unsplat": self._unsplat,
            "tt.assert": self._assert,
            "llvm.intr.assume": lambda op: assume(self.b, self.e.scalars[op.operands[0]]),
        }

    # -- the entry ----------------------------------------------------------------------------------------------------

    def write(self) -> Kernel:
        b, sizes = self.b, []
        for number, arg in enumerate(self.function.args):
            elem = arg.type.elem
            sizes.append(byte_size(elem))
            slot = b.define(f"getelementptr i64, ptr %params, i64 {number}", 0)
            value = memory.load(b, Val("ptr", slot, 0), elem, None, None, at_least=0)
            value.multiple = int(self.function.arg_attrs[number].get("tt.divisibility", 1)) if elem != "ptr" else 1
            self.e.scalars[arg] = value
        self.scratch_base = Val("ptr", "%scratch", 0)
        self.grid = [
            b.emit("i32", f"load i32, ptr {b.define(f'getelementptr i32, ptr %grid, i64 {axis}', 0)}", 0, nonneg=True)
            for axis in range(3)
        ]
        b.streams = Streams(b, self.function, self.target, self.grid)
        begin, end = Val("i64", "%begin", 0, nonneg=True), Val("i64", "%end", 0)
        with b.loop("i64", begin, end, constant(1, "i64"), self._coordinates(begin)) as programs:
            self.coordinates = programs.carried
            for coordinate in self.coordinates:
                coordinate.nonneg = True
            programs.next = self._next_coordinates()
            if b.sanitizer is not None:
                b.sanitizer.program = programs.iv
            self.e.depth_of[self.function.entry] = b.depth
            self.block(self.function.entry)
            self.flush()
        b.streams.fence()
        return Kernel(
            self.function.name,
            self._module(sizes),
            "\n".join(self.form) + "\n",
            sizes,
            self._scratch_bytes(),
            self.work,
        )

    def _module(self, sizes: list[int]) -> str:
        name, count = self.function.name, len(sizes)
        flags = _ORDERED if waits_for_others(self.function) else 0
        if has_atomics(self.function):
            flags |= _ATOMICS
            if self.b.sanitizer is None:
                flags |= self.alone.threads() << _ALONE_SHIFT
        info = (
            f"@{name}_gxu_info = constant {{ i32, i32, i64, i64, i32, [{max(count, 1)} x i8] }} {{ i32 1, i32 {flags}, "
            f"i64 {self._scratch_bytes()}, i64 {self.work}, i32 {count}, [{max(count, 1)} x i8] "
            f"[{', '.join(f'i8 {size}' for size in sizes) or 'i8 0'}] }}, align 8"
        )
        body = self.b.text()
        return "\n".join(
            [
                f'source_filename = "{name}"',
                f'target triple = "{self.target.triple}"',
                info,
                *self.b.globals.values(),
                *self.b.declarations.values(),
                f"define void @{name}(ptr noalias readonly %params, ptr noalias readonly %grid, i64 %begin, i64 %end, "
                f"ptr noalias %scratch, ptr %services) #0 {self.b.source.attachment()}{{",
                "entry:",
                body,
                "  ret void",
                "}",
                f'attributes #0 = {{ nounwind "prefer-vector-width"="{self.target.vector_bytes * 8}" '
                f'"min-legal-vector-width"="{self.target.vector_bytes * 8}" }}',
                *self.b.source.metadata(name, self.function.location),
                "",
            ]
        )

    def _scratch_bytes(self) -> int:
        return self.scratch + _OVERREAD if self.scratch else 0

    # -- blocks and segments ------------------------------------------------------------------------------------------

    def block(self, block: Block) -> None:
        current = None
        for op in block.ops:
            segment = self.segments.of[op]
            if current is not None and segment != current:
                self.flush()
            current = segment
            self._op(op)

    def _op(self, op: Op) -> None:
        self.b.source.enter(op.location)
        if op.name in CONTROL:
            CONTROL[op.name](self, op)
        elif op.name in ("scf.yield", "scf.condition", "tt.return") or op.name in _NOTHING:
            return
        elif op.name == "tt.dot":
            self._dot(op)
        elif op.name == "tt.print":
            self.flush()
            device_print(self.e, op, [self._program(axis) for axis in range(3)])
        elif op.name == "tt.histogram":
            self.pending.append(("opaque", op, None, self.allocate(op.result)))
        elif is_root(op):
            kind = {"tt.store": "store", "tt.reduce": "reduce", "tt.scan": "scan", "tt.assert": "assert"}.get(
                op.name, "atomic"
            )
            self.pending.append((kind, op, None, None))
        elif any(v.type.is_tile for v in op.results):
            self._keep_operands(op)
            for value in op.results:
                if value in self.segments.kept:
                    self._keep(op, value)
        elif op.name in self._scalar_ops:
            self._scalar_ops[op.name](op)
        elif op.name in ELEMENTWISE:
            args = [self.e.scalars[v] for v in op.operands]
            self.e.scalars[op.result] = ELEMENTWISE[op.name](self.b, op, args)
        else:
            raise UnsupportedError.at(f"operation {op.name}", op.location)

    def _dot(self, op: Op) -> None:
        self._keep_operands(op)
        output = self._accumulates_in(op) or self.allocate(op.result)
        self.pending.append(("opaque", op, None, output))

    def _accumulates_in(self, op: Op) -> Buffer | None:
        """The memory of the loop-carried tile that a product adds to, where nothing else reads its old value."""
        terminator = op.result.uses[0] if len(op.result.uses) == 1 else None
        if terminator is None or terminator.name != "scf.yield" or terminator.parent is not op.parent:
            return None
        state = self.accumulators.get((terminator, terminator.operands.index(op.result)))
        if state is None or not flows_into(state.value, op.operands[2]):
            return None
        return state.in_place()

    def _keep_operands(self, op: Op) -> None:
        for number in KEPT_OPERANDS.get(op.name, ()):
            operand = op.operands[number]
            if op.name == "tt.dot":
                operand, _ = untransposed(operand, lambda value: value in self.e.buffers)
            recomputed = op.name != "tt.dot" and self.segments.is_index_arithmetic(operand)
            if operand not in self.e.buffers and not recomputed:
                # At its own place: other roots of this segment read it there too.
                self._keep(operand.op or op, operand)
                self.pending.sort(key=self._place)

    def _keep(self, op: Op, value: Value) -> None:
        buffer = self.allocate(value)
        if len(buffer.shape) > 1 and only_multiplied(value):
            buffer.transposed = lies_transposed(value, self.strides)
        self.e.buffers[value] = buffer
        self.pending.append(("buffer", op, value, buffer))

    def allocate(self, value: Value) -> Buffer:
        """Memory for a tile, at its own place for the whole kernel."""
        return self.room(value.type.elem, value.type.shape)

    def room(self, elem: str, shape: tuple[int, ...]) -> Buffer:
        """Memory for ``shape`` elements, at its own place for the whole kernel."""
        return Buffer(self._scratch(elem, shape), elem, shape, self.b.depth)

    def _scratch(self, elem: str, shape: tuple[int, ...]) -> Val:
        pointer = integers.offset_pointer(self.b, self.scratch_base, constant(self.scratch, "i64"), "i8")
        self.scratch += -(-byte_size(elem) * math.prod(shape) // _LINE) * _LINE
        return pointer

    def flush(self) -> None:
        """Plans and writes the roots that wait."""
        if not self.pending:
            return
        pending, self.pending = self.pending, []
        local: dict[Value, Buffer] = {}
        while True:
            roots = self._make_roots(pending, local)
            items = form_loops(roots, self.segments.escaping, self.target.vector_bytes)
            # A load that a store would overtake is kept in memory, at its own place in the program; so is a costly
            # value.
            stale = [load.result for load in stale_loads(roots, self.segments.order, self.segments.reads_again)]
            repeated = [] if local else repeated_values(roots)
            if not stale and not repeated:
                break
            for value in stale:
                self.e.buffers[value] = self.allocate(value)
            for value in repeated:
                self.e.buffers[value] = local[value] = Buffer(ZERO, value.type.elem, value.type.shape, self.b.depth)
            for value in [*stale, *repeated]:
                assert value.op is not None
                pending.append(("buffer", value.op, value, self.e.buffers[value]))
            pending.sort(key=self._place)
        for root in roots:
            if root.value in local:
                self._place_local(root, local[root.value])
            if root.kind in RESULTS and root.buffered:
                root.outputs = [self.allocate(result) for result in root.results]
        for root in roots:
            if root.replaces is not None:
                buffer = root.outputs[0]
                assert isinstance(buffer, Buffer)
                root.outputs = [self.carried[buffer].in_place()]
        for loop in loops_of(items):
            loop.blocks = [self._block(loop, load) for load, _ in loop.transposed]
        self._count_work(items, 1)
        for line in render(items):
            self.note(line)
        NestWriter(self.e, self.target).write(items)

    def _place(self, entry: Pending) -> int:
        """Position in the program, by which roots are ordered."""
        return self.segments.order[entry[1]]

    def _make_roots(self, pending: list[Pending], local: dict[Value, Buffer]) -> list[Root]:
        roots = []
        for kind, op, value, buffer in pending:
            fills = value is not None and self.e.buffers.get(value) is buffer
            carried = self.carried.get(buffer) if buffer is not None else None
            replaces = carried.value if carried is not None else None
            root = self.walker.make(kind, op, value, fills=fills, replaces=replaces)
            root.outputs = [buffer]
            root.transposed = buffer is not None and buffer.transposed
            roots.append(root)
        for root in roots:
            if root.value is not None and root.value in local:
                root.readers = [other for other in roots if root.value in other.inputs]
        return roots

    def _place_local(self, root: Root, buffer: Buffer) -> None:
        """Memory for a value that only this segment reads, without the axes that its loops share."""
        shared = [loop.axis for loop in shared_scalar_loops(root)]
        buffer.shape = tuple(
            1 if axis is None or axis.find() in shared else size
            for axis, size in zip(root.axes, buffer.shape, strict=True)
        )
        buffer.pointer = self._scratch(buffer.elem, buffer.shape)

    def _block(self, loop: Loop, load: Op) -> Buffer:
        """Memory for one block of a load that is transposed."""
        columns = loop.body[0]
        assert isinstance(columns, Loop)
        return self.room(load.result.type.elem, (columns.lanes, columns.lanes))

    def note(self, line: str) -> None:
        """Adds a line to the printed loop form."""
        self.form.append("  " * self.indent + line)

    @contextlib.contextmanager
    def indented(self) -> Iterator[None]:
        self.indent += 1
        yield
        self.indent -= 1

    def _count_work(self, items: list[Loop | Root], times: int) -> None:
        for item in items:
            if isinstance(item, Root):
                self.work += times * (item.cost + 2)
                self.alone.count(item, times)
            else:
                self._count_work(item.body, times * item.axis.size)

    # -- scalars ------------------------------------------------------------------------------------------------------

    def _constant(self, op: Op) -> None:
        self.e.scalars[op.result] = constant(op.attrs["value"], op.result.type.elem)

    def _poison(self, op: Op) -> None:
        self.e.scalars[op.result] = constant(0, op.result.type.elem)

    def _program_id(self, op: Op) -> None:
        self.e.scalars[op.result] = self._program(op.attrs["axis"])

    def _program(self, axis: int) -> Val:
        """The program's coordinate along an axis of the grid."""
        return self.coordinates[axis]

    def _coordinates(self, number: Val) -> list[Val]:
        """The coordinates of a program by its number."""
        result = []
        for axis, size in enumerate(self.grid):
            wide = integers.extend(self.b, size, "i64", signed=False)
            at = number if axis == 2 else integers.divide(self.b, "urem", number, wide)
            result.append(integers.truncate(self.b, at, "i32"))
            number = integers.divide(self.b, "udiv", number, wide)
        return result

    def _next_coordinates(self) -> list[Val]:
        """Those of the program after this one: counted on, where a division would cost as much as a small program."""
        b, result = self.b, []
        carry = constant(1, "i32")
        for coordinate, size in zip(self.coordinates, self.grid, strict=True):
            counted = b.binary("add", coordinate, carry)
            wraps = b.compare("icmp eq", counted, size)
            result.append(b.select(wraps, constant(0, "i32"), counted))
            carry = b.cast("zext", wraps, "i32")
        return result

    def _num_programs(self, op: Op) -> None:
        self.e.scalars[op.result] = self.grid[op.attrs["axis"]]

    def _load(self, op: Op) -> None:
        pointer, mask, other = (group[0] if group else None for group in op.segments()[:3])
        assert pointer is not None
        value = memory.load(
            self.b,
            self.e.scalars[pointer],
            op.result.type.elem,
            self.e.scalars[mask] if mask is not None else None,
            self.e.scalars[other] if other is not None else None,
            at_least=self.b.depth,
            volatile=bool(op.attrs.get("isVolatile")),
            op=op,
        )
        self.e.scalars[op.result] = value

    def _store(self, op: Op) -> None:
        args = [self.e.scalars[v] for v in op.operands]
        memory.store(self.b, args[0], args[1], op.operands[0].type.pointee, args[2] if len(args) > 2 else None, op)

    def _atomic(self, op: Op) -> None:
        old = atomics.write(self.e, op, ())
        if old is not None:
            self.e.scalars[op.result] = old

    def _assert(self, op: Op) -> None:
        device_assert(self.e, op, self.e.scalars[op.operands[0]], None)

    def _unsplat(self, op: Op) -> None:
        source = op.operands[0]
        self.e.scalars[op.result] = self.e.at(source, (ZERO,) * len(source.type.shape))
