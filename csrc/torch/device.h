// Devices: initialisation, the current device of a thread, properties.
#pragma once

#include <c10/core/Device.h>

#include <array>
#include <atomic>

#include "runtime.h"
#include "thread_state.h"

namespace gxu {

constexpr c10::DeviceType kGxu = c10::DeviceType::PrivateUse1;

constexpr int kMaxDevices = 64;

// What the delegate property of a device asks for.
enum class Delegate : uint8_t {
  kNone,  // memory that no other PyTorch device reaches: operators fall back to CPU with copies
  kCpu,   // the CPU reaches the memory: operators run on CPU aliases of it
  kCuda,  // PyTorch's cuda device reaches the memory: operators run on CUDA aliases of it (cuda_delegate.h)
};

namespace detail {
extern std::atomic<bool> usable;  // initialised, and not in a forked child
extern std::array<Delegate, kMaxDevices> delegates;
void initialize();
}  // namespace detail

// Loads and starts the runtime at the first call. Throws where there is no runtime, no device, or where the process was
// forked after its parent had started the runtime.
inline void ensure_initialized() {
  if (C10_UNLIKELY(!detail::usable.load(std::memory_order_acquire))) {
    detail::initialize();
  }
}

bool is_initialized();
// True in a child that was forked after the runtime had started: nothing can be used there.
bool is_in_bad_fork();

// Number of devices; starts the runtime and throws where that fails.
c10::DeviceIndex device_count();
// Number of devices, 0 where there is no usable runtime.
c10::DeviceIndex device_count_or_zero() noexcept;
// Throws where `index` names no device.
void check_device_index(int64_t index);
// -1 becomes the current device; throws where `index` names no device.
c10::DeviceIndex resolve_device_index(int64_t index);

const gxuDeviceProperties& device_properties(c10::DeviceIndex index);
inline Delegate device_delegate(c10::DeviceIndex index) {
  ensure_initialized();
  return detail::delegates[index];
}

c10::DeviceIndex current_device() noexcept;
void set_device(c10::DeviceIndex index);
// Sets the current device and returns the previous one; a negative index only returns it.
c10::DeviceIndex exchange_device(c10::DeviceIndex index);
void synchronize_device(c10::DeviceIndex index);

// Makes `index` the current device in its scope.
class DeviceScope {
 public:
  explicit DeviceScope(c10::DeviceIndex index)
      : previous_(thread_state.device), changed_(index >= 0 && index != previous_) {
    if (C10_UNLIKELY(changed_)) {
      set_device(index);
    }
  }
  ~DeviceScope() {
    if (C10_UNLIKELY(changed_)) {
      restore();
    }
  }
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;

 private:
  void restore() noexcept;

  c10::DeviceIndex previous_;
  bool changed_;
};

}  // namespace gxu
