// The record of what the allocator did and from where it was asked, for snapshots.
#pragma once

#include <c10/core/CachingDeviceAllocator.h>
#include <c10/util/ApproximateClock.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "block.h"

namespace gxu {

using c10::CachingDeviceAllocator::CreateContextFn;
using c10::CachingDeviceAllocator::RecordContext;
using c10::CachingDeviceAllocator::TraceEntry;

struct HistorySettings {
  bool enabled = false;
  CreateContextFn create_context = nullptr;              // gives the calling thread's stack
  RecordContext when = RecordContext::NEVER;             // what stacks are kept for
  size_t max_entries = 0;                                // a device; 0: only the stacks of live blocks are kept
  std::vector<TraceEntry::Action> skipped_actions = {};  // that are not recorded
};

// The calling thread's stack where `level` is recorded, else nullptr. To be called without the allocator's lock: it may
// take the GIL.
std::shared_ptr<c10::GatheredContext> gather_context(RecordContext level);

// A text that entries of the calling thread carry from here on.
void set_memory_metadata(std::string metadata);
const std::string& memory_metadata();

// The last entries of one device, each with time_.t_ in nanoseconds since 1970. Not thread-safe.
class History {
 public:
  // Takes over settings, which gather_context and all devices share.
  static void configure(const HistorySettings& settings);
  static bool enabled() { return enabled_.load(std::memory_order_relaxed); }

  void record(TraceEntry::Action action, const Block& block, size_t size,
              std::shared_ptr<c10::GatheredContext> context);
  // `address` is 0 for a snapshot, and the device's free bytes where memory ran out.
  void record(TraceEntry::Action action, c10::DeviceIndex device, size_t address, size_t size, c10::StreamId stream,
              c10::MempoolId_t pool, std::shared_ptr<c10::GatheredContext> context);
  // Oldest first.
  std::vector<TraceEntry> entries() const;
  void clear();

 private:
  static std::atomic<bool> enabled_;

  std::vector<TraceEntry> entries_;
  size_t oldest_ = 0;  // where the next entry goes once max_entries are there
};

}  // namespace gxu
