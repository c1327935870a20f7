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

// Priorities of streams: numerically low ones go first.
constexpr int kLeastPriority = 0;
constexpr int kGreatestPriority = -2;

// True while an executor thread runs records of a stream with a higher priority. Executors of other streams then stop
// after the record that they are at, and the ticker wakes them again when they may go on. Threads that wait for a
// stream execute it whatever its priority.
bool higher_priority_runs(int priority);

// Marks the time in which an executor thread runs records of a stream with `priority`, so that exit and streams of
// lower priority can wait for it.
class BackgroundWork {
 public:
  explicit BackgroundWork(int priority);
  ~BackgroundWork();
  BackgroundWork(const BackgroundWork&) = delete;
  bool may_continue() const;

 private:
  const int priority_;
};

// Lets executor threads finish their current record and start no other; waits a bounded time for that. For exit.
void stop_background_work();

}  // namespace gxu::host
