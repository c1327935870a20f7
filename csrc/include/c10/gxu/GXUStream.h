// Streams of gxu devices, under the names that c10/cuda/CUDAStream.h gives to CUDA's.
//
//     c10::gxu::GXUStream stream = c10::gxu::getStreamFromPool();
//     c10::gxu::GXUStreamGuard guard(stream);  // c10/gxu/GXUGuard.h
//
// A program that uses this header loads libgxu_torch.so: it is linked, or opened before the first call.
#pragma once

#include <c10/core/Stream.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/Exception.h>
#include <gxu_runtime.h>

namespace c10::gxu {

// A c10::Stream that is known to belong to a gxu device.
class GXUStream {
 public:
  // Throws where `stream` belongs to another kind of device.
  explicit GXUStream(Stream stream) : stream_(stream) {
    TORCH_CHECK(stream.device_type() == DeviceType::PrivateUse1, "expected a stream of a gxu device, but got one of ",
                stream.device());
  }

  bool operator==(const GXUStream& other) const noexcept { return stream_ == other.stream_; }
  bool operator!=(const GXUStream& other) const noexcept { return !(*this == other); }

  // The runtime's handle.
  gxuStream_t stream() const { return static_cast<gxuStream_t>(guard_impl().getStreamNativeHandle(stream_)); }
  operator gxuStream_t() const { return stream(); }
  operator Stream() const { return stream_; }
  Stream unwrap() const { return stream_; }

  Device device() const { return stream_.device(); }
  DeviceType device_type() const { return DeviceType::PrivateUse1; }
  DeviceIndex device_index() const { return stream_.device_index(); }
  StreamId id() const { return stream_.id(); }

  // Whether everything that was enqueued has finished.
  bool query() const { return guard_impl().queryStream(stream_); }
  // Waits for it, and throws where a kernel failed.
  void synchronize() const { guard_impl().synchronizeStream(stream_); }

  static impl::VirtualGuardImpl guard_impl() { return impl::VirtualGuardImpl(DeviceType::PrivateUse1); }

 private:
  Stream stream_;
};

namespace detail {
// -1 becomes the current device.
inline Device device(DeviceIndex index) {
  return index < 0 ? GXUStream::guard_impl().getDevice() : Device(DeviceType::PrivateUse1, index);
}
}  // namespace detail

// This thread's current stream on a device; -1: on the current one.
inline GXUStream getCurrentGXUStream(DeviceIndex device_index = -1) {
  return GXUStream(GXUStream::guard_impl().getStream(detail::device(device_index)));
}

inline GXUStream getDefaultGXUStream(DeviceIndex device_index = -1) {
  return GXUStream(GXUStream::guard_impl().getDefaultStream(detail::device(device_index)));
}

// A stream that nobody is using yet, where there are that many: they are handed out in turn.
inline GXUStream getStreamFromPool(bool high_priority = false, DeviceIndex device_index = -1) {
  return GXUStream(GXUStream::guard_impl().getStreamFromGlobalPool(detail::device(device_index), high_priority));
}

// A stream that was made through the runtime; its maker keeps it alive.
GXUStream getStreamFromExternal(gxuStream_t stream, DeviceIndex device_index);

// Makes `stream` this thread's current stream on its device; the current device stays.
inline void setCurrentGXUStream(GXUStream stream) { GXUStream::guard_impl().exchangeStream(stream); }

}  // namespace c10::gxu
