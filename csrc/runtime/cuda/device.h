// A device: its properties, its context, and what waits for all of its work.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "driver.h"

namespace gxu::cuda {

class Stream;

class Device {
 public:
  Device(int index, CUdevice handle);

  int index() const { return index_; }
  CUdevice handle() const { return handle_; }
  const gxuDeviceProperties& properties() const { return properties_; }
  Stream& default_stream() { return *default_stream_; }

  // The primary context, which PyTorch's own cuda device and NVIDIA's libraries use too; made at the first call, which
  // takes hundreds of milliseconds and of megabytes of device memory.
  CUcontext context();
  bool has_context() const { return context_.load(std::memory_order_acquire) != nullptr; }

  Stream& add_stream(CUstream handle, bool blocking);
  void destroy_stream(Stream& stream);  // which has finished its work
  std::vector<std::shared_ptr<Stream>> live_streams();

  // Waits for all work, also while streams capture, and does not report failed kernels. Throws where the driver
  // refuses to wait: then there may be work left.
  void drain();

 private:
  // An answer of the driver's.
  struct Answer {
    CUresult result;
    const char* function;
  };
  std::vector<CUevent> mark_ends(Answer& first_failure);

  const int index_;
  const CUdevice handle_;
  gxuDeviceProperties properties_{};
  Stream* default_stream_;
  std::atomic<CUcontext> context_{nullptr};
  std::mutex context_mutex_;
  std::mutex streams_mutex_;
  std::vector<std::shared_ptr<Stream>> streams_;  // without the default one
};

// Makes the context of a device the calling thread's current one, and puts back what was current before: whoever uses
// CUDA beside this engine keeps the device that is current there.
class ContextScope {
 public:
  explicit ContextScope(Device& device) {
    const CUcontext wanted = device.context();
    GXU_DRIVER(cuCtxGetCurrent, &previous_);
    // Without a context a thread is on device 0 for CUDA's runtime, so that one may stay.
    restore_ = previous_ != wanted && !(previous_ == nullptr && device.index() == 0);
    if (previous_ != wanted) GXU_DRIVER(cuCtxSetCurrent, wanted);
  }
  ~ContextScope() {
    if (restore_) driver.cuCtxSetCurrent(previous_);
  }
  ContextScope(const ContextScope&) = delete;

 private:
  CUcontext previous_ = nullptr;
  bool restore_ = false;
};

// The devices that gxuInit found. Valid once the engine is ready.
int device_count();
Device& device_at(int index);  // throws gxuErrorInvalidDevice
Device& current_device();
void drain_all_devices();
void create_devices();

// What the process launched last, for the message of a failed kernel: CUDA does not say which kernel it was.
void record_launch(const char* kernel);  // a string that lives as long as the process
std::string last_launch();

}  // namespace gxu::cuda
