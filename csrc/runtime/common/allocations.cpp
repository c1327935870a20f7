#include "allocations.h"

#include <iterator>
#include <map>
#include <mutex>
#include <shared_mutex>

#include "api.h"

namespace gxu::engine {
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

std::vector<Allocation> live_allocations() {
  AllocationMap& map = allocation_map();
  std::shared_lock lock(map.mutex);
  std::vector<Allocation> found;
  found.reserve(map.blocks.size());
  for (const auto& [base, allocation] : map.blocks) found.push_back(allocation);
  return found;
}

void add_allocation(const Allocation& allocation) {
  AllocationMap& map = allocation_map();
  std::unique_lock lock(map.mutex);
  const auto [found, added] = map.blocks.emplace(allocation.base, allocation);
  if (!added) ++found->second.openings;
}

void remove_allocation(const Allocation& allocation, const char* function) {
  AllocationMap& map = allocation_map();
  std::unique_lock lock(map.mutex);
  const auto found = map.blocks.find(allocation.base);
  if (found == map.blocks.end()) {
    fail(gxuErrorInvalidValue, "%s: %p was freed by another thread", function,
         reinterpret_cast<void*>(allocation.base));
  }
  if (--found->second.openings == 0) map.blocks.erase(found);
}

}  // namespace gxu::engine

using namespace gxu::engine;

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
