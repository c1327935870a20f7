"""All rows of `python -m gxu bench triton`, in the order in which they are printed."""

from __future__ import annotations

from gxu.benchmarks.triton import attention, compiling, indexing, launches, products, reductions, scaling, streaming
from gxu.benchmarks.triton.row import Case

MODULES = (streaming, reductions, indexing, products, attention, launches, compiling, scaling)


def all_cases() -> list[Case]:
    return [case for module in MODULES for case in module.cases()]
