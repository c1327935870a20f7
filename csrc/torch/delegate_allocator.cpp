#include "delegate_allocator.h"

#include <c10/core/CPUAllocator.h>

#include "allocator.h"
#include "thread_state.h"

namespace gxu {
namespace {

constexpr c10::DeviceIndex kOutside = -1;

class DelegateAllocator final : public c10::Allocator {
 public:
  explicit DelegateAllocator(c10::Allocator* cpu) : cpu_(cpu) {}

  at::DataPtr allocate(size_t nbytes) override {
    const c10::DeviceIndex device = thread_state.delegating_device;
    if (C10_LIKELY(device == kOutside)) {
      return cpu_->allocate(nbytes);
    }
    return CachingAllocator::instance().allocate_on(device, nbytes, c10::Device(c10::DeviceType::CPU));
  }

  // Libraries (oneDNN) keep raw pointers across operators, so a pointer may come from either side.
  c10::DeleterFnPtr raw_deleter() const override { return &free; }

  void copy_data(void* destination, const void* source, size_t count) const override {
    cpu_->copy_data(destination, source, count);
  }

 private:
  static void free(void* pointer);

  c10::Allocator* cpu_;
};

c10::Allocator* original_cpu_allocator = nullptr;

void DelegateAllocator::free(void* pointer) {
  if (pointer != nullptr && !CachingAllocator::try_free(pointer)) {
    original_cpu_allocator->raw_deallocate(pointer);
  }
}

}  // namespace

void install_delegate_allocator() {
  original_cpu_allocator = c10::GetCPUAllocator();
  // The highest priority: nothing may replace this one while device memory of it is alive.
  c10::SetCPUAllocator(new DelegateAllocator(original_cpu_allocator), UINT8_MAX);
}

DelegateAllocationScope::DelegateAllocationScope(c10::DeviceIndex device)
    : previous_(std::exchange(thread_state.delegating_device, device)) {}

DelegateAllocationScope::~DelegateAllocationScope() { thread_state.delegating_device = previous_; }

}  // namespace gxu
