// DeviceCache: getting segments from the runtime, giving them back, and what is tried before memory runs out.
#include <c10/core/AllocatorConfig.h>
#include <c10/util/Exception.h>
#include <c10/util/ScopeExit.h>

#include <algorithm>
#include <optional>

#include "../cuda_delegate.h"
#include "../gil.h"
#include "../sharing.h"
#include "../stream.h"
#include "device_cache.h"
#include "memory_guard.h"

namespace gxu {
namespace {

using c10::CachingAllocator::AcceleratorAllocatorConfig;
using c10::CachingAllocator::format_size;
using c10::CachingAllocator::kMinBlockSize;
using c10::CachingAllocator::kMinLargeAlloc;
using c10::CachingAllocator::kRoundLarge;
using c10::CachingAllocator::kSmallBuffer;

// Without the allocator's lock, and without the GIL where this thread has it: what the thread waits for may be a host
// function in a stream, and that may need either.
class Unlocked {
 public:
  explicit Unlocked(DeviceCache::Lock& lock) : lock_(lock) {
    lock_.unlock();
    no_gil_.emplace();
  }
  ~Unlocked() {
    no_gil_.reset();
    lock_.lock();
  }
  Unlocked(const Unlocked&) = delete;
  Unlocked& operator=(const Unlocked&) = delete;

 private:
  DeviceCache::Lock& lock_;
  std::optional<GilRelease> no_gil_;
};

size_t segment_size(size_t size) {
  if (size <= kSmallBytes) {
    return kSmallBuffer;
  }
  if (size < kMinLargeAlloc) {
    return std::max(AcceleratorAllocatorConfig::large_segment_size(), size);
  }
  return (size + kRoundLarge - 1) / kRoundLarge * kRoundLarge;
}

}  // namespace

// A free block of at least `size` bytes for the pool. The attempts go from cheap to dear.
Block* DeviceCache::grow(size_t size, size_t requested, BlockPool& pool, c10::StreamId stream, const Context& context,
                         Lock& lock) {
  ++segment_requests_;
  read_settings();
  PrivatePool* owner = pool.owner();
  const c10::MempoolId_t id = owner != nullptr ? owner->id : c10::MempoolId_t(0, 0);
  if (owner != nullptr) {
    ++owner->use_count;  // the pool must not go while this thread is without the lock
  }
  const auto release_owner = c10::make_scope_exit([&] {
    if (owner != nullptr) {
      --owner->use_count;
    }
  });
  if (guards_memory()) {
    Block* block = add_segment(size, requested, pool, stream, context, lock);
    if (block == nullptr) {
      throw_out_of_memory(requested, stream, id, context, lock);
    }
    return block;
  }
  const size_t wanted = segment_size(size);
  if (owner == nullptr) {
    collect_garbage(wanted, lock);
  }
  Block* block = add_segment(wanted, requested, pool, stream, context, lock);
  if (block == nullptr && release_oversize_segment(wanted, lock)) {
    block = add_segment(wanted, requested, pool, stream, context, lock);
  }
  if (block == nullptr) {
    release_free_segments({0, 0}, context, lock);
    ++stats_.num_alloc_retries;
    block = find_free(pool, size, stream);  // what other streams used until now
    if (block == nullptr) {
      block = add_segment(wanted, requested, pool, stream, context, lock);
    }
    if (block == nullptr && size < wanted) {
      block = add_segment(size, requested, pool, stream, context, lock);
    }
  }
  if (block == nullptr && release_sent_memory(lock)) {
    block = add_segment(size, requested, pool, stream, context, lock);
  }
  if (block == nullptr && release_delegates_memory(lock)) {
    block = add_segment(size, requested, pool, stream, context, lock);
  }
  if (block == nullptr) {
    block = find_in_pools_for_oom(size, stream);
  }
  if (block == nullptr) {
    throw_out_of_memory(requested, stream, id, context, lock);
  }
  return block;
}

// What was kept for other processes until they had it.
bool DeviceCache::release_sent_memory(Lock& lock) {
  const Unlocked unlocked(lock);
  return free_opened_memory();
}

// What PyTorch's CUDA allocator keeps of the same device without using it.
bool DeviceCache::release_delegates_memory(Lock& lock) {
  const Unlocked unlocked(lock);
  return release_cuda_cache(device_);
}

// Asks the runtime. nullptr where it has not that much memory left, or the process must not take that much.
Block* DeviceCache::add_segment(size_t bytes, size_t requested, BlockPool& pool, c10::StreamId stream,
                                const Context& context, Lock& lock) {
  if (memory_fraction_ < 1 && current(stats_.reserved_bytes) + requested_from_runtime_ + bytes > allowed_bytes()) {
    return nullptr;
  }
  void* pointer = nullptr;
  gxuError_t error = gxuSuccess;
  requested_from_runtime_ += bytes;
  {
    const Unlocked unlocked(lock);
    const DeviceScope scope(device_);
    error = runtime().gxuMalloc(&pointer, guards_memory() ? requested : bytes);  // a guard follows the last byte
  }
  requested_from_runtime_ -= bytes;
  if (error == gxuErrorOutOfMemory) {
    return nullptr;
  }
  check(error, "gxuMalloc");
  Block* block = new_block(pointer, bytes, &pool, stream);
  first_blocks_.insert(block);
  const StatType type = pool.stat_type();
  ++stats_.num_device_alloc;
  increase(stats_.segment, type, 1);
  increase(stats_.reserved_bytes, type, bytes);
  if (pool.owner() != nullptr) {
    ++pool.owner()->num_segments;
    increase(stats_.reserved_bytes_by_private_pools[pool.owner()->id], type, bytes);
  }
  if (bytes >= AcceleratorAllocatorConfig::max_split_size()) {
    stats_.oversize_segments.increase(1);
  }
  if (C10_UNLIKELY(History::enabled())) {
    history_.record(TraceEntry::SEGMENT_ALLOC, *block, bytes, context);
    block->segment_context = context;
  }
  return block;
}

void DeviceCache::release_free_segments(c10::MempoolId_t id, Context context, Lock& lock) {
  synchronize_events(lock);
  end_quarantine(0);
  merge_all_blocks();
  std::vector<Block*> unused;
  const auto collect = [&](const BlockPool& pool) {
    pool.for_each([&](Block* block) {
      if (!block->is_split()) {
        unused.push_back(block);
      }
    });
  };
  const bool is_private = id != c10::MempoolId_t(0, 0);
  if (!is_private) {
    collect(small_);
    collect(large_);
  }
  for (const auto& [pool_id, pool] : private_pools_) {
    if (is_private ? pool_id == id : pool->use_count == 0) {
      collect(pool->small);
      collect(pool->large);
    }
  }
  for (Block* block : unused) {
    block->pool->erase(block);
    take_segment(block, context);
  }
  small_.trim();
  large_.trim();
  free_taken_segments(lock);
  forget_unused_pools();
}

// Takes a free segment out of the books; free_taken_segments gives it to the runtime.
void DeviceCache::take_segment(Block* block, const Context& context) {
  if (C10_UNLIKELY(History::enabled())) {
    history_.record(TraceEntry::SEGMENT_FREE, *block, block->size, context);
  }
  BlockPool* pool = block->pool;
  const StatType type = pool->stat_type();
  const size_t bytes = block->size;
  ++stats_.num_device_free;
  decrease(stats_.segment, type, 1);
  decrease(stats_.reserved_bytes, type, bytes);
  if (pool->owner() != nullptr) {
    --pool->owner()->num_segments;
    decrease(stats_.reserved_bytes_by_private_pools[pool->owner()->id], type, bytes);
  }
  if (bytes >= AcceleratorAllocatorConfig::max_split_size()) {
    stats_.oversize_segments.decrease(1);
  }
  taken_segments_.push_back(block->pointer);
  first_blocks_.erase(block);
  block->segment_context = nullptr;
  delete_block(block);
}

// One thread at a time: another that found no memory left waits here for what this one gives back.
void DeviceCache::free_taken_segments(Lock& lock) {
  std::vector<void*> segments = std::exchange(taken_segments_, {});
  {
    const Unlocked unlocked(lock);
    std::lock_guard<std::mutex> release_lock(release_mutex_);
    std::erase_if(segments, [](void* segment) { return runtime().gxuFree(segment) != gxuErrorNotPermitted; });
  }
  // A host function, from which nothing can be freed, dropped a tensor: the next call does it.
  taken_segments_.insert(taken_segments_.end(), segments.begin(), segments.end());
}

// Waits for the streams that use freed blocks. Not while requests are directed to a pool: a capturing stream cannot be
// waited for.
void DeviceCache::synchronize_events(Lock& lock) {
  process_events();
  if (events_.empty() || !directed_.empty()) {
    return;
  }
  ++stats_.num_sync_all_streams;
  const auto events = std::exchange(events_, {});
  gxuError_t error = gxuSuccess;
  {
    const Unlocked unlocked(lock);
    for (const auto& [stream, pending] : events) {
      for (const PendingEvent& entry : pending) {
        const gxuError_t result = runtime().gxuEventSynchronize(entry.event);
        error = error == gxuSuccess ? result : error;
      }
    }
  }
  for (const auto& [stream, pending] : events) {
    for (const PendingEvent& entry : pending) {
      spare_events_.push_back(entry.event);
      --entry.block->pending_events;
      free_after_events(entry.block);
    }
  }
  check(error, "gxuEventSynchronize");
}

// With the setting garbage_collection_threshold and a memory fraction: gives back the segments that were free for the
// longest time until less than that share of the allowed memory is reserved.
void DeviceCache::collect_garbage(size_t wanted, Lock& lock) {
  const double threshold = AcceleratorAllocatorConfig::garbage_collection_threshold();
  if (threshold <= 0 || memory_fraction_ >= 1) {
    return;
  }
  const auto limit = static_cast<size_t>(threshold * static_cast<double>(allowed_bytes()));
  const size_t reserved = current(stats_.reserved_bytes) + wanted;
  if (reserved <= limit) {
    return;
  }
  merge_blocks(large_);
  std::vector<Block*> unused;
  large_.for_each([&](Block* block) {
    if (!block->is_split() && block->freed_at + 1 < segment_requests_) {
      unused.push_back(block);
    }
  });
  std::sort(unused.begin(), unused.end(), [](const Block* a, const Block* b) { return a->freed_at < b->freed_at; });
  size_t released = 0;
  for (Block* block : unused) {
    if (reserved - released <= limit) {
      break;
    }
    released += block->size;
    large_.erase(block);
    take_segment(block, nullptr);
  }
  free_taken_segments(lock);
}

// With the setting max_split_size: gives back one segment that no smaller request may use, if there is one of at least
// `wanted` bytes.
bool DeviceCache::release_oversize_segment(size_t wanted, Lock& lock) {
  const size_t max_split_size = AcceleratorAllocatorConfig::max_split_size();
  Block* smallest = nullptr;
  large_.for_each([&](Block* block) {
    if (!block->is_split() && block->size >= std::max(wanted, max_split_size) &&
        (smallest == nullptr || block->size < smallest->size)) {
      smallest = block;
    }
  });
  if (smallest == nullptr) {
    return false;
  }
  large_.erase(smallest);
  take_segment(smallest, nullptr);
  free_taken_segments(lock);
  return true;
}

void DeviceCache::throw_out_of_memory(size_t requested, c10::StreamId stream, c10::MempoolId_t pool, Context context,
                                      Lock& lock) {
  size_t free = 0;
  size_t total = 0;
  {
    const Unlocked unlocked(lock);
    const DeviceScope scope(device_);
    GXU_CALL(gxuMemGetInfo, &free, &total);
  }
  ++stats_.num_ooms;
  history_.record(TraceEntry::OOM, device_, free, requested, stream, pool, std::move(context));
  const size_t allocated = current(stats_.allocated_bytes);
  const size_t reserved = current(stats_.reserved_bytes);
  size_t in_private_pools = 0;
  for (const auto& [id, stats] : stats_.reserved_bytes_by_private_pools) {
    in_private_pools += current(stats);
  }
  c10::reportOutOfMemoryToProfiler(static_cast<int64_t>(requested), allocated, reserved, c10::Device(kGxu, device_));
  TORCH_CHECK_WITH(
      OutOfMemoryError, false, "GXU out of memory. Tried to allocate ", format_size(requested), ". GPU ",
      static_cast<int>(device_), " has a limit of ", format_size(total), " of which ", format_size(free), " is free. ",
      memory_fraction_ < 1 ? format_size(allowed_bytes()) + " allowed by set_per_process_memory_fraction; " : "",
      "Of the memory in use ", format_size(allocated), " is allocated by PyTorch, and ",
      format_size(reserved - std::min(allocated, reserved)), " is reserved by PyTorch but unallocated",
      in_private_pools > 0 ? " (" + format_size(in_private_pools) + " of the reserved memory belongs to private pools)"
                           : "",
      ". (GXU_MEMORY_LIMIT sets the limit of the host engine.)");
}

void DeviceCache::set_memory_fraction(double fraction) {
  size_t free = 0;
  const DeviceScope scope(device_);
  GXU_CALL(gxuMemGetInfo, &free, &total_memory_);
  memory_fraction_ = fraction;
}

size_t DeviceCache::allowed_bytes() const {
  return static_cast<size_t>(memory_fraction_ * static_cast<double>(total_memory_));
}

std::vector<SegmentInfo> DeviceCache::segments(c10::MempoolId_t id) {
  merge_all_blocks();
  std::vector<SegmentInfo> result;
  for (const Block* first : first_blocks_) {
    const PrivatePool* owner = first->pool->owner();
    if (id != c10::MempoolId_t(0, 0) && (owner == nullptr || owner->id != id)) {
      continue;
    }
    SegmentInfo& segment = result.emplace_back();
    segment.device = device_;
    segment.address = reinterpret_cast<size_t>(first->pointer);
    segment.stream = reinterpret_cast<void*>(first->stream);
    segment.is_large = !first->pool->is_small();
    segment.owner_private_pool_id = owner != nullptr ? owner->id : c10::MempoolId_t(0, 0);
    segment.context_when_allocated = first->segment_context;
    for (const Block* block = first; block != nullptr; block = block->next) {
      auto& info = segment.blocks.emplace_back();
      info.size = block->size;
      info.requested_size = block->state == BlockState::kFree ? 0 : block->requested;
      info.allocated = block->state == BlockState::kAllocated;
      info.active = block->state != BlockState::kFree;
      info.context_when_allocated = block->allocation_context;
      segment.total_size += info.size;
      segment.allocated_size += info.allocated ? info.size : 0;
      segment.active_size += info.active ? info.size : 0;
      segment.requested_size += info.active ? info.requested_size : 0;
    }
  }
  std::sort(result.begin(), result.end(), [](const auto& a, const auto& b) { return a.address < b.address; });
  return result;
}

}  // namespace gxu
