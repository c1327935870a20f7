// The CUDA functions that PyTorch's AOTInductor runtime calls (aoti_runtime/model_base.h, model_container.h), over
// gxu's C ABI. Only models for gxu see this file: see torch/csrc/inductor/aoti_include/gxu.h.
//
// A function that may fail throws gxu's message, so that nobody reads "CUDA error"; those that destructors call do not.
#pragma once

#include <torch/csrc/inductor/aoti_runtime/utils_gxu.h>

using cudaError_t = AOTITorchError;
using cudaStream_t = gxuStream_t;
using cudaEvent_t = gxuEvent_t;
using cudaMemcpyKind = gxuMemcpyKind;
using CUresult = AOTITorchError;
using CUmodule = gxuModule_t;

constexpr cudaError_t cudaSuccess = AOTI_TORCH_SUCCESS;
constexpr cudaError_t cudaErrorNotReady = 600;  // as in CUDA; unlike any AOTITorchError
constexpr CUresult CUDA_SUCCESS = AOTI_TORCH_SUCCESS;
constexpr cudaMemcpyKind cudaMemcpyHostToDevice = gxuMemcpyHostToDevice;
constexpr cudaMemcpyKind cudaMemcpyDefault = gxuMemcpyDefault;

inline const char* cudaGetErrorString(cudaError_t /*error*/) { return aoti_torch_gxu_last_error(); }
inline cudaError_t cudaGetLastError() { return cudaSuccess; }

inline cudaError_t cudaGetDevice(int* device) {
  AOTI_TORCH_GXU_CHECK(aoti_torch_gxu_get_device(device));
  return cudaSuccess;
}
inline cudaError_t cudaSetDevice(int device) {
  AOTI_TORCH_GXU_CHECK(aoti_torch_gxu_set_device(device));
  return cudaSuccess;
}

inline cudaError_t cudaMalloc(void** pointer, size_t nbytes) {
  AOTI_TORCH_GXU_CHECK(aoti_torch_gxu_malloc(nbytes, pointer));
  return cudaSuccess;
}
inline cudaError_t cudaFree(void* pointer) { return aoti_torch_gxu_free(pointer); }
inline cudaError_t cudaMemcpy(void* destination, const void* source, size_t nbytes, cudaMemcpyKind kind) {
  AOTI_TORCH_GXU_CHECK(aoti_torch_gxu_memcpy(destination, source, nbytes, kind));
  return cudaSuccess;
}

inline cudaError_t cudaEventCreate(cudaEvent_t* event) {
  AOTI_TORCH_GXU_CHECK(aoti_torch_gxu_event_create(event));
  return cudaSuccess;
}
inline cudaError_t cudaEventDestroy(cudaEvent_t event) { return aoti_torch_gxu_event_destroy(event); }
inline cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  AOTI_TORCH_GXU_CHECK(aoti_torch_gxu_event_record(event, stream));
  return cudaSuccess;
}
inline cudaError_t cudaEventQuery(cudaEvent_t event) {
  int32_t done = 0;
  AOTI_TORCH_GXU_CHECK(aoti_torch_gxu_event_query(event, &done));
  return done != 0 ? cudaSuccess : cudaErrorNotReady;
}
inline cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  AOTI_TORCH_GXU_CHECK(aoti_torch_gxu_event_synchronize(event));
  return cudaSuccess;
}

inline CUresult cuModuleUnload(CUmodule module) { return aoti_torch_gxu_module_unload(module); }
inline CUresult cuGetErrorString(CUresult /*error*/, const char** message) {
  *message = aoti_torch_gxu_last_error();
  return CUDA_SUCCESS;
}
