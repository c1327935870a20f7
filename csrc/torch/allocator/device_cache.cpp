#include "device_cache.h"

#include <c10/core/AllocatorConfig.h>
#include <c10/util/Exception.h>

#include <algorithm>

#include "../device_name.h"
#include "../memory_check.h"
#include "../stream.h"
#include "memory_guard.h"

namespace gxu {
namespace {

using c10::CachingAllocator::AcceleratorAllocatorConfig;
using c10::CachingAllocator::kMinBlockSize;

size_t round_up(size_t value, size_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// With the setting max_split_size, which is above 20 MiB: a block that is not split.
bool is_oversize(const Block& block) {
  return !block.pool->is_small() && block.size >= AcceleratorAllocatorConfig::max_split_size();
}

}  // namespace

DeviceCache::DeviceCache(c10::DeviceIndex device) : device_(device) { read_settings(); }

void DeviceCache::read_settings() {
  const std::vector<size_t>& divisions = AcceleratorAllocatorConfig::roundup_power2_divisions();
  rounds_to_divisions_ = std::any_of(divisions.begin(), divisions.end(), [](size_t count) { return count > 1; });
}

// Bytes of a block for a request: a multiple of 512, and of a fraction of the next lower power of two where the setting
// roundup_power2_divisions asks for that.
size_t DeviceCache::round_size(size_t requested) const {
  if (requested <= kMinBlockSize) {
    return kMinBlockSize;
  }
  if (C10_UNLIKELY(rounds_to_divisions_)) {
    const size_t divisions = AcceleratorAllocatorConfig::roundup_power2_divisions(requested);
    if (divisions > 1 && requested > kMinBlockSize * divisions) {
      const size_t power = size_t{1} << c10::llvm::Log2_64(requested);
      requested = round_up(requested, std::max<size_t>(power / divisions, 1));
    }
  }
  return round_up(requested, kMinBlockSize);
}

Block* DeviceCache::allocate(size_t requested, c10::StreamId stream, Context context, Lock& lock) {
  if (C10_UNLIKELY(allocations_to_failure_ > 0) && --allocations_to_failure_ == 0) {
    ++stats_.num_ooms;
    TORCH_CHECK_WITH(OutOfMemoryError, false, "GXU out of memory. Tried to allocate ",
                     c10::CachingAllocator::format_size(requested), ", and torch.", device_name(),
                     ".memory._fail_allocation asked ", "for a failure of this allocation.");
  }
  if (C10_UNLIKELY(!events_.empty() || !deferred_.empty())) {
    process_events();
    if (!taken_segments_.empty()) {
      free_taken_segments(lock);
    }
  }
  const size_t size = round_size(requested + (checks_memory() ? kCheckedGap : 0));
  BlockPool& pool = pool_for(size, stream);
  Block* block = find_free(pool, size, stream);
  if (C10_UNLIKELY(block == nullptr)) {
    block = grow(size, requested, pool, stream, context, lock);
  }
  give_out(block, size, requested, std::move(context));
  return block;
}

void DeviceCache::free(Block* block, Context context, Lock& lock) {
  const StatType pool = block->pool->stat_type();
  decrease(stats_.allocation, pool, 1);
  decrease(stats_.allocated_bytes, pool, block->size);
  decrease(stats_.requested_bytes, pool, block->requested);
  if (is_oversize(*block)) {
    stats_.oversize_allocations.decrease(1);
  }
  block->state = BlockState::kPending;
  if (C10_UNLIKELY(History::enabled())) {
    history_.record(TraceEntry::FREE_REQUESTED, *block, block->requested, context);
  }
  if (C10_LIKELY(block->foreign_streams.empty())) {
    free_after_events(block);
  } else if (!directed_.empty()) {
    deferred_.push_back(block);
  } else {
    record_events(block);
  }
  if (C10_UNLIKELY(!taken_segments_.empty())) {
    free_taken_segments(lock);
  }
}

BlockPool& DeviceCache::pool_for(size_t size, c10::StreamId stream) {
  const bool is_small = size <= kSmallBytes;
  if (C10_UNLIKELY(!directed_.empty())) {
    for (const auto& [id, filter] : directed_) {
      if (filter(stream)) {
        PrivatePool& pool = *private_pools_.at(id);
        return is_small ? pool.small : pool.large;
      }
    }
  }
  return is_small ? small_ : large_;
}

// Takes a block out of the pool. With the setting max_split_size, blocks from that size on are kept for requests that
// fill them.
Block* DeviceCache::find_free(BlockPool& pool, size_t size, c10::StreamId stream) {
  if (C10_UNLIKELY(guards_memory())) {
    return nullptr;
  }
  Block* block = pool.find(size, stream);
  if ((block == nullptr || block->size != size) && pool.has_unmerged()) {
    merge_blocks(pool);
    block = pool.find(size, stream);
  }
  if (block == nullptr) {
    return nullptr;
  }
  if (is_oversize(*block) && (size < AcceleratorAllocatorConfig::max_split_size() ||
                              block->size >= size + AcceleratorAllocatorConfig::max_non_split_rounding_size())) {
    return nullptr;
  }
  pool.erase(block);
  return block;
}

bool DeviceCache::should_split(const Block& block, size_t size) const {
  const BlockPool& pool = *block.pool;
  if (pool.owner() != nullptr && pool.owner()->no_split) {
    return false;
  }
  const size_t rest = block.size - size;
  if (pool.is_small()) {
    return rest >= kMinBlockSize;
  }
  return rest > kSmallBytes && size < AcceleratorAllocatorConfig::max_split_size();
}

void DeviceCache::give_out(Block* block, size_t size, size_t requested, Context context) {
  BlockPool* pool = block->pool;
  const StatType type = pool->stat_type();
  const bool was_split = block->is_split();
  if (should_split(*block, size)) {
    Block* rest = new_block(static_cast<char*>(block->pointer) + size, block->size - size, pool, block->stream);
    rest->previous = block;
    rest->next = block->next;
    if (rest->next != nullptr) {
      rest->next->previous = rest;
    }
    rest->freed_at = block->freed_at;
    block->next = rest;
    block->size = size;
    pool->insert(rest);
    if (block->is_unmerged) {
      pool->add_unmerged(rest);
    }
    if (was_split) {
      decrease(stats_.inactive_split_bytes, type, size);
    } else {
      increase(stats_.inactive_split, type, 1);
      increase(stats_.inactive_split_bytes, type, rest->size);
    }
  } else if (was_split) {
    decrease(stats_.inactive_split, type, 1);
    decrease(stats_.inactive_split_bytes, type, block->size);
  }
  block->state = BlockState::kAllocated;
  block->requested = requested;
  increase(stats_.allocation, type, 1);
  increase(stats_.allocated_bytes, type, block->size);
  increase(stats_.requested_bytes, type, requested);
  increase(stats_.active, type, 1);
  increase(stats_.active_bytes, type, block->size);
  if (is_oversize(*block)) {
    stats_.oversize_allocations.increase(1);
  }
  if (C10_UNLIKELY(History::enabled())) {
    history_.record(TraceEntry::ALLOC, *block, requested, context);
    block->allocation_context = std::move(context);
  }
}

void DeviceCache::make_free(Block* block) {
  if (C10_UNLIKELY(History::enabled())) {
    history_.record(TraceEntry::FREE_COMPLETED, *block, block->requested, nullptr);
  }
  if (C10_UNLIKELY(block->allocation_context != nullptr)) {
    block->allocation_context = nullptr;
  }
  BlockPool* pool = block->pool;
  const StatType type = pool->stat_type();
  decrease(stats_.active, type, 1);
  decrease(stats_.active_bytes, type, block->size);
  block->state = BlockState::kFree;
  block->freed_at = segment_requests_;
  if (C10_UNLIKELY(guards_memory())) {
    take_segment(block, nullptr);
    return;
  }
  pool->insert(block);
  if (block->is_split()) {
    pool->add_unmerged(block);
    increase(stats_.inactive_split, type, 1);
    increase(stats_.inactive_split_bytes, type, block->size);
    if (!pool->is_small()) {
      merge_blocks(*pool);
    }
  }
}

void DeviceCache::merge_blocks(BlockPool& pool) {
  const auto is_free = [](const Block* block) { return block != nullptr && block->state == BlockState::kFree; };
  int64_t count = 0;
  int64_t bytes = 0;
  for (Block* block : pool.take_unmerged()) {
    block->is_unmerged = false;
    if (block->state == BlockState::kMerged) {
      delete_block(block);
      continue;
    }
    if (block->state != BlockState::kFree || !block->is_split()) {
      continue;
    }
    while (is_free(block->previous)) {
      block = block->previous;
    }
    if (!is_free(block->next)) {
      continue;
    }
    pool.erase(block);
    while (is_free(block->next)) {
      pool.erase(block->next);
      merge(block, block->next);
      ++count;
    }
    pool.insert(block);
    if (!block->is_split()) {  // a segment that holds nothing is not counted
      ++count;
      bytes += static_cast<int64_t>(block->size);
    }
  }
  change(stats_.inactive_split, pool.stat_type(), -count);
  change(stats_.inactive_split_bytes, pool.stat_type(), -bytes);
}

void DeviceCache::merge_all_blocks() {
  merge_blocks(small_);
  merge_blocks(large_);
  for (const auto& [id, pool] : private_pools_) {
    merge_blocks(pool->small);
    merge_blocks(pool->large);
  }
}

DeviceStats& DeviceCache::stats() {
  merge_all_blocks();
  stats_.max_split_size = static_cast<int64_t>(AcceleratorAllocatorConfig::max_split_size());
  return stats_;
}

// `left` takes over its right neighbour, so that the object of a segment's first block stays.
void DeviceCache::merge(Block* left, Block* right) {
  left->size += right->size;
  left->freed_at = segment_requests_;
  left->next = right->next;
  if (left->next != nullptr) {
    left->next->previous = left;
  }
  if (right->is_unmerged) {
    right->state = BlockState::kMerged;
  } else {
    delete_block(right);
  }
}

Block* DeviceCache::new_block(void* pointer, size_t size, BlockPool* pool, c10::StreamId stream) {
  if (spare_blocks_.empty()) {
    return new Block{pointer, size, pool, device_, stream};
  }
  Block* block = spare_blocks_.back();
  spare_blocks_.pop_back();
  block->pointer = pointer;
  block->size = size;
  block->pool = pool;
  block->stream = stream;
  block->state = BlockState::kFree;
  block->is_unmerged = false;
  block->previous = block->next = nullptr;
  return block;
}

// What new_block does not set is as it was made: only blocks that hold nothing are deleted.
void DeviceCache::delete_block(Block* block) { spare_blocks_.push_back(block); }

// The block becomes free once every other stream that used it has passed this point.
void DeviceCache::record_events(Block* block) {
  const RuntimeApi& api = runtime();
  const DeviceScope scope(device_);
  for (const c10::StreamId stream : std::exchange(block->foreign_streams, {})) {
    gxuEvent_t event = nullptr;
    if (!spare_events_.empty()) {
      event = spare_events_.back();
      spare_events_.pop_back();
    } else if (api.gxuEventCreate(&event, gxuEventDisableTiming) != gxuSuccess) {
      continue;  // the runtime is shutting down
    }
    if (api.gxuEventRecord(event, native_stream(stream)) != gxuSuccess) {
      api.gxuEventDestroy(event);
      continue;
    }
    events_[stream].push_back({event, block});
    ++block->pending_events;
  }
  free_after_events(block);
}

void DeviceCache::free_after_events(Block* block) {
  if (block->pending_events > 0) {
    return;
  }
  if (C10_UNLIKELY(checks_memory())) {
    quarantine_.push_back(block);
    quarantined_bytes_ += block->size;
    end_quarantine(kCheckedQuarantine);
  } else {
    make_free(block);
  }
}

void DeviceCache::process_events() {
  if (!directed_.empty()) {
    return;
  }
  for (Block* block : std::exchange(deferred_, {})) {
    record_events(block);
  }
  for (auto stream = events_.begin(); stream != events_.end();) {
    std::deque<PendingEvent>& events = stream->second;
    while (!events.empty() && runtime().gxuEventQuery(events.front().event) != gxuErrorNotReady) {
      const PendingEvent done = events.front();
      events.pop_front();
      spare_events_.push_back(done.event);
      --done.block->pending_events;
      free_after_events(done.block);
    }
    stream = events.empty() ? events_.erase(stream) : std::next(stream);
  }
}

// Lets the oldest blocks out until at most `limit` bytes are left.
void DeviceCache::end_quarantine(size_t limit) {
  while (quarantined_bytes_ > limit) {
    Block* block = quarantine_.front();
    quarantine_.pop_front();
    quarantined_bytes_ -= block->size;
    make_free(block);
  }
}

}  // namespace gxu
