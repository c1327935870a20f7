#include "memory_check.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <utility>

#include "../gxu_memory_check.h"
#include "api.h"
#include "memory.h"

namespace gxu::host {
namespace {

bool checks_memory() {
  static const bool checks = [] {
    const char* text = std::getenv("GXU_SANITIZE");
    return text != nullptr && std::strcmp(text, "1") == 0;
  }();
  return checks;
}

std::atomic<bool> changed{true};
thread_local CheckedMemory::Ranges passed_to_next_launch;

struct Blocks {
  std::mutex mutex;
  std::map<uintptr_t, size_t> sizes;  // of blocks, by base
  std::map<uintptr_t, size_t> freed;  // blocks that were given back, for messages
  std::set<uintptr_t> divided;        // bases of allocations that blocks lie in
  std::shared_ptr<const CheckedMemory::Ranges> allocated;
};

// Leaked on purpose: memory may be freed while static destructors run.
Blocks& blocks() {
  static Blocks* instance = new Blocks;
  return *instance;
}

std::shared_ptr<const CheckedMemory::Ranges> allocated_ranges() {
  Blocks& all = blocks();
  std::lock_guard lock(all.mutex);
  if (!changed.exchange(false) && all.allocated != nullptr) return all.allocated;
  auto ranges = std::make_shared<CheckedMemory::Ranges>();
  for (const Allocation& allocation : live_allocations()) {
    if (all.divided.count(allocation.base) == 0) ranges->push_back({allocation.base, allocation.size});
  }
  for (const auto& [base, size] : all.sizes) ranges->push_back({base, size});
  std::sort(ranges->begin(), ranges->end(), [](const auto& a, const auto& b) { return a.base < b.base; });
  all.allocated = ranges;
  return ranges;
}

const char* kind_name(int32_t kind) {
  switch (kind) {
    case GXU_HOST_ACCESS_LOAD:
      return "load";
    case GXU_HOST_ACCESS_STORE:
      return "store";
    default:
      return "atomic operation";
  }
}

std::string program_text(const gxuHostGrid& grid, int64_t program) {
  const int64_t x = grid.x, y = grid.y;
  return format_text("(%lld, %lld, %lld)", static_cast<long long>(program % x), static_cast<long long>(program / x % y),
                     static_cast<long long>(program / (x * y)));
}

// "; ..." where the address lies in a block that was given back.
std::string freed_text(uintptr_t address) {
  Blocks& all = blocks();
  std::lock_guard lock(all.mutex);
  const auto next = all.freed.upper_bound(address);
  if (next == all.freed.begin()) return "";
  const auto& [base, size] = *std::prev(next);
  if (address - base >= size) return "";
  return format_text("; it is in memory that was freed, %zu bytes at 0x%llx", size,
                     static_cast<unsigned long long>(base));
}

uintptr_t distance(const MemoryRange& range, uintptr_t address) {
  if (address < range.base) return range.base - address;
  return range.contains(address) ? 0 : address - (range.base + range.size);
}

}  // namespace

const MemoryRange* CheckedMemory::find(uintptr_t address) const {
  for (const MemoryRange& range : passed_) {
    if (range.contains(address)) return &range;
  }
  auto next = std::upper_bound(allocated_->begin(), allocated_->end(), address,
                               [](uintptr_t value, const MemoryRange& range) { return value < range.base; });
  if (next == allocated_->begin() || !std::prev(next)->contains(address)) return nullptr;
  return &*std::prev(next);
}

const MemoryRange* CheckedMemory::nearest(uintptr_t address) const {
  const MemoryRange* best = nullptr;
  for (const Ranges* ranges : {&passed_, allocated_.get()}) {
    for (const MemoryRange& range : *ranges) {
      if (best == nullptr || distance(range, address) < distance(*best, address)) best = &range;
    }
  }
  return best;
}

// Where the access lies, seen from the allocation that it was meant for or that is nearest.
std::string CheckedMemory::place(uintptr_t address, const MemoryRange* expected) const {
  const MemoryRange* closest = nearest(address);
  if (closest == nullptr) return "nothing is allocated";
  const MemoryRange& range = expected != nullptr ? *expected : *closest;
  const char* which = &range == closest ? "the nearest allocation" : "the allocation of its pointer argument";
  const auto away = static_cast<unsigned long long>(distance(range, address));
  std::string text;
  if (range.contains(address)) {
    text =
        format_text("%llu bytes before the end of", static_cast<unsigned long long>(range.base + range.size - address));
  } else {
    text = format_text("%llu bytes %s", away, address < range.base ? "before" : "past the end of");
  }
  text += format_text(" %s, %zu bytes at 0x%llx", which, range.size, static_cast<unsigned long long>(range.base));
  if (&range != closest) {
    text += format_text("; the nearest has %zu bytes at 0x%llx", closest->size,
                        static_cast<unsigned long long>(closest->base));
  }
  return text + freed_text(address);
}

std::string CheckedMemory::check(const gxuHostAccess& access, const gxuHostGrid& grid, int64_t program,
                                 const void* origin, const uint64_t* addresses, uint8_t* wanted) const {
  std::string error;
  const bool is_index = access.kind == GXU_HOST_ACCESS_INDEX;
  const MemoryRange* expected = origin != nullptr ? find(reinterpret_cast<uintptr_t>(origin)) : nullptr;
  const MemoryRange* range = expected;
  for (int32_t lane = 0; lane < access.lanes; ++lane) {
    if (wanted[lane] == 0) continue;
    const uintptr_t address = addresses[lane];
    if (is_index) {
      if (address < access.bytes) continue;
    } else {
      if (expected == nullptr && (range == nullptr || !range->contains(address))) range = find(address);
      if (range != nullptr && range->contains(address) && access.bytes <= range->base + range->size - address) continue;
    }
    wanted[lane] = 0;
    if (!error.empty()) continue;
    const std::string where = program_text(grid, program);
    error =
        is_index
            ? format_text("index %lld of a gather in program %s at %s is outside the %llu elements of its axis",
                          static_cast<long long>(address), where.c_str(), access.location,
                          static_cast<unsigned long long>(access.bytes))
            : format_text("invalid %s of %llu bytes at address 0x%llx in program %s at %s: %s", kind_name(access.kind),
                          static_cast<unsigned long long>(access.bytes), static_cast<unsigned long long>(address),
                          where.c_str(), access.location, place(address, expected).c_str());
  }
  return error;
}

std::shared_ptr<const CheckedMemory> memory_for_launch() {
  if (!checks_memory()) return nullptr;
  return std::make_shared<CheckedMemory>(allocated_ranges(), std::exchange(passed_to_next_launch, {}));
}

void memory_allocated() { changed.store(true); }

void memory_freed(uintptr_t base, size_t size) {
  if (!checks_memory()) return;
  Blocks& all = blocks();
  std::lock_guard lock(all.mutex);
  if (all.divided.erase(base) != 0) all.freed.erase(all.freed.lower_bound(base), all.freed.lower_bound(base + size));
  changed.store(true);
}

}  // namespace gxu::host

using namespace gxu::host;

gxuError_t gxuMemoryCheckAddBlock(const void* base, size_t size) {
  return api([&] {
    require_argument(base, "base");
    if (!checks_memory()) return;
    const std::optional<Allocation> holder = find_range(base, size, "gxuMemoryCheckAddBlock: base");
    if (!holder) fail(gxuErrorInvalidValue, "gxuMemoryCheckAddBlock: %p is not in a live allocation", base);
    Blocks& all = blocks();
    std::lock_guard lock(all.mutex);
    all.sizes[reinterpret_cast<uintptr_t>(base)] = size;
    all.freed.erase(reinterpret_cast<uintptr_t>(base));
    all.divided.insert(holder->base);
    changed.store(true);
  });
}

gxuError_t gxuMemoryCheckRemoveBlock(const void* base) {
  return api([&] {
    if (!checks_memory()) return;
    Blocks& all = blocks();
    std::lock_guard lock(all.mutex);
    const auto block = all.sizes.find(reinterpret_cast<uintptr_t>(base));
    if (block != all.sizes.end()) all.freed.insert(all.sizes.extract(block));
    changed.store(true);
  });
}

gxuError_t gxuMemoryCheckAllow(const void* base, size_t size) {
  return api([&] {
    if (checks_memory()) passed_to_next_launch.push_back({reinterpret_cast<uintptr_t>(base), size});
  });
}
