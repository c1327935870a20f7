#include "background_team.h"

#include <system_error>
#include <thread>

namespace gxu::host {

BackgroundTeam& background_team() {
  static BackgroundTeam* team = new BackgroundTeam;  // leaked: its threads outlive static destruction
  return *team;
}

void BackgroundTeam::run(int threads, void (*body)(void* argument, int index), void* argument) {
  std::unique_lock lock(mutex_);
  if (busy_ || threads <= 1) {
    lock.unlock();
    body(argument, 0);
    return;
  }
  busy_ = true;
  body_ = body;
  argument_ = argument;
  start_helpers(threads - 1);
  open_ = threads - 1;
  wakeup_.notify_all();
  lock.unlock();
  body(argument, 0);
  lock.lock();
  open_ = 0;
  done_.wait(lock, [this] { return active_ == 0; });
  busy_ = false;
}

// The caller holds mutex_.
void BackgroundTeam::start_helpers(int wanted) {
  try {
    for (; helpers_ < wanted; ++helpers_) std::thread([this] { helper_main(); }).detach();
  } catch (const std::system_error&) {
    // The system gives no more threads: those that there are, or the caller alone, do the work.
  }
}

void BackgroundTeam::helper_main() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wakeup_.wait(lock, [this] { return open_ > 0; });
    const int index = open_--;
    ++active_;
    void (*const body)(void*, int) = body_;
    void* const argument = argument_;
    lock.unlock();
    body(argument, index);
    lock.lock();
    if (--active_ == 0) done_.notify_one();
  }
}

}  // namespace gxu::host
