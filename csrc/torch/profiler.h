// What torch.profiler sees of the devices: kernels and copies that the runtime reports, operators that run on the
// delegate, and the calls that enqueued them.
#pragma once

#include <atomic>
#include <cstdint>

#include "device.h"

namespace gxu {

namespace detail {
extern std::atomic<bool> profiling;
}  // namespace detail

inline bool is_profiling() { return detail::profiling.load(std::memory_order_relaxed); }

// A call of the runtime that enqueues work, from here to the scope's end: shown on the calling thread, with an arrow to
// what the device did.
class RuntimeCall {
 public:
  // `name` must be a literal.
  explicit RuntimeCall(const char* name) {
    if (C10_UNLIKELY(is_profiling())) {
      start(name);
    }
  }
  ~RuntimeCall() {
    if (C10_UNLIKELY(id_ != 0)) {
      finish();
    }
  }
  RuntimeCall(const RuntimeCall&) = delete;
  RuntimeCall& operator=(const RuntimeCall&) = delete;

 private:
  void start(const char* name);
  void finish();

  uint64_t id_ = 0;  // 0 where nobody profiles
  const char* name_ = nullptr;
  int64_t start_ = 0;
};

// Work of the device that the calling thread does itself: shown on the lane of the current stream. Operators that an
// operator calls are part of it.
class DelegatedWork {
 public:
  DelegatedWork() = default;
  ~DelegatedWork() {
    if (C10_UNLIKELY(start_ != 0)) {
      finish();
    }
  }
  DelegatedWork(const DelegatedWork&) = delete;
  DelegatedWork& operator=(const DelegatedWork&) = delete;

  // Begins the operator that the calling thread executes.
  void start_operator(c10::DeviceIndex device) {
    if (C10_UNLIKELY(is_profiling())) {
      start(device, 0, gxuMemcpyDefault);
    }
  }
  // Begins a copy of `bytes` bytes.
  void start_copy(c10::DeviceIndex device, size_t bytes, gxuMemcpyKind kind) {
    if (C10_UNLIKELY(is_profiling())) {
      start(device, bytes, kind);
    }
  }

 private:
  void start(c10::DeviceIndex device, size_t bytes, gxuMemcpyKind kind);
  void finish();

  c10::DeviceIndex device_ = 0;
  size_t bytes_ = 0;
  gxuMemcpyKind kind_ = gxuMemcpyDefault;  // gxuMemcpyDefault: an operator
  int64_t start_ = 0;                      // nanoseconds since 1970; 0 where nobody profiles
};

}  // namespace gxu
