"""Integer and pointer arithmetic that keeps progressions symbolic.

``base + lane * stride`` is exact modulo the width of its type, whatever overflows: additions, multiplications by
uniform values and truncations keep it. What looks at the value itself (extensions, divisions, comparisons) needs to
know that no lane wraps. That is known from bounds, or assumed of 32- and 64-bit indices that take small steps, as
Triton's own axis analysis assumes.
"""

from __future__ import annotations

from ..ir.types import BITS, byte_size
from .builder import Builder
from .values import LLVM_TYPE, Val, constant, divisor_of

_MAX_MULTIPLE = 1 << 20
# An index of unknown bound is taken to stay in range when it grows by less than this, in lanes or by a factor.
_SMALL = 1 << 20


def progression(b: Builder, base: Val, stride: int) -> Val:
    """``base + lane * stride`` in the open vector loop; stride 0 (or no open vector loop) is the scalar itself."""
    if stride == 0 or b.lanes == 1:
        return base
    if base.elem == "ptr":
        return Val("ptr", None, base.depth, b.lanes, base=base, stride=stride)
    span = stride * (b.lanes - 1)
    nonneg, bound = _range(
        base.elem, base.nonneg and stride > 0, None if base.bound is None else base.bound + span, span
    )
    return Val(
        base.elem,
        None,
        base.depth,
        b.lanes,
        base=base,
        stride=stride,
        multiple=base.multiple,
        nonneg=nonneg,
        bound=bound,
    )


def _range(elem: str, nonneg: bool, bound: int | None, growth: int) -> tuple[bool, int | None]:
    """(nonneg, bound) of a result whose bound was computed without wrapping; ``growth`` is what an unknown one grew
    by.
    """
    if not nonneg:
        return False, None
    if bound is None:
        return BITS[elem] >= 32 and abs(growth) < _SMALL, None
    return (True, bound) if bound < 1 << (BITS[elem] - 1) else (False, None)


def _keeps_order(x: Val) -> bool:
    """Whether the lanes of a progression can be taken not to wrap."""
    return x.nonneg or (BITS[x.elem] >= 32 and abs(x.stride) * x.lanes < _SMALL)


def _parts(value: Val) -> tuple[Val, int] | None:
    """(base, stride) of a scalar or a progression; None for a general vector."""
    if value.base is not None:
        return value.base, value.stride
    return (value, 0) if value.lanes == 1 else None


def _wrap(number: int, elem: str) -> int:
    result = constant(number, elem).const
    assert isinstance(result, int)
    return result


def _scalar(b: Builder, opcode: str, x: Val, y: Val, multiple: int) -> Val:
    text = f"{opcode} {LLVM_TYPE[x.elem]} {b.scalar(x)}, {b.scalar(y)}"
    return b.emit(x.elem, text, max(x.depth, y.depth), multiple=min(multiple, _MAX_MULTIPLE))


def _ranged(result: Val, nonneg: bool, bound: int | None, growth: int = 0) -> Val:
    result.nonneg, result.bound = _range(result.elem, nonneg, bound, growth)
    return result


def _known_sum(x: Val, y: Val) -> int | None:
    return None if x.bound is None or y.bound is None else x.bound + y.bound


def _known_product(x: Val, y: Val) -> int | None:
    return None if x.bound is None or y.bound is None else x.bound * y.bound


def _factor(x: Val, y: Val) -> int:
    """By how much a product may outgrow an index: the factor whose bound is known."""
    return min(x.bound if x.bound is not None else 0, y.bound if y.bound is not None else 0) or max(
        x.bound or 0, y.bound or 0
    )


def add(b: Builder, x: Val, y: Val) -> Val:
    if isinstance(x.const, int) and isinstance(y.const, int):
        return constant(x.const + y.const, x.elem)
    if y.const == 0:
        return x
    if x.const == 0:
        return y
    px, py = _parts(x), _parts(y)
    if px and py and (px[1] or py[1]):
        return progression(b, add(b, px[0], py[0]), px[1] + py[1])
    result = _scalar(b, "add", x, y, min(x.multiple, y.multiple)) if px and py else b.binary("add", x, y)
    return _ranged(result, x.nonneg and y.nonneg, _known_sum(x, y))


def sub(b: Builder, x: Val, y: Val) -> Val:
    if isinstance(x.const, int) and isinstance(y.const, int):
        return constant(x.const - y.const, x.elem)
    if y.const == 0:
        return x
    px, py = _parts(x), _parts(y)
    if px and py and (px[1] or py[1]):
        return progression(b, sub(b, px[0], py[0]), px[1] - py[1])
    if px and py:
        return _scalar(b, "sub", x, y, min(x.multiple, y.multiple))
    return b.binary("sub", x, y)


def mul(b: Builder, x: Val, y: Val) -> Val:
    if isinstance(x.const, int) and isinstance(y.const, int):
        return constant(x.const * y.const, x.elem)
    for one, other in ((x, y), (y, x)):
        if one.const == 1:
            return other
        if one.const == 0:
            return constant(0, x.elem)
        if isinstance(one.const, int) and other.base is not None:
            return progression(b, mul(b, other.base, one), _wrap(other.stride * one.const, x.elem))
    both_scalar = x.lanes == 1 and y.lanes == 1
    result = _scalar(b, "mul", x, y, x.multiple * y.multiple) if both_scalar else b.binary("mul", x, y)
    return _ranged(result, x.nonneg and y.nonneg, _known_product(x, y), _factor(x, y))


def shl(b: Builder, x: Val, y: Val) -> Val:
    if isinstance(y.const, int) and 0 <= y.const < BITS[x.elem] - 1:
        return mul(b, x, constant(1 << y.const, x.elem))
    return b.binary("shl", x, y)


def divide(b: Builder, opcode: str, x: Val, y: Val) -> Val:
    """``sdiv``, ``udiv``, ``srem`` or ``urem``.

    Where x cannot be negative and its lanes stay between two multiples of a constant divisor, the quotient is one
    scalar and the remainder a progression.
    """
    remainder = opcode.endswith("rem")
    divisor = y.const
    if isinstance(x.const, int) and isinstance(divisor, int) and divisor > 0 and x.const >= 0:
        return constant(x.const % divisor if remainder else x.const // divisor, x.elem)
    if divisor == 1:
        return constant(0, x.elem) if remainder else x
    positive = isinstance(divisor, int) and divisor > 0
    unsigned = "u" + opcode[1:] if x.nonneg and positive else opcode
    if x.base is not None and x.nonneg and isinstance(divisor, int) and positive and x.stride > 0:
        span = (x.lanes - 1) * x.stride
        # Lanes base .. base + span lie between two multiples of `divisor` when a block that holds them divides it.
        block = 1 << span.bit_length()
        if stays_between(x.base, divisor, block):
            inner = divide(b, opcode, x.base, y)
            return progression(b, inner, x.stride) if remainder else inner
    if not positive:
        return _guarded_divide(b, opcode, x, y)
    assert isinstance(divisor, int)
    result = b.binary(unsigned, x, y)
    power = divisor_of(divisor)
    if remainder:
        result.multiple = min(x.multiple, power)
    elif divisor == power:
        result.multiple = max(1, x.multiple // divisor)
    if remainder:
        return _ranged(result, x.nonneg, divisor - 1)
    return _ranged(result, x.nonneg, None if x.bound is None else x.bound // divisor)


def divide_unwrapped(b: Builder, opcode: str, x: Val, y: Val, first: Val | None) -> Val:
    """As :func:`divide`, for lanes that have one quotient as far as they count; ``first``, if given, has the same."""
    if x.base is None:
        return divide(b, opcode, x, y)
    result = divide(b, opcode, x.base if first is None else first, y)
    if opcode.endswith("div"):
        return result
    return progression(b, result, x.stride) if first is None else add(b, result, sub(b, x, first))


def stays_between(base: Val, divisor: int, block: int) -> bool:
    """Whether base .. base + block - 1 lie between two multiples of ``divisor`` because ``block`` divides both."""
    return divisor % block == 0 and base.multiple % block == 0


def _guarded_divide(b: Builder, opcode: str, x: Val, y: Val) -> Val:
    """Division by an unknown number. CPUs trap where GPUs give some number: by zero, and for the smallest number by -1.

    Lanes that a mask leaves out hold zeros, so this is no corner case. x / 0 gives x, x % 0 gives 0; x / -1 is -x.
    """
    zero, one = constant(0, y.elem), constant(1, y.elem)
    unsafe = b.compare("icmp eq", y, zero)
    negated = None
    if opcode[0] == "s" and not (x.nonneg and y.nonneg):
        negated = b.compare("icmp eq", y, constant(-1, y.elem))
        unsafe = b.binary("or", unsafe, negated)
    divisor = b.select(unsafe, one, y)
    result = (
        _vector_divide(b, opcode, x, divisor)
        if x.elem == "i32" and max(x.lanes, y.lanes) > 1
        else b.binary(opcode, x, divisor)
    )
    if negated is not None and opcode == "sdiv":
        result = b.select(negated, b.binary("sub", zero, x), result)
    return result


def _vector_divide(b: Builder, opcode: str, x: Val, y: Val) -> Val:
    """32-bit division of vectors, exact by way of float64: no CPU divides vectors of integers.

    One divisor for all lanes becomes a product with its reciprocal. Half is added to the dividend, so that a quotient
    is at least 1 / (2 y) away from the next integer; the rounding errors of reciprocal and product, at most 2**-20 / y
    together, do not reach it.
    """
    prefix = opcode[0]
    wide_x, wide_y = (b.cast(f"{prefix}itofp", v, "f64") for v in (x, y))
    if y.lanes == 1:
        half = constant(0.5, "f64")
        away = b.intrinsic("copysign", half, wide_x) if prefix == "s" else half
        inverse = b.binary("fdiv", constant(1.0, "f64"), wide_y)
        exact = b.binary("fmul", b.binary("fadd", wide_x, away), inverse)
    else:
        exact = b.binary("fdiv", wide_x, wide_y)
    quotient = b.cast(f"fpto{prefix}i", exact, "i32")
    return quotient if opcode.endswith("div") else b.binary("sub", x, b.binary("mul", quotient, y))


def ceil_divide(b: Builder, x: Val, divisor: int) -> Val:
    """ceil(x / divisor) of a scalar for a positive constant divisor; x may be negative."""
    if divisor == 1:
        return x
    return divide(b, "sdiv", add(b, x, constant(divisor - 1, x.elem)), constant(divisor, x.elem))


def bitwise(b: Builder, opcode: str, x: Val, y: Val) -> Val:
    """``and``, ``or``, ``xor``; masks that are constant fold away."""
    if isinstance(x.const, int) and isinstance(y.const, int):
        fold = {"and": x.const & y.const, "or": x.const | y.const, "xor": x.const ^ y.const}
        return constant(fold[opcode], x.elem)
    ones = 1 if x.elem == "i1" else -1
    for one, other in ((x, y), (y, x)):
        if one.const is None:
            continue
        if opcode == "and":
            if one.const == 0:
                return one
            if one.const == ones:
                return other
        elif one.const == 0:
            return other
        elif opcode == "or" and one.const == ones:
            return one
    nonneg = (x.nonneg or y.nonneg) if opcode == "and" else (x.nonneg and y.nonneg)
    result = b.binary(opcode, x, y)
    result.nonneg = nonneg
    return result


def extend(b: Builder, x: Val, elem: str, *, signed: bool) -> Val:
    """``sext`` or ``zext``; of a boolean, too."""
    if x.elem == elem:
        return x
    if isinstance(x.const, int):
        number = x.const
        if not signed:
            number &= (1 << BITS[x.elem]) - 1
        elif x.elem == "i1":
            number = -number
        return constant(number, elem)
    if x.base is not None and (x.nonneg or (signed and _keeps_order(x))):
        return progression(b, extend(b, x.base, elem, signed=signed), x.stride)
    opcode = "sext" if signed and not (x.nonneg and x.elem != "i1") else "zext"
    result = b.cast(opcode, x, elem)
    result.multiple = x.multiple
    bound = x.bound if x.nonneg else (1 << BITS[x.elem]) - 1
    return _ranged(result, opcode == "zext", bound)


def truncate(b: Builder, x: Val, elem: str) -> Val:
    if x.elem == elem:
        return x
    if isinstance(x.const, int):
        return constant(x.const, elem)
    if x.base is not None and elem != "i1":
        return progression(b, truncate(b, x.base, elem), _wrap(x.stride, elem))
    result = b.cast("trunc", x, elem)
    if elem != "i1":
        result.multiple = min(x.multiple, 1 << (BITS[elem] - 1))
        if x.bound is not None:
            _ranged(result, x.nonneg, x.bound)
    return result


_PREDICATES = ["eq", "ne", "slt", "sle", "sgt", "sge", "ult", "ule", "ugt", "uge"]
_FOLD = [
    lambda a, c: a == c,
    lambda a, c: a != c,
    lambda a, c: a < c,
    lambda a, c: a <= c,
    lambda a, c: a > c,
    lambda a, c: a >= c,
]


def compare(b: Builder, predicate: int, x: Val, y: Val) -> Val:
    """``arith.cmpi`` with MLIR's predicate numbers."""
    if predicate < 6 and isinstance(x.const, int) and isinstance(y.const, int):
        return constant(int(_FOLD[predicate](x.const, y.const)), "i1")
    if predicate == 2 and x.nonneg and x.bound is not None and isinstance(y.const, int) and x.bound < y.const:
        return constant(1, "i1")  # a loop's own index against the loop's end
    if x.base is not None and y.base is not None and x.stride == y.stride:
        if predicate < 2 or (predicate < 6 and _keeps_order(x) and _keeps_order(y)):
            x, y = x.base, y.base
    return b.compare(f"icmp {_PREDICATES[predicate]}", x, y)


def offset_pointer(b: Builder, pointer: Val, offset: Val, pointee: str) -> Val:
    """``tt.addptr``: offsets count elements of ``pointee``; progressions of pointers count bytes."""
    size = byte_size(pointee)
    pp, po = _parts(pointer), _parts(offset)
    if pp and po and (offset.base is None or _keeps_order(offset)):
        base, start = pp[0], po[0]
        if start.const != 0:
            depth = max(base.depth, start.depth)
            kind = {1: "i8", 2: "i16", 4: "i32", 8: "i64"}[size]
            index = f"{LLVM_TYPE[start.elem]} {b.scalar(start)}"
            base = b.emit("ptr", f"getelementptr {kind}, ptr {b.scalar(base)}, {index}", depth)
        return progression(b, base, pp[1] + po[1] * size)
    lanes, (refs, offsets), depth = b.operands(pointer, offset)
    kind = {1: "i8", 2: "i16", 4: "i32", 8: "i64"}[size]
    pointers = f"ptr {b.scalar(pointer)}" if pointer.lanes == 1 else f"<{lanes} x ptr> {refs}"
    return b.emit(
        "ptr", f"getelementptr {kind}, {pointers}, <{lanes} x {LLVM_TYPE[offset.elem]}> {offsets}", depth, lanes
    )
