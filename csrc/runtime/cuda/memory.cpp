#include "memory.h"

#include "../common/api.h"
#include "../common/host_function.h"
#include "device.h"
#include "query.h"

namespace gxu::cuda {
namespace {

[[noreturn]] void fail_out_of_memory(const Device& device, size_t size, CUresult result) {
  size_t free = 0;
  size_t total = 0;
  if (driver.cuMemGetInfo_v2(&free, &total) != CUDA_SUCCESS) free = 0;
  fail(gxuErrorOutOfMemory,
       "tried to allocate %zu bytes on device %d: %zu bytes are free, the limit is %llu bytes: cuMemAlloc_v2: %s", size,
       device.index(), free, static_cast<unsigned long long>(device.properties().total_memory),
       describe(result).c_str());
}

void free_block(void* pointer, gxuMemoryType type, const char* function) {
  forbid_in_host_function(function);
  const Allocation allocation = find_start(pointer, type, false, function);
  Device& device = device_at(allocation.device);
  if (type == gxuMemoryTypeDevice) {
    device.drain();
  } else {
    drain_all_devices();
  }
  const ContextScope scope(device);
  remove_allocation(allocation, function);
  const bool is_device = type == gxuMemoryTypeDevice;
  const CUresult result = is_device ? driver.cuMemFree_v2(device_pointer(pointer)) : driver.cuMemFreeHost(pointer);
  check_freed(allocation, result, is_device ? "cuMemFree_v2" : "cuMemFreeHost");
}

}  // namespace

void check_freed(const Allocation& allocation, CUresult result, const char* function) {
  if (result != CUDA_SUCCESS && !is_sticky(result)) add_allocation(allocation);
  check_unless_sticky(result, function);
}

bool is_known_to_driver(const void* pointer) {
  unsigned int type = 0;
  return driver.cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, device_pointer(pointer)) == CUDA_SUCCESS;
}

}  // namespace gxu::cuda

using namespace gxu::cuda;

gxuError_t gxuMalloc(void** pointer, size_t size) {
  return api([&] {
    require_argument(pointer, "pointer");
    *pointer = nullptr;
    if (size == 0) return;
    Device& device = current_device();
    const ContextScope scope(device);
    CUdeviceptr block = 0;
    const CUresult result = driver.cuMemAlloc_v2(&block, size);
    if (result == CUDA_ERROR_OUT_OF_MEMORY) fail_out_of_memory(device, size, result);
    check(result, "cuMemAlloc_v2");
    try {
      add_allocation({static_cast<uintptr_t>(block), size, gxuMemoryTypeDevice, device.index(), size});
    } catch (...) {
      driver.cuMemFree_v2(block);
      throw;
    }
    *pointer = reinterpret_cast<void*>(block);
  });
}

gxuError_t gxuFree(void* pointer) {
  return api([&] {
    if (pointer != nullptr) free_block(pointer, gxuMemoryTypeDevice, "gxuFree");
  });
}

gxuError_t gxuMallocHost(void** pointer, size_t size) {
  return api([&] {
    require_argument(pointer, "pointer");
    *pointer = nullptr;
    if (size == 0) return;
    Device& device = current_device();
    const ContextScope scope(device);
    void* block = nullptr;
    const CUresult result = driver.cuMemHostAlloc(&block, size, CU_MEMHOSTALLOC_PORTABLE);
    if (result == CUDA_ERROR_OUT_OF_MEMORY) {
      fail(gxuErrorOutOfMemory, "tried to allocate %zu bytes of pinned host memory: cuMemHostAlloc: %s", size,
           describe(result).c_str());
    }
    check(result, "cuMemHostAlloc");
    try {
      add_allocation({reinterpret_cast<uintptr_t>(block), size, gxuMemoryTypeHost, device.index(), size});
    } catch (...) {
      driver.cuMemFreeHost(block);
      throw;
    }
    *pointer = block;
  });
}

gxuError_t gxuFreeHost(void* pointer) {
  return api([&] {
    if (pointer != nullptr) free_block(pointer, gxuMemoryTypeHost, "gxuFreeHost");
  });
}

gxuError_t gxuMemGetInfo(size_t* free, size_t* total) {
  return api([&] {
    require_argument(free, "free");
    require_argument(total, "total");
    Device& device = current_device();
    size_t driver_total = 0;
    query(device, [&] { GXU_DRIVER(cuMemGetInfo_v2, free, &driver_total); });
    *total = device.properties().total_memory;
  });
}
