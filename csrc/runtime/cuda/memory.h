// The allocations of this process, by address.
#pragma once

#include <cstdint>
#include <optional>

#include "driver.h"

namespace gxu::cuda {

struct Allocation {
  uintptr_t base;
  size_t size;  // bytes asked for
  gxuMemoryType type;
  int device;
  bool imported = false;  // opened with gxuIpcOpenMemHandle
  int openings = 1;       // of an imported one: the driver gives the same address for the same memory
};

// The allocation that holds `pointer`, if any.
std::optional<Allocation> find_allocation(const void* pointer);
// As find_allocation; throws gxuErrorInvalidValue when the range leaves the allocation.
std::optional<Allocation> find_range(const void* pointer, size_t size, const char* name);
// The live allocation that starts at `pointer`; throws gxuErrorInvalidValue where it is none or of another kind.
Allocation find_start(void* pointer, gxuMemoryType type, bool imported, const char* function);

void add_allocation(const Allocation& allocation);
// Whether it was there; one that was opened several times stays until the last closing.
bool remove_allocation(const Allocation& allocation);

// Whether the driver knows the memory: that of this runtime, and what others have allocated or pinned by the driver.
bool is_known_to_driver(const void* pointer);

inline CUdeviceptr device_pointer(const void* pointer) { return reinterpret_cast<CUdeviceptr>(pointer); }

}  // namespace gxu::cuda
