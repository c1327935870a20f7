"""Arithmetic and conversions with a rounding mode: ``add_rd``, ``fma_rz``, ``int2float_ru``, ``float2int_rn`` ...

LLVM moves plain float instructions freely past a change of the CPU's rounding mode. So one function for each operation
and width holds constrained instructions between two changes of the mode; results are the CPU's, correctly rounded.
"""

from __future__ import annotations

from .builder import Builder
from .math_base import Function, div, narrow
from .math_convert import bitcast, convert_float, saturating
from .values import LLVM_TYPE, Val, constant

# llvm.set.rounding's numbers: toward zero, to nearest, up, down.
_MODES = {"rz": 0, "ru": 2, "rd": 3}
# Rounding to an integer value in each direction.
_INTEGRAL = {"rn": "rint", "rz": "trunc", "ru": "ceil", "rd": "floor"}
_ARITHMETIC = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}


def _directed(b: Builder, operation: str, mode: str, elem: str, args: list[Val]) -> Val:
    """LLVM's constrained ``operation`` of ``args``, rounded by ``mode``."""
    lanes = b.lanes if any(a.lanes > 1 for a in args) else 1

    def kind(elem: str) -> str:
        return LLVM_TYPE[elem] if lanes == 1 else f"<{lanes} x {LLVM_TYPE[elem]}>"

    def mangled(elem: str) -> str:
        return elem if lanes == 1 else f"v{lanes}{elem}"

    source = args[0].elem
    overload = mangled(elem) if source == elem else f"{mangled(elem)}.{mangled(source)}"
    intrinsic = f"llvm.experimental.constrained.{operation}.{overload}"
    name = f"gxu_{operation}_{mode}_{overload}"
    if name not in b.globals:
        b.declare(intrinsic, kind(elem), [*(kind(a.elem) for a in args), "metadata", "metadata"])
        b.declare("llvm.set.rounding", "void", ["i32"])
        parameters = [f"{kind(a.elem)} %x{k}" for k, a in enumerate(args)]
        given = [*parameters, 'metadata !"round.dynamic"', 'metadata !"fpexcept.strict"']
        b.globals[name] = (
            f"define internal {kind(elem)} @{name}({', '.join(parameters)}) noinline strictfp #0 {{\n"
            f"  call void @llvm.set.rounding(i32 {_MODES[mode]}) strictfp\n"
            f"  %r = call {kind(elem)} @{intrinsic}({', '.join(given)}) strictfp\n"
            "  call void @llvm.set.rounding(i32 1) strictfp\n"
            f"  ret {kind(elem)} %r\n}}"
        )
    operands = [f"{kind(a.elem)} {b.wide(a, lanes)}" for a in args]
    depth = max(a.depth for a in args)
    return b.emit(elem, f"call {kind(elem)} @{name}({', '.join(operands)})", depth, lanes)


def _arithmetic(operation: str, mode: str) -> Function:
    if mode == "rn":
        return narrow(lambda b, x, y: b.binary(operation, x, y))
    return narrow(lambda b, x, y: _directed(b, operation, mode, x.elem, [x, y]))


def _reciprocal(mode: str) -> Function:
    divide = _arithmetic("fdiv", mode)
    return narrow(lambda b, x: divide(b, constant(1.0, x.elem), x))


def _intrinsic(operation: str, mode: str) -> Function:
    if mode == "rn":
        return narrow(lambda b, *args: b.intrinsic(operation, *args))
    return narrow(lambda b, *args: _directed(b, operation, mode, args[0].elem, list(args)))


def _narrowing(mode: str) -> Function:
    if mode == "rn":
        return lambda b, x: convert_float(b, x, "f32")
    return lambda b, x: _directed(b, "fptrunc", mode, "f32", [x])


def _from_integer(opcode: str, elem: str, mode: str) -> Function:
    if mode == "rn":
        return lambda b, x: b.cast(opcode, x, elem)
    return lambda b, x: _directed(b, opcode, mode, elem, [x])


def _to_integer(opcode: str, elem: str, mode: str) -> Function:
    return lambda b, x: saturating(b, opcode, b.intrinsic(_INTEGRAL[mode], x), elem)


def rounded_to_i64(stem: str) -> Function:
    """``llrint``, ``llround``: saturating, NaN is 0."""
    return narrow(lambda b, x: saturating(b, "fptosi", b.intrinsic(stem, x), "i64"))


def reciprocal_high(b: Builder, x: Val) -> Val:
    """``rcp64h``: 1 / x with the lower half of its bits cleared, as the GPU's instruction leaves it."""
    high = b.binary("and", bitcast(b, div(b, constant(1.0, "f64"), x), "i64"), constant(-(1 << 32), "i64"))
    return bitcast(b, high, "f64")


def _table() -> dict[str, Function]:
    table: dict[str, Function] = {"rcp64h": reciprocal_high, "rsqrt_rn": _rsqrt_nearest}
    for mode in ("rn", "rz", "rd", "ru"):
        for stem, opcode in _ARITHMETIC.items():
            table[f"{stem}_{mode}"] = _arithmetic(opcode, mode)
        table[f"rcp_{mode}"] = _reciprocal(mode)
        table[f"sqrt_{mode}"] = _intrinsic("sqrt", mode)
        table[f"fma_{mode}"] = _intrinsic("fma", mode)
        table[f"double2float_{mode}"] = _narrowing(mode)
        for source, opcode in (("int", "sitofp"), ("uint", "uitofp"), ("ll", "sitofp"), ("ull", "uitofp")):
            for target, elem in (("float", "f32"), ("double", "f64")):
                table[f"{source}2{target}_{mode}"] = _from_integer(opcode, elem, mode)
        for source in ("float", "double"):
            for target, opcode, elem in (
                ("int", "fptosi", "i32"),
                ("uint", "fptoui", "i32"),
                ("ll", "fptosi", "i64"),
                ("ull", "fptoui", "i64"),
            ):
                table[f"{source}2{target}_{mode}"] = _to_integer(opcode, elem, mode)
    return table


def _rsqrt_nearest(b: Builder, x: Val) -> Val:
    """1 / sqrt(x) of float32, rounded to nearest: float64 holds more than twice its digits."""
    wide = b.intrinsic("sqrt", convert_float(b, x, "f64"))
    return convert_float(b, div(b, constant(1.0, "f64"), wide), "f32")


ROUNDING = _table()
