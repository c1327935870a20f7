#include "memory.h"

#include <map>
#include <mutex>
#include <shared_mutex>

#include "../common/api.h"
#include "../common/host_function.h"
#include "device.h"
#include "query.h"

namespace gxu::cuda {
namespace {

struct AllocationMap {
  std::shared_mutex mutex;
  std::map<uintptr_t, Allocation> blocks;  // by base
};

// Leaked on purpose: memory may be freed while static destructors run.
AllocationMap& allocation_map() {
  static AllocationMap* map = new AllocationMap;
  return *map;
}

const char* type_name(gxuMemoryType type) { return type == gxuMemoryTypeDevice ? "device" : "pinned host"; }

const char* freeing_function(const Allocation& allocation) {
  if (allocation.imported) return "gxuIpcCloseMemHandle";
  return allocation.type == gxuMemoryTypeDevice ? "gxuFree" : "gxuFreeHost";
}

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
  if (!remove_allocation(allocation)) {
    fail(gxuErrorInvalidValue, "%s: %p was freed by another thread", function, pointer);
  }
  const ContextScope scope(device);
  const bool is_device = type == gxuMemoryTypeDevice;
  const CUresult result = is_device ? driver.cuMemFree_v2(device_pointer(pointer)) : driver.cuMemFreeHost(pointer);
  // After a failed kernel nothing can be freed any more, and others report that.
  check_unless_sticky(result, is_device ? "cuMemFree_v2" : "cuMemFreeHost");
}

}  // namespace

std::optional<Allocation> find_allocation(const void* pointer) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(pointer);
  AllocationMap& map = allocation_map();
  std::shared_lock lock(map.mutex);
  auto next = map.blocks.upper_bound(address);
  if (next == map.blocks.begin()) return std::nullopt;
  const Allocation& candidate = std::prev(next)->second;
  if (address - candidate.base >= candidate.size) return std::nullopt;
  return candidate;
}

std::optional<Allocation> find_range(const void* pointer, size_t size, const char* name) {
  const std::optional<Allocation> found = find_allocation(pointer);
  if (found) {
    const size_t offset = reinterpret_cast<uintptr_t>(pointer) - found->base;
    if (size > found->size - offset) {
      fail(gxuErrorInvalidValue, "%s: %zu bytes at offset %zu leave the allocation of %zu bytes", name, size, offset,
           found->size);
    }
  }
  return found;
}

Allocation find_start(void* pointer, gxuMemoryType type, bool imported, const char* function) {
  const std::optional<Allocation> found = find_allocation(pointer);
  if (!found) {
    fail(gxuErrorInvalidValue, "%s: %p is not in a live allocation (freed twice, or not from this runtime?)", function,
         pointer);
  }
  if (found->base != reinterpret_cast<uintptr_t>(pointer)) {
    fail(gxuErrorInvalidValue, "%s: %p lies inside the allocation of %zu bytes at %p: give that address instead",
         function, pointer, found->size, reinterpret_cast<void*>(found->base));
  }
  if (found->type != type || found->imported != imported) {
    fail(gxuErrorInvalidValue, "%s: %p is %s memory%s: free it with %s", function, pointer, type_name(found->type),
         found->imported ? " of another process" : "", freeing_function(*found));
  }
  return *found;
}

void add_allocation(const Allocation& allocation) {
  AllocationMap& map = allocation_map();
  std::unique_lock lock(map.mutex);
  const auto [found, added] = map.blocks.emplace(allocation.base, allocation);
  if (!added) ++found->second.openings;
}

bool remove_allocation(const Allocation& allocation) {
  AllocationMap& map = allocation_map();
  std::unique_lock lock(map.mutex);
  const auto found = map.blocks.find(allocation.base);
  if (found == map.blocks.end()) return false;
  if (--found->second.openings == 0) map.blocks.erase(found);
  return true;
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
      add_allocation({static_cast<uintptr_t>(block), size, gxuMemoryTypeDevice, device.index()});
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
      add_allocation({reinterpret_cast<uintptr_t>(block), size, gxuMemoryTypeHost, device.index()});
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

gxuError_t gxuPointerGetAttributes(gxuPointerAttributes* attributes, const void* pointer) {
  return api([&] {
    require_argument(attributes, "attributes");
    const std::optional<Allocation> found = find_allocation(pointer);
    if (found) {
      *attributes = {found->type, found->device, reinterpret_cast<void*>(found->base), found->size};
    } else {
      *attributes = {gxuMemoryTypeUnregistered, -1, nullptr, 0};
    }
  });
}
