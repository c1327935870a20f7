// The functions of the CUDA driver API that this engine calls, by the names that libcuda.so.1 exports them under. All
// return CUresult. Where a name ends in _v2, the one without is an older function.
#pragma once

#include "driver_types.h"

// clang-format off
#define GXU_CUDA_DRIVER_FUNCTIONS(_)                                                                                    \
  _(cuInit, (unsigned int flags))                                                                                     \
  _(cuDriverGetVersion, (int* version))                                                                               \
  _(cuGetErrorName, (CUresult error, const char** name))                                                              \
  _(cuGetErrorString, (CUresult error, const char** text))                                                            \
  _(cuDeviceGetCount, (int* count))                                                                                   \
  _(cuDeviceGet, (CUdevice* device, int ordinal))                                                                     \
  _(cuDeviceGetName, (char* name, int length, CUdevice device))                                                       \
  _(cuDeviceGetUuid_v2, (CUuuid* uuid, CUdevice device))                                                              \
  _(cuDeviceTotalMem_v2, (size_t* bytes, CUdevice device))                                                            \
  _(cuDeviceGetAttribute, (int* value, CUdevice_attribute attribute, CUdevice device))                                \
  _(cuDeviceCanAccessPeer, (int* can_access, CUdevice device, CUdevice peer))                                         \
  _(cuDevicePrimaryCtxRetain, (CUcontext* context, CUdevice device))                                                  \
  _(cuCtxGetCurrent, (CUcontext* context))                                                                            \
  _(cuCtxSetCurrent, (CUcontext context))                                                                             \
  _(cuCtxSynchronize, ())                                                                                             \
  _(cuCtxGetStreamPriorityRange, (int* least, int* greatest))                                                         \
  _(cuCtxEnablePeerAccess, (CUcontext peer, unsigned int flags))                                                      \
  _(cuMemAlloc_v2, (CUdeviceptr* pointer, size_t size))                                                               \
  _(cuMemFree_v2, (CUdeviceptr pointer))                                                                              \
  _(cuMemHostAlloc, (void** pointer, size_t size, unsigned int flags))                                                \
  _(cuMemFreeHost, (void* pointer))                                                                                   \
  _(cuMemGetInfo_v2, (size_t* free, size_t* total))                                                                   \
  _(cuMemGetAddressRange_v2, (CUdeviceptr* base, size_t* size, CUdeviceptr pointer))                                  \
  _(cuPointerGetAttribute, (void* data, CUpointer_attribute attribute, CUdeviceptr pointer))                          \
  _(cuMemcpyAsync, (CUdeviceptr dst, CUdeviceptr src, size_t size, CUstream stream))                                  \
  _(cuMemsetD8Async, (CUdeviceptr dst, unsigned char value, size_t count, CUstream stream))                           \
  _(cuIpcGetMemHandle, (CUipcMemHandle* handle, CUdeviceptr pointer))                                                 \
  _(cuIpcOpenMemHandle_v2, (CUdeviceptr* pointer, CUipcMemHandle handle, unsigned int flags))                         \
  _(cuIpcCloseMemHandle, (CUdeviceptr pointer))                                                                       \
  _(cuStreamCreateWithPriority, (CUstream* stream, unsigned int flags, int priority))                                 \
  _(cuStreamDestroy_v2, (CUstream stream))                                                                            \
  _(cuStreamSynchronize, (CUstream stream))                                                                           \
  _(cuStreamQuery, (CUstream stream))                                                                                 \
  _(cuStreamWaitEvent, (CUstream stream, CUevent event, unsigned int flags))                                          \
  _(cuLaunchHostFunc, (CUstream stream, CUhostFn function, void* user_data))                                          \
  _(cuEventCreate, (CUevent* event, unsigned int flags))                                                              \
  _(cuEventDestroy_v2, (CUevent event))                                                                               \
  _(cuEventRecord, (CUevent event, CUstream stream))                                                                  \
  _(cuEventQuery, (CUevent event))                                                                                    \
  _(cuEventSynchronize, (CUevent event))                                                                              \
  _(cuEventElapsedTime, (float* milliseconds, CUevent start, CUevent end))                                            \
  _(cuModuleLoadData, (CUmodule* module, const void* image))                                                          \
  _(cuModuleUnload, (CUmodule module))                                                                                \
  _(cuModuleGetFunction, (CUfunction* function, CUmodule module, const char* name))                                   \
  _(cuFuncGetAttribute, (int* value, CUfunction_attribute attribute, CUfunction function))                            \
  _(cuFuncSetAttribute, (CUfunction function, CUfunction_attribute attribute, int value))                             \
  _(cuFuncSetCacheConfig, (CUfunction function, CUfunc_cache config))                                                 \
  _(cuLaunchKernel, (CUfunction function, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z,              \
                     unsigned int block_x, unsigned int block_y, unsigned int block_z,                                \
                     unsigned int shared_memory_bytes, CUstream stream, void** params, void** extra))                 \
  _(cuLaunchKernelEx, (const CUlaunchConfig* config, CUfunction function, void** params, void** extra))               \
  _(cuStreamBeginCapture_v2, (CUstream stream, CUstreamCaptureMode mode))                                             \
  _(cuStreamEndCapture, (CUstream stream, CUgraph* graph))                                                            \
  _(cuStreamIsCapturing, (CUstream stream, CUstreamCaptureStatus* status))                                            \
  _(cuStreamGetCaptureInfo_v2, (CUstream stream, CUstreamCaptureStatus* status, uint64_t* id, CUgraph* graph,         \
                                const CUgraphNode** dependencies, size_t* num_dependencies))                          \
  _(cuGraphInstantiateWithFlags, (CUgraphExec* exec, CUgraph graph, unsigned long long flags))                        \
  _(cuGraphLaunch, (CUgraphExec exec, CUstream stream))                                                               \
  _(cuGraphExecDestroy, (CUgraphExec exec))                                                                           \
  _(cuGraphDestroy, (CUgraph graph))                                                                                  \
  _(cuUserObjectCreate, (CUuserObject* object, void* pointer, CUhostFn destroy, unsigned int initial_references,      \
                         unsigned int flags))                                                                         \
  _(cuUserObjectRelease, (CUuserObject object, unsigned int count))                                                   \
  _(cuGraphRetainUserObject, (CUgraph graph, CUuserObject object, unsigned int count, unsigned int flags))

// Functions that older drivers than the engine needs do not have: nullptr there.
#define GXU_CUDA_OPTIONAL_DRIVER_FUNCTIONS(_)                                                                           \
  _(cuFuncGetParamInfo, (CUfunction function, size_t index, size_t* offset, size_t* size))
// clang-format on
