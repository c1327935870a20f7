// Device and pinned host memory, and the map of live allocations.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "../gxu_runtime.h"

namespace gxu::host {

struct Allocation {
  uintptr_t base;
  size_t size;  // bytes asked for
  gxuMemoryType type;
  int device;
  size_t reserved;        // bytes taken from the system and, for device memory, from the device's budget
  bool imported = false;  // another process's memory (ipc.cpp): charged to that one's budget
};

// The live allocation that holds `pointer` (its first byte to its last).
std::optional<Allocation> find_allocation(const void* pointer);

// The live allocation that starts at `pointer` and is of that kind; throws gxuErrorInvalidValue otherwise.
Allocation find_start(void* pointer, gxuMemoryType type, bool imported, const char* function);

// Adds and removes an entry of the map. remove_allocation returns false when another thread did so first.
void add_allocation(const Allocation& allocation);
bool remove_allocation(const Allocation& allocation);

// All of them, by address.
std::vector<Allocation> live_allocations();

// As find_allocation; throws gxuErrorInvalidValue when the range [pointer, pointer + size) leaves its allocation.
std::optional<Allocation> find_range(const void* pointer, size_t size, const char* name);

}  // namespace gxu::host
