#include "driver.h"

#include <dlfcn.h>

#include <cstdlib>

#include "device.h"

namespace gxu::cuda {

Driver driver{};

namespace {

// Where NVIDIA's driver is not in the loader's path, GXU_CUDA_DRIVER has its file.
const char* library_name() {
  const char* name = std::getenv("GXU_CUDA_DRIVER");
  return name != nullptr && *name != '\0' ? name : "libcuda.so.1";
}

template <typename Function>
bool find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  return function != nullptr;
}

// What a driver gives as "major.minor".
std::string driver_version(void* library) {
  CUresult (*get_version)(int*) = nullptr;
  int version = 0;
  if (!find(library, "cuDriverGetVersion", get_version) || get_version(&version) != CUDA_SUCCESS) return "unknown";
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

struct ErrorPair {
  CUresult driver;
  gxuError_t runtime;
};

constexpr ErrorPair kErrors[] = {
    {CUDA_ERROR_INVALID_VALUE, gxuErrorInvalidValue},
    {CUDA_ERROR_OUT_OF_MEMORY, gxuErrorOutOfMemory},
    {CUDA_ERROR_NOT_INITIALIZED, gxuErrorSharedObjectInitFailed},
    {CUDA_ERROR_DEINITIALIZED, gxuErrorDeinitialized},
    {CUDA_ERROR_STUB_LIBRARY, gxuErrorSharedObjectInitFailed},
    {CUDA_ERROR_SYSTEM_DRIVER_MISMATCH, gxuErrorSharedObjectInitFailed},
    {CUDA_ERROR_NO_DEVICE, gxuErrorNoDevice},
    {CUDA_ERROR_INVALID_DEVICE, gxuErrorInvalidDevice},
    {CUDA_ERROR_INVALID_IMAGE, gxuErrorInvalidImage},
    {CUDA_ERROR_NO_BINARY_FOR_GPU, gxuErrorInvalidImage},
    {CUDA_ERROR_INVALID_PTX, gxuErrorInvalidImage},
    {CUDA_ERROR_JIT_COMPILER_NOT_FOUND, gxuErrorInvalidImage},
    {CUDA_ERROR_UNSUPPORTED_PTX_VERSION, gxuErrorInvalidImage},
    {CUDA_ERROR_FILE_NOT_FOUND, gxuErrorFileNotFound},
    {CUDA_ERROR_INVALID_HANDLE, gxuErrorInvalidHandle},
    {CUDA_ERROR_NOT_FOUND, gxuErrorNotFound},
    {CUDA_ERROR_NOT_READY, gxuErrorNotReady},
    {CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, gxuErrorInvalidValue},
    {CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE, gxuErrorInvalidValue},
    {CUDA_ERROR_NOT_PERMITTED, gxuErrorNotPermitted},
    {CUDA_ERROR_NOT_SUPPORTED, gxuErrorNotSupported},
    {CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, gxuErrorStreamCaptureUnsupported},
    {CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, gxuErrorStreamCaptureInvalidated},
    {CUDA_ERROR_STREAM_CAPTURE_MERGE, gxuErrorStreamCaptureUnsupported},
    {CUDA_ERROR_STREAM_CAPTURE_UNMATCHED, gxuErrorStreamCaptureUnmatched},
    // Work that the capture cannot hold, or that was not brought back to its first stream: there is no graph.
    {CUDA_ERROR_STREAM_CAPTURE_UNJOINED, gxuErrorStreamCaptureInvalidated},
    {CUDA_ERROR_STREAM_CAPTURE_ISOLATION, gxuErrorStreamCaptureUnsupported},
    {CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, gxuErrorStreamCaptureUnsupported},
    {CUDA_ERROR_CAPTURED_EVENT, gxuErrorStreamCaptureUnsupported},
    {CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD, gxuErrorStreamCaptureUnmatched},
};

gxuError_t runtime_error(CUresult result) {
  for (const ErrorPair& pair : kErrors) {
    if (pair.driver == result) return pair.runtime;
  }
  return gxuErrorUnknown;
}

}  // namespace

void open_driver() {
  const char* name = library_name();
  void* library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    fail(gxuErrorSharedObjectInitFailed,
         "the cuda engine needs NVIDIA's driver: %s; install the driver, name its file with GXU_CUDA_DRIVER, or set "
         "GXU_RUNTIME to another runtime",
         dlerror());
  }
  Driver found{};
#define GXU_FIND(function, parameters)                                                                              \
  if (!find(library, #function, found.function)) {                                                                  \
    fail(gxuErrorSharedObjectInitFailed,                                                                            \
         "%s is the driver for CUDA %s and has no %s: the cuda engine needs a driver for CUDA 11.8 or newer", name, \
         driver_version(library).c_str(), #function);                                                               \
  }
  GXU_CUDA_DRIVER_FUNCTIONS(GXU_FIND)
#undef GXU_FIND
#define GXU_FIND(function, parameters) find(library, #function, found.function);
  GXU_CUDA_OPTIONAL_DRIVER_FUNCTIONS(GXU_FIND)
#undef GXU_FIND
  driver = found;
}

std::string describe(CUresult result) {
  const char* name = nullptr;
  const char* text = nullptr;
  if (driver.cuGetErrorName(result, &name) != CUDA_SUCCESS || name == nullptr) {
    return format_text("CUDA error %d", static_cast<int>(result));
  }
  if (driver.cuGetErrorString(result, &text) != CUDA_SUCCESS || text == nullptr) return name;
  return format_text("%s (%s)", name, text);
}

bool is_sticky(CUresult result) {
  switch (result) {
    case CUDA_ERROR_ECC_UNCORRECTABLE:
    case CUDA_ERROR_NVLINK_UNCORRECTABLE:
    case CUDA_ERROR_ILLEGAL_ADDRESS:
    case CUDA_ERROR_LAUNCH_TIMEOUT:
    case CUDA_ERROR_CONTEXT_IS_DESTROYED:
    case CUDA_ERROR_ASSERT:
    case CUDA_ERROR_HARDWARE_STACK_ERROR:
    case CUDA_ERROR_ILLEGAL_INSTRUCTION:
    case CUDA_ERROR_MISALIGNED_ADDRESS:
    case CUDA_ERROR_INVALID_ADDRESS_SPACE:
    case CUDA_ERROR_INVALID_PC:
    case CUDA_ERROR_LAUNCH_FAILED:
      return true;
    default:
      return false;
  }
}

void fail_driver(CUresult result, const char* function) {
  const std::string text = describe(result);
  if (is_sticky(result)) {
    fail(gxuErrorLaunchFailed,
         "%s: a kernel failed: %s; %s; this process cannot use the device any more; CUDA_LAUNCH_BLOCKING=1 makes the "
         "launch of the kernel give the error",
         function, text.c_str(), last_launch().c_str());
  }
  fail(runtime_error(result), "%s: %s", function, text.c_str());
}

}  // namespace gxu::cuda
