#include "memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <new>

#include "api.h"
#include "device.h"
#include "ipc.h"
#include "memory_check.h"
#include "memory_guard.h"
#include "stream.h"

namespace gxu::host {
namespace {

// From this size on a block is mapped on its own, aligned for huge pages and advised to use them.
constexpr size_t kLargeBytes = size_t{2} << 20;
constexpr size_t kPageBytes = 4096;
// What a huge page may take to come: ten times what clearing it takes, or its 512 small pages (docs/memory.md).
constexpr std::chrono::milliseconds kHugePageTime{1};
// How many blocks do without one after one that took longer.
constexpr int kSkippedBlocks = 15;
// What CUDA promises for every allocation; a multiple of the widest vector.
constexpr size_t kSmallAlignment = 256;

// Device memory consists of whole pages, which can become shared ones (ipc.cpp).
size_t reserved_bytes(size_t size, gxuMemoryType type) {
  const size_t unit = type == gxuMemoryTypeDevice || size >= kLargeBytes ? kPageBytes : kSmallAlignment;
  if (size > SIZE_MAX - unit) return SIZE_MAX;
  return (size + unit - 1) / unit * unit;
}

// Maps `reserved` bytes, or returns nullptr.
void* map_pages(size_t reserved) {
  void* mapped = mmap(nullptr, reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return mapped == MAP_FAILED ? nullptr : mapped;
}

// Advises huge pages for a block, if its first one comes fast. Where the machine has them at hand, one takes a tenth of
// the time of its 512 small pages. In a virtual machine it takes five times as long as those, if its host has yet to
// find memory for each part of it: small pages come from what was in use a moment ago.
void ask_for_huge_pages(void* block, size_t reserved) {
  static std::atomic<int> blocks_to_skip{0};
  if (blocks_to_skip.load(std::memory_order_relaxed) > 0) {
    blocks_to_skip.fetch_sub(1, std::memory_order_relaxed);
    return;
  }
  if (madvise(block, reserved, MADV_HUGEPAGE) != 0) return;  // a kernel without huge pages
  const auto start = std::chrono::steady_clock::now();
  *static_cast<volatile char*>(block) = 0;
  if (std::chrono::steady_clock::now() - start > kHugePageTime) {
    madvise(block, reserved, MADV_NOHUGEPAGE);
    blocks_to_skip.store(kSkippedBlocks, std::memory_order_relaxed);
  }
}

// Maps `reserved` bytes aligned to kLargeBytes, or returns nullptr.
void* map_large(size_t reserved) {
  const size_t padded = reserved + kLargeBytes;
  if (padded < reserved) return nullptr;
  void* mapped = map_pages(padded);
  if (mapped == nullptr) return nullptr;
  const uintptr_t start = reinterpret_cast<uintptr_t>(mapped);
  const uintptr_t base = (start + kLargeBytes - 1) / kLargeBytes * kLargeBytes;
  if (base > start) munmap(mapped, base - start);
  const uintptr_t end = base + reserved;
  if (start + padded > end) munmap(reinterpret_cast<void*>(end), start + padded - end);
  void* block = reinterpret_cast<void*>(base);
  ask_for_huge_pages(block, reserved);
  return block;
}

bool is_guarded(gxuMemoryType type) { return type == gxuMemoryTypeDevice && guards_memory(); }

void* take_block(size_t size, size_t reserved, gxuMemoryType type) {
  if (is_guarded(type)) return take_guarded_block(size);
  if (reserved >= kLargeBytes) return map_large(reserved);
  return type == gxuMemoryTypeDevice ? map_pages(reserved) : std::aligned_alloc(kSmallAlignment, reserved);
}

void return_block(void* block, size_t reserved, gxuMemoryType type) {
  if (is_guarded(type)) {
    return_guarded_block(block);
  } else if (type == gxuMemoryTypeDevice || reserved >= kLargeBytes) {
    munmap(block, reserved);
  } else {
    std::free(block);
  }
}

void* allocate(size_t size, gxuMemoryType type, int device) {
  const size_t reserved = reserved_bytes(size, type);
  void* block = take_block(size, reserved, type);
  if (block == nullptr) return nullptr;
  try {
    publish_allocation({reinterpret_cast<uintptr_t>(block), size, type, device, reserved});
  } catch (const std::bad_alloc&) {
    return_block(block, reserved, type);
    throw;
  }
  return block;
}

void free_block(void* pointer, gxuMemoryType type, const char* function) {
  forbid_in_host_function(function);
  const Allocation allocation = find_start(pointer, type, false, function);
  if (type == gxuMemoryTypeDevice) {
    device_at(allocation.device).drain();
  } else {
    drain_all_devices();
  }
  withdraw_allocation(allocation, function);
  stop_sharing(pointer);
  return_block(pointer, allocation.reserved, type);
  if (type == gxuMemoryTypeDevice) device_at(allocation.device).discharge(allocation.reserved);
}

uint64_t free_memory(const Device& device) {
  return std::min(device.memory_limit() - device.memory_used(), available_memory());
}

[[noreturn]] void fail_out_of_memory(const Device& device, size_t size) {
  fail(gxuErrorOutOfMemory,
       "tried to allocate %zu bytes on device %d: %llu bytes are free, the limit is %llu bytes (GXU_MEMORY_LIMIT)",
       size, device.index(), static_cast<unsigned long long>(free_memory(device)),
       static_cast<unsigned long long>(device.memory_limit()));
}

}  // namespace

void publish_allocation(const Allocation& allocation) {
  add_allocation(allocation);
  memory_allocated();
}

void withdraw_allocation(const Allocation& allocation, const char* function) {
  remove_allocation(allocation, function);
  memory_freed(allocation.base, allocation.size);
}

}  // namespace gxu::host

using namespace gxu::host;

gxuError_t gxuMalloc(void** pointer, size_t size) {
  return api([&] {
    require_argument(pointer, "pointer");
    *pointer = nullptr;
    if (size == 0) return;
    Device& device = current_device();
    device.report_fault();
    const size_t reserved = reserved_bytes(size, gxuMemoryTypeDevice);
    if (!device.charge(reserved)) fail_out_of_memory(device, size);
    try {
      *pointer = allocate(size, gxuMemoryTypeDevice, device.index());
    } catch (...) {
      device.discharge(reserved);
      throw;
    }
    if (*pointer == nullptr) {
      device.discharge(reserved);
      fail_out_of_memory(device, size);
    }
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
    *pointer = allocate(size, gxuMemoryTypeHost, current_device().index());
    if (*pointer == nullptr) fail(gxuErrorOutOfMemory, "tried to allocate %zu bytes of pinned host memory", size);
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
    const Device& device = current_device();
    *free = free_memory(device);
    *total = device.memory_limit();
  });
}
