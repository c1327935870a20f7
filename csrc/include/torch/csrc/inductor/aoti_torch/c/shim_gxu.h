// The C ABI between generated code (Inductor's C++ wrapper, AOTInductor models) and libgxu_torch.so.
//
// A model links nothing else of gxu. Functions are only added here, never changed or removed, and
// AOTI_TORCH_GXU_SHIM_VERSION grows with each addition: a package that was compiled for a newer shim than the installed
// one is refused when it is loaded.
//
// Every function returns AOTI_TORCH_SUCCESS or AOTI_TORCH_FAILURE; after a failure aoti_torch_gxu_last_error() is its
// message, of the calling thread. All but that start the runtime when they are called first.
#pragma once

#include <gxu_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>

#define AOTI_TORCH_GXU_SHIM_VERSION 1

extern "C" {

// Message of the calling thread's last failure: one sentence, valid until its next one.
AOTI_TORCH_EXPORT const char* aoti_torch_gxu_last_error();

// ---- Streams and devices

// The calling thread's current stream on a device.
AOTI_TORCH_EXPORT AOTITorchError aoti_torch_get_current_gxu_stream(int32_t device_index, void** ret_stream);

struct GXUStreamGuardOpaque;
using GXUStreamGuardHandle = GXUStreamGuardOpaque*;

// Makes `stream` current on its device, and that device current, until the guard is deleted.
AOTI_TORCH_EXPORT AOTITorchError aoti_torch_create_gxu_stream_guard(void* stream, int32_t device_index,
                                                                    GXUStreamGuardHandle* ret_guard);
AOTI_TORCH_EXPORT AOTITorchError aoti_torch_delete_gxu_stream_guard(GXUStreamGuardHandle guard);

struct GXUGuardOpaque;
using GXUGuardHandle = GXUGuardOpaque*;

// Makes a device current until the guard is deleted.
AOTI_TORCH_EXPORT AOTITorchError aoti_torch_create_gxu_guard(int32_t device_index, GXUGuardHandle* ret_guard);
AOTI_TORCH_EXPORT AOTITorchError aoti_torch_delete_gxu_guard(GXUGuardHandle guard);
AOTI_TORCH_EXPORT AOTITorchError aoti_torch_gxu_guard_set_index(GXUGuardHandle guard, int32_t device_index);

AOTI_TORCH_EXPORT AOTITorchError aoti_torch_gxu_get_device(int32_t* ret_device_index);
AOTI_TORCH_EXPORT AOTITorchError aoti_torch_gxu_set_device(int32_t device_index);

// ---- Memory of constants

// `nbytes` of the current device's memory, from the runtime or from PyTorch's caching allocator.
AOTI_TORCH_EXPORT AOTITorchError aoti_torch_gxu_malloc(size_t nbytes, void** ret_pointer);
// Succeeds, and does nothing, while the process exits.
AOTI_TORCH_EXPORT AOTITorchError aoti_torch_gxu_free(void* pointer);
AOTI_TORCH_EXPORT AOTITorchError aoti_torch_gxu_caching_allocator_raw_alloc(uint64_t nbytes, void** ret_pointer);
AOTI_TORCH_EXPORT AOTITorchError aoti_torch_gxu_caching_allocator_raw_delete(void* pointer);

// Copies on the current device's default stream and waits until that is done.
AOTI_TORCH_EXPORT AOTITorchError aoti_torch_gxu_memcpy(void* destination, const void* source, size_t nbytes,
                                                       gxuMemcpyKind kind);

// ---- Events: without timing

AOTI_TORCH_EXPORT AOTITorchError aoti_torch_gxu_event_create(gxuEvent_t* ret_event);
AOTI_TORCH_EXPORT AOTITorchError aoti_torch_gxu_event_destroy(gxuEvent_t event);
AOTI_TORCH_EXPORT AOTITorchError aoti_torch_gxu_event_record(gxuEvent_t event, gxuStream_t stream);
// `ret_done`: 1 when the work before the event's last record has finished, else 0.
AOTI_TORCH_EXPORT AOTITorchError aoti_torch_gxu_event_query(gxuEvent_t event, int32_t* ret_done);
AOTI_TORCH_EXPORT AOTITorchError aoti_torch_gxu_event_synchronize(gxuEvent_t event);

// ---- Kernels

AOTI_TORCH_EXPORT AOTITorchError aoti_torch_gxu_module_load(const char* path, gxuModule_t* ret_module);
AOTI_TORCH_EXPORT AOTITorchError aoti_torch_gxu_module_load_data(const void* image, size_t nbytes,
                                                                 gxuModule_t* ret_module);
// Succeeds, and does nothing, while the process exits.
AOTI_TORCH_EXPORT AOTITorchError aoti_torch_gxu_module_unload(gxuModule_t module);
// `shared_memory_bytes`: what launches of the function will ask for at most.
AOTI_TORCH_EXPORT AOTITorchError aoti_torch_gxu_module_get_function(gxuModule_t module, const char* name,
                                                                    uint32_t shared_memory_bytes,
                                                                    gxuFunction_t* ret_function);
// `parameters` are pointers to the kernel's arguments, in order.
AOTI_TORCH_EXPORT AOTITorchError aoti_torch_gxu_launch_kernel(gxuFunction_t function, uint32_t grid_x, uint32_t grid_y,
                                                              uint32_t grid_z, uint32_t num_warps,
                                                              uint32_t shared_memory_bytes, gxuStream_t stream,
                                                              void** parameters);

}  // extern "C"
