"""Cases that cannot pass, each with its reason. The suite is strict: one that passes must leave this table."""

from __future__ import annotations

_STATISTICS = "PyTorch's decomposition gives the statistics of half precision in float32 on every device but the CPU"
_BESSEL = (
    "just above 5, where PyTorch's CPU kernel changes its series, that is off by up to 9e-7 (against mpmath); compiled "
    "code calls the C library's function, which is right"
)

#: Patterns (as a shell's) of case names, and the reason.
EXPECTED_FAILURES: dict[str, str] = {
    "native_batch_norm *float16 static": _STATISTICS,
    "_native_batch_norm_legit *float16 static": _STATISTICS,
    "_batch_norm_with_update *float16 static": _STATISTICS,
    "native_layer_norm *float16 static": _STATISTICS,
    "special.bessel_j0 float64 static": _BESSEL,
    "special.bessel_y1 float64 static": _BESSEL,
}
