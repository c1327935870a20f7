// A stream: the driver's, with its device and the capture that it takes part in.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>

#include "../common/handle_table.h"
#include "driver.h"

namespace gxu::cuda {

class Capture;
class Device;

class Stream {
 public:
  explicit Stream(Device& device) : device_(device), handle_(nullptr), blocking_(true) {}  // the default stream
  Stream(Device& device, CUstream handle, bool blocking) : device_(device), handle_(handle), blocking_(blocking) {}

  Device& device() const { return device_; }
  CUstream handle() const { return handle_; }
  bool is_default() const { return handle_ == nullptr; }
  bool is_blocking() const { return blocking_; }  // ordered with the default stream

  // The capture that this stream takes part in, or nullptr.
  bool is_capturing() const { return capturing_.load(std::memory_order_acquire); }
  std::shared_ptr<Capture> capture();
  void enter_capture(std::shared_ptr<Capture> capture);
  void leave_capture();

  // Throws gxuErrorStreamCaptureUnsupported and makes the capture invalid while the stream takes part in one.
  void forbid_during_capture(const char* function);
  // Throws gxuErrorStreamCaptureInvalidated where the stream takes part in an invalid capture: before work is enqueued.
  void require_valid_capture();

 private:
  Device& device_;
  const CUstream handle_;
  const bool blocking_;
  std::atomic<bool> capturing_{false};
  std::mutex mutex_;
  std::shared_ptr<Capture> capture_;
};

// The live stream behind a handle (NULL: the current device's default stream); throws gxuErrorInvalidHandle.
Stream& resolve_stream(gxuStream_t handle);

// As resolve_stream, for calls that need the stream to be on the current device.
Stream& resolve_current_stream(gxuStream_t handle, const char* function);

}  // namespace gxu::cuda
