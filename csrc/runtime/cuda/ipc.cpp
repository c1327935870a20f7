// Interprocess memory: the driver's own handles, which fit into those of gxu_runtime.h.
#include <cstring>

#include "../common/api.h"
#include "../common/host_function.h"
#include "device.h"
#include "memory.h"

using namespace gxu::cuda;

static_assert(sizeof(gxuIpcMemHandle_t) == sizeof(CUipcMemHandle));

gxuError_t gxuIpcGetMemHandle(gxuIpcMemHandle_t* handle, void* pointer) {
  return api([&] {
    require_argument(handle, "handle");
    require_argument(pointer, "pointer");
    forbid_in_host_function("gxuIpcGetMemHandle");
    Device& device = device_at(find_start(pointer, gxuMemoryTypeDevice, false, "gxuIpcGetMemHandle").device);
    device.drain();
    const ContextScope scope(device);
    CUipcMemHandle made;
    GXU_DRIVER(cuIpcGetMemHandle, &made, device_pointer(pointer));
    std::memcpy(handle, &made, sizeof(made));
  });
}

gxuError_t gxuIpcOpenMemHandle(void** pointer, gxuIpcMemHandle_t handle) {
  return api([&] {
    require_argument(pointer, "pointer");
    *pointer = nullptr;
    Device& device = current_device();
    const ContextScope scope(device);
    CUipcMemHandle wanted;
    std::memcpy(&wanted, &handle, sizeof(wanted));
    CUdeviceptr opened = 0;
    const CUresult result = driver.cuIpcOpenMemHandle_v2(&opened, wanted, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS);
    if (result == CUDA_ERROR_INVALID_CONTEXT || result == CUDA_ERROR_INVALID_HANDLE) {
      fail(gxuErrorInvalidValue,
           "gxuIpcOpenMemHandle: cuIpcOpenMemHandle_v2: %s: the handle must come from another process, which must live "
           "and hold the memory",
           describe(result).c_str());
    }
    check(result, "cuIpcOpenMemHandle_v2");
    try {
      CUdeviceptr base = 0;
      size_t size = 0;
      GXU_DRIVER(cuMemGetAddressRange_v2, &base, &size, opened);
      const size_t bytes = base + size - opened;
      add_allocation({opened, bytes, gxuMemoryTypeDevice, device.index(), bytes, true});
    } catch (...) {
      driver.cuIpcCloseMemHandle(opened);
      throw;
    }
    *pointer = reinterpret_cast<void*>(opened);
  });
}

gxuError_t gxuIpcCloseMemHandle(void* pointer) {
  return api([&] {
    require_argument(pointer, "pointer");
    forbid_in_host_function("gxuIpcCloseMemHandle");
    const Allocation allocation = find_start(pointer, gxuMemoryTypeDevice, true, "gxuIpcCloseMemHandle");
    Device& device = device_at(allocation.device);
    device.drain();
    const ContextScope scope(device);
    remove_allocation(allocation, "gxuIpcCloseMemHandle");
    check_freed(allocation, driver.cuIpcCloseMemHandle(device_pointer(pointer)), "cuIpcCloseMemHandle");
  });
}
