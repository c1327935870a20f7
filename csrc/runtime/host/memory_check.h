// GXU_SANITIZE=1: which memory a launched kernel may access, and what is said about an access elsewhere.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gxu_host_kernel.h"

namespace gxu::host {

struct MemoryRange {
  uintptr_t base;
  size_t size;  // bytes

  bool contains(uintptr_t address) const { return address - base < size; }
};

// The memory that was allocated when a kernel was launched.
class CheckedMemory {
 public:
  using Ranges = std::vector<MemoryRange>;  // by address, without overlaps

  CheckedMemory(std::shared_ptr<const Ranges> allocated, Ranges passed)
      : allocated_(std::move(allocated)), passed_(std::move(passed)) {}

  // gxuHostServices::check_accesses. Returns a sentence about the first access that is not allowed; empty: none.
  std::string check(const gxuHostAccess& access, const gxuHostGrid& grid, int64_t program, const void* origin,
                    const uint64_t* addresses, uint8_t* wanted) const;

 private:
  const MemoryRange* find(uintptr_t address) const;
  const MemoryRange* nearest(uintptr_t address) const;
  std::string place(uintptr_t address, const MemoryRange* expected) const;

  std::shared_ptr<const Ranges> allocated_;
  Ranges passed_;  // with one launch: these come first, they are more exact
};

// What the calling thread's next launch may access; null where nothing is checked.
std::shared_ptr<const CheckedMemory> memory_for_launch();

// To be called after an allocation of the engine appeared, and after one disappeared.
void memory_allocated();
void memory_freed(uintptr_t base, size_t size);

}  // namespace gxu::host
