"""Writes one kernel: the entry that the runtime calls, the loop over programs, and the program itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..analysis.strides import StrideAnalysis
from ..errors import UnsupportedError
from ..ir.module import Block, Function, Op, Value
from ..ir.types import byte_size
from ..lowering.form import form_loops
from ..lowering.hazards import may_overwrite, stale_loads
from ..lowering.loops import FOLDS, Loop, Root, render
from ..lowering.segments import Segments, is_root
from ..lowering.walk import Walker
from . import atomics, integers, memory
from .assertions import device_assert
from .builder import Builder
from .elementwise import ELEMENTWISE
from .evaluate import ZERO, Buffer, Evaluator, Progress
from .nests import NestWriter
from .target import Target
from .values import Val, constant

# Hints to a GPU's scheduler, and promises to its optimiser: nothing to do in a program that runs on one thread.
_NOTHING = {"llvm.intr.assume", "ttg.barrier", "gpu.barrier", "tt.debug_barrier"}
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
    def __init__(self, function: Function, target: Target, *, fp_fusion: bool) -> None:
        self.function = function
        self.target = target
        self.b = Builder(fp_fusion=fp_fusion, native_bf16=target.native_bf16)
        self.segments = Segments(function)
        self.strides = StrideAnalysis()
        self.e = Evaluator(self.b, self.strides, self.segments.order)
        self.walker = Walker(self.strides, lambda value: value in self.e.buffers)
        self.pending: list[tuple[str, Op, Value | None, Buffer | None]] = []
        self.carried: dict[Buffer, CarriedBuffer] = {}  # by the buffer that gets the next value
        self.accumulators: dict[tuple[Op, int], CarriedBuffer] = {}  # by the yield that gives the next value
        self.scratch = 0
        self.work = 0
        self.form: list[str] = []
        self.indent = 0
        self._control: dict[str, Callable[[Op], None]] = {"scf.for": self._for, "scf.if": self._if}
        self._scalar_ops: dict[str, Callable[[Op], None]] = {
            "arith.constant": self._constant,
            "tt.get_program_id": self._program_id,
            "tt.get_num_programs": self._num_programs,
            "tt.load": self._load,
            "tt.store": self._store,
            "tt.atomic_rmw": self._atomic,
            "tt.unsplat": self._unsplat,
            "tt.assert": self._assert,
        }

    # -- the entry ----------------------------------------------------------------------------------------------------

    def write(self) -> Kernel:
        if len(self.function.region.blocks) != 1:
            raise UnsupportedError.at("a return in the middle of a kernel", self.function.location, "use `if`/`else`")
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
        begin, end = Val("i64", "%begin", 0, nonneg=True), Val("i64", "%end", 0)
        with b.loop("i64", begin, end, constant(1, "i64")) as programs:
            self.program = programs.iv
            self.e.depth_of[self.function.entry] = b.depth
            self._block(self.function.entry)
            self._flush()
        return Kernel(
            self.function.name, self._module(sizes), "\n".join(self.form) + "\n", sizes, self.scratch, self.work
        )

    def _module(self, sizes: list[int]) -> str:
        name, count = self.function.name, len(sizes)
        flags = 0
        info = (
            f"@{name}_gxu_info = constant {{ i32, i32, i64, i64, i32, [{max(count, 1)} x i8] }} {{ i32 1, i32 {flags}, "
            f"i64 {self.scratch}, i64 {self.work}, i32 {count}, [{max(count, 1)} x i8] "
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
                "ptr noalias %scratch, ptr %services) #0 {",
                "entry:",
                body,
                "  ret void",
                "}",
                f'attributes #0 = {{ nounwind "prefer-vector-width"="{self.target.vector_bytes * 8}" '
                f'"min-legal-vector-width"="{self.target.vector_bytes * 8}" }}',
                "",
            ]
        )

    # -- blocks and segments ------------------------------------------------------------------------------------------

    def _block(self, block: Block) -> None:
        current = None
        for op in block.ops:
            segment = self.segments.of[op]
            if current is not None and segment != current:
                self._flush()
            current = segment
            self._op(op)

    def _op(self, op: Op) -> None:
        if op.name in self._control:
            self._control[op.name](op)
        elif op.name in ("scf.yield", "tt.return") or op.name in _NOTHING:
            return
        elif op.name == "tt.dot":
            self._dot(op)
        elif is_root(op):
            kind = {"tt.store": "store", "tt.reduce": "reduce", "tt.scan": "scan", "tt.assert": "assert"}.get(op.name, "atomic")
            if kind == "atomic" and (op.name != "tt.atomic_rmw" or op.result.uses):
                raise UnsupportedError.at(f"operation {op.name} on a tile whose result is used", op.location)
            self.pending.append((kind, op, None, None))
        elif any(v.type.is_tile for v in op.results):
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
        for operand in op.operands[:2]:
            if operand not in self.e.buffers:
                self._keep(op, operand)
        output = self._accumulates_in(op) or self._allocate(op.result)
        self.pending.append(("dot", op, None, output))

    def _accumulates_in(self, op: Op) -> Buffer | None:
        """The memory of the loop-carried tile that a product adds to, where nothing else reads its old value."""
        terminator = op.result.uses[0] if len(op.result.uses) == 1 else None
        if terminator is None or terminator.name != "scf.yield" or terminator.parent is not op.parent:
            return None
        state = self.accumulators.get((terminator, terminator.operands.index(op.result)))
        if state is None or not _flows_into(state.value, op.operands[2]):
            return None
        return state.in_place()

    def _keep(self, op: Op, value: Value) -> None:
        buffer = self._allocate(value)
        self.e.buffers[value] = buffer
        self.pending.append(("buffer", op, value, buffer))

    def _allocate(self, value: Value) -> Buffer:
        """Scratch memory for a tile, at its own offset for the whole kernel."""
        pointer = integers.offset_pointer(self.b, self.scratch_base, constant(self.scratch, "i64"), "i8")
        size = byte_size(value.type.elem) * value.type.numel
        self.scratch += -(-size // _LINE) * _LINE
        return Buffer(pointer, value.type.elem, value.type.shape, self.b.depth)

    def _flush(self) -> None:
        """Plans and writes the roots that wait."""
        if not self.pending:
            return
        pending, self.pending = self.pending, []
        while True:
            roots = []
            for kind, op, value, buffer in pending:
                root = self.walker.make(kind, op, value)
                root.outputs = [buffer]
                roots.append(root)
            items = form_loops(roots, self.segments.escaping, self.target.vector_bytes)
            stale = stale_loads(roots, self.segments.order)
            if not stale:
                break
            # A load that a store would overtake is kept in memory, at its own place in the program.
            for load in stale:
                buffer = self._allocate(load.result)
                self.e.buffers[load.result] = buffer
                pending.append(("buffer", load, load.result, buffer))
            pending.sort(key=lambda entry: self.segments.order[entry[1]])
        for root in roots:
            if root.kind in FOLDS and root.buffered:
                root.outputs = [self._allocate(result) for result in root.results]
        for root in roots:
            carried = self.carried.get(root.outputs[0]) if isinstance(root.outputs[0], Buffer) else None
            if carried is not None and may_overwrite(root, carried.value, roots):
                root.outputs = [carried.in_place()]
        self._count_work(items, 1)
        self.form += [("  " * self.indent) + line for line in render(items)]
        NestWriter(self.e, self.target.vector_bytes).write(items)
        for root in roots:
            if root.kind == "dot" or (root.kind in FOLDS and root.buffered):
                for result, output in zip(root.results, root.outputs, strict=True):
                    assert isinstance(output, Buffer)
                    self.e.buffers[result] = output

    def _count_work(self, items: list[Loop | Root], times: int) -> None:
        for item in items:
            if isinstance(item, Root):
                self.work += times * (item.cost + 2)
            else:
                self._count_work(item.body, times * item.axis.size)

    # -- scalars ------------------------------------------------------------------------------------------------------

    def _constant(self, op: Op) -> None:
        self.e.scalars[op.result] = constant(op.attrs["value"], op.result.type.elem)

    def _program_id(self, op: Op) -> None:
        b, (x, y, _) = self.b, self.grid
        axis = op.attrs["axis"]
        number = self.program
        for size in (x, y)[:axis]:
            number = integers.divide(b, "udiv", number, integers.extend(b, size, "i64", signed=False))
        if axis < 2:
            number = integers.divide(b, "urem", number, integers.extend(b, self.grid[axis], "i64", signed=False))
        result = integers.truncate(b, number, "i32")
        result.nonneg, result.multiple = True, 1
        self.e.scalars[op.result] = result

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
        )
        self.e.scalars[op.result] = value

    def _store(self, op: Op) -> None:
        args = [self.e.scalars[v] for v in op.operands]
        memory.store(self.b, args[0], args[1], op.operands[0].type.pointee, args[2] if len(args) > 2 else None)

    def _atomic(self, op: Op) -> None:
        old = atomics.write(self.e, op, ())
        assert old is not None
        self.e.scalars[op.result] = old

    def _assert(self, op: Op) -> None:
        device_assert(self.e, op, self.e.scalars[op.operands[0]])

    def _unsplat(self, op: Op) -> None:
        source = op.operands[0]
        self.e.scalars[op.result] = self.e.at(source, (ZERO,) * len(source.type.shape))

    # -- control flow -------------------------------------------------------------------------------------------------

    def _for(self, op: Op) -> None:
        start, end, step = (self.e.scalars[v] for v in op.operands[:3])
        inits, args = op.operands[3:], op.body.args[1:]
        carried = [self._carry(op, init, number) for number, init in enumerate(inits)]
        self._flush()
        self.form.append("  " * self.indent + f"for {op.body.args[0].name} in {op.operands[0].name}..{op.operands[1].name}:")
        self.indent += 1
        kind = op.body.args[0].type.elem
        with self.b.loop(kind, start, end, step, [v for c in carried for v in c.values]) as loop:
            self.e.depth_of[op.body] = self.b.depth
            self.e.scalars[op.body.args[0]] = loop.iv
            phis = iter(loop.carried)
            for state, arg in zip(carried, args, strict=True):
                state.bind(self, arg, [next(phis) for _ in state.values])
                if isinstance(state, CarriedBuffer):
                    self.accumulators[op.body.terminator, arg.index - 1] = state
            self._block(op.body)
            for state, value in zip(carried, op.body.terminator.operands, strict=True):
                state.request(self, op.body.terminator, value)
            self._flush()
            loop.next = [
                v
                for state, value in zip(carried, op.body.terminator.operands, strict=True)
                for v in state.advance(self, value)
            ]
        self.indent -= 1
        results = iter(loop.results)
        for state, result in zip(carried, op.results, strict=True):
            state.bind(self, result, [next(results) for _ in state.values])

    def _carry(self, op: Op, init: Value, number: int) -> Carried:
        arg, yielded = op.body.args[number + 1], op.body.terminator.operands[number]
        if not init.type.is_tile:
            return CarriedScalar(init, [self.e.scalars[init]])
        steps = _uniform_steps(arg, yielded)
        if steps is not None and (init in self.e.progress or self.segments.is_index_arithmetic(init)):
            elem = "i64" if init.type.is_pointer else init.type.elem
            self.strides.same_as[arg] = self.strides.same_as[op.results[number]] = init
            return CarriedProgress(init, [constant(0, elem)], steps)
        buffers = [self._allocate(init), self._allocate(init)]
        self.pending.append(("buffer", op, init, buffers[0]))
        return CarriedBuffer(init, [buffer.pointer for buffer in buffers])

    def _if(self, op: Op) -> None:
        self._flush()
        condition = self.e.scalars[op.operands[0]]
        buffers = {result: self._allocate(result) for result in op.results if result.type.is_tile}
        self.form.append("  " * self.indent + f"if {op.operands[0].name}:")

        def body(number: int) -> list[Val]:
            blocks = op.regions[number].blocks if number < len(op.regions) else []
            if not blocks:
                return []
            block = blocks[0]
            self.indent += 1
            self.e.depth_of[block] = self.b.depth
            self._block(block)
            values = []
            for result, value in zip(op.results, block.terminator.operands, strict=True):
                if result.type.is_tile:
                    self.pending.append(("buffer", block.terminator, value, buffers[result]))
            self._flush()
            for result, value in zip(op.results, block.terminator.operands, strict=True):
                if not result.type.is_tile:
                    values.append(self.e.scalars[value])
            self.indent -= 1
            return values

        def otherwise() -> list[Val]:
            if len(op.regions) > 1 and op.regions[1].blocks:
                self.form.append("  " * self.indent + "else:")
            return body(1)

        scalars = iter(self.b.either(condition, lambda: body(0), otherwise))
        for result in op.results:
            if result.type.is_tile:
                buffer = buffers[result]
                self.e.buffers[result] = Buffer(buffer.pointer, buffer.elem, buffer.shape, self.b.depth)
            else:
                self.e.scalars[result] = next(scalars)


class Carried:
    """One value that a loop carries: its LLVM values, and how they are bound and advanced."""

    def __init__(self, init: Value, values: list[Val]) -> None:
        self.init = init
        self.values = values

    def bind(self, writer: KernelWriter, value: Value, phis: list[Val]) -> None:
        """Lets ``value`` (the argument in the body, the result after the loop) stand for ``phis``."""
        raise NotImplementedError

    def request(self, writer: KernelWriter, terminator: Op, value: Value) -> None:
        """Adds the roots that compute the next value."""

    def advance(self, writer: KernelWriter, value: Value) -> list[Val]:
        raise NotImplementedError


class CarriedScalar(Carried):
    def bind(self, writer: KernelWriter, value: Value, phis: list[Val]) -> None:
        writer.e.scalars[value] = phis[0]

    def advance(self, writer: KernelWriter, value: Value) -> list[Val]:
        return [writer.e.scalars[value]]


class CarriedProgress(Carried):
    """A tile that only moves by a uniform step (offsets and pointers in loops): carried as one scalar."""

    def __init__(self, init: Value, values: list[Val], steps: list[Value]) -> None:
        super().__init__(init, values)
        self.steps = steps
        self.phi = values[0]

    def bind(self, writer: KernelWriter, value: Value, phis: list[Val]) -> None:
        self.phi = phis[0]
        writer.e.progress[value] = Progress(self.init, phis[0])

    def advance(self, writer: KernelWriter, value: Value) -> list[Val]:
        total = self.phi
        for step in self.steps:
            amount = writer.e.at(step, (ZERO,) * len(step.type.shape))
            if amount.elem != total.elem:
                amount = integers.extend(writer.b, amount, total.elem, signed=True)
            total = integers.add(writer.b, total, amount)
        return [total]


class CarriedBuffer(Carried):
    """A tile in memory: one iteration reads one buffer and fills the other, and they change places.

    Where nothing reads the old value once its successor is written, one buffer does (:meth:`in_place`).
    """

    def bind(self, writer: KernelWriter, value: Value, phis: list[Val]) -> None:
        self.value = value
        self.done = False
        self.current, self.following = phis
        kind = value.type
        self.buffer = Buffer(self.current, kind.elem, kind.shape, writer.b.depth)
        writer.e.buffers[value] = self.buffer

    def request(self, writer: KernelWriter, terminator: Op, value: Value) -> None:
        if self.done:
            return
        target = Buffer(self.following, value.type.elem, value.type.shape, writer.b.depth)
        writer.carried[target] = self
        writer.pending.append(("buffer", terminator, value, target))

    def in_place(self) -> Buffer:
        """Keeps the next value in the memory of the current one."""
        self.current, self.following = self.following, self.current
        self.done = True
        return self.buffer

    def advance(self, writer: KernelWriter, value: Value) -> list[Val]:
        return [self.following, self.current]


def _flows_into(value: Value, target: Value) -> bool:
    """Whether ``target`` is ``value`` or computed from it element by element, and nothing else uses ``value``."""
    while value is not target:
        if len(value.uses) != 1 or value.uses[0].name not in ELEMENTWISE:
            return False
        value = value.uses[0].result
    return len(value.uses) == 1


def _uniform_steps(arg: Value, yielded: Value) -> list[Value] | None:
    """The uniform tiles that are added to ``arg`` to give ``yielded``, if that is all that happens to it."""
    steps: list[Value] = []
    value = yielded
    while value is not arg:
        op = value.op
        if op is None or op.name not in ("tt.addptr", "arith.addi"):
            return None
        step = op.operands[1]
        if step.op is None or step.op.name not in ("tt.splat", "arith.constant") or isinstance(
            step.op.attrs.get("value"), list
        ):
            return None
        steps.append(step)
        value = op.operands[0]
    return steps if arg.type.is_pointer or arg.type.is_integer else None


