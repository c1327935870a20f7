// Device memory for the results of delegated operators.
#pragma once

#include <c10/core/Device.h>

namespace gxu {

// Puts an allocator in front of PyTorch's CPU allocator. It forwards every request, except those that this thread makes
// while it executes a delegated operator: these get memory of the gxu device, so that results need no copy and count.
void install_delegate_allocator();

// In its scope, CPU allocations of this thread are memory of `device`.
class DelegateAllocationScope {
 public:
  explicit DelegateAllocationScope(c10::DeviceIndex device);
  ~DelegateAllocationScope();
  DelegateAllocationScope(const DelegateAllocationScope&) = delete;
  DelegateAllocationScope& operator=(const DelegateAllocationScope&) = delete;

 private:
  c10::DeviceIndex previous_;
};

}  // namespace gxu
