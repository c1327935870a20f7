#include "activity.h"

#include <chrono>
#include <mutex>
#include <shared_mutex>

#include "api.h"
#include "device.h"
#include "memory.h"
#include "module.h"
#include "record.h"
#include "stream.h"

namespace gxu::host {

std::atomic<bool> activities_enabled{false};

namespace {

thread_local uint64_t correlation_of_thread = 0;

// Shared while a callback runs, exclusive while it is exchanged.
std::shared_mutex& listener_mutex() {
  static auto* mutex = new std::shared_mutex;
  return *mutex;
}

gxuActivityCallback_t listener = nullptr;
void* listener_data = nullptr;

uint64_t now() {
  const auto time = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(time).count());
}

// Streams are never freed, so their addresses tell them apart.
uint64_t stream_number(const Stream& stream) { return stream.is_default() ? 0 : reinterpret_cast<uint64_t>(&stream); }

bool is_device_memory(const void* pointer) {
  const std::optional<Allocation> found = find_allocation(pointer);
  return found && found->type == gxuMemoryTypeDevice;
}

}  // namespace

uint64_t thread_correlation() { return correlation_of_thread; }

void ActivityScope::start(Stream& stream, uint64_t correlation) {
  activity_.struct_size = sizeof(gxuActivity);
  activity_.device = stream.device().index();
  activity_.stream = stream_number(stream);
  activity_.correlation = correlation;
  activity_.start = now();
}

void ActivityScope::describe(const KernelLaunch& launch) {
  activity_.kind = gxuActivityKernel;
  activity_.name = launch.function->name.c_str();
  activity_.grid[0] = launch.grid.x;
  activity_.grid[1] = launch.grid.y;
  activity_.grid[2] = launch.grid.z;
}

void ActivityScope::describe(const Copy& copy) {
  activity_.kind = gxuActivityMemcpy;
  activity_.bytes = copy.size;
  const bool to_device = is_device_memory(copy.dst);
  const bool from_device = is_device_memory(copy.src);
  activity_.copy_kind = from_device ? (to_device ? gxuMemcpyDeviceToDevice : gxuMemcpyDeviceToHost)
                                    : (to_device ? gxuMemcpyHostToDevice : gxuMemcpyHostToHost);
}

void ActivityScope::describe(const Fill& fill) {
  activity_.kind = gxuActivityMemset;
  activity_.bytes = fill.size;
}

void ActivityScope::finish() {
  activity_.end = now();
  std::shared_lock lock(listener_mutex());
  if (listener != nullptr) listener(&activity_, listener_data);
}

}  // namespace gxu::host

using namespace gxu::host;

gxuError_t gxuActivityEnable(gxuActivityCallback_t callback, void* user_data) {
  return api([&] {
    if (callback == nullptr) fail(gxuErrorInvalidValue, "argument 'callback' is NULL");
    std::unique_lock lock(listener_mutex());
    if (listener != nullptr) {
      fail(gxuErrorInvalidValue, "gxuActivityEnable: activities are reported to somebody else already");
    }
    listener = callback;
    listener_data = user_data;
    activities_enabled = true;
  });
}

gxuError_t gxuActivityDisable(void) {
  return api([&] {
    std::unique_lock lock(listener_mutex());
    activities_enabled = false;
    listener = nullptr;
    listener_data = nullptr;
  });
}

gxuError_t gxuActivityGetStream(uint64_t* number, gxuStream_t stream) {
  return api([&] {
    require_argument(number, "number");
    *number = stream_number(resolve_stream(stream));
  });
}

gxuError_t gxuActivitySetCorrelation(uint64_t correlation) {
  return api([&] { correlation_of_thread = correlation; });
}
