"""Writes random kernels: tiles of one and two dimensions, loads and stores that overlap, reductions, loops, branches.

Everything is int32, so that the interpreter's results are exact, and every store's index is a permutation, so that
they are determined. Each program reads and overwrites its own ``size`` elements of three buffers ``x``, ``y``, ``z``.
"""

from __future__ import annotations

import random

_HEADER = """import triton
import triton.language as tl


@triton.jit
def combine_pair(a, i, b, j):
    first = (a > b) | ((a == b) & (i < j))
    return tl.where(first, a, b), tl.where(first, i, j)


@triton.jit
def generated(x, y, z, n, m, SIZE: tl.constexpr, M: tl.constexpr, N: tl.constexpr, B: tl.constexpr):
    pid = tl.program_id(0)
    x += pid * SIZE
    y += pid * SIZE
    z += pid * SIZE
    b = tl.arange(0, B)
    r = tl.arange(0, M)
    c = tl.arange(0, N)
"""


class KernelGenerator:
    """One random kernel: ``source`` is its module's text, ``rows``, ``columns``, ``block``, ``size`` its tile sizes."""

    def __init__(self, seed: int, statements: int = 14) -> None:
        self.random = random.Random(seed)
        self.rows = self.random.choice((1, 2, 4, 16, 32))
        self.columns = self.random.choice((1, 2, 8, 16, 64))
        self.block = self.random.choice((1, 4, 32, 128, 256))
        self.size = 2 * max(self.block, self.rows * self.columns)
        self.shapes = {"b": (self.block,), "r": (self.rows,), "c": (self.columns,), "rc": (self.rows, self.columns)}
        self.names = 0
        self.lines: list[str] = []
        self.indent = 1
        # Variables in scope by kind: "b", "r", "c" (one dimension), "rc" (two), "s" (scalar).
        self.scope: dict[str, list[str]] = {"b": ["b"], "r": ["r"], "c": ["c"], "rc": [], "s": ["n", "m"]}
        for kind in ("b", "rc", "s"):
            self.load(kind)
        for _ in range(statements):
            self.statement()
        for kind in ("b", "rc", "r", "c", "s"):
            self.store(kind)
        self.source = _HEADER + "\n".join(self.lines) + "\n"

    # -- pieces -------------------------------------------------------------------------------------------------------

    def line(self, text: str) -> None:
        self.lines.append("    " * self.indent + text)

    def new(self, kind: str, text: str) -> str:
        self.names += 1
        name = f"v{self.names}"
        self.line(f"{name} = {text}")
        self.scope[kind].append(name)
        return name

    def pick(self, kind: str) -> str:
        return self.random.choice(self.scope[kind])

    def buffer(self) -> str:
        return self.random.choice("xyz")

    def numel(self, kind: str) -> int:
        count = 1
        for size in self.shapes[kind]:
            count *= size
        return count

    def index(self, kind: str) -> str:
        """A permutation of 0 .. numel - 1, moved by a constant that stays in the buffer."""
        count = self.numel(kind)
        shift = self.random.choice((0, 0, 0, 1, count // 2, self.size - count))
        if kind == "rc":
            forms = [
                "r[:, None] * N + c[None, :]",
                "c[None, :] * M + r[:, None]",
                "(M - 1 - r[:, None]) * N + c[None, :]",
            ]
            forms.append("r[:, None] * N + (N - 1 - c[None, :])")
        else:
            forms = [kind, kind, f"({count - 1} - {kind})", f"({kind} ^ {self.random.randrange(count)})"]
            forms.append(f"({kind} + {self.random.randrange(count)}) % {count}")
            forms.append(f"({kind} // 2 + ({kind} % 2) * {count // 2})" if count > 1 else kind)
        form = self.random.choice(forms)
        return f"{form} + {shift}" if shift else form

    def mask(self, kind: str) -> str | None:
        if self.random.random() < 0.45:
            return None
        bound = self.random.choice(("n", "m", "n * 5", "m - 3", str(self.random.randrange(self.numel(kind) + 2))))
        if kind == "rc":
            simple = [f"(r[:, None] < {bound}) & (c[None, :] < m)", f"c[None, :] < {bound}", f"r[:, None] <= {bound}"]
            simple += [
                f"r[:, None] * N + c[None, :] < {bound}",
                "c[None, :] <= r[:, None]",
                f"({bound} > r[:, None]) & (n > 2)",
            ]
        else:
            simple = [
                f"{kind} < {bound}",
                f"{kind} < {bound}",
                f"{kind} * 2 + 1 <= {bound}",
                f"({kind} >= {bound}) & ({kind} < m)",
            ]
        text = self.random.choice(simple)
        if self.random.random() < 0.25:
            text = f"({text}) & ({self.pick(kind) if self.scope[kind] else '1'} % 3 != 0)"
        return text

    def value(self, kind: str) -> str:
        """An operand that broadcasts to ``kind``."""
        choice = self.random.random()
        if kind == "s" or choice < 0.12:
            return self.random.choice((self.pick("s"), str(self.random.randrange(-9, 10)), "pid"))
        if kind == "rc" and choice < 0.5:
            side = self.random.choice("rc")
            return f"{self.pick(side)}[{':, None' if side == 'r' else 'None, :'}]"
        return self.pick(kind) if self.scope[kind] else "3"

    def expression(self, kind: str) -> str:
        anchor = self.pick(kind) if self.scope[kind] else "r[:, None] * 3 + c[None, :]"
        a, other = anchor, self.value(kind)
        form = self.random.randrange(8)
        if form == 0:
            return f"tl.where({a} > {other}, {other}, {a} - 1)"
        if form == 1:
            return f"tl.maximum({a}, {other})" if other[-1] == "]" or other.startswith("v") else f"{a} * 3"
        if form == 2 and kind != "s":
            return f"({a} & 1023) // {self.random.randrange(1, 40)} + {other}"
        if form == 3 and kind != "s":
            return f"({a} & 1023) % {self.random.randrange(1, 40)} * {other}"
        operator = self.random.choice(("+", "-", "*", "^", "&", "+"))
        return f"({a} {operator} {other})"

    # -- statements ---------------------------------------------------------------------------------------------------

    def load(self, kind: str) -> str:
        if kind == "s":
            return self.new("s", f"tl.load({self.buffer()} + {self.random.randrange(self.size)})")
        mask = self.mask(kind)
        if mask is None:
            return self.new(kind, f"tl.load({self.buffer()} + {self.index(kind)})")
        other = self.random.choice(("", ", other=0", ", other=-7", f", other={self.value(kind)}"))
        if other.endswith("]") or "v" in other:  # Triton wants the other value in the shape of the mask
            other = ", other=5"
        return self.new(kind, f"tl.load({self.buffer()} + {self.index(kind)}, mask={mask}{other})")

    def store(self, kind: str) -> None:
        if not self.scope[kind]:
            return
        if kind == "s":
            self.line(f"tl.store({self.buffer()} + {self.random.randrange(self.size)}, {self.pick('s')})")
            return
        mask = self.mask(kind)
        suffix = f", mask={mask}" if mask else ""
        self.line(f"tl.store({self.buffer()} + {self.index(kind)}, {self.expression(kind)}{suffix})")

    def reduction(self) -> None:
        kind = self.random.choice(("b", "rc", "rc", "r", "c"))
        if not self.scope[kind]:
            return
        function = self.random.choice(("sum", "max", "min", "xor_sum", "sum"))
        source = self.expression(kind)
        if self.random.random() < 0.4 and (mask := self.mask(kind)):
            source = f"tl.where({mask}, {source}, 0)"
        if kind != "rc":
            self.new("s", f"tl.{function}({source}, 0)")
        elif self.random.random() < 0.2:
            axis = self.random.randrange(2)
            self.names += 1
            pair = f"v{self.names}, w{self.names}"
            index = "c[None, :] + r[:, None] * 0" if axis else "r[:, None] + c[None, :] * 0"
            self.line(f"{pair} = tl.reduce(({source} + {index} * 0, {index}), {axis}, combine_pair)")
            self.scope["r" if axis else "c"] += pair.split(", ")
        else:
            axis = self.random.randrange(2)
            self.new("r" if axis else "c", f"tl.{function}({source}, {axis})")

    def reshaped(self) -> None:
        if self.scope["rc"] and self.rows * self.columns == self.block:
            if self.random.random() < 0.5:
                self.new("b", f"tl.reshape({self.pick('rc')}, [B])")
            else:
                self.new("rc", f"tl.reshape({self.pick('b')}, [M, N])")
        elif self.scope["rc"] and self.rows == self.columns:
            self.new("rc", f"tl.trans({self.pick('rc')})")

    def assign(self) -> None:
        """Gives a variable that exists a new value (carried by a loop, chosen by a branch)."""
        kind = self.random.choice([k for k in ("b", "rc", "s", "r", "c") if any(v[0] in "vw" for v in self.scope[k])])
        own = [v for v in self.scope[kind] if v[0] in "vw"]
        if len(own) > 1 and self.random.random() < 0.3:
            a, b = self.random.sample(own, 2)
            self.line(f"{a}, {b} = {b}, {a}")
        else:
            name = self.random.choice(own)
            self.line(f"{name} = {name} + {self.expression(kind)}" if self.random.random() < 0.6 else f"{name} += 3")

    def block_of(self, count: int) -> None:
        self.indent += 1
        outer = {kind: list(names) for kind, names in self.scope.items()}
        for _ in range(count):
            self.statement()
        self.assign()
        self.scope = outer
        self.indent -= 1

    def loop(self) -> None:
        self.names += 1
        bounds = self.random.choice(("3", "n % 4", "0, n % 3", "1, 5, 2", "0", "4, 0, -1", f"0, {self.pick('s')} & 3"))
        self.line(f"for k{self.names} in tl.range({bounds}):")
        scalars = list(self.scope["s"])
        self.scope["s"].append(f"k{self.names}")
        self.block_of(self.random.randrange(1, 4))
        self.scope["s"] = scalars

    def branch(self) -> None:
        self.line(f"if {self.pick('s')} % 2 == {self.random.randrange(2)}:")
        self.block_of(self.random.randrange(1, 3))
        if self.random.random() < 0.6:
            self.line("else:")
            self.block_of(self.random.randrange(1, 3))

    def statement(self) -> None:
        choice = self.random.random()
        kind = self.random.choice(("b", "rc", "rc", "r", "c", "s"))
        if choice < 0.2:
            self.load(kind)
        elif choice < 0.42:
            self.store(kind)
        elif choice < 0.58:
            self.new(kind, self.expression(kind))
        elif choice < 0.74:
            self.reduction()
        elif choice < 0.78:
            self.reshaped()
        elif choice < 0.86 and self.indent < 3:
            self.loop()
        elif choice < 0.92 and self.indent < 3:
            self.branch()
        else:
            self.assign()
