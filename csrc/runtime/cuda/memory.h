// Device and pinned host memory: the allocations of common/, and what the driver knows.
#pragma once

#include "../common/allocations.h"
#include "driver.h"

namespace gxu::cuda {

// Whether the driver knows the memory: that of this runtime, and what others have allocated or pinned by the driver.
bool is_known_to_driver(const void* pointer);

// After the driver was asked to free what has been removed from the allocations. Where it refused, they have it again,
// and the driver's error is thrown. After a failed kernel nothing can be freed any more, and others report that.
void check_freed(const Allocation& allocation, CUresult result, const char* function);

inline CUdeviceptr device_pointer(const void* pointer) { return reinterpret_cast<CUdeviceptr>(pointer); }

}  // namespace gxu::cuda
