#include "allocator.h"

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>
#include <c10/util/llvmMathExtras.h>

#include <algorithm>
#include <array>
#include <deque>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "memory_check.h"
#include "stream.h"

namespace gxu {
namespace {

using c10::CachingAllocator::StatArray;
using c10::CachingAllocator::StatType;
using c10::CachingDeviceAllocator::DeviceStats;

constexpr size_t kGranularity = 512;
constexpr size_t kLargestSmallBlock = size_t{1} << 20;
constexpr size_t kSmallestSlab = size_t{64} << 10;
constexpr size_t kLargestSlab = size_t{2} << 20;
constexpr size_t kBlocksPerSlab = 16;
constexpr int kClassesPerOctave = 8;
constexpr int kLinearClasses = kClassesPerOctave;  // 512, 1024, ... 4096
constexpr int kNumClasses = kLinearClasses + kClassesPerOctave * (63 - 12);

// Size classes: multiples of 512 bytes up to 4 KiB, then eight to each power of two, so that at most an eighth is lost.
int size_class(size_t nbytes) {
  if (nbytes <= kGranularity * kLinearClasses) {
    return static_cast<int>((std::max<size_t>(nbytes, 1) - 1) / kGranularity);
  }
  const auto octave = static_cast<int>(c10::llvm::Log2_64(nbytes - 1));  // 2^octave < nbytes <= 2^(octave + 1)
  const auto step = (nbytes - 1) >> (octave - 3);                        // 8 .. 15
  return kLinearClasses + (octave - 12) * kClassesPerOctave + static_cast<int>(step - kClassesPerOctave);
}

size_t class_bytes(int index) {
  if (index < kLinearClasses) {
    return kGranularity * (index + 1);
  }
  const int octave = 12 + (index - kLinearClasses) / kClassesPerOctave;
  const size_t step = kClassesPerOctave + (index - kLinearClasses) % kClassesPerOctave + 1;
  return step << (octave - 3);
}

size_t round_to_granularity(size_t nbytes) {
  return (std::max<size_t>(nbytes, 1) + kGranularity - 1) / kGranularity * kGranularity;
}

struct Segment {
  void* pointer;
  size_t size;
  StatType pool;
  int live_blocks = 0;
};

struct Block {
  void* pointer;
  Segment* segment;
  int size_class;
  c10::DeviceIndex device;
  c10::StreamId stream;
  size_t requested = 0;
  size_t counted = 0;                            // bytes that the statistics count for it
  std::vector<c10::StreamId> foreign_streams{};  // other streams that use it, from recordStream
  int pending_events = 0;                        // of those streams, after it was freed
};

using FreeLists = std::array<std::vector<Block*>, kNumClasses>;

void increase(StatArray& stats, StatType pool, size_t amount) {
  stats[static_cast<size_t>(StatType::AGGREGATE)].increase(amount);
  stats[static_cast<size_t>(pool)].increase(amount);
}

void decrease(StatArray& stats, StatType pool, size_t amount) {
  stats[static_cast<size_t>(StatType::AGGREGATE)].decrease(amount);
  stats[static_cast<size_t>(pool)].decrease(amount);
}

template <typename Reset>
void for_each_stat(DeviceStats& stats, Reset reset) {
  for (StatArray* array :
       {&stats.allocation, &stats.segment, &stats.active, &stats.inactive_split, &stats.allocated_bytes,
        &stats.reserved_bytes, &stats.active_bytes, &stats.inactive_split_bytes, &stats.requested_bytes}) {
    for (auto& stat : *array) {
      reset(stat);
    }
  }
  reset(stats.oversize_allocations);
  reset(stats.oversize_segments);
}

std::string format_bytes(size_t bytes) {
  constexpr std::array<const char*, 5> units{"bytes", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < units.size()) {
    value /= 1024;
    ++unit;
  }
  std::array<char, 32> text;
  std::snprintf(text.data(), text.size(), unit == 0 ? "%.0f %s" : "%.2f %s", value, units[unit]);
  return text.data();
}

// The memory of one device. Not thread-safe: `Cache` locks.
class DeviceCache {
 public:
  explicit DeviceCache(c10::DeviceIndex device) : device_(device) {}

  Block* allocate(size_t nbytes, c10::StreamId stream) {
    if (C10_UNLIKELY(!events_.empty())) {
      release_finished_blocks();
    }
    const int index = size_class(nbytes + (checks_memory() ? kCheckedGap : 0));
    std::vector<Block*>& free_blocks = free_lists(stream)[index];
    if (C10_UNLIKELY(free_blocks.empty())) {
      add_segment(nbytes, index, stream, free_blocks);
    }
    Block* block = free_blocks.back();
    free_blocks.pop_back();
    ++block->segment->live_blocks;
    block->requested = nbytes;
    block->counted = round_to_granularity(nbytes);
    const StatType pool = block->segment->pool;
    increase(stats_.allocation, pool, 1);
    increase(stats_.allocated_bytes, pool, block->counted);
    increase(stats_.requested_bytes, pool, nbytes);
    increase(stats_.active, pool, 1);
    increase(stats_.active_bytes, pool, block->counted);
    return block;
  }

  void free(Block* block) {
    const StatType pool = block->segment->pool;
    decrease(stats_.allocation, pool, 1);
    decrease(stats_.allocated_bytes, pool, block->counted);
    decrease(stats_.requested_bytes, pool, block->requested);
    if (C10_LIKELY(block->foreign_streams.empty()) || !record_events(block)) {
      make_available(block);
    }
  }

  // Gives every segment without a live block back to the runtime. Waits for the device.
  void release_free_segments() {
    const DeviceScope scope(device_);
    if (runtime().gxuDeviceSynchronize() == gxuSuccess) {
      release_finished_blocks();
    }
    end_quarantine(0);
    for (auto& [stream, lists] : free_lists_) {
      for (auto& blocks : *lists) {
        std::erase_if(blocks, [](Block* block) {
          const bool unused = block->segment->live_blocks == 0;
          if (unused) {
            delete block;
          }
          return unused;
        });
      }
    }
    std::erase_if(segments_, [this](const std::unique_ptr<Segment>& segment) {
      if (segment->live_blocks > 0) {
        return false;
      }
      runtime().gxuFree(segment->pointer);
      decrease(stats_.segment, segment->pool, 1);
      decrease(stats_.reserved_bytes, segment->pool, segment->size);
      ++stats_.num_device_free;
      return true;
    });
  }

  // The statistics, with the blocks that are free but lie in a segment in use counted now.
  DeviceStats stats() {
    DeviceStats result = stats_;
    for (const auto& [stream, lists] : free_lists_) {
      for (const auto& blocks : *lists) {
        for (const Block* block : blocks) {
          if (block->segment->live_blocks > 0) {
            increase(result.inactive_split, block->segment->pool, 1);
            increase(result.inactive_split_bytes, block->segment->pool, class_bytes(block->size_class));
          }
        }
      }
    }
    return result;
  }

  DeviceStats& counters() { return stats_; }

 private:
  struct PendingEvent {
    gxuEvent_t event;
    Block* block;
  };

  FreeLists& free_lists(c10::StreamId stream) {
    if (C10_LIKELY(last_lists_ != nullptr && last_stream_ == stream)) {
      return *last_lists_;
    }
    auto& lists = free_lists_[stream];
    if (lists == nullptr) {
      lists = std::make_unique<FreeLists>();
    }
    last_stream_ = stream;
    last_lists_ = lists.get();
    return *lists;
  }

  void add_segment(size_t nbytes, int index, c10::StreamId stream, std::vector<Block*>& free_blocks);
  void* allocate_from_runtime(size_t size, size_t requested);
  [[noreturn]] void throw_out_of_memory(size_t requested);

  // Frees the block once every other stream that used it has passed this point. False where no event was recorded.
  bool record_events(Block* block) {
    for (const c10::StreamId stream : std::exchange(block->foreign_streams, {})) {
      gxuEvent_t event = nullptr;
      const RuntimeApi& api = runtime();
      if (api.gxuEventCreate(&event, gxuEventDisableTiming) != gxuSuccess) {
        continue;  // the runtime is shutting down
      }
      if (api.gxuEventRecord(event, native_stream(stream)) != gxuSuccess) {
        api.gxuEventDestroy(event);
        continue;
      }
      events_.push_back({event, block});
      ++block->pending_events;
    }
    return block->pending_events > 0;
  }

  void release_finished_blocks() {
    std::erase_if(events_, [this](const PendingEvent& pending) {
      if (runtime().gxuEventQuery(pending.event) == gxuErrorNotReady) {
        return false;
      }
      runtime().gxuEventDestroy(pending.event);
      if (--pending.block->pending_events == 0) {
        make_available(pending.block);
      }
      return true;
    });
  }

  void make_available(Block* block) {
    const StatType pool = block->segment->pool;
    decrease(stats_.active, pool, 1);
    decrease(stats_.active_bytes, pool, block->counted);
    --block->segment->live_blocks;
    if (C10_UNLIKELY(checks_memory())) {
      quarantine_.push_back(block);
      quarantined_bytes_ += class_bytes(block->size_class);
      end_quarantine(kCheckedQuarantine);
    } else {
      free_lists(block->stream)[block->size_class].push_back(block);
    }
  }

  // Lets the oldest blocks out until at most `limit` bytes are left.
  void end_quarantine(size_t limit) {
    while (quarantined_bytes_ > limit) {
      Block* block = quarantine_.front();
      quarantine_.pop_front();
      quarantined_bytes_ -= class_bytes(block->size_class);
      free_lists(block->stream)[block->size_class].push_back(block);
    }
  }

  c10::DeviceIndex device_;
  std::unordered_map<c10::StreamId, std::unique_ptr<FreeLists>> free_lists_;
  c10::StreamId last_stream_ = 0;
  FreeLists* last_lists_ = nullptr;
  std::vector<std::unique_ptr<Segment>> segments_;
  std::deque<PendingEvent> events_;
  std::deque<Block*> quarantine_;  // only while accesses are checked
  size_t quarantined_bytes_ = 0;
  DeviceStats stats_;
};

void DeviceCache::add_segment(size_t nbytes, int index, c10::StreamId stream, std::vector<Block*>& free_blocks) {
  const size_t block_size = class_bytes(index);
  const bool small = block_size <= kLargestSmallBlock;
  const size_t size =
      small ? std::max(std::clamp(block_size * kBlocksPerSlab, kSmallestSlab, kLargestSlab) / block_size, size_t{1}) *
                  block_size
            : block_size;
  auto segment = std::make_unique<Segment>();
  segment->pointer = allocate_from_runtime(size, nbytes);
  segment->size = size;
  segment->pool = small ? StatType::SMALL_POOL : StatType::LARGE_POOL;
  ++stats_.num_device_alloc;
  increase(stats_.segment, segment->pool, 1);
  increase(stats_.reserved_bytes, segment->pool, size);
  auto* base = static_cast<char*>(segment->pointer);
  for (size_t offset = size; offset >= block_size; offset -= block_size) {  // the lowest address is handed out first
    free_blocks.push_back(new Block{base + offset - block_size, segment.get(), index, device_, stream});
  }
  segments_.push_back(std::move(segment));
}

void* DeviceCache::allocate_from_runtime(size_t size, size_t requested) {
  const DeviceScope scope(device_);
  void* pointer = nullptr;
  gxuError_t error = runtime().gxuMalloc(&pointer, size);
  if (error == gxuErrorOutOfMemory) {
    ++stats_.num_alloc_retries;
    release_free_segments();
    error = runtime().gxuMalloc(&pointer, size);
  }
  if (error == gxuErrorOutOfMemory) {
    ++stats_.num_ooms;
    throw_out_of_memory(requested);
  }
  check(error, "gxuMalloc");
  return pointer;
}

void DeviceCache::throw_out_of_memory(size_t requested) {
  size_t free = 0;
  size_t total = 0;
  GXU_CALL(gxuMemGetInfo, &free, &total);
  const auto aggregate = static_cast<size_t>(StatType::AGGREGATE);
  const auto allocated = static_cast<size_t>(stats_.allocated_bytes[aggregate].current);
  const auto reserved = static_cast<size_t>(stats_.reserved_bytes[aggregate].current);
  TORCH_CHECK_WITH(OutOfMemoryError, false, "GXU out of memory. Tried to allocate ", format_bytes(requested), ". GPU ",
                   static_cast<int>(device_), " has a limit of ", format_bytes(total), " of which ", format_bytes(free),
                   " is free. Of the memory in use ", format_bytes(allocated), " is allocated by PyTorch, and ",
                   format_bytes(reserved - allocated),
                   " is reserved by PyTorch but unallocated. (GXU_MEMORY_LIMIT sets the limit of the host engine.)");
}

// All devices, and the block behind each live pointer.
struct Cache {
  std::mutex mutex;
  ska::flat_hash_map<void*, Block*> live_blocks;
  std::array<std::unique_ptr<DeviceCache>, kMaxDevices> devices;

  DeviceCache& device(c10::DeviceIndex index) {
    auto& device = devices[index];
    if (device == nullptr) {
      device = std::make_unique<DeviceCache>(index);
    }
    return *device;
  }

  // Calls `function(DeviceCache&)` under the lock.
  template <typename Function>
  auto with_device(c10::DeviceIndex index, Function function) {
    const auto resolved = resolve_device_index(index);
    std::lock_guard<std::mutex> lock(mutex);
    return function(device(resolved));
  }
};

Cache& cache() {
  static auto* instance = new Cache;
  return *instance;
}

}  // namespace

CachingAllocator& CachingAllocator::instance() {
  static auto* allocator = new CachingAllocator;
  return *allocator;
}

at::DataPtr CachingAllocator::allocate(size_t nbytes) {
  const auto device = current_device();
  return allocate_on(device, nbytes, c10::Device(kGxu, device));
}

at::DataPtr CachingAllocator::allocate_on(c10::DeviceIndex device, size_t nbytes, c10::Device label) {
  ensure_initialized();
  if (nbytes == 0) {
    return {nullptr, nullptr, &CachingAllocator::free, label};
  }
  TORCH_CHECK_WITH(OutOfMemoryError, nbytes <= size_t{1} << 60, "GXU out of memory. Tried to allocate more than 1EB.");
  const c10::StreamId stream = current_stream_id(device);
  Cache& all = cache();
  std::lock_guard<std::mutex> lock(all.mutex);
  Block* block = all.device(device).allocate(nbytes, stream);
  all.live_blocks[block->pointer] = block;
  add_checked_block(block->pointer, nbytes);
  return {block->pointer, block->pointer, &CachingAllocator::free, label};
}

bool CachingAllocator::try_free(void* pointer) noexcept {
  if (is_in_bad_fork()) {
    return true;  // another thread may have held the lock at the fork; the memory is the parent's business
  }
  Cache& all = cache();
  std::lock_guard<std::mutex> lock(all.mutex);
  const auto entry = all.live_blocks.find(pointer);
  if (entry == all.live_blocks.end()) {
    return false;
  }
  Block* block = entry->second;
  all.live_blocks.erase(entry);
  remove_checked_block(pointer);
  all.device(block->device).free(block);
  return true;
}

void CachingAllocator::free(void* pointer) {
  if (pointer != nullptr) {
    try_free(pointer);
  }
}

void CachingAllocator::copy_data(void* destination, const void* source, size_t count) const {
  const auto device = current_device();
  const c10::StreamId stream = current_stream_id(device);
  GXU_CALL(gxuMemcpyAsync, destination, source, count, gxuMemcpyDeviceToDevice, native_stream(stream));
  // A copy-on-write storage is materialised when an operator asks for its pointer, and the delegate writes to it at
  // once.
  synchronize_stream(device, stream);
}

void CachingAllocator::emptyCache(c10::MempoolId_t pool) {
  TORCH_CHECK_NOT_IMPLEMENTED(pool == c10::MempoolId_t(0, 0), "GXU has no private memory pools yet.");
  if (!initialized()) {
    return;
  }
  Cache& all = cache();
  std::lock_guard<std::mutex> lock(all.mutex);
  for (auto& device : all.devices) {
    if (device != nullptr) {
      device->release_free_segments();
    }
  }
}

void CachingAllocator::recordStream(const at::DataPtr& pointer, c10::Stream stream) {
  TORCH_CHECK(stream.device_type() == kGxu, "record_stream expects a gxu stream, but got one of ", stream.device());
  if (pointer.get() == nullptr) {
    return;
  }
  Cache& all = cache();
  std::lock_guard<std::mutex> lock(all.mutex);
  const auto entry = all.live_blocks.find(pointer.get());
  if (entry == all.live_blocks.end()) {
    return;  // memory of another owner
  }
  Block& block = *entry->second;
  auto& streams = block.foreign_streams;
  if (stream.id() != block.stream && std::find(streams.begin(), streams.end(), stream.id()) == streams.end()) {
    streams.push_back(stream.id());
  }
}

DeviceStats CachingAllocator::getDeviceStats(c10::DeviceIndex device) {
  return cache().with_device(device, [](DeviceCache& cache) { return cache.stats(); });
}

void CachingAllocator::resetAccumulatedStats(c10::DeviceIndex device) {
  cache().with_device(device, [](DeviceCache& cache) {
    DeviceStats& stats = cache.counters();
    for_each_stat(stats, [](auto& stat) { stat.reset_accumulated(); });
    stats.num_alloc_retries = stats.num_ooms = stats.num_sync_all_streams = 0;
    stats.num_device_alloc = stats.num_device_free = 0;
  });
}

void CachingAllocator::resetPeakStats(c10::DeviceIndex device) {
  cache().with_device(
      device, [](DeviceCache& cache) { for_each_stat(cache.counters(), [](auto& stat) { stat.reset_peak(); }); });
}

std::pair<size_t, size_t> CachingAllocator::getMemoryInfo(c10::DeviceIndex device) {
  const DeviceScope scope(resolve_device_index(device));
  size_t free = 0;
  size_t total = 0;
  GXU_CALL(gxuMemGetInfo, &free, &total);
  return {free, total};
}

namespace {
const bool registered = [] {
  c10::SetAllocator(kGxu, &CachingAllocator::instance());
  return true;
}();
}  // namespace

}  // namespace gxu
