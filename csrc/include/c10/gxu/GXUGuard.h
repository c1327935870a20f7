// Guards of gxu devices and streams, under the names that c10/cuda/CUDAGuard.h gives to CUDA's. Each restores, at the
// end of its scope, what was current before.
#pragma once

#include <c10/core/impl/InlineDeviceGuard.h>
#include <c10/core/impl/InlineStreamGuard.h>
#include <c10/gxu/GXUStream.h>

#include <optional>

namespace c10::gxu {

// Makes a device current.
class GXUGuard {
 public:
  explicit GXUGuard(DeviceIndex index) : guard_(Device(DeviceType::PrivateUse1, index)) {}
  // Throws where `device` is not a gxu device.
  explicit GXUGuard(Device device) : guard_(checked(device)) {}
  GXUGuard(const GXUGuard&) = delete;
  GXUGuard& operator=(const GXUGuard&) = delete;

  void set_device(Device device) { guard_.reset_device(checked(device)); }
  void set_index(DeviceIndex index) { guard_.set_index(index); }
  Device original_device() const { return guard_.original_device(); }
  Device current_device() const { return guard_.current_device(); }

 private:
  static Device checked(Device device) {
    TORCH_CHECK(device.type() == DeviceType::PrivateUse1, "expected a gxu device, but got ", device);
    return device;
  }

  impl::InlineDeviceGuard<impl::VirtualGuardImpl> guard_;
};

// The same where there may be no device to make current: does nothing for std::nullopt.
class OptionalGXUGuard {
 public:
  OptionalGXUGuard() = default;
  explicit OptionalGXUGuard(std::optional<Device> device) {
    if (device) {
      guard_.emplace(*device);
    }
  }
  OptionalGXUGuard(const OptionalGXUGuard&) = delete;
  OptionalGXUGuard& operator=(const OptionalGXUGuard&) = delete;

  void set_index(DeviceIndex index) {
    if (guard_) {
      guard_->set_index(index);
    } else {
      guard_.emplace(index);
    }
  }
  void reset() { guard_.reset(); }

 private:
  std::optional<GXUGuard> guard_;
};

// Makes a stream current on its device, and that device current.
class GXUStreamGuard {
 public:
  // Throws where `stream` is not of a gxu device.
  explicit GXUStreamGuard(Stream stream) : guard_(GXUStream(stream).unwrap()) {}
  GXUStreamGuard(const GXUStreamGuard&) = delete;
  GXUStreamGuard& operator=(const GXUStreamGuard&) = delete;

  // Restores what was current before, then does the same with another stream.
  void reset_stream(Stream stream) { guard_.reset_stream(GXUStream(stream).unwrap()); }
  GXUStream original_stream() const { return GXUStream(guard_.original_stream()); }
  GXUStream current_stream() const { return GXUStream(guard_.current_stream()); }
  Device original_device() const { return guard_.original_device(); }
  Device current_device() const { return guard_.current_device(); }

 private:
  impl::InlineStreamGuard<impl::VirtualGuardImpl> guard_;
};

}  // namespace c10::gxu
