// Kernel launches.
#pragma once

#include "record.h"

namespace gxu::host {

// Runs all programs of the launch on the calling thread and, where that pays, its team. A failed device assertion or
// missing scratch memory becomes the device's failure.
void run_kernel(const KernelLaunch& launch, Device& device);

}  // namespace gxu::host
