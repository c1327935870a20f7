// Reports of what the device did, for profilers: gxu_activity.h.
#pragma once

#include <atomic>
#include <cstdint>

#include "../gxu_activity.h"

namespace gxu::host {

class Stream;
struct Copy;
struct Fill;
struct KernelLaunch;

extern std::atomic<bool> activities_enabled;

uint64_t thread_correlation();

// The number that the calling thread's work carries.
inline uint64_t current_correlation() {
  return activities_enabled.load(std::memory_order_relaxed) ? thread_correlation() : 0;
}

// Measures one piece of work of `stream` from here to the scope's end, and reports it where somebody listens.
class ActivityScope {
 public:
  template <typename Work>
  ActivityScope(Stream& stream, const Work& work, uint64_t correlation) {
    if (activities_enabled.load(std::memory_order_relaxed)) [[unlikely]] {
      start(stream, correlation);
      describe(work);
    }
  }
  ~ActivityScope() {
    if (activity_.struct_size != 0) [[unlikely]] {
      finish();
    }
  }
  ActivityScope(const ActivityScope&) = delete;

 private:
  void start(Stream& stream, uint64_t correlation);
  void describe(const KernelLaunch& launch);
  void describe(const Copy& copy);
  void describe(const Fill& fill);
  void finish();

  gxuActivity activity_{};  // struct_size is 0 where nobody listens
};

}  // namespace gxu::host
