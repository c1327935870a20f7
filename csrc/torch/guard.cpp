// Device guard: PyTorch's generic access to devices, streams and events.
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/util/Exception.h>

#include "allocator.h"
#include "device.h"
#include "device_name.h"
#include "graph.h"
#include "graph_capture.h"
#include "stream.h"
#include "torch_compat.h"

namespace gxu {
namespace {

gxuEvent_t as_event(void* event) { return static_cast<gxuEvent_t>(event); }

struct GuardImpl final : c10::impl::DeviceGuardImplInterface {
  static constexpr c10::DeviceType static_type = kGxu;

  c10::DeviceType type() const override { return kGxu; }

  c10::Device exchangeDevice(c10::Device device) const override { return {kGxu, exchange_device(device.index())}; }
  c10::Device getDevice() const override { return {kGxu, current_device()}; }
  void setDevice(c10::Device device) const override {
    if (device.has_index()) {
      set_device(device.index());
    }
  }
  void uncheckedSetDevice(c10::Device device) const noexcept override {
    try {
      exchange_device(device.index());
    } catch (...) {  // called from destructors: the device was current before, so only a broken runtime gets here
    }
  }
  c10::DeviceIndex deviceCount() const noexcept override { return device_count_or_zero(); }

  c10::DeviceCapability getDeviceCapability(c10::Device /*device*/) const override { return {}; }

  c10::Stream getStream(c10::Device device) const override { return current_stream(device.index()); }
  c10::Stream getDefaultStream(c10::Device device) const override { return default_stream(device.index()); }
  c10::Stream getStreamFromGlobalPool(c10::Device device, bool high_priority) const override {
    return stream_from_pool(device.index(), high_priority ? -1 : 0);
  }
  c10::Stream getNewStream(c10::Device device, int priority) const override {
    return stream_from_pool(device.index(), priority);
  }
  c10::Stream exchangeStream(c10::Stream stream) const override { return exchange_stream(stream); }
  void* getStreamNativeHandle(const c10::Stream stream) const override { return native_stream(stream.id()); }
  bool queryStream(const c10::Stream& stream) const override {
    return query_stream(stream.device_index(), stream.id());
  }
  void synchronizeStream(const c10::Stream& stream) const override {
    synchronize_stream(stream.device_index(), stream.id());
  }
  bool isStreamCapturing(const c10::Stream& stream) const GXU_OVERRIDE_SINCE_2_13 {
    return is_stream_capturing(stream);
  }
  void synchronizeDevice(const c10::DeviceIndex device) const override { synchronize_device(device); }
  void recordDataPtrOnStream(const c10::DataPtr& pointer, const c10::Stream& stream) const override {
    CachingAllocator::instance().recordStream(pointer, stream);
  }

  void record(void** event, const c10::Stream& stream, const c10::DeviceIndex device_index,
              const c10::EventFlag flag) const override {
    TORCH_CHECK(device_index == -1 || device_index == stream.device_index(), "The event of ", device_name(), ":",
                static_cast<int>(device_index), " cannot be recorded on a stream of ", stream.device(), ".");
    ensure_initialized();
    const DeviceScope scope(stream.device_index());
    if (*event == nullptr) {
      gxuEvent_t created = nullptr;
      const bool timing = flag == c10::EventFlag::BACKEND_DEFAULT;
      GXU_CALL(gxuEventCreate, &created, timing ? gxuEventDefault : gxuEventDisableTiming);
      *event = created;
    }
    GXU_CALL(gxuEventRecord, as_event(*event), native_stream(stream.id()));
  }
  void block(void* event, const c10::Stream& stream) const override {
    if (event == nullptr) {
      return;  // never recorded: nothing to wait for
    }
    const DeviceScope scope(stream.device_index());
    GXU_CALL(gxuStreamWaitEvent, native_stream(stream.id()), as_event(event), 0);
  }
  bool queryEvent(void* event) const override {
    if (event == nullptr) {
      return true;
    }
    const gxuError_t error = runtime().gxuEventQuery(as_event(event));
    if (error == gxuErrorNotReady) {
      return false;
    }
    check(error, "gxuEventQuery");
    return true;
  }
  void synchronizeEvent(void* event) const override {
    if (event != nullptr) {
      GXU_CALL(gxuEventSynchronize, as_event(event));
      for (c10::DeviceIndex device = 0; device < deviceCount(); ++device) {
        throw_asynchronous_error(device);  // an event does not say which device it is of
      }
    }
  }
  void destroyEvent(void* event, const c10::DeviceIndex /*device_index*/) const noexcept override {
    if (event != nullptr && !is_in_bad_fork()) {
      runtime().gxuEventDestroy(as_event(event));
    }
  }
  double elapsedTime(void* start, void* end, const c10::DeviceIndex /*device_index*/) const override {
    TORCH_CHECK(start != nullptr && end != nullptr, "Both events must be recorded before calculating elapsed time.");
    float milliseconds = 0;
    GXU_CALL(gxuEventElapsedTime, &milliseconds, as_event(start), as_event(end));
    return milliseconds;
  }
};

C10_REGISTER_GUARD_IMPL(PrivateUse1, GuardImpl);

}  // namespace
}  // namespace gxu
