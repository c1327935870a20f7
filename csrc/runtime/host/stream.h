// Streams: queues of records that execute in order, one thread at a time.
//
// Enqueueing only stores a record. Whoever needs the result runs it: a thread that waits for a position in the stream
// takes the stream over, executes up to that position on itself and its OpenMP team, and hands the stream back. Work
// that nobody waits for is picked up by the ticker (ticker.h), which wakes the stream's own executor thread.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>

#include "../common/host_function.h"
#include "handle_table.h"
#include "record.h"
#include "ticker.h"

namespace gxu::host {

class Capture;

class Stream {
 public:
  enum class Role { kDefault, kCreated };

  Stream(Device& device, Role role) : device_(device), role_(role) {}
  Stream(const Stream&) = delete;

  Device& device() const { return device_; }
  bool is_default() const { return role_ == Role::kDefault; }
  // Blocking streams are ordered with the device's default stream, as CUDA's are.
  bool is_blocking() const { return role_ == Role::kCreated && (flags_ & gxuStreamNonBlocking) == 0; }
  int priority() const { return priority_.load(std::memory_order_relaxed); }
  void configure(unsigned int flags, int priority) {
    flags_ = flags;
    priority_.store(priority, std::memory_order_relaxed);
  }

  // Positions count records since the stream was made; they never go back.
  uint64_t enqueued() const { return enqueued_.load(std::memory_order_acquire); }
  bool has_finished(uint64_t position) const { return completed_.load(std::memory_order_acquire) >= position; }
  bool is_idle() const { return has_finished(enqueued()); }

  // Appends the record (or adds it to the capture that the stream is part of) and returns the position after it.
  // Blocks only when the queue is full, and then helps to empty it.
  template <typename Work>
  uint64_t enqueue(Work&& work) {
    std::unique_lock lock(mutex_);
    if (capture_) [[unlikely]] {
      append_to_capture(lock, Record(std::in_place_type<std::decay_t<Work>>, std::forward<Work>(work)));
      return enqueued();
    }
    if (enqueued_.load(std::memory_order_relaxed) - completed_.load(std::memory_order_acquire) >= kQueueBound)
        [[unlikely]] {
      make_room(lock);
    }
    const uint64_t position = enqueued_.load(std::memory_order_relaxed);
    slot_for_append(position).template emplace<std::decay_t<Work>>(std::forward<Work>(work));
    // Sequentially consistent, paired with the ticker: either it sees this record or notice_work() sees it parked.
    enqueued_.store(position + 1, std::memory_order_seq_cst);
    lock.unlock();
    ticker().notice_work();
    return position + 1;
  }

  // Adds the waits that order this stream's next record with the device's default stream (or, on the default stream,
  // with the device's blocking streams).
  void order_with_default_stream();

  // Returns when the first `position` records have finished, executing them where no other thread does.
  void wait_until(uint64_t position);
  void wait_all() { wait_until(enqueued()); }

  // Capture (graph.cpp)
  std::shared_ptr<Capture> capture();
  bool join_capture(const std::shared_ptr<Capture>& capture);  // false: the stream is part of another one
  void leave_capture();
  // Throws gxuErrorStreamCaptureUnsupported, and invalidates the capture, when the stream is capturing.
  void forbid_during_capture(const char* function);

  // Called by the ticker alone. Wakes the executor when a record has waited for a whole tick and nobody executes.
  Activity tick();

 private:
  static constexpr uint64_t kQueueBound = 1024;
  static constexpr uint64_t kBlockRecords = 64;
  static constexpr uint64_t kNobodyWaits = UINT64_MAX;
  using Block = std::array<Record, kBlockRecords>;

  Record& slot_for_append(uint64_t position);
  Record& slot_at(uint64_t position) {
    const uint64_t index = (position - base_) % kQueueBound;
    return (*blocks_[index / kBlockRecords])[index % kBlockRecords];
  }
  void make_room(std::unique_lock<std::mutex>& lock);
  void append_to_capture(std::unique_lock<std::mutex>& lock, Record record);
  void run_until(uint64_t position);
  void run_in_background();
  bool finish_record(uint64_t completed);
  void release_execution();
  void wake_executor();
  void executor_main();

  Device& device_;
  const Role role_;
  unsigned int flags_ = gxuStreamNonBlocking;
  std::atomic<int> priority_{0};

  // Guards the queue's tail, base_, changes of executing_, capture_ and the executor's state. The thread that executes
  // reads finished slots without it.
  std::mutex mutex_;
  std::array<std::unique_ptr<Block>, kQueueBound / kBlockRecords> blocks_;
  uint64_t base_ = 0;  // position in the first slot; moved when the queue is empty, so that few slots stay hot

  // What the ticker looks at, for every stream at every tick: one cache line.
  alignas(64) std::atomic<uint64_t> enqueued_{0};
  std::atomic<uint64_t> completed_{0};
  std::atomic<bool> executing_{false};
  // The ticker's memory of the last tick.
  bool ticked_pending_ = false;
  uint64_t ticked_enqueued_ = 0;
  uint64_t ticked_completed_ = 0;

  // The lowest position that a sleeping thread waits for.
  std::atomic<uint64_t> wake_at_{kNobodyWaits};
  std::condition_variable progress_;

  std::shared_ptr<Capture> capture_;
  std::atomic<bool> capturing_{false};

  bool executor_started_ = false;
  bool executor_requested_ = false;
  std::condition_variable executor_wakeup_;
};

// The live stream behind a handle (NULL: the current device's default stream); throws gxuErrorInvalidHandle.
Stream& resolve_stream(gxuStream_t handle);

// As resolve_stream, for calls that need the stream to be on the current device.
Stream& resolve_current_stream(gxuStream_t handle, const char* function);

}  // namespace gxu::host
