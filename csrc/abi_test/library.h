// The runtime library under test: opened by path, its functions by name.
#pragma once

#include <string>
#include <vector>

#include "gxu_runtime.h"

// Every function of gxu_runtime.h. X(name, required): a library may leave out those that are not required.
#define GXU_FOR_EACH_FUNCTION(X)     \
  X(gxuGetVersion, true)             \
  X(gxuInit, true)                   \
  X(gxuGetErrorName, true)           \
  X(gxuGetErrorString, true)         \
  X(gxuGetLastError, true)           \
  X(gxuPeekAtLastError, true)        \
  X(gxuGetLastErrorMessage, true)    \
  X(gxuGetDeviceCount, true)         \
  X(gxuGetDevice, true)              \
  X(gxuSetDevice, true)              \
  X(gxuGetDeviceProperties, true)    \
  X(gxuDeviceSynchronize, true)      \
  X(gxuDeviceCanAccessPeer, true)    \
  X(gxuMalloc, true)                 \
  X(gxuFree, true)                   \
  X(gxuMallocHost, true)             \
  X(gxuFreeHost, true)               \
  X(gxuMemGetInfo, true)             \
  X(gxuPointerGetAttributes, true)   \
  X(gxuMemcpyAsync, true)            \
  X(gxuMemsetAsync, true)            \
  X(gxuStreamCreate, true)           \
  X(gxuStreamDestroy, true)          \
  X(gxuStreamSynchronize, true)      \
  X(gxuStreamQuery, true)            \
  X(gxuStreamWaitEvent, true)        \
  X(gxuStreamGetPriorityRange, true) \
  X(gxuLaunchHostFunc, true)         \
  X(gxuEventCreate, true)            \
  X(gxuEventDestroy, true)           \
  X(gxuEventRecord, true)            \
  X(gxuEventQuery, true)             \
  X(gxuEventSynchronize, true)       \
  X(gxuEventElapsedTime, true)       \
  X(gxuModuleLoad, true)             \
  X(gxuModuleLoadData, true)         \
  X(gxuModuleUnload, true)           \
  X(gxuModuleGetFunction, true)      \
  X(gxuFuncSetAttribute, true)       \
  X(gxuLaunchKernel, true)           \
  X(gxuStreamBeginCapture, true)     \
  X(gxuStreamEndCapture, true)       \
  X(gxuStreamIsCapturing, true)      \
  X(gxuStreamGetCaptureInfo, false)  \
  X(gxuGraphInstantiate, true)       \
  X(gxuGraphLaunch, true)            \
  X(gxuGraphExecDestroy, true)       \
  X(gxuGraphDestroy, true)           \
  X(gxuIpcGetMemHandle, true)        \
  X(gxuIpcOpenMemHandle, true)       \
  X(gxuIpcCloseMemHandle, true)

namespace gxu::abi_test {

// A member for each function, under its own name; null where the library does not have it.
struct Library {
#define X(name, required) decltype(&::name) name = nullptr;
  GXU_FOR_EACH_FUNCTION(X)
#undef X
};

// The library of this process; cases call its functions as rt.gxuMalloc(...).
extern Library rt;

// Opens the library at `path` into `rt`. Returns the names of required functions that it lacks. Throws
// std::runtime_error where the file cannot be opened as a library.
std::vector<std::string> open_library(const std::string& path);

}  // namespace gxu::abi_test
