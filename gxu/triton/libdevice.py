"""``triton.language.extra.libdevice`` for gxu: the same names as on GPUs, lowered by ``codegen/math.py``.

A call becomes a ``tt.extern_elementwise`` operation whose symbol is the function's name; the compiler knows the types.
"""

from triton.language import core

_FLOATS = ("fp32", "fp64", "fp16", "bf16")


def _symbols(name, arity, result=None, integer_last=False):
    table = {}
    for kind in _FLOATS:
        types = [core.dtype(kind)] * arity
        if integer_last:
            types[-1] = core.dtype("int32")
        table[tuple(types)] = (name, core.dtype(result or kind))
    return table


def _unary(name, result=None):
    table = _symbols(name, 1, result)

    @core.extern
    def function(arg0, _semantic=None):
        return core.extern_elementwise("", "", [arg0], table, is_pure=True, _semantic=_semantic)

    function.__name__ = name
    return function


def _binary(name, integer_last=False):
    table = _symbols(name, 2, integer_last=integer_last)

    @core.extern
    def function(arg0, arg1, _semantic=None):
        return core.extern_elementwise("", "", [arg0, arg1], table, is_pure=True, _semantic=_semantic)

    function.__name__ = name
    return function


def _ternary(name):
    table = _symbols(name, 3)

    @core.extern
    def function(arg0, arg1, arg2, _semantic=None):
        return core.extern_elementwise("", "", [arg0, arg1, arg2], table, is_pure=True, _semantic=_semantic)

    function.__name__ = name
    return function


# The names of triton.language.extra.libdevice by the number of their arguments.
_UNARY = (
    "abs acos acosh asin asinh atan atanh cbrt ceil cos cosh erf erfc exp exp10 exp2 expm1 floor j0 j1 lgamma log "
    "log10 log1p log2 logb nearbyint rint round rsqrt sin sinh sqrt tan tanh tgamma trunc y0 y1"
)
_BINARY = "atan2 copysign div_rn fdim fmod hypot mul_rn nextafter pow remainder"
# Faster and less exact on a GPU; here the exact function is as fast.
_FAST = {
    "fast_cosf": "cos",
    "fast_exp10f": "exp10",
    "fast_expf": "exp",
    "fast_log10f": "log10",
    "fast_log2f": "log2",
    "fast_logf": "log",
    "fast_sinf": "sin",
    "fast_tanf": "tan",
    "fast_tanhf": "tanh",
    "sqrt_rn": "sqrt",
}

for _name in _UNARY.split():
    globals()[_name] = _unary(_name)
for _name in _BINARY.split():
    globals()[_name] = _binary(_name)
for _name, _symbol in _FAST.items():
    globals()[_name] = _unary(_symbol)
for _name in ("isnan", "isinf", "signbit"):
    globals()[_name] = _unary(_name, "int32")
finitef = isfinited = _unary("isfinite", "int32")
ilogb = _unary("ilogb", "int32")
llrint = _unary("llrint", "int64")
llround = _unary("llround", "int64")
ldexp = scalbn = _binary("ldexp", integer_last=True)
fast_powf = _binary("pow")
fast_dividef = _binary("div_rn")
fma = fma_rn = _ternary("fma")
