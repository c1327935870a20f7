#include "device.h"

#include <cstdio>
#include <cstring>

#include "../common/api.h"
#include "../common/host_function.h"
#include "../common/properties.h"
#include "capture.h"
#include "stream.h"

namespace gxu::cuda {
namespace {

// Leaked on purpose: threads may use the devices while static destructors run.
std::vector<Device*>* devices = nullptr;
thread_local int current_index = 0;
std::atomic<const char*> last_kernel{nullptr};

int attribute(CUdevice device, CUdevice_attribute name) {
  int value = 0;
  GXU_DRIVER(cuDeviceGetAttribute, &value, name, device);
  return value;
}

void write_uuid(char (&text)[40], CUdevice device) {
  CUuuid uuid;
  GXU_DRIVER(cuDeviceGetUuid_v2, &uuid, device);
  char* out = text;
  for (int i = 0; i < 16; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) *out++ = '-';
    out += std::snprintf(out, 3, "%02x", static_cast<unsigned char>(uuid.bytes[i]));
  }
}

gxuDeviceProperties query_properties(CUdevice device) {
  gxuDeviceProperties found{};
  GXU_DRIVER(cuDeviceGetName, found.name, static_cast<int>(sizeof(found.name)), device);
  write_uuid(found.uuid, device);
  size_t memory = 0;
  GXU_DRIVER(cuDeviceTotalMem_v2, &memory, device);
  found.total_memory = memory;
  found.major = attribute(device, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
  found.minor = attribute(device, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
  std::snprintf(found.triton_backend, sizeof(found.triton_backend), "cuda");
  std::snprintf(found.triton_arch, sizeof(found.triton_arch), "%d", found.major * 10 + found.minor);
  std::snprintf(found.delegate, sizeof(found.delegate), "cuda");
  found.multi_processor_count = attribute(device, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
  found.warp_size = attribute(device, CU_DEVICE_ATTRIBUTE_WARP_SIZE);
  found.max_threads_per_block = attribute(device, CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
  found.max_threads_per_multi_processor = attribute(device, CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR);
  found.regs_per_multiprocessor = attribute(device, CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR);
  // With gxuFuncAttributeMaxDynamicSharedMemorySize; a kernel that does not ask has 48 KiB.
  found.shared_memory_per_block =
      static_cast<uint64_t>(attribute(device, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN));
  found.shared_memory_per_multiprocessor =
      static_cast<uint64_t>(attribute(device, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR));
  found.L2_cache_size = static_cast<uint64_t>(attribute(device, CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE));
  // The driver does not tell the size of L1; it is one memory with the shared memory since compute capability 7.0.
  found.L1_cache_size = found.shared_memory_per_multiprocessor;
  found.concurrent_kernels = attribute(device, CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS) != 0 ? 1 : 0;
  found.clock_rate_khz = attribute(device, CU_DEVICE_ATTRIBUTE_CLOCK_RATE);
  if (attribute(device, CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING) == 0) {
    fail(gxuErrorNotSupported,
         "%s has no unified addressing, by which this engine tells device memory from host memory: it needs a 64-bit "
         "system and a device made since 2010",
         found.name);
  }
  return found;
}

}  // namespace

Device::Device(int index, CUdevice handle) : index_(index), handle_(handle), properties_(query_properties(handle)) {
  default_stream_ = new Stream(*this);
}

CUcontext Device::context() {
  if (CUcontext made = context_.load(std::memory_order_acquire)) [[likely]] {
    return made;
  }
  std::lock_guard lock(context_mutex_);
  CUcontext context = context_.load(std::memory_order_relaxed);
  if (context == nullptr) {
    GXU_DRIVER(cuDevicePrimaryCtxRetain, &context, handle_);
    context_.store(context, std::memory_order_release);
  }
  return context;
}

Stream& Device::add_stream(CUstream handle, bool blocking) {
  std::lock_guard lock(streams_mutex_);
  return *streams_.emplace_back(std::make_shared<Stream>(*this, handle, blocking));
}

void Device::destroy_stream(Stream& stream) {
  std::lock_guard lock(streams_mutex_);
  const CUresult result = driver.cuStreamDestroy_v2(stream.handle());
  std::erase_if(streams_, [&](const std::shared_ptr<Stream>& live) { return live.get() == &stream; });
  check_unless_sticky(result, "cuStreamDestroy_v2");
}

std::vector<std::shared_ptr<Stream>> Device::live_streams() {
  std::lock_guard lock(streams_mutex_);
  return streams_;
}

void Device::drain() {
  if (!has_context()) return;
  const ContextScope scope(*this);
  Answer failure{CUDA_SUCCESS, nullptr};
  for (const CUevent end : mark_ends(failure)) {
    const CUresult result = driver.cuEventSynchronize(end);
    if (failure.result == CUDA_SUCCESS) failure = {result, "cuEventSynchronize"};
    driver.cuEventDestroy_v2(end);
  }
  check_unless_sticky(failure.result, failure.function);
}

// The driver would end captures if it were asked to wait for the whole context, or for the default stream while one
// that is ordered with it captures; and none may begin between the look and the marks.
std::vector<CUevent> Device::mark_ends(Answer& first_failure) {
  std::vector<CUevent> ends;
  const CaptureGate no_begin;
  std::lock_guard lock(streams_mutex_);
  auto mark = [&](CUstream stream) {
    CUevent end = nullptr;
    Answer answer{driver.cuEventCreate(&end, CU_EVENT_DISABLE_TIMING), "cuEventCreate"};
    if (answer.result == CUDA_SUCCESS) {
      ends.push_back(end);
      answer = {driver.cuEventRecord(end, stream), "cuEventRecord"};
    }
    if (first_failure.result == CUDA_SUCCESS) first_failure = answer;
  };
  bool default_is_free = true;
  for (const std::shared_ptr<Stream>& stream : streams_) {
    if (!stream->is_capturing()) {
      mark(stream->handle());
    } else if (stream->is_blocking()) {
      default_is_free = false;
    }
  }
  if (default_is_free) mark(nullptr);
  return ends;
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

void create_devices() {
  int count = 0;
  GXU_DRIVER(cuDeviceGetCount, &count);
  if (count == 0) {
    fail(gxuErrorNoDevice, "the driver found no CUDA device: look at nvidia-smi, and at CUDA_VISIBLE_DEVICES");
  }
  auto created = std::make_unique<std::vector<Device*>>();
  for (int index = 0; index < count; ++index) {
    CUdevice handle = 0;
    GXU_DRIVER(cuDeviceGet, &handle, index);
    created->push_back(new Device(index, handle));
  }
  devices = created.release();
}

void record_launch(const char* kernel) { last_kernel.store(kernel, std::memory_order_relaxed); }

std::string last_launch() {
  const char* kernel = last_kernel.load(std::memory_order_relaxed);
  return kernel == nullptr ? "this runtime has launched none" : format_text("the last one launched was '%s'", kernel);
}

}  // namespace gxu::cuda

using namespace gxu::cuda;

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
    copy_properties(properties, device_at(device).properties());
  });
}

gxuError_t gxuDeviceSynchronize(void) {
  return api([&] {
    Device& device = current_device();
    forbid_in_host_function("gxuDeviceSynchronize");
    for (const auto& stream : device.live_streams()) stream->forbid_during_capture("gxuDeviceSynchronize");
    const ContextScope scope(device);
    GXU_DRIVER(cuCtxSynchronize);
  });
}

gxuError_t gxuDeviceCanAccessPeer(int* can_access, int device, int peer) {
  return api([&] {
    require_argument(can_access, "can_access");
    Device& own = device_at(device);
    Device& other = device_at(peer);
    *can_access = 0;
    if (&own == &other) return;
    int possible = 0;
    GXU_DRIVER(cuDeviceCanAccessPeer, &possible, own.handle(), other.handle());
    if (possible == 0) return;
    // The answer holds for kernels, so from here on the hardware allows it.
    const CUcontext context = other.context();
    const ContextScope scope(own);
    const CUresult result = driver.cuCtxEnablePeerAccess(context, 0);
    if (result != CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED) check(result, "cuCtxEnablePeerAccess");
    *can_access = 1;
  });
}
