"""``triton.language.extra.libdevice`` for gxu: the names and types of CUDA's libdevice, lowered by ``codegen/math.py``.

A call becomes a ``tt.extern_elementwise`` operation whose symbol is the function's name; the compiler knows the types.
Functions of floats take float16 and bfloat16 too. Faster, less exact variants (``fast_sinf``) are the exact functions.
"""

from triton.language import core

_FLOATS = ("fp32", "fp64", "fp16", "bf16")
_MODES = ("rn", "rz", "rd", "ru")


def _function(name, table):
    """A function of the frontend; ``table`` maps the names of argument types to (symbol, name of the result's type).

    Results of type int1 are int32 in the operation, and become int1 after it, as in CUDA's libdevice.
    """
    logical = any(result == "int1" for _, result in table.values())
    signatures = {
        tuple(core.dtype(kind) for kind in kinds): (symbol, core.dtype("int32" if logical else result))
        for kinds, (symbol, result) in table.items()
    }

    def call(args, _semantic):
        value = core.extern_elementwise("", "", list(args), signatures, is_pure=True, _semantic=_semantic)
        return value.to(core.int1, _semantic=_semantic) if logical else value

    # One signature for each number of arguments: the frontend binds names.
    def one(arg0, _semantic=None):
        return call((arg0,), _semantic)

    def two(arg0, arg1, _semantic=None):
        return call((arg0, arg1), _semantic)

    def three(arg0, arg1, arg2, _semantic=None):
        return call((arg0, arg1, arg2), _semantic)

    def four(arg0, arg1, arg2, arg3, _semantic=None):
        return call((arg0, arg1, arg2, arg3), _semantic)

    function = (one, two, three, four)[len(next(iter(table))) - 1]
    function.__name__ = name
    globals()[name] = core.extern(function)


def _define(names, signature):
    """Functions with one signature: ``f`` stands for any float type, and the result of ``f`` is the same type."""
    arguments, result = signature.split("->")
    kinds = arguments.split(",")
    for name in names.split():
        name, _, symbol = name.partition("=")
        table = {}
        for kind in _FLOATS if "f" in kinds else ("",):
            row = tuple(kind if k == "f" else k for k in kinds)
            table[row] = (symbol or name, kind if result == "f" else result)
        _function(name, table)


_define(
    "acos acosh asin asinh atan atanh cbrt ceil cos cosh cospi cyl_bessel_i0 cyl_bessel_i1 erf erfc erfcinv erfcx "
    "erfinv exp exp10 exp2 expm1 floor j0 j1 lgamma log log10 log1p log2 logb nearbyint normcdf normcdfinv rcbrt rint "
    "round rsqrt saturatef sin sinh sinpi sqrt tan tanh tgamma trunc y0 y1 "
    "fast_cosf=cos fast_exp10f=exp10 fast_expf=exp fast_log10f=log10 fast_log2f=log2 fast_logf=log fast_sinf=sin "
    "fast_tanf=tan fast_tanhf=tanh",
    "f->f",
)
_define("atan2 copysign fdim fmod hypot nextafter remainder rhypot fast_powf=pow fast_dividef=div_rn", "f,f->f")
_define("fma norm3d rnorm3d", "f,f,f->f")
_define("norm4d rnorm4d", "f,f,f,f->f")
_define("ldexp scalbn=ldexp", "f,int32->f")
_define("jn yn", "int32,f->f")
_define("isnan isinf finitef=isfinite isfinited=isfinite", "f->int1")
_define("signbit ilogb", "f->int32")
_define("llrint llround", "f->int64")
_define("rsqrt_rn", "fp32->fp32")
_define("rcp64h", "fp64->fp64")

for _mode in _MODES:
    _define(" ".join(f"{stem}_{_mode}" for stem in ("add", "sub", "mul", "div")), "f,f->f")
    _define(f"rcp_{_mode} sqrt_{_mode}", "f->f")
    _define(f"fma_{_mode}", "f,f,f->f")
    _define(f"double2float_{_mode}", "fp64->fp32")
    for _source, _kind in (("float", "fp32"), ("double", "fp64")):
        _define(f"{_source}2int_{_mode} {_source}2uint_{_mode}", f"{_kind}->int32")
        _define(f"{_source}2ll_{_mode} {_source}2ull_{_mode}", f"{_kind}->int64")
        for _name, _integer in (("int", "int32"), ("uint", "uint32"), ("ll", "int64"), ("ull", "uint64")):
            _define(f"{_name}2{_source}_{_mode}", f"{_integer}->{_kind}")

_define("byte_perm", "int32,int32,int32->int32")
_define("hiloint2double", "int32,int32->fp64")
_define("double2loint double2hiint", "fp64->int32")
_define("int_as_float", "int32->fp32")
_define("uint_as_float", "uint32->fp32")
_define("float_as_int float_as_uint", "fp32->int32")
_define("longlong_as_double", "int64->fp64")
_define("double_as_longlong", "fp64->int64")


def _both(name, *rows):
    """A function whose types do not follow from one another: rows of (argument types, symbol, result)."""
    _function(name, {tuple(kinds.split(",")): (symbol, result) for kinds, symbol, result in rows})


for _name in ("clz", "popc", "ffs"):
    _both(_name, ("int32", _name, "int32"), ("int64", _name, "int32"))
_both("brev", ("int32", "brev", "int32"), ("int64", "brev", "int64"))
_both("abs", ("int32", "llabs", "int32"), ("int64", "llabs", "int64"), *((k, "abs", k) for k in _FLOATS))
_both("pow", *((f"{k},{k}", "pow", k) for k in _FLOATS), *((f"{k},int32", "powi", k) for k in _FLOATS))
_both(
    "mulhi",
    ("int32,int32", "mulhi", "int32"),
    ("uint32,uint32", "umulhi", "uint32"),
    ("int64,int64", "mulhi", "int64"),
    ("uint64,uint64", "umulhi", "uint64"),
)
for _name in ("mul24", "hadd", "rhadd"):
    _unsigned = {"mul24": "umul24", "hadd": "uhadd", "rhadd": "urhadd"}[_name]
    _both(_name, ("int32,int32", _name, "int32"), ("uint32,uint32", _unsigned, "uint32"))
_both("sad", ("int32,int32,uint32", "sad", "int32"), ("uint32,uint32,uint32", "usad", "uint32"))
