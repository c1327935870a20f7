// gxuLaunchKernel.
#include "../common/api.h"
#include "../common/arguments.h"
#include "../common/host_function.h"
#include "capture.h"
#include "device.h"
#include "function.h"
#include "image.h"
#include "stream.h"

namespace gxu::cuda {
namespace {

CUresult launch(const Function& function, CUfunction handle, const Dimensions& grid, const Dimensions& block,
                unsigned int shared_memory_bytes, CUstream stream, void** params) {
  if (!function.has_launch_attributes()) [[likely]] {
    return driver.cuLaunchKernel(handle, grid.x, grid.y, grid.z, block.x, block.y, block.z, shared_memory_bytes, stream,
                                 params, nullptr);
  }
  CUlaunchAttribute attributes[4];
  const unsigned int count = function.launch_attributes(attributes);
  const CUlaunchConfig config{grid.x, grid.y,     grid.z, block.x, block.y, block.z, shared_memory_bytes,
                              stream, attributes, count};
  return driver.cuLaunchKernelEx(&config, handle, params, nullptr);
}

}  // namespace
}  // namespace gxu::cuda

using namespace gxu::cuda;

gxuError_t gxuLaunchKernel(gxuFunction_t function, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z,
                           unsigned int block_x, unsigned int block_y, unsigned int block_z,
                           unsigned int shared_memory_bytes, gxuStream_t stream, void** kernel_params) {
  return api([&] {
    forbid_in_host_function("gxuLaunchKernel");
    Function& kernel = resolve_function(function);
    Stream& target = resolve_current_stream(stream, "gxuLaunchKernel");
    Device& device = target.device();
    const Dimensions grid{grid_x, grid_y, grid_z};
    const Dimensions block{block_x, block_y, block_z};
    require_grid(kernel.name(), grid);
    require_block(kernel.name(), block, static_cast<uint64_t>(device.properties().max_threads_per_block));
    const ContextScope scope(device);
    const CUfunction handle = kernel.on(device);
    require_params(kernel.name(), kernel_params, kernel.num_params());
    if (const std::shared_ptr<Capture> capture = target.capture()) [[unlikely]] {
      capture->require_active();
      capture->keep(kernel.image().shared_from_this());
    }
    record_launch(kernel.name());
    const CUresult result = launch(kernel, handle, grid, block, shared_memory_bytes, target.handle(), kernel_params);
    if (result == CUDA_ERROR_INVALID_VALUE || result == CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES) [[unlikely]] {
      fail(gxuErrorInvalidValue,
           "kernel '%s': the driver refuses a grid of (%u, %u, %u), a block of (%u, %u, %u) and %u bytes of shared "
           "memory: %s; above 48 KiB set gxuFuncAttributeMaxDynamicSharedMemorySize first",
           kernel.name(), grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_memory_bytes,
           describe(result).c_str());
    }
    check(result, kernel.has_launch_attributes() ? "cuLaunchKernelEx" : "cuLaunchKernel");
  });
}
