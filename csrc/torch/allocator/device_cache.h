// The caching allocator of one device.
#pragma once

#include <c10/util/flat_hash_map.h>

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "../runtime.h"
#include "block_pool.h"
#include "history.h"
#include "mutex.h"
#include "statistics.h"

namespace gxu {

// Whether requests on a stream, made by the calling thread, go to a private pool.
using StreamFilter = std::function<bool(c10::StreamId)>;

// What c10::CachingDeviceAllocator::SegmentInfo has, with the blocks in order.
using c10::CachingDeviceAllocator::SegmentInfo;

// Requests are rounded up to multiples of 512 bytes. Those up to 256 KiB are cut from segments of 2 MiB, larger ones
// from segments of 20 MiB or, from 10 MiB on, of their own size; a free block joins its free neighbours. A block is
// given out again only on its own stream, where the order of the work makes that safe without a wait.
//
// Every function is called with the allocator's lock held. Those that take it as an argument let go of it while they
// ask the runtime for memory, give some back or wait for the device.
class DeviceCache {
 public:
  using Lock = std::unique_lock<Mutex>;
  using Context = std::shared_ptr<c10::GatheredContext>;

  explicit DeviceCache(c10::DeviceIndex device);

  // Throws c10::OutOfMemoryError.
  Block* allocate(size_t requested, c10::StreamId stream, Context context, Lock& lock);
  void free(Block* block, Context context, Lock& lock);

  // Gives every segment that holds nothing back to the runtime, once the streams that still use freed blocks have
  // finished; of the pool `id` alone, where it is not (0, 0).
  void release_free_segments(c10::MempoolId_t id, Context context, Lock& lock);

  // Private pools; see CachingAllocator.
  void retain_pool(c10::MempoolId_t id, bool use_on_oom = false, bool no_split = false);
  void release_pool(c10::MempoolId_t id);
  int pool_use_count(c10::MempoolId_t id) const;
  void begin_allocate_to_pool(c10::MempoolId_t id, StreamFilter filter);
  void end_allocate_to_pool(c10::MempoolId_t id);

  // The share of the device's memory that segments may take, 0 to 1.
  void set_memory_fraction(double fraction);
  double memory_fraction() const { return memory_fraction_; }
  // The `nth` allocation from here on fails, 0: none does.
  void fail_allocation(uint64_t nth) { allocations_to_failure_ = nth; }

  // With free neighbours joined.
  DeviceStats& stats();
  const DeviceStats& counters() const { return stats_; }
  History& history() { return history_; }
  // By address; only those of the pool `id` where it is not (0, 0).
  std::vector<SegmentInfo> segments(c10::MempoolId_t id);

 private:
  struct PendingEvent {
    gxuEvent_t event;
    Block* block;
  };

  // device_cache.cpp: blocks
  void read_settings();
  size_t round_size(size_t requested) const;
  BlockPool& pool_for(size_t size, c10::StreamId stream);
  Block* find_free(BlockPool& pool, size_t size, c10::StreamId stream);
  bool should_split(const Block& block, size_t size) const;
  void give_out(Block* block, size_t size, size_t requested, Context context);
  void make_free(Block* block);
  // Joins the free neighbours in a pool.
  void merge_blocks(BlockPool& pool);
  void merge_all_blocks();
  void merge(Block* left, Block* right);
  Block* new_block(void* pointer, size_t size, BlockPool* pool, c10::StreamId stream);
  void delete_block(Block* block);

  // device_cache.cpp: blocks that other streams use
  void record_events(Block* block);
  void free_after_events(Block* block);
  void process_events();
  void end_quarantine(size_t limit);

  // private_pools.cpp
  Block* find_in_pools_for_oom(size_t size, c10::StreamId stream);
  void forget_unused_pools();

  // segments.cpp: the runtime's memory
  Block* grow(size_t size, size_t requested, BlockPool& pool, c10::StreamId stream, const Context& context, Lock& lock);
  Block* add_segment(size_t bytes, size_t requested, BlockPool& pool, c10::StreamId stream, const Context& context,
                     Lock& lock);
  void synchronize_events(Lock& lock);
  void collect_garbage(size_t wanted, Lock& lock);
  bool release_oversize_segment(size_t wanted, Lock& lock);
  bool release_sent_memory(Lock& lock);
  bool release_delegates_memory(Lock& lock);
  void take_segment(Block* block, const Context& context);
  void free_taken_segments(Lock& lock);
  [[noreturn]] void throw_out_of_memory(size_t requested, c10::StreamId stream, c10::MempoolId_t pool, Context context,
                                        Lock& lock);
  size_t allowed_bytes() const;

  const c10::DeviceIndex device_;
  BlockPool small_{true, nullptr};
  BlockPool large_{false, nullptr};
  std::map<c10::MempoolId_t, std::unique_ptr<PrivatePool>> private_pools_;
  std::vector<std::pair<c10::MempoolId_t, StreamFilter>> directed_;  // begin_allocate_to_pool without its end

  std::unordered_set<Block*> first_blocks_;  // one a segment
  std::vector<Block*> spare_blocks_;         // objects for new_block
  uint64_t segment_requests_ = 0;            // calls of grow: what the age of free blocks is counted in
  size_t requested_from_runtime_ = 0;        // bytes that threads without the lock are asking for
  std::vector<void*> taken_segments_;        // no longer counted, to be given back to the runtime
  std::mutex release_mutex_;                 // held, without the lock, by a thread that gives segments back

  std::map<c10::StreamId, std::deque<PendingEvent>> events_;  // of the streams that use freed blocks
  std::vector<gxuEvent_t> spare_events_;
  std::vector<Block*> deferred_;   // freed while requests were directed to a pool: a capture allows no events
  std::deque<Block*> quarantine_;  // with GXU_SANITIZE=1
  size_t quarantined_bytes_ = 0;

  bool rounds_to_divisions_ = false;  // the setting roundup_power2_divisions, as it was at the last call of grow
  size_t total_memory_ = 0;           // bytes, asked for once a fraction is set
  double memory_fraction_ = 1;
  uint64_t allocations_to_failure_ = 0;
  DeviceStats stats_;
  History history_;
};

}  // namespace gxu
