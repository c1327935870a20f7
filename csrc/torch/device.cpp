#include "device.h"

#include <c10/util/Exception.h>
#include <pthread.h>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <string_view>
#include <vector>

#include "cuda_delegate.h"
#include "delegate_allocator.h"
#include "device_name.h"
#include "graph_capture.h"
#include "thread_state.h"

namespace gxu {
namespace detail {
std::atomic<bool> usable{false};
std::array<Delegate, kMaxDevices> delegates{};
}  // namespace detail

constinit thread_local ThreadState thread_state;

namespace {

std::atomic<bool> runtime_started{false};  // gxuInit succeeded: from here on a fork is final
std::atomic<bool> bad_fork{false};

struct DeviceTable {
  std::vector<gxuDeviceProperties> properties;
};
DeviceTable* device_table = nullptr;  // set once, before `usable`; stays readable in forked children

std::mutex& initialization_mutex() {
  static auto* mutex = new std::mutex;
  return *mutex;
}

void mark_child_unusable() {
  if (runtime_started) {
    bad_fork = true;
    detail::usable = false;
  }
}

void check_not_forked() {
  TORCH_CHECK(!bad_fork,
              "Cannot re-initialize GXU in forked subprocess. To use GXU with multiprocessing, you must use the "
              "'spawn' start method");
}

int start_runtime() {
  GXU_CALL(gxuInit, 0);
  if (!runtime_started.exchange(true)) {
    pthread_atfork(nullptr, nullptr, &mark_child_unusable);
  }
  int count = 0;
  const gxuError_t error = runtime().gxuGetDeviceCount(&count);
  if (error == gxuErrorNoDevice) {
    return 0;
  }
  check(error, "gxuGetDeviceCount");
  return count;
}

Delegate parse_delegate(const gxuDeviceProperties& properties) {
  const std::string_view name(properties.delegate, strnlen(properties.delegate, sizeof(properties.delegate)));
  if (name.empty()) {
    return Delegate::kNone;
  }
  if (name == "cuda") {
    return has_cuda_delegate() ? Delegate::kCuda : Delegate::kNone;
  }
  TORCH_CHECK(name == "cpu", "The device '", properties.name, "' names the delegate '", name,
              "', which this build of torch-gxu does not support: expected 'cpu', 'cuda' or none.");
  TORCH_CHECK(properties.host_accessible == 1, "The device '", properties.name,
              "' names the delegate 'cpu', but its memory is not accessible from the host.");
  return Delegate::kCpu;
}

DeviceTable* query_devices(int count) {
  auto table = std::make_unique<DeviceTable>();
  for (int index = 0; index < count; ++index) {
    gxuDeviceProperties properties;
    std::memset(&properties, 0, sizeof(properties));
    properties.struct_size = sizeof(properties);
    GXU_CALL(gxuGetDeviceProperties, &properties, index);
    detail::delegates[index] = parse_delegate(properties);
    table->properties.push_back(properties);
  }
  return table.release();
}

}  // namespace

void detail::initialize() {
  check_not_forked();
  std::lock_guard<std::mutex> lock(initialization_mutex());
  if (usable) {
    return;
  }
  const int count = start_runtime();
  TORCH_CHECK(count > 0, "The GXU runtime library ", runtime_path(), " found no device.");
  TORCH_CHECK(count <= kMaxDevices, "The GXU runtime library ", runtime_path(), " reports ", count,
              " devices, more than the supported ", kMaxDevices, ".");
  device_table = query_devices(count);
  if (std::find(delegates.begin(), delegates.end(), Delegate::kCpu) != delegates.end()) {
    install_delegate_allocator();
  }
  usable = true;
}

bool is_initialized() { return detail::usable.load(); }

bool is_in_bad_fork() { return bad_fork; }

c10::DeviceIndex device_count() {
  if (bad_fork && device_table != nullptr) {
    return static_cast<c10::DeviceIndex>(device_table->properties.size());
  }
  ensure_initialized();
  return static_cast<c10::DeviceIndex>(device_table->properties.size());
}

c10::DeviceIndex device_count_or_zero() noexcept {
  try {
    if (device_table != nullptr) {
      return static_cast<c10::DeviceIndex>(device_table->properties.size());
    }
    check_not_forked();
    return static_cast<c10::DeviceIndex>(start_runtime());
  } catch (...) {
    return 0;
  }
}

void check_device_index(int64_t index) {
  const auto count = device_count();
  TORCH_CHECK(index >= 0 && index < count, "GXU device index ", index, " is out of range: this process has ",
              static_cast<int>(count), count == 1 ? " device (" : " devices, numbered from ", device_name(),
              count == 1 ? ":0)." : ":0.");
}

c10::DeviceIndex resolve_device_index(int64_t index) {
  if (index == -1) {
    index = current_device();
  }
  check_device_index(index);
  return static_cast<c10::DeviceIndex>(index);
}

const gxuDeviceProperties& device_properties(c10::DeviceIndex index) {
  check_device_index(index);
  return device_table->properties[index];
}

c10::DeviceIndex current_device() noexcept { return thread_state.device; }

void set_device(c10::DeviceIndex index) {
  if (index == thread_state.device && is_initialized()) {
    return;
  }
  check_device_index(index);
  GXU_CALL(gxuSetDevice, index);
  thread_state.device = index;
}

c10::DeviceIndex exchange_device(c10::DeviceIndex index) {
  const c10::DeviceIndex previous = thread_state.device;
  if (index >= 0 && index != previous) {
    set_device(index);
  }
  return previous;
}

void synchronize_device(c10::DeviceIndex index) {
  ensure_initialized();
  index = resolve_device_index(index);
  forbid_in_capture(index, "Synchronising the device");
  const DeviceScope scope(index);
  GXU_CALL(gxuDeviceSynchronize);
  throw_asynchronous_error(index);
}

void DeviceScope::restore() noexcept {
  if (runtime().gxuSetDevice(previous_) == gxuSuccess) {
    thread_state.device = previous_;
  }
}

}  // namespace gxu
