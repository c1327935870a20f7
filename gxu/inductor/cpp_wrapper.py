"""The C++ wrapper of gxu graphs, which does not exist yet: asking for it is an error that says so."""

from __future__ import annotations

from typing import Any, NoReturn

from torch._inductor.codegen.cpp_wrapper_cpu import CppWrapperCpu


class GXUCppWrapper(CppWrapperCpu):
    """Registered so that Inductor's discovery finds all its names; cannot be created."""

    @staticmethod
    def create(*args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError(
            "a C++ wrapper was asked for (cpp_wrapper=True or AOTInductor) for a graph on gxu, which has only the "
            "Python and FX wrappers: set torch._inductor.config.cpp_wrapper = False and use torch.compile"
        )
