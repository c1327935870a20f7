// Device and pinned host memory: the allocations of common/, and what the driver knows.
#pragma once

#include "../common/allocations.h"
#include "driver.h"

namespace gxu::cuda {

// Whether the driver knows the memory: that of this runtime, and what others have allocated or pinned by the driver.
bool is_known_to_driver(const void* pointer);

inline CUdeviceptr device_pointer(const void* pointer) { return reinterpret_cast<CUdeviceptr>(pointer); }

}  // namespace gxu::cuda
