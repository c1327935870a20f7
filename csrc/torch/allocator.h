// The caching allocator of device memory.
#pragma once

#include <c10/core/CachingDeviceAllocator.h>

#include <functional>
#include <utility>
#include <vector>

#include "allocator/history.h"
#include "allocator/statistics.h"
#include "device.h"

namespace gxu {

// What the allocator holds and, where a history is recorded, what it did.
struct MemorySnapshot {
  std::vector<c10::CachingDeviceAllocator::SegmentInfo> segments;
  std::vector<std::vector<TraceEntry>> device_traces;  // one a device
};

// Blocks, pools and what happens when memory runs out: allocator/device_cache.h. The settings of PYTORCH_ALLOC_CONF and
// torch._C._accelerator_setAllocatorSettings apply, except expandable_segments.
class CachingAllocator final : public c10::DeviceAllocator {
 public:
  // Never destroyed: tensors may be freed after static destructors ran.
  static CachingAllocator& instance();

  // `nbytes` on the current device and its current stream. Throws c10::OutOfMemoryError.
  at::DataPtr allocate(size_t nbytes) override;
  // The same for a given device; the pointer carries `label` as its device.
  at::DataPtr allocate_on(c10::DeviceIndex device, size_t nbytes, c10::Device label);
  // The same for a given stream, to be freed by `free`; nullptr for 0 bytes.
  void* allocate_raw(c10::DeviceIndex device, size_t nbytes, c10::StreamId stream);
  // Frees what allocate returned; ignores other pointers and says so by returning false.
  static bool try_free(void* pointer) noexcept;
  static void free(void* pointer);
  c10::DeleterFnPtr raw_deleter() const override { return &CachingAllocator::free; }
  void copy_data(void* destination, const void* source, size_t count) const override;

  bool initialized() override { return is_initialized(); }
  // Gives segments without a block in use back to the runtime, on all devices; of one private pool where `pool` is not
  // (0, 0). Waits for streams that use freed blocks.
  void emptyCache(c10::MempoolId_t pool) override;
  void recordStream(const at::DataPtr& pointer, c10::Stream stream) override;
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex device) override {
    return statistics(device);
  }
  DeviceStats statistics(c10::DeviceIndex device);
  void resetAccumulatedStats(c10::DeviceIndex device) override;
  void resetPeakStats(c10::DeviceIndex device) override;
  // {free, total} bytes of the device as the runtime reports them.
  std::pair<size_t, size_t> getMemoryInfo(c10::DeviceIndex device) override;

  // Private pools keep memory apart: what a captured graph uses must not serve anyone else, as its replays write to the
  // same addresses. A pool exists on a device from its first retain (begin_allocate_to_pool retains, too) until it is
  // released as often and its memory has gone back to the runtime, which emptyCache and a lack of memory bring about.

  // An id that no other pool has: (0, n) for pools that users make, (n, 0) for those of graphs.
  static c10::MempoolId_t new_pool_id(bool is_user_created);
  // `use_on_oom`: serves any request before memory runs out. `no_split`: gives a segment to one request only.
  void retain_pool(c10::DeviceIndex device, c10::MempoolId_t id, bool use_on_oom = false, bool no_split = false);
  void release_pool(c10::DeviceIndex device, c10::MempoolId_t id);
  int pool_use_count(c10::DeviceIndex device, c10::MempoolId_t id);
  // Whether the live block that starts at `pointer` belongs to that private pool.
  bool is_in_pool(void* pointer, c10::MempoolId_t id);
  // From here on, a request on a stream for which `filter` is true, called on the thread of the request with the
  // allocator's lock held, is served from the pool. Until the end, blocks that other streams use stay where they are
  // and nothing waits for the device: streams may be capturing.
  void begin_allocate_to_pool(c10::DeviceIndex device, c10::MempoolId_t id, std::function<bool(c10::StreamId)> filter);
  void end_allocate_to_pool(c10::DeviceIndex device, c10::MempoolId_t id);

  // The share of the device's memory that the allocator may hold, 0 to 1.
  void set_memory_fraction(c10::DeviceIndex device, double fraction);
  double memory_fraction(c10::DeviceIndex device);
  // Makes the `nth` allocation from here on fail, to test what callers do then; 0: none.
  void fail_allocation(c10::DeviceIndex device, uint64_t nth);

  void record_history(const HistorySettings& settings, bool clear);
  // Of all devices; of one private pool where `pool` is not (0, 0).
  MemorySnapshot snapshot(c10::MempoolId_t pool, bool include_traces);
  // Where the live block that starts at `pointer` was allocated; nullptr where that is not recorded.
  std::shared_ptr<c10::GatheredContext> allocation_context(void* pointer);
};

}  // namespace gxu
