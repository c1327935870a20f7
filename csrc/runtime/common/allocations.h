// The device and pinned host memory that an engine gave out, by address.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "error.h"

namespace gxu::engine {

struct Allocation {
  uintptr_t base;
  size_t size;  // bytes asked for
  gxuMemoryType type;
  int device;
  size_t reserved;        // bytes taken from the system and, for device memory, from the device's budget
  bool imported = false;  // opened with gxuIpcOpenMemHandle: charged to the budget of the process that owns it
  int openings = 1;       // of imported memory: an engine may give the same address for the same memory
};

// The live allocation that holds `pointer` (its first byte to its last).
std::optional<Allocation> find_allocation(const void* pointer);

// As find_allocation; throws gxuErrorInvalidValue when the range [pointer, pointer + size) leaves its allocation.
std::optional<Allocation> find_range(const void* pointer, size_t size, const char* name);

// The live allocation that starts at `pointer` and is of that kind; throws gxuErrorInvalidValue otherwise.
Allocation find_start(void* pointer, gxuMemoryType type, bool imported, const char* function);

// All of them, by address.
std::vector<Allocation> live_allocations();

void add_allocation(const Allocation& allocation);

// Takes it out, or one of its openings. Throws gxuErrorInvalidValue when another thread did so first.
void remove_allocation(const Allocation& allocation, const char* function);

}  // namespace gxu::engine
