// The allocator's lock: held for tens of nanoseconds at a time, twice an operator.
#pragma once

#include <atomic>

namespace gxu {

// A mutex in one word, inline where nobody else holds it. The C library's costs more than the work under this one.
class Mutex {
 public:
  Mutex() = default;
  Mutex(const Mutex&) = delete;

  void lock() {
    int free = kFree;
    if (!state_.compare_exchange_strong(free, kHeld, std::memory_order_acquire, std::memory_order_relaxed))
        [[unlikely]] {
      wait();
    }
  }
  bool try_lock() {
    int free = kFree;
    return state_.compare_exchange_strong(free, kHeld, std::memory_order_acquire, std::memory_order_relaxed);
  }
  void unlock() {
    if (state_.exchange(kFree, std::memory_order_release) == kWaitedFor) [[unlikely]] {
      state_.notify_one();
    }
  }

 private:
  static constexpr int kFree = 0;
  static constexpr int kHeld = 1;
  static constexpr int kWaitedFor = 2;  // held, and somebody may sleep

  void wait() {
    while (state_.exchange(kWaitedFor, std::memory_order_acquire) != kFree) {
      state_.wait(kWaitedFor, std::memory_order_relaxed);
    }
  }

  std::atomic<int> state_{kFree};
};

}  // namespace gxu
