// The runtime library behind gxu_runtime.h, loaded at first use and called through a function table.
#pragma once

#include <c10/macros/Macros.h>

#include <string>

#include "../runtime/gxu_activity.h"
#include "../runtime/gxu_memory_check.h"
#include "../runtime/gxu_runtime.h"

namespace gxu {

#define GXU_RUNTIME_FUNCTIONS(_) \
  _(gxuGetVersion)               \
  _(gxuInit)                     \
  _(gxuGetErrorName)             \
  _(gxuGetErrorString)           \
  _(gxuGetLastError)             \
  _(gxuPeekAtLastError)          \
  _(gxuGetLastErrorMessage)      \
  _(gxuGetDeviceCount)           \
  _(gxuGetDevice)                \
  _(gxuSetDevice)                \
  _(gxuGetDeviceProperties)      \
  _(gxuDeviceSynchronize)        \
  _(gxuDeviceCanAccessPeer)      \
  _(gxuMalloc)                   \
  _(gxuFree)                     \
  _(gxuMallocHost)               \
  _(gxuFreeHost)                 \
  _(gxuMemGetInfo)               \
  _(gxuPointerGetAttributes)     \
  _(gxuMemcpyAsync)              \
  _(gxuMemsetAsync)              \
  _(gxuStreamCreate)             \
  _(gxuStreamDestroy)            \
  _(gxuStreamSynchronize)        \
  _(gxuStreamQuery)              \
  _(gxuStreamWaitEvent)          \
  _(gxuStreamGetPriorityRange)   \
  _(gxuLaunchHostFunc)           \
  _(gxuEventCreate)              \
  _(gxuEventDestroy)             \
  _(gxuEventRecord)              \
  _(gxuEventQuery)               \
  _(gxuEventSynchronize)         \
  _(gxuEventElapsedTime)         \
  _(gxuModuleLoad)               \
  _(gxuModuleLoadData)           \
  _(gxuModuleUnload)             \
  _(gxuModuleGetFunction)        \
  _(gxuFuncSetAttribute)         \
  _(gxuLaunchKernel)             \
  _(gxuStreamBeginCapture)       \
  _(gxuStreamEndCapture)         \
  _(gxuStreamIsCapturing)        \
  _(gxuGraphInstantiate)         \
  _(gxuGraphLaunch)              \
  _(gxuGraphExecDestroy)         \
  _(gxuGraphDestroy)             \
  _(gxuIpcGetMemHandle)          \
  _(gxuIpcOpenMemHandle)         \
  _(gxuIpcCloseMemHandle)

// Functions that a library may leave out: nullptr then.
#define GXU_OPTIONAL_RUNTIME_FUNCTIONS(_) \
  _(gxuStreamGetCaptureInfo)              \
  _(gxuMemoryCheckAddBlock)               \
  _(gxuMemoryCheckRemoveBlock)            \
  _(gxuMemoryCheckAllow)                  \
  _(gxuActivityEnable)                    \
  _(gxuActivityDisable)                   \
  _(gxuActivityGetStream)                 \
  _(gxuActivitySetCorrelation)

struct RuntimeApi {
#define GXU_DECLARE(name) decltype(&::name) name;
  GXU_RUNTIME_FUNCTIONS(GXU_DECLARE)
  GXU_OPTIONAL_RUNTIME_FUNCTIONS(GXU_DECLARE)
#undef GXU_DECLARE
};

namespace detail {
extern const RuntimeApi* loaded_runtime;  // nullptr until the library is loaded and its version accepted
const RuntimeApi& load_runtime();
}  // namespace detail

// The function table of the library that GXU_RUNTIME names. Throws c10::Error with one sentence where the library is
// missing, cannot be loaded, or has another ABI version.
inline const RuntimeApi& runtime() {
  const RuntimeApi* api = detail::loaded_runtime;
  return C10_LIKELY(api != nullptr) ? *api : detail::load_runtime();
}

// The file that GXU_RUNTIME names: the bundled library for "host" (the default) and "cuda", else the path itself.
std::string runtime_path();

// Throws the runtime's error: c10::OutOfMemoryError for gxuErrorOutOfMemory, else c10::Error.
[[noreturn]] void throw_runtime_error(gxuError_t error, const char* function);

inline void check(gxuError_t error, const char* function) {
  if (C10_UNLIKELY(error != gxuSuccess)) {
    throw_runtime_error(error, function);
  }
}

#define GXU_CALL(function, ...) ::gxu::check(::gxu::runtime().function(__VA_ARGS__), #function)

}  // namespace gxu
