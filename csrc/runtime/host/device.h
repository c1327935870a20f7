// A device: its memory budget, its streams, and the failure that its next synchronising call has to report.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "../gxu_runtime.h"
#include "config.h"

namespace gxu::host {

class Stream;

class Device {
 public:
  Device(int index, int machine_index, uint64_t memory_limit);

  int index() const { return index_; }
  Stream& default_stream() { return *default_stream_; }

  // Memory accounting. charge() takes `size` bytes from the budget, or returns false and takes none.
  bool charge(uint64_t size);
  void discharge(uint64_t size) { memory_used_.fetch_sub(size, std::memory_order_relaxed); }
  uint64_t memory_limit() const { return memory_limit_; }
  uint64_t memory_used() const { return memory_used_.load(std::memory_order_relaxed); }

  // Streams are never freed: a destroyed one is handed out again, so that a position in a stream (a pointer and a
  // number) stays meaningful for as long as the process lives.
  Stream& acquire_stream(unsigned int flags, int priority);
  void release_stream(Stream& stream);
  std::vector<Stream*> live_streams();
  bool has_blocking_streams() const { return blocking_streams_.load(std::memory_order_relaxed) != 0; }

  // Runs everything that was enqueued on any stream before the call.
  void drain();

  // A kernel failed: the first message is kept until report_failure() throws it as gxuErrorLaunchFailed.
  void record_failure(const std::string& message);
  void report_failure() {
    if (failed_.load(std::memory_order_acquire)) [[unlikely]] {
      throw_failure();
    }
  }

  // A kernel was stopped by the hardware, and may have written anywhere: the device runs no more kernels, and every
  // later call that uses it reports this failure, after one that came before it.
  void record_fault(const std::string& message);
  bool has_faulted() const { return faulted_.load(std::memory_order_acquire); }
  void report_fault() {
    if (has_faulted()) [[unlikely]] {
      throw_failure();
    }
  }

  const gxuDeviceProperties& properties() const { return properties_; }

 private:
  void fill_properties(int machine_index);
  [[noreturn]] void throw_failure();

  const int index_;
  const uint64_t memory_limit_;
  gxuDeviceProperties properties_{};
  std::atomic<uint64_t> memory_used_{0};

  std::mutex streams_mutex_;
  std::vector<Stream*> streams_;
  std::vector<Stream*> free_streams_;
  std::atomic<int> blocking_streams_{0};
  Stream* default_stream_;

  std::atomic<bool> failed_{false};
  std::atomic<bool> faulted_{false};
  std::mutex failure_mutex_;
  std::string failure_;  // until it is reported
  std::string fault_;
};

// The devices that gxuInit made. Valid once the engine is ready.
int device_count();
Device& device_at(int index);  // throws gxuErrorInvalidDevice
Device& current_device();
void drain_all_devices();
void create_devices(const Config& config);

}  // namespace gxu::host
