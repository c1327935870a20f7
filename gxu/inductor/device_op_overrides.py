"""Snippets of Python and C++ that Inductor's wrappers print for the gxu device."""

from __future__ import annotations

from torch._inductor.codegen.common import DeviceOpOverrides, TritonScratchWorkspace, register_device_op_overrides

from gxu.inductor.device import DEVICE_TYPE

_KERNEL_HEADER = """
    #include <c10/gxu/GXUGuard.h>
    #include <c10/gxu/GXUStream.h>
    #include <gxu_runtime.h>
"""

# The functions behind them are in torch/csrc/inductor/aoti_runtime/utils_gxu.h, which generated code includes.
_KERNEL_DRIVER = """
    static inline gxuFunction_t loadKernel(
            const std::string& filePath, const std::string& funcName, uint32_t sharedMemBytes,
            const std::optional<std::string>& cubinDir = std::nullopt,
            std::vector<gxuModule_t>* loaded_modules = nullptr) {
        return torch::aot_inductor::load_gxu_kernel(filePath, funcName, sharedMemBytes, cubinDir, loaded_modules);
    }

    static inline gxuFunction_t loadKernel(
            const unsigned char* start, const unsigned char* end, const std::string& funcName,
            uint32_t sharedMemBytes, std::vector<gxuModule_t>* loaded_modules = nullptr) {
        return torch::aot_inductor::load_gxu_kernel(start, end - start, funcName, sharedMemBytes, loaded_modules);
    }

    static inline void launchKernel(
            gxuFunction_t func, uint32_t gridX, uint32_t gridY, uint32_t gridZ, uint32_t numWarps,
            uint32_t sharedMemBytes, void* args[], gxuStream_t stream) {
        AOTI_TORCH_GXU_CHECK(aoti_torch_gxu_launch_kernel(
            func, gridX, gridY, gridZ, numWarps, sharedMemBytes, stream, args));
    }
"""


class GXUDeviceOpOverrides(DeviceOpOverrides):
    """Named as CUDA's are: `cpp_*` and `kernel_*` belong to the C++ wrapper, the others to the Python wrapper."""

    def import_get_raw_stream_as(self, name: str) -> str:
        return f"from gxu._C import get_raw_stream as {name}"

    def set_device(self, device_idx: int) -> str:
        return f"torch.{DEVICE_TYPE}._C.set_device({device_idx})"

    def synchronize(self) -> str:
        return f"torch.{DEVICE_TYPE}.synchronize()"

    def device_guard(self, device_idx: int) -> str:
        return f"torch.{DEVICE_TYPE}._DeviceGuard({device_idx})"

    def current_stream(self) -> str:
        return f"torch.{DEVICE_TYPE}.current_stream()"

    def stream_handle(self, stream_name: str) -> str:
        return f"{stream_name}.native_handle"

    def cpp_device_guard(self) -> str:
        return "c10::gxu::GXUGuard"

    def cpp_aoti_device_guard(self) -> str:
        return "AOTIGXUGuard"

    def cpp_stream_guard(self) -> str:
        return "c10::gxu::GXUStreamGuard"

    def cpp_aoti_stream_guard(self) -> str:
        return "AOTIGXUStreamGuard"

    def cpp_getStreamFromExternal(self) -> str:  # noqa: N802  (torch's name)
        return "c10::gxu::getStreamFromExternal"

    def kernel_header(self) -> str:
        return _KERNEL_HEADER

    def kernel_driver(self) -> str:
        return _KERNEL_DRIVER

    def cpp_stream_type(self) -> str:
        return "gxuStream_t"

    def aoti_get_stream(self) -> str:
        return "aoti_torch_get_current_gxu_stream"

    def cpp_kernel_type(self) -> str:
        return "gxuFunction_t"

    def cpp_device_ptr(self) -> str:
        return "void*"

    def tma_descriptor_helpers(self) -> str:
        # Tensor descriptors are rewritten to pointers by the Triton backend: nothing is built on the host.
        return ""

    def cpp_scratch(
        self, idx: int, workspace: TritonScratchWorkspace, prefix: str | None = None
    ) -> tuple[list[str], str] | None:
        name = f"{prefix}_scratch_{idx}" if prefix else f"scratch_{idx}"
        if workspace.size <= 0:
            return [f"void* {name} = nullptr;"], name
        return [
            f"int64_t {name}_size[] = {{static_cast<int64_t>({workspace.size}) * grid_0 * grid_1 * grid_2}};",
            f"int64_t {name}_stride[] = {{1}};",
            f"AtenTensorHandle {name}_handle;",
            f"AOTI_TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(1, {name}_size, {name}_stride, "
            f"{workspace.generate_dtype_str()}, cached_torch_device_type_privateuse1, device_idx_, &{name}_handle));",
            f"RAIIAtenTensorHandle {name}_tensor({name}_handle);",
            f"void* {name} = {name}_tensor.data_ptr();",
        ], name


def register() -> None:
    """Makes the snippets those of the device type `gxu`."""
    register_device_op_overrides(DEVICE_TYPE, GXUDeviceOpOverrides())
