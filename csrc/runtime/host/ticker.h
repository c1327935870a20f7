// Progress for work that nobody waits for.
//
// One thread looks at all streams: every half millisecond while one has work that nobody does, less often while
// others do it all, and not at all (it parks) when there was no activity for a while. It never executes work itself: it
// wakes the executor thread of a stream whose oldest record has waited for a whole tick.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>

namespace gxu::host {

// What a tick found, in order of weight.
enum class Activity {
  kNone,   // nothing happened since the last tick
  kUsed,   // work came, was done, or is being done
  kStuck,  // there is work to do and nobody does it
};

class Ticker {
 public:
  void start();

  // Called after every enqueue. Costs one load unless the ticker is parked.
  void notice_work() {
    if (parked_.load(std::memory_order_seq_cst)) [[unlikely]] {
      unpark();
    }
  }

 private:
  void main();
  Activity tick_all();
  void park();
  void unpark();

  std::atomic<bool> parked_{false};
  std::mutex mutex_;
  std::condition_variable wakeup_;
};

Ticker& ticker();

// Marks the time in which an executor thread runs records, so that exit can wait for it.
class BackgroundWork {
 public:
  BackgroundWork();
  ~BackgroundWork();
  BackgroundWork(const BackgroundWork&) = delete;
  bool may_continue() const;
};

// Lets executor threads finish their current record and start no other; waits a bounded time for that. For exit.
void stop_background_work();

}  // namespace gxu::host
