// Events for torch.autograd.profiler without kineto (use_kineto=False): a pair around each operator.
#include <c10/util/Exception.h>
#include <torch/csrc/profiler/stubs/base.h>

#include <chrono>

#include "stream.h"

namespace gxu {
namespace {

using torch::profiler::impl::ProfilerVoidEventStub;

struct Stubs final : torch::profiler::impl::ProfilerStubs {
  void record(c10::DeviceIndex* device, ProfilerVoidEventStub* event, int64_t* cpu_ns) const override {
    ensure_initialized();
    const c10::DeviceIndex current = current_device();
    if (device != nullptr) {
      *device = current;
    }
    gxuEvent_t created = nullptr;
    GXU_CALL(gxuEventCreate, &created, gxuEventDefault);
    *event = ProfilerVoidEventStub(created,
                                   [](void* handle) { runtime().gxuEventDestroy(static_cast<gxuEvent_t>(handle)); });
    if (cpu_ns != nullptr) {
      const auto time = std::chrono::steady_clock::now().time_since_epoch();
      *cpu_ns = std::chrono::duration_cast<std::chrono::nanoseconds>(time).count();
    }
    GXU_CALL(gxuEventRecord, created, native_stream(current_stream_id(current)));
  }

  // Microseconds.
  float elapsed(const ProfilerVoidEventStub* start, const ProfilerVoidEventStub* end) const override {
    const auto first = static_cast<gxuEvent_t>(start->get());
    const auto last = static_cast<gxuEvent_t>(end->get());
    GXU_CALL(gxuEventSynchronize, last);
    float milliseconds = 0;
    GXU_CALL(gxuEventElapsedTime, &milliseconds, first, last);
    return milliseconds * 1000.0F;
  }

  // The runtime has no tool that would show marks; ranges are torch.profiler's record_function.
  void mark(const char* /*name*/) const override {}
  void rangePush(const char* /*name*/) const override {}
  void rangePop() const override {}

  bool enabled() const override { return true; }

  void onEachDevice(std::function<void(int)> operation) const override {
    for (c10::DeviceIndex device = 0; device < device_count(); ++device) {
      const DeviceScope scope(device);
      operation(device);
    }
  }

  void synchronize() const override { synchronize_device(current_device()); }
};

const bool registered = [] {
  torch::profiler::impl::registerPrivateUse1Methods(new Stubs);
  return true;
}();

}  // namespace
}  // namespace gxu
