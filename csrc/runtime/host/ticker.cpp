#include "ticker.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <thread>

#include "device.h"
#include "stream.h"

namespace gxu::host {
namespace {

using namespace std::chrono_literals;

// The pause between ticks while there is work that nobody does, and the longest one while others do it all: the ticker
// then only takes time from them.
constexpr std::chrono::microseconds kTick = 500us;
constexpr std::chrono::microseconds kLazyTick = 2000us;
// How long the ticker stays awake without activity: waking it costs the enqueuer a system call.
constexpr auto kLinger = 50ms;
// How long exit waits for a record that an executor thread is in the middle of.
constexpr auto kExitPatience = 2s;

std::atomic<int> background_threads{0};
// Executor threads at work, by the priority of their streams, from the greatest to the least.
std::array<std::atomic<int>, kLeastPriority - kGreatestPriority + 1> running_priorities{};
std::atomic<bool> stopping{false};

}  // namespace

Ticker& ticker() {
  static Ticker* instance = new Ticker;  // leaked: its thread outlives static destruction
  return *instance;
}

void Ticker::start() {
  std::thread([this] { main(); }).detach();
}

void Ticker::main() {
  auto last_activity = std::chrono::steady_clock::now();
  std::chrono::microseconds pause = kTick;
  for (;;) {
    const Activity activity = tick_all();
    const auto now = std::chrono::steady_clock::now();
    pause = activity == Activity::kStuck ? kTick : std::min(2 * pause, kLazyTick);
    if (activity != Activity::kNone) {
      last_activity = now;
    } else if (now - last_activity > kLinger) {
      park();
      last_activity = std::chrono::steady_clock::now();
      pause = kTick;
    }
    std::this_thread::sleep_for(pause);
  }
}

Activity Ticker::tick_all() {
  Activity most = Activity::kNone;
  for (int i = 0; i < device_count(); ++i) {
    for (Stream* stream : device_at(i).live_streams()) most = std::max(most, stream->tick());
  }
  return most;
}

void Ticker::park() {
  parked_.store(true, std::memory_order_seq_cst);
  // A record that was enqueued before parked_ was set is seen here; a later one calls unpark().
  if (tick_all() != Activity::kNone) {
    parked_.store(false, std::memory_order_relaxed);
    return;
  }
  std::unique_lock lock(mutex_);
  wakeup_.wait(lock, [this] { return !parked_.load(std::memory_order_relaxed); });
}

void Ticker::unpark() {
  std::lock_guard lock(mutex_);
  parked_.store(false, std::memory_order_relaxed);
  wakeup_.notify_one();
}

bool higher_priority_runs(int priority) {
  for (int higher = kGreatestPriority; higher < priority; ++higher) {
    if (running_priorities[higher - kGreatestPriority].load(std::memory_order_relaxed) != 0) return true;
  }
  return false;
}

BackgroundWork::BackgroundWork(int priority) : priority_(priority) {
  background_threads.fetch_add(1, std::memory_order_seq_cst);
  running_priorities[priority_ - kGreatestPriority].fetch_add(1, std::memory_order_relaxed);
}

BackgroundWork::~BackgroundWork() {
  running_priorities[priority_ - kGreatestPriority].fetch_sub(1, std::memory_order_relaxed);
  background_threads.fetch_sub(1, std::memory_order_seq_cst);
}

bool BackgroundWork::may_continue() const {
  return !stopping.load(std::memory_order_seq_cst) && !higher_priority_runs(priority_);
}

void stop_background_work() {
  stopping.store(true, std::memory_order_seq_cst);
  const auto deadline = std::chrono::steady_clock::now() + kExitPatience;
  while (background_threads.load(std::memory_order_seq_cst) != 0 && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(100us);
  }
}

}  // namespace gxu::host
