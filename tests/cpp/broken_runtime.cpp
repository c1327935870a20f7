// A runtime library that is the host engine, except that it breaks the promise which GXU_BREAK names. It is linked
// against the engine, so that functions it does not define are found there; those it defines forward to the engine's.
#include <dlfcn.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "gxu_runtime.h"

namespace {

bool broken(const char* promise) {
  static const char* name = std::getenv("GXU_BREAK");
  return name != nullptr && std::strcmp(name, promise) == 0;
}

// The engine's own function: the next after this library's.
template <typename Function>
Function* real(Function*, const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}
#define REAL(name) real(&::name, #name)

bool capturing(gxuStream_t stream) {
  gxuStreamCaptureStatus status = gxuStreamCaptureStatusNone;
  REAL(gxuStreamIsCapturing)(stream, &status);
  return status != gxuStreamCaptureStatusNone;
}

}  // namespace

extern "C" {

gxuError_t gxuGetVersion(int* version) {
  const gxuError_t code = REAL(gxuGetVersion)(version);
  if (broken("version") && version != nullptr) *version += 1000;
  return code;
}

gxuError_t gxuInit(unsigned int flags) { return REAL(gxuInit)(broken("init_flags") ? 0 : flags); }

const char* gxuGetErrorName(gxuError_t error) {
  return broken("error_names") && error == gxuErrorNotReady ? "gxuErrorNotreadyYet" : REAL(gxuGetErrorName)(error);
}

gxuError_t gxuGetLastError(void) {
  return broken("last_error_stays") ? REAL(gxuPeekAtLastError)() : REAL(gxuGetLastError)();
}

gxuError_t gxuSetDevice(int device) {
  const gxuError_t code = REAL(gxuSetDevice)(device);
  return broken("wrong_device") && code == gxuErrorInvalidDevice ? gxuErrorInvalidValue : code;
}

gxuError_t gxuGetDeviceProperties(gxuDeviceProperties* properties, int device) {
  const gxuError_t code = REAL(gxuGetDeviceProperties)(properties, device);
  if (code == gxuSuccess && broken("uuid")) std::strcpy(properties->uuid, "UNKNOWN");
  return code;
}

gxuError_t gxuMalloc(void** pointer, size_t size) {
  if (broken("malloc_waits")) REAL(gxuDeviceSynchronize)();
  if (broken("alignment") && size > 0 && pointer != nullptr) {
    const gxuError_t code = REAL(gxuMalloc)(pointer, size + 16);
    if (code == gxuSuccess) *pointer = static_cast<char*>(*pointer) + 16;
    return code;
  }
  return REAL(gxuMalloc)(pointer, size);
}

gxuError_t gxuFree(void* pointer) {
  if (broken("free_does_not_wait")) {
    std::thread([pointer] { REAL(gxuFree)(pointer); }).detach();
    return gxuSuccess;
  }
  if (broken("double_free")) {
    gxuPointerAttributes attributes;
    REAL(gxuPointerGetAttributes)(&attributes, pointer);
    if (attributes.base != pointer) return gxuSuccess;
  }
  return REAL(gxuFree)(pointer);
}

gxuError_t gxuMemcpyAsync(void* dst, const void* src, size_t size, gxuMemcpyKind kind, gxuStream_t stream) {
  if (broken("pinned_copy_waits") && !capturing(stream)) REAL(gxuStreamSynchronize)(stream);
  if (broken("copy_loses_a_byte") && size > 4096) --size;
  if (broken("unchecked_ranges")) {
    gxuPointerAttributes found;
    if (REAL(gxuPointerGetAttributes)(&found, dst) == gxuSuccess && found.type == gxuMemoryTypeDevice) {
      const size_t left = found.size - static_cast<size_t>(static_cast<char*>(dst) - static_cast<char*>(found.base));
      if (size > left) size = left;
    }
  }
  return REAL(gxuMemcpyAsync)(dst, src, size, kind, stream);
}

gxuError_t gxuMemsetAsync(void* dst, int value, size_t size, gxuStream_t stream) {
  static thread_local gxuStream_t aside = nullptr;
  if (broken("no_order") && stream != nullptr && !capturing(stream)) {
    if (aside == nullptr) REAL(gxuStreamCreate)(&aside, gxuStreamNonBlocking, 0);
    stream = aside;
  }
  return REAL(gxuMemsetAsync)(dst, value, size, stream);
}

gxuError_t gxuStreamCreate(gxuStream_t* stream, unsigned int flags, int priority) {
  return REAL(gxuStreamCreate)(stream, broken("all_streams_non_blocking") ? flags | gxuStreamNonBlocking : flags,
                               priority);
}

gxuError_t gxuStreamQuery(gxuStream_t stream) {
  if (broken("query_waits") && !capturing(stream)) return REAL(gxuStreamSynchronize)(stream);
  return REAL(gxuStreamQuery)(stream);
}

gxuError_t gxuStreamSynchronize(gxuStream_t stream) {
  if (broken("synchronize_returns_at_once")) return gxuSuccess;
  const gxuError_t code = REAL(gxuStreamSynchronize)(stream);
  return broken("first_failure_is_lost") && code == gxuErrorLaunchFailed ? REAL(gxuStreamSynchronize)(stream) : code;
}

gxuError_t gxuStreamWaitEvent(gxuStream_t stream, gxuEvent_t event, unsigned int flags) {
  if (broken("event_wait_is_lost") && !capturing(stream)) return gxuSuccess;
  return REAL(gxuStreamWaitEvent)(stream, event, flags);
}

gxuError_t gxuEventRecord(gxuEvent_t event, gxuStream_t stream) {
  if (broken("event_records_once") && REAL(gxuEventQuery)(event) == gxuErrorNotReady) return gxuSuccess;
  return REAL(gxuEventRecord)(event, stream);
}

gxuError_t gxuEventElapsedTime(float* milliseconds, gxuEvent_t start, gxuEvent_t end) {
  const gxuError_t code = REAL(gxuEventElapsedTime)(milliseconds, start, end);
  if (code == gxuSuccess && broken("time_in_seconds")) *milliseconds /= 1000;
  if (code == gxuSuccess && broken("time_without_sign") && *milliseconds < 0) *milliseconds = -*milliseconds;
  return code;
}

gxuError_t gxuLaunchHostFunc(gxuStream_t stream, gxuHostFn_t function, void* user_data) {
  if (broken("host_function_at_once") && function != nullptr && !capturing(stream)) {
    std::thread(function, user_data).detach();
    return gxuSuccess;
  }
  return REAL(gxuLaunchHostFunc)(stream, function, user_data);
}

gxuError_t gxuModuleGetFunction(gxuFunction_t* function, gxuModule_t module, const char* name) {
  const gxuError_t code = REAL(gxuModuleGetFunction)(function, module, name);
  return broken("kernel_not_found") && code == gxuErrorNotFound ? gxuErrorInvalidValue : code;
}

gxuError_t gxuLaunchKernel(gxuFunction_t function, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z,
                           unsigned int block_x, unsigned int block_y, unsigned int block_z,
                           unsigned int shared_memory_bytes, gxuStream_t stream, void** kernel_params) {
  if (broken("last_program_is_lost") && grid_x > 1) --grid_x;
  if (broken("one_dimension")) grid_y = grid_z = 1;
  if (broken("parameters_are_wanted") && kernel_params == nullptr) return REAL(gxuMemsetAsync)(nullptr, 0, 1, nullptr);
  return REAL(gxuLaunchKernel)(function, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_memory_bytes, stream,
                               kernel_params);
}

gxuError_t gxuGraphLaunch(gxuGraphExec_t exec, gxuStream_t stream) {
  static thread_local int launches = 0;
  if (broken("second_replay_is_lost") && ++launches % 2 == 0) return gxuSuccess;
  return REAL(gxuGraphLaunch)(exec, stream);
}

gxuError_t gxuStreamBeginCapture(gxuStream_t stream) {
  if (broken("capture_of_the_default_stream") && stream == nullptr) return gxuSuccess;
  return REAL(gxuStreamBeginCapture)(stream);
}

gxuError_t gxuStreamGetCaptureInfo(gxuStream_t stream, gxuStreamCaptureStatus* status, unsigned long long* id) {
  const gxuError_t code = REAL(gxuStreamGetCaptureInfo)(stream, status, id);
  if (broken("one_capture_number") && code == gxuSuccess && *id != 0) *id = 1;
  return code;
}

gxuError_t gxuIpcOpenMemHandle(void** pointer, gxuIpcMemHandle_t handle) {
  const gxuError_t code = REAL(gxuIpcOpenMemHandle)(pointer, handle);
  return broken("crash") ? (std::abort(), code) : code;
}

gxuError_t gxuDeviceSynchronize(void) {
  if (broken("hang")) {
    for (;;) std::this_thread::sleep_for(std::chrono::seconds(1));
  }
  return broken("device_synchronize_returns_at_once") ? gxuSuccess : REAL(gxuDeviceSynchronize)();
}

}  // extern "C"
