// The caching allocator of device memory.
#pragma once

#include <c10/core/CachingDeviceAllocator.h>

#include "device.h"

namespace gxu {

// Requests up to 1 MiB are served from slabs: segments of device memory that hold equal blocks. Larger requests get a
// segment each. Freed blocks wait in lists per device, stream and size class for the next request of that class: a
// block is handed out again only on its own stream, so no wait is needed. Whole free segments go back to the runtime
// when memory runs out, or by emptyCache.
class CachingAllocator final : public c10::DeviceAllocator {
 public:
  // Never destroyed: tensors may be freed after static destructors ran.
  static CachingAllocator& instance();

  // `nbytes` on the current device and its current stream. Throws c10::OutOfMemoryError.
  at::DataPtr allocate(size_t nbytes) override;
  // The same for a given device; the pointer carries `label` as its device.
  at::DataPtr allocate_on(c10::DeviceIndex device, size_t nbytes, c10::Device label);
  // Frees what allocate returned; ignores other pointers and says so by returning false.
  static bool try_free(void* pointer) noexcept;
  static void free(void* pointer);
  c10::DeleterFnPtr raw_deleter() const override { return &CachingAllocator::free; }
  void copy_data(void* destination, const void* source, size_t count) const override;

  bool initialized() override { return is_initialized(); }
  void emptyCache(c10::MempoolId_t pool) override;
  void recordStream(const at::DataPtr& pointer, c10::Stream stream) override;
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex device) override;
  void resetAccumulatedStats(c10::DeviceIndex device) override;
  void resetPeakStats(c10::DeviceIndex device) override;
  // {free, total} bytes of the device as the runtime reports them.
  std::pair<size_t, size_t> getMemoryInfo(c10::DeviceIndex device) override;
};

}  // namespace gxu
