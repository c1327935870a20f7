// A kernel: the driver's function on each device, and the attributes that its launches have.
#pragma once

#include <atomic>
#include <mutex>
#include <vector>

#include "driver.h"

namespace gxu::cuda {

class Device;
class Image;

class Function {
 public:
  Function(const char* name, Image& image);

  const char* name() const { return name_; }  // lives as long as the process
  Image& image() const { return image_; }

  // The driver's function on the device, whose context is current; found at the first call.
  CUfunction on(Device& device) {
    const CUfunction found = functions_[device_slot(device)].load(std::memory_order_acquire);
    return found != nullptr ? found : find_on(device);
  }

  // Throws gxuErrorInvalidValue for an attribute or a value that `device` does not allow; its context is current.
  void set_attribute(gxuFunctionAttribute attribute, int value, Device& device);

  // Launches through cuLaunchKernelEx with these, and through cuLaunchKernel where there are none.
  bool has_launch_attributes() const { return has_launch_attributes_.load(std::memory_order_acquire); }
  // Writes at most 4; returns their number.
  unsigned int launch_attributes(CUlaunchAttribute* attributes) const;

  // Parameters that the kernel has, or 0 where the driver does not tell.
  size_t num_params() const { return num_params_.load(std::memory_order_relaxed); }

  gxuFunction_t handle = nullptr;

 private:
  struct Attributes {
    int dynamic_shared_bytes;
    int cluster_width;
    bool cooperative;
    bool programmatic_serialization;
  };

  static size_t device_slot(const Device& device);
  Attributes attributes() const {
    return {dynamic_shared_bytes_, cluster_width_, cooperative_, programmatic_serialization_};
  }
  CUfunction find_on(Device& device);
  void apply(CUfunction function) const;

  const char* const name_;
  Image& image_;
  std::vector<std::atomic<CUfunction>> functions_;  // by device
  std::atomic<size_t> num_params_{0};
  mutable std::mutex mutex_;
  int dynamic_shared_bytes_ = 0;  // 0: the driver's own limit
  std::atomic<int> cluster_width_{1};
  std::atomic<bool> cooperative_{false};
  std::atomic<bool> programmatic_serialization_{false};
  std::atomic<bool> has_launch_attributes_{false};
};

// Makes the kernel's handle, and ends it.
void publish(Function& function);
void withdraw(Function& function);

// The kernel behind a handle; throws gxuErrorInvalidHandle.
Function& resolve_function(gxuFunction_t handle);

}  // namespace gxu::cuda
