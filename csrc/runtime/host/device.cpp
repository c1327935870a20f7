#include "device.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "../common/properties.h"
#include "api.h"
#include "parallel.h"
#include "stream.h"

namespace gxu::host {
namespace {

// Leaked on purpose: threads may use the devices while static destructors run.
std::vector<Device*>* devices = nullptr;
thread_local int current_index = 0;

uint64_t cache_bytes(int name, uint64_t fallback) {
  const long bytes = sysconf(name);
  return bytes > 0 ? static_cast<uint64_t>(bytes) : fallback;
}

int vector_bytes() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return 64;
  if (__builtin_cpu_supports("avx2")) return 32;
#endif
  return 16;
}

int clock_rate_khz() {
  std::FILE* file = std::fopen("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", "r");
  if (file == nullptr) return 0;
  int rate = 0;
  if (std::fscanf(file, "%d", &rate) != 1) rate = 0;
  std::fclose(file);
  return rate;
}

}  // namespace

Device::Device(int index, int machine_index, uint64_t memory_limit) : index_(index), memory_limit_(memory_limit) {
  default_stream_ = new Stream(*this, Stream::Role::kDefault);
  streams_.push_back(default_stream_);
  fill_properties(machine_index);
}

bool Device::charge(uint64_t size) {
  uint64_t used = memory_used_.load(std::memory_order_relaxed);
  do {
    if (size > memory_limit_ || used > memory_limit_ - size) return false;
  } while (!memory_used_.compare_exchange_weak(used, used + size, std::memory_order_relaxed));
  return true;
}

Stream& Device::acquire_stream(unsigned int flags, int priority) {
  std::lock_guard lock(streams_mutex_);
  Stream* stream;
  if (!free_streams_.empty()) {
    stream = free_streams_.back();
    free_streams_.pop_back();
  } else {
    stream = new Stream(*this, Stream::Role::kCreated);
  }
  stream->configure(flags, priority);
  streams_.push_back(stream);
  if (stream->is_blocking()) blocking_streams_.fetch_add(1, std::memory_order_relaxed);
  return *stream;
}

void Device::release_stream(Stream& stream) {
  std::lock_guard lock(streams_mutex_);
  if (stream.is_blocking()) blocking_streams_.fetch_sub(1, std::memory_order_relaxed);
  std::erase(streams_, &stream);
  free_streams_.push_back(&stream);
}

std::vector<Stream*> Device::live_streams() {
  std::lock_guard lock(streams_mutex_);
  return streams_;
}

void Device::drain() {
  std::vector<Stream*> pending;
  {
    std::lock_guard lock(streams_mutex_);
    for (Stream* stream : streams_) {
      if (!stream->is_idle()) pending.push_back(stream);
    }
  }
  for (Stream* stream : pending) stream->wait_until(stream->enqueued());
}

void Device::record_failure(const std::string& message) {
  std::lock_guard lock(failure_mutex_);
  if (failed_.load(std::memory_order_relaxed)) return;
  failure_ = message;
  failed_.store(true, std::memory_order_release);
}

void Device::record_fault(const std::string& message) {
  std::lock_guard lock(failure_mutex_);
  if (faulted_.load(std::memory_order_relaxed)) return;
  fault_ = message;
  faulted_.store(true, std::memory_order_release);
  failed_.store(true, std::memory_order_release);
}

void Device::throw_failure() {
  std::string message;
  {
    std::lock_guard lock(failure_mutex_);
    const bool faulted = faulted_.load(std::memory_order_relaxed);
    if (!failure_.empty()) {  // it came first, and is reported once
      message = std::exchange(failure_, {});
      failed_.store(faulted, std::memory_order_release);
    } else {
      message = faulted ? fault_ : "a kernel failed; another thread received the details";
    }
  }
  throw Error(gxuErrorLaunchFailed, std::move(message));
}

void Device::fill_properties(int machine_index) {
  const uint64_t l2_bytes = cache_bytes(_SC_LEVEL2_CACHE_SIZE, uint64_t{1} << 20);
  gxuDeviceProperties& properties = properties_;
  std::snprintf(properties.name, sizeof(properties.name), "GXU (host engine, %d threads)", team_size());
  // "gxu-host" in hexadecimal, then the device's number in the machine, whatever its number in this process.
  std::snprintf(properties.uuid, sizeof(properties.uuid), "6778752d-686f-7374-0000-%012x",
                static_cast<unsigned int>(machine_index));
  std::snprintf(properties.triton_backend, sizeof(properties.triton_backend), "gxu");
  std::snprintf(properties.triton_arch, sizeof(properties.triton_arch), "1");
  std::snprintf(properties.delegate, sizeof(properties.delegate), "cpu");
  properties.major = 1;
  properties.minor = 0;
  properties.total_memory = memory_limit_;
  // 48 programs divide evenly among 2, 3, 4, 6, 8, 12, 16 or 24 cores.
  properties.multi_processor_count = 48;
  properties.max_grid_size = 48;
  properties.preferred_num_warps = 1;
  properties.warp_size = 32;
  properties.max_threads_per_block = 1024;
  properties.max_threads_per_multi_processor = 2048;
  properties.regs_per_multiprocessor = 65536;
  properties.shared_memory_per_block = l2_bytes;
  properties.shared_memory_per_multiprocessor = l2_bytes;
  properties.L2_cache_size = l2_bytes;
  properties.L1_cache_size = cache_bytes(_SC_LEVEL1_DCACHE_SIZE, uint64_t{32} << 10);
  properties.vector_bytes = vector_bytes();
  properties.host_accessible = 1;
  properties.concurrent_kernels = 1;
  properties.clock_rate_khz = clock_rate_khz();
}

int device_count() { return static_cast<int>(devices->size()); }

Device& device_at(int index) {
  if (index < 0 || index >= device_count()) {
    fail(gxuErrorInvalidDevice, "device %d does not exist: there are %d, numbered from 0", index, device_count());
  }
  return *(*devices)[static_cast<size_t>(index)];
}

Device& current_device() { return *(*devices)[static_cast<size_t>(current_index)]; }

void drain_all_devices() {
  for (Device* device : *devices) device->drain();
}

void create_devices(const Config& config) {
  auto created = std::make_unique<std::vector<Device*>>();
  for (const int machine_index : config.devices) {
    created->push_back(new Device(static_cast<int>(created->size()), machine_index, config.memory_limit));
  }
  devices = created.release();
}

}  // namespace gxu::host

using namespace gxu::host;

gxuError_t gxuGetDeviceCount(int* count) {
  return api([&] {
    require_argument(count, "count");
    *count = device_count();
  });
}

gxuError_t gxuGetDevice(int* device) {
  return api([&] {
    require_argument(device, "device");
    *device = current_index;
  });
}

gxuError_t gxuSetDevice(int device) {
  return api([&] { current_index = device_at(device).index(); });
}

gxuError_t gxuGetDeviceProperties(gxuDeviceProperties* properties, int device) {
  return api([&] {
    require_argument(properties, "properties");
    const Device& found = device_at(device);
    copy_properties(properties, found.properties());
  });
}

gxuError_t gxuDeviceSynchronize(void) {
  return api([&] {
    Device& device = current_device();
    forbid_in_host_function("gxuDeviceSynchronize");
    for (Stream* stream : device.live_streams()) stream->forbid_during_capture("gxuDeviceSynchronize");
    device.drain();
    device.report_failure();
  });
}

gxuError_t gxuDeviceCanAccessPeer(int* can_access, int device, int peer) {
  return api([&] {
    require_argument(can_access, "can_access");
    device_at(device);
    device_at(peer);
    *can_access = device != peer ? 1 : 0;
  });
}
