#include "allocator.h"

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/profiler_kineto.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <memory>
#include <mutex>

#include "allocator/device_cache.h"
#include "cuda_delegate.h"
#include "device_name.h"
#include "memory_check.h"
#include "stream.h"

namespace gxu {
namespace {

// All devices, and the block behind each live pointer. One lock for all: an allocation holds it for tens of
// nanoseconds, and the runtime is called without it.
struct Cache {
  Mutex mutex;
  ska::flat_hash_map<void*, Block*> live_blocks;
  std::array<std::unique_ptr<DeviceCache>, kMaxDevices> devices;

  DeviceCache& device(c10::DeviceIndex index) {
    auto& device = devices[index];
    if (C10_UNLIKELY(device == nullptr)) {
      device = std::make_unique<DeviceCache>(index);
    }
    return *device;
  }

  // Calls `function(DeviceCache&)` under the lock.
  template <typename Function>
  auto with_device(c10::DeviceIndex index, Function function) {
    const auto resolved = resolve_device_index(index);
    std::lock_guard<Mutex> lock(mutex);
    return function(device(resolved));
  }

  Block* find(void* pointer) const {
    const auto entry = live_blocks.find(pointer);
    return entry != live_blocks.end() ? entry->second : nullptr;
  }
};

Cache& cache() {
  static auto* instance = new Cache;
  return *instance;
}

// What the profiler is told about an allocation, and about a free with its size negative.
struct MemoryReport {
  void* pointer = nullptr;  // nullptr: nobody listens
  int64_t size = 0;
  size_t allocated = 0;
  size_t reserved = 0;
  c10::DeviceIndex device = 0;

  // Looking for a profiler of this thread costs as much as an allocation; whether there is one at all costs nothing.
  static bool is_wanted() { return C10_UNLIKELY(torch::autograd::profiler::isProfilerEnabledInMainThread()); }

  static MemoryReport of(const Block& block, int64_t size, DeviceCache& device) {
    const DeviceStats& counters = device.counters();
    return {block.pointer, size, current(counters.allocated_bytes), current(counters.reserved_bytes), block.device};
  }
  void send() const {
    if (C10_UNLIKELY(pointer != nullptr)) {
      c10::reportMemoryUsageToProfiler(pointer, size, allocated, reserved, c10::Device(kGxu, device));
    }
  }
};

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
  void* pointer = allocate_raw(device, nbytes, current_stream_id(device));
  return {pointer, pointer, &CachingAllocator::free, label};
}

void* CachingAllocator::allocate_raw(c10::DeviceIndex device, size_t nbytes, c10::StreamId stream) {
  if (nbytes == 0) {
    return nullptr;
  }
  TORCH_CHECK_WITH(OutOfMemoryError, nbytes <= size_t{1} << 60, "GXU out of memory. Tried to allocate more than 1EB.");
  auto context = gather_context(RecordContext::STATE);
  void* pointer = nullptr;
  MemoryReport report;
  {
    Cache& all = cache();
    DeviceCache::Lock lock(all.mutex);
    DeviceCache& device_cache = all.device(device);
    Block* block = device_cache.allocate(nbytes, stream, std::move(context), lock);
    all.live_blocks[block->pointer] = block;
    add_checked_block(block->pointer, nbytes);
    pointer = block->pointer;
    if (MemoryReport::is_wanted()) {
      report = MemoryReport::of(*block, static_cast<int64_t>(block->size), device_cache);
    }
  }
  report.send();
  return pointer;
}

bool CachingAllocator::try_free(void* pointer) noexcept {
  if (is_in_bad_fork()) {
    return true;  // another thread may have held the lock at the fork; the memory is the parent's business
  }
  auto context = gather_context(RecordContext::ALL);
  MemoryReport report;
  {
    Cache& all = cache();
    DeviceCache::Lock lock(all.mutex);
    const auto entry = all.live_blocks.find(pointer);
    if (entry == all.live_blocks.end()) {
      return false;
    }
    Block* block = entry->second;
    all.live_blocks.erase(entry);
    remove_checked_block(pointer);
    DeviceCache& device = all.device(block->device);
    if (MemoryReport::is_wanted()) {
      report = MemoryReport::of(*block, -static_cast<int64_t>(block->size), device);
      report.allocated -= block->size;
    }
    device.free(block, std::move(context), lock);
  }
  report.send();
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
  if (!initialized()) {
    return;
  }
  auto context = gather_context(RecordContext::ALL);
  Cache& all = cache();
  DeviceCache::Lock lock(all.mutex);
  for (auto& device : all.devices) {
    if (device != nullptr) {
      device->release_free_segments(pool, context, lock);
    }
  }
}

void CachingAllocator::recordStream(const at::DataPtr& pointer, c10::Stream stream) {
  TORCH_CHECK(stream.device_type() == kGxu, "record_stream expects a stream of ", device_name(), ", but got one of ",
              stream.device());
  if (record_cuda_stream(pointer, stream)) {
    return;
  }
  Cache& all = cache();
  std::lock_guard<Mutex> lock(all.mutex);
  Block* block = all.find(pointer.get());
  if (block == nullptr) {
    return;  // nothing, or memory of another owner
  }
  auto& streams = block->foreign_streams;
  if (stream.id() != block->stream && std::find(streams.begin(), streams.end(), stream.id()) == streams.end()) {
    streams.push_back(stream.id());
  }
}

DeviceStats CachingAllocator::statistics(c10::DeviceIndex device) {
  return cache().with_device(device, [](DeviceCache& cache) { return cache.stats(); });
}

void CachingAllocator::resetAccumulatedStats(c10::DeviceIndex device) {
  cache().with_device(device, [](DeviceCache& cache) { reset_accumulated(cache.stats()); });
}

void CachingAllocator::resetPeakStats(c10::DeviceIndex device) {
  cache().with_device(device, [](DeviceCache& cache) { reset_peak(cache.stats()); });
}

std::pair<size_t, size_t> CachingAllocator::getMemoryInfo(c10::DeviceIndex device) {
  const DeviceScope scope(resolve_device_index(device));
  size_t free = 0;
  size_t total = 0;
  GXU_CALL(gxuMemGetInfo, &free, &total);
  return {free, total};
}

c10::MempoolId_t CachingAllocator::new_pool_id(bool is_user_created) {
  static std::atomic<c10::CaptureId_t> last{0};
  const c10::CaptureId_t id = ++last;
  return is_user_created ? c10::MempoolId_t(0, id) : c10::MempoolId_t(id, 0);
}

void CachingAllocator::retain_pool(c10::DeviceIndex device, c10::MempoolId_t id, bool use_on_oom, bool no_split) {
  cache().with_device(device, [&](DeviceCache& cache) { cache.retain_pool(id, use_on_oom, no_split); });
}

void CachingAllocator::release_pool(c10::DeviceIndex device, c10::MempoolId_t id) {
  cache().with_device(device, [&](DeviceCache& cache) { cache.release_pool(id); });
}

int CachingAllocator::pool_use_count(c10::DeviceIndex device, c10::MempoolId_t id) {
  return cache().with_device(device, [&](DeviceCache& cache) { return cache.pool_use_count(id); });
}

void CachingAllocator::begin_allocate_to_pool(c10::DeviceIndex device, c10::MempoolId_t id,
                                              std::function<bool(c10::StreamId)> filter) {
  cache().with_device(device, [&](DeviceCache& cache) { cache.begin_allocate_to_pool(id, std::move(filter)); });
}

void CachingAllocator::end_allocate_to_pool(c10::DeviceIndex device, c10::MempoolId_t id) {
  cache().with_device(device, [&](DeviceCache& cache) { cache.end_allocate_to_pool(id); });
}

void CachingAllocator::set_memory_fraction(c10::DeviceIndex device, double fraction) {
  cache().with_device(device, [&](DeviceCache& cache) { cache.set_memory_fraction(fraction); });
}

double CachingAllocator::memory_fraction(c10::DeviceIndex device) {
  return cache().with_device(device, [](DeviceCache& cache) { return cache.memory_fraction(); });
}

void CachingAllocator::fail_allocation(c10::DeviceIndex device, uint64_t nth) {
  cache().with_device(device, [&](DeviceCache& cache) { cache.fail_allocation(nth); });
}

void CachingAllocator::record_history(const HistorySettings& settings, bool clear) {
  Cache& all = cache();
  std::lock_guard<Mutex> lock(all.mutex);
  History::configure(settings);
  for (auto& device : all.devices) {
    if (device != nullptr && clear) {
      device->history().clear();
    }
  }
}

MemorySnapshot CachingAllocator::snapshot(c10::MempoolId_t pool, bool include_traces) {
  const auto count = static_cast<size_t>(device_count());
  auto context = gather_context(RecordContext::ALL);
  MemorySnapshot result;
  result.device_traces.resize(count);
  Cache& all = cache();
  std::lock_guard<Mutex> lock(all.mutex);
  for (size_t index = 0; index < count; ++index) {
    DeviceCache& device = all.device(static_cast<c10::DeviceIndex>(index));
    device.history().record(TraceEntry::SNAPSHOT, static_cast<c10::DeviceIndex>(index), 0,
                            current(device.counters().reserved_bytes), 0, {0, 0}, context);
    for (auto& segment : device.segments(pool)) {
      result.segments.push_back(std::move(segment));
    }
    if (include_traces) {
      result.device_traces[index] = device.history().entries();
    }
  }
  return result;
}

bool CachingAllocator::is_in_pool(void* pointer, c10::MempoolId_t id) {
  Cache& all = cache();
  std::lock_guard<Mutex> lock(all.mutex);
  const Block* block = all.find(pointer);
  const PrivatePool* owner = block != nullptr ? block->pool->owner() : nullptr;
  return owner != nullptr && owner->id == id;
}

std::shared_ptr<c10::GatheredContext> CachingAllocator::allocation_context(void* pointer) {
  Cache& all = cache();
  std::lock_guard<Mutex> lock(all.mutex);
  const Block* block = all.find(pointer);
  return block != nullptr ? block->allocation_context : nullptr;
}

namespace {
const bool registered = [] {
  c10::SetAllocator(kGxu, &CachingAllocator::instance());
  return true;
}();
}  // namespace

}  // namespace gxu
