"""C++ wrapper code for gxu: torch._inductor.codegen.cpp_wrapper_gpu over the headers in gxu/include.

The same class writes the wrapper of `torch.compile` with `cpp_wrapper=True`, which is compiled and called at once, and
the model of AOTInductor, which is compiled into a package (`gxu.inductor.aoti`).
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

from torch._inductor import config as inductor_config
from torch._inductor import ir
from torch._inductor.codegen import cpp_utils
from torch._inductor.codegen.cpp_wrapper_gpu import CppWrapperGpu, DeferredTritonCallWrapper, cpp_string_literal
from torch._inductor.virtualized import V

from gxu.inductor import aoti, compat
from gxu.inductor.device import DEVICE_TYPE
from gxu.inductor.wrapper import UserKernelLines

#: c10::DeviceType::PrivateUse1, which the type of a model's inputs is compared with.
_PRIVATEUSE1 = 20


#: What the C functions and headers in gxu/include call the device, whatever its name under PyTorch is.
_NAME_IN_C = "gxu"


def _name_in_c(device: str) -> str:
    return _NAME_IN_C if device == DEVICE_TYPE else device


class _TritonCall(DeferredTritonCallWrapper):
    """The function around one Triton kernel: loads it at its first call, launches it."""

    def generate_load_kernel(self, prefix: Any, kernel_var_name: str, params: dict[str, Any]) -> None:
        if not _embeds_kernels():
            super().generate_load_kernel(prefix, kernel_var_name, params)
            return
        # The runtime wants to know how long an image is, where CUDA's does not.
        image = f"__{params['inductor_meta']['kernel_name']}"
        name, shared = cpp_string_literal(params["mangled_name"]), params["shared_mem"]
        load = f"loadKernel({image}_start, {image}_end, {name}, {shared}, &kernels_.loaded_modules_)"
        prefix.writeline(f"if ({kernel_var_name} == nullptr) {{ {kernel_var_name} = {load}; }}")


def _embeds_kernels() -> bool:
    return V.graph.aot_mode and bool(inductor_config.aot_inductor.embed_kernel_binary)


class GXUCppWrapper(UserKernelLines, CppWrapperGpu):
    """Wrapper of a whole graph; subgraphs are written into it."""

    def __init__(self) -> None:
        # Code generation for gxu has begun, even where no tensor was made yet: see compat.has_triton.
        compat.mark_used()
        self._stream_ids = itertools.count()
        super().__init__()

    @staticmethod
    def create(
        is_subgraph: bool, subgraph_name: str | None, parent_wrapper: Any, partition_signatures: Any = None
    ) -> GXUCppWrapper:
        return GXUCppWrapper()

    def write_get_raw_stream(self, device_idx: int, graph_name: str) -> str:
        # Called once a graph. Two graphs may be written into one scope, as a loop's condition and body are: each
        # declares a variable of its own.
        name = f"stream{device_idx}_{next(self._stream_ids)}"
        self.writeline(f"{self.device_codegen.cpp_stream_type()} {name};")
        self.writeline(f"AOTI_TORCH_GXU_CHECK({self.device_codegen.aoti_get_stream()}({device_idx}, (void**)&{name}));")
        return name

    @staticmethod
    def get_c_shim_func_name(kernel: str, device: str) -> str:
        return CppWrapperGpu.get_c_shim_func_name(kernel, _name_in_c(device))

    @staticmethod
    def get_device_include_path_jit(device: str) -> str:
        return CppWrapperGpu.get_device_include_path_jit(_name_in_c(device))

    @staticmethod
    def get_device_include_path_aot(device: str) -> str:
        return CppWrapperGpu.get_device_include_path_aot(_name_in_c(device))

    @staticmethod
    def get_device_include_path(device: str) -> str:
        """What torch 2.11 has for both of the above."""
        return CppWrapperGpu.get_device_include_path(_name_in_c(device))  # type: ignore[attr-defined]

    def add_device_include(self, device: str) -> None:
        # gxu's header decides how PyTorch's, which the other devices' headers include, are compiled: it comes first.
        if DEVICE_TYPE not in self.included_devices:
            super().add_device_include(DEVICE_TYPE)
            if DEVICE_TYPE != _NAME_IN_C:
                # The one function that torch calls by the device's name without asking get_c_shim_func_name.
                shim = "aoti_torch_{}_view_dtype".format
                self.header.splice(f"#define {shim(DEVICE_TYPE)} {shim(_NAME_IN_C)}")
        super().add_device_include(device)

    def codegen_cuda_stream_enter(self, stream_idx: int) -> Any:
        # torch's line is Python in the midst of C++ code.
        raise NotImplementedError(
            "The C++ wrapper cannot change streams inside of a graph: compile this function without cpp_wrapper."
        )

    def codegen_allocation(self, buffer: Any) -> None:
        if isinstance(buffer.get_output_spec(), ir.CommBufferLayout):
            # So is this one.
            raise NotImplementedError(
                "The C++ wrapper cannot allocate memory that other processes' devices reach (symmetric memory, which "
                f"{buffer.get_name()} wants): compile this function without cpp_wrapper."
            )
        super().codegen_allocation(buffer)

    def finalize_prefix(self) -> None:
        for name, call in self._triton_call_wrappers.items():
            fields = {field.name: getattr(call, field.name) for field in dataclasses.fields(call)}
            self._triton_call_wrappers[name] = _TritonCall(**fields)
        super().finalize_prefix()

    def codegen_model_kernels(self) -> None:
        super().codegen_model_kernels()
        if _embeds_kernels():
            for call in self._triton_call_wrappers.values():
                self.prefix.writeline(f'extern "C" const unsigned char __{call.kernel_name}_end[];')

    def generate(self, is_inference: bool) -> Any:
        if V.graph.aot_mode:
            aoti.record_requirements()
        return super().generate(is_inference)


def register() -> None:
    """Adds gxu to the tables from which C++ wrappers print device types."""
    cpp_utils.DEVICE_TO_ATEN[DEVICE_TYPE] = "at::kPrivateUse1"
    cpp_utils.DEVICE_TO_INT[DEVICE_TYPE] = _PRIVATEUSE1
