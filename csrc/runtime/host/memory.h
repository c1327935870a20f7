// Device and pinned host memory: the allocations of common/ in this engine.
#pragma once

#include "../common/allocations.h"
#include "error.h"

namespace gxu::host {

// As add_allocation and remove_allocation, for GXU_SANITIZE=1 too.
void publish_allocation(const Allocation& allocation);
void withdraw_allocation(const Allocation& allocation, const char* function);

}  // namespace gxu::host
