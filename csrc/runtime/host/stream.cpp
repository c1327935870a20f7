#include "stream.h"

#include <algorithm>
#include <system_error>
#include <thread>

#include "../common/arguments.h"
#include "api.h"
#include "device.h"
#include "graph.h"
#include "parallel.h"

namespace gxu::host {
namespace {

HandleTable<gxuStream_t, Stream, HandleKind::kStream>& stream_handles() {
  static auto* table = new HandleTable<gxuStream_t, Stream, HandleKind::kStream>;
  return *table;
}

}  // namespace

Record& Stream::slot_for_append(uint64_t position) {
  if (!executing_.load(std::memory_order_relaxed) && completed_.load(std::memory_order_acquire) == position) {
    base_ = position;
  }
  std::unique_ptr<Block>& block = blocks_[(position - base_) % kQueueBound / kBlockRecords];
  if (!block) block = std::make_unique<Block>();
  return slot_at(position);
}

void Stream::make_room(std::unique_lock<std::mutex>& lock) {
  while (enqueued_.load(std::memory_order_relaxed) - completed_.load(std::memory_order_acquire) >= kQueueBound) {
    // Half the queue at once, so that a thread that keeps enqueueing does not stop for every record.
    const uint64_t position = enqueued_.load(std::memory_order_relaxed) - kQueueBound / 2;
    lock.unlock();
    wait_until(position);
    lock.lock();
  }
}

void Stream::order_with_default_stream() {
  if (!device_.has_blocking_streams() || capturing_.load(std::memory_order_relaxed)) return;
  if (is_default()) {
    for (Stream* other : device_.live_streams()) {
      const uint64_t position = other->enqueued();
      if (other->is_blocking() && !other->has_finished(position)) enqueue(Wait{other, position});
    }
  } else if (is_blocking()) {
    Stream& other = device_.default_stream();
    const uint64_t position = other.enqueued();
    if (!other.has_finished(position)) enqueue(Wait{&other, position});
  }
}

void Stream::wait_until(uint64_t position) {
  if (has_finished(position)) return;
  std::unique_lock lock(mutex_);
  while (!has_finished(position)) {
    if (!executing_.load(std::memory_order_relaxed)) {
      executing_.store(true, std::memory_order_relaxed);
      lock.unlock();
      run_until(position);
      lock.lock();
      release_execution();
    } else {
      // Sequentially consistent, paired with finish_record(): either it sees wake_at_ or this sees its progress.
      if (wake_at_.load(std::memory_order_relaxed) > position) wake_at_.store(position, std::memory_order_seq_cst);
      if (completed_.load(std::memory_order_seq_cst) < position) progress_.wait(lock);
    }
  }
}

// The caller has set executing_.
void Stream::run_until(uint64_t position) {
  uint64_t completed = completed_.load(std::memory_order_relaxed);
  while (completed < position) {
    Record& record = slot_at(completed);
    execute(record, *this);
    record.emplace<std::monostate>();
    finish_record(++completed);
  }
}

void Stream::run_in_background() {
  const BackgroundWork work(priority());
  uint64_t completed = completed_.load(std::memory_order_relaxed);
  while (work.may_continue() && completed < enqueued_.load(std::memory_order_acquire)) {
    Record& record = slot_at(completed);
    execute(record, *this);
    record.emplace<std::monostate>();
    // A thread that waits is better placed to go on: its OpenMP team is the one the process keeps warm.
    if (finish_record(++completed)) return;
  }
}

// Publishes progress and wakes the threads that waited for it. Returns true when some thread is waiting.
bool Stream::finish_record(uint64_t completed) {
  completed_.store(completed, std::memory_order_seq_cst);
  const uint64_t wake_at = wake_at_.load(std::memory_order_seq_cst);
  if (wake_at == kNobodyWaits) return false;
  if (wake_at <= completed) {
    std::lock_guard lock(mutex_);
    wake_at_.store(kNobodyWaits, std::memory_order_relaxed);
    progress_.notify_all();
  }
  return true;
}

// The caller holds mutex_. Sleeping threads wake up, so that one of them takes over what is left.
void Stream::release_execution() {
  executing_.store(false, std::memory_order_relaxed);
  if (wake_at_.load(std::memory_order_relaxed) != kNobodyWaits) {
    wake_at_.store(kNobodyWaits, std::memory_order_relaxed);
    progress_.notify_all();
  }
}

Activity Stream::tick() {
  const uint64_t enqueued = enqueued_.load(std::memory_order_seq_cst);
  const uint64_t completed = completed_.load(std::memory_order_acquire);
  const bool pending = completed < enqueued;
  const bool used = enqueued != ticked_enqueued_ || pending;
  const bool stuck = pending && completed == ticked_completed_ && !executing_.load(std::memory_order_relaxed);
  if (stuck && ticked_pending_ && !higher_priority_runs(priority())) wake_executor();
  ticked_enqueued_ = enqueued;
  ticked_completed_ = completed;
  ticked_pending_ = pending;
  if (stuck) return Activity::kStuck;
  return used ? Activity::kUsed : Activity::kNone;
}

void Stream::wake_executor() {
  std::lock_guard lock(mutex_);
  if (!executor_started_) {
    try {
      std::thread([this] { executor_main(); }).detach();
    } catch (const std::system_error&) {
      return;  // the system gives no thread now: the next tick tries again, and a thread that waits needs none
    }
    executor_started_ = true;
  }
  executor_requested_ = true;
  executor_wakeup_.notify_one();
}

void Stream::executor_main() {
  use_background_team();
  std::unique_lock lock(mutex_);
  for (;;) {
    executor_wakeup_.wait(lock, [this] { return executor_requested_; });
    executor_requested_ = false;
    if (executing_.load(std::memory_order_relaxed)) continue;
    executing_.store(true, std::memory_order_relaxed);
    lock.unlock();
    run_in_background();
    lock.lock();
    release_execution();
  }
}

Stream& resolve_stream(gxuStream_t handle) {
  return handle == nullptr ? current_device().default_stream() : stream_handles().get(handle);
}

Stream& resolve_current_stream(gxuStream_t handle, const char* function) {
  Stream& stream = resolve_stream(handle);
  require_current_device(stream.device().index(), current_device().index(), function);
  return stream;
}

}  // namespace gxu::host

using namespace gxu::host;

gxuError_t gxuStreamCreate(gxuStream_t* stream, unsigned int flags, int priority) {
  return api([&] {
    require_argument(stream, "stream");
    require_stream_flags(flags);
    priority = std::clamp(priority, kGreatestPriority, kLeastPriority);
    Stream& created = current_device().acquire_stream(flags, priority);
    try {
      *stream = stream_handles().insert(&created);
    } catch (...) {
      created.device().release_stream(created);
      throw;
    }
  });
}

gxuError_t gxuStreamDestroy(gxuStream_t stream) {
  return api([&] {
    forbid_in_host_function("gxuStreamDestroy");
    if (stream == nullptr) fail(gxuErrorInvalidHandle, "the default stream cannot be destroyed");
    Stream& found = resolve_stream(stream);
    found.forbid_during_capture("gxuStreamDestroy");
    found.wait_all();
    stream_handles().take(stream);
    found.device().release_stream(found);
  });
}

gxuError_t gxuStreamSynchronize(gxuStream_t stream) {
  return api([&] {
    Stream& found = resolve_stream(stream);
    forbid_in_host_function("gxuStreamSynchronize");
    found.forbid_during_capture("gxuStreamSynchronize");
    if (found.is_default()) found.order_with_default_stream();
    found.wait_all();
    found.device().report_failure();
  });
}

gxuError_t gxuStreamQuery(gxuStream_t stream) {
  return api([&] {
    Stream& found = resolve_stream(stream);
    found.forbid_during_capture("gxuStreamQuery");
    return found.is_idle() ? gxuSuccess : gxuErrorNotReady;
  });
}

gxuError_t gxuStreamGetPriorityRange(int* least, int* greatest) {
  return api([&] {
    require_argument(least, "least");
    require_argument(greatest, "greatest");
    *least = kLeastPriority;
    *greatest = kGreatestPriority;
  });
}

gxuError_t gxuLaunchHostFunc(gxuStream_t stream, gxuHostFn_t function, void* user_data) {
  return api([&] {
    if (function == nullptr) fail(gxuErrorInvalidValue, "argument 'function' is NULL");
    forbid_in_host_function("gxuLaunchHostFunc");
    Stream& found = resolve_stream(stream);
    found.order_with_default_stream();
    found.enqueue(HostCall{function, user_data});
  });
}
