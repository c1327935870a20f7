#include "pinned_allocator.h"

#include <ATen/core/CachingHostAllocator.h>
#include <c10/util/Exception.h>

#include <bit>
#include <map>
#include <mutex>
#include <vector>

#include "stream.h"

namespace gxu {
namespace {

struct PinnedBlock {
  size_t size;  // a power of two
  bool in_use = true;
  std::vector<gxuEvent_t> events{};  // of streams that use the block
};

class PinnedAllocator final : public at::HostAllocator {
 public:
  at::DataPtr allocate(size_t nbytes) override {
    ensure_initialized();
    if (nbytes == 0) {
      return {nullptr, nullptr, &PinnedAllocator::free, c10::Device(c10::DeviceType::CPU)};
    }
    std::lock_guard<std::mutex> lock(mutex_);
    const size_t size = std::bit_ceil(std::max<size_t>(nbytes, 512));
    void* pointer = take_free_block(size);
    if (pointer == nullptr) {
      GXU_CALL(gxuMallocHost, &pointer, size);
      blocks_.emplace(pointer, PinnedBlock{size});
      stats_.allocations.increase(1);
      stats_.allocated_bytes.increase(size);
    }
    stats_.active_requests.increase(1);
    stats_.active_bytes.increase(size);
    return {pointer, pointer, &PinnedAllocator::free, c10::Device(c10::DeviceType::CPU)};
  }

  c10::DeleterFnPtr raw_deleter() const override { return &PinnedAllocator::free; }

  void copy_data(void* destination, const void* source, size_t count) const override {
    default_copy_data(destination, source, count);
  }

  bool record_event(void* pointer, void* /*context*/, c10::Stream stream) override {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto block = find(pointer);
    if (block == blocks_.end()) {
      return false;
    }
    const DeviceScope scope(stream.device_index());
    gxuEvent_t event = nullptr;
    GXU_CALL(gxuEventCreate, &event, gxuEventDisableTiming);
    block->second.events.push_back(event);
    GXU_CALL(gxuEventRecord, event, native_stream(stream.id()));
    return true;
  }

  void empty_cache() override {
    if (!is_initialized()) {
      return;
    }
    std::lock_guard<std::mutex> lock(mutex_);
    for (auto entry = blocks_.begin(); entry != blocks_.end();) {
      PinnedBlock& block = entry->second;
      if (block.in_use || !finished(block)) {
        ++entry;
        continue;
      }
      GXU_CALL(gxuFreeHost, entry->first);
      stats_.allocations.decrease(1);
      stats_.allocated_bytes.decrease(block.size);
      entry = blocks_.erase(entry);
    }
  }

  at::HostStats get_stats() override {
    std::lock_guard<std::mutex> lock(mutex_);
    return stats_;
  }

  void reset_accumulated_stats() override {
    std::lock_guard<std::mutex> lock(mutex_);
    for (auto* stat : {&stats_.active_requests, &stats_.active_bytes, &stats_.allocations, &stats_.allocated_bytes}) {
      stat->reset_accumulated();
    }
  }

  void reset_peak_stats() override {
    std::lock_guard<std::mutex> lock(mutex_);
    for (auto* stat : {&stats_.active_requests, &stats_.active_bytes, &stats_.allocations, &stats_.allocated_bytes}) {
      stat->reset_peak();
    }
  }

 private:
  using Blocks = std::map<void*, PinnedBlock>;

  static void free(void* pointer);

  void release(void* pointer) {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto block = blocks_.find(pointer);
    block->second.in_use = false;
    stats_.active_requests.decrease(1);
    stats_.active_bytes.decrease(block->second.size);
  }

  Blocks::iterator find(void* pointer) {
    auto block = blocks_.upper_bound(pointer);
    if (block == blocks_.begin()) {
      return blocks_.end();
    }
    --block;
    const auto offset = static_cast<char*>(pointer) - static_cast<char*>(block->first);
    return static_cast<size_t>(offset) < block->second.size ? block : blocks_.end();
  }

  void* take_free_block(size_t size) {
    for (auto& [pointer, block] : blocks_) {
      if (!block.in_use && block.size == size && finished(block)) {
        block.in_use = true;
        return pointer;
      }
    }
    return nullptr;
  }

  // True once every stream has passed its last use of the block.
  static bool finished(PinnedBlock& block) {
    std::erase_if(block.events, [](gxuEvent_t event) {
      if (runtime().gxuEventQuery(event) == gxuErrorNotReady) {
        return false;
      }
      runtime().gxuEventDestroy(event);
      return true;
    });
    return block.events.empty();
  }

  std::mutex mutex_;
  Blocks blocks_;
  at::HostStats stats_;
};

PinnedAllocator& instance() {
  static auto* allocator = new PinnedAllocator;  // never destroyed: tensors may be freed after static destructors ran
  return *allocator;
}

void PinnedAllocator::free(void* pointer) {
  if (pointer != nullptr && !is_in_bad_fork()) {
    instance().release(pointer);
  }
}

const bool registered = [] {
  at::setHostAllocator(kGxu, &instance());
  return true;
}();

}  // namespace

c10::Allocator* pinned_allocator() { return &instance(); }

bool is_pinned(const void* pointer) {
  if (pointer == nullptr || !is_initialized()) {
    return false;
  }
  gxuPointerAttributes attributes;
  return runtime().gxuPointerGetAttributes(&attributes, pointer) == gxuSuccess && attributes.type == gxuMemoryTypeHost;
}

void record_pinned_use(const void* pointer, c10::Stream stream) {
  instance().record_event(const_cast<void*>(pointer), nullptr, stream);
}

}  // namespace gxu
