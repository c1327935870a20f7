#include <c10/core/DeviceGuard.h>
#include <c10/core/StreamGuard.h>
#include <c10/util/Exception.h>
#include <torch/csrc/inductor/aoti_torch/c/shim_gxu.h>

#include "../torch/allocator.h"
#include "../torch/device.h"
#include "../torch/stream.h"

namespace {

std::string& last_error() {
  thread_local std::string message;
  return message;
}

// Runs `body`; an exception becomes AOTI_TORCH_FAILURE and the thread's last error.
template <typename Body>
AOTITorchError guarded(Body&& body) noexcept {
  try {
    gxu::ensure_initialized();
    body();
    return AOTI_TORCH_SUCCESS;
  } catch (const c10::Error& error) {
    last_error() = error.what_without_backtrace();
  } catch (const std::exception& error) {
    last_error() = error.what();
  } catch (...) {
    last_error() = "unknown exception";
  }
  return AOTI_TORCH_FAILURE;
}

// For what destructors call, perhaps while the process exits.
template <typename Function, typename... Args>
AOTITorchError release(Function function, const char* name, Args... args) noexcept {
  return guarded([&] {
    const gxuError_t error = function(args...);
    if (error != gxuErrorDeinitialized) {
      gxu::check(error, name);
    }
  });
}

c10::Device device(int32_t index) {
  gxu::check_device_index(index);
  return {gxu::kGxu, static_cast<c10::DeviceIndex>(index)};
}

c10::DeviceGuard* as_guard(GXUGuardHandle handle) { return reinterpret_cast<c10::DeviceGuard*>(handle); }
c10::StreamGuard* as_guard(GXUStreamGuardHandle handle) { return reinterpret_cast<c10::StreamGuard*>(handle); }

}  // namespace

const char* aoti_torch_gxu_last_error() { return last_error().c_str(); }

AOTITorchError aoti_torch_get_current_gxu_stream(int32_t device_index, void** ret_stream) {
  return guarded(
      [&] { *ret_stream = gxu::native_stream(gxu::current_stream_id(gxu::resolve_device_index(device_index))); });
}

AOTITorchError aoti_torch_create_gxu_stream_guard(void* stream, int32_t device_index, GXUStreamGuardHandle* ret_guard) {
  return guarded([&] {
    const c10::Stream wrapped =
        gxu::external_stream(static_cast<gxuStream_t>(stream), gxu::resolve_device_index(device_index));
    *ret_guard = reinterpret_cast<GXUStreamGuardHandle>(new c10::StreamGuard(wrapped));
  });
}

AOTITorchError aoti_torch_delete_gxu_stream_guard(GXUStreamGuardHandle guard) {
  return guarded([&] { delete as_guard(guard); });
}

AOTITorchError aoti_torch_create_gxu_guard(int32_t device_index, GXUGuardHandle* ret_guard) {
  return guarded([&] { *ret_guard = reinterpret_cast<GXUGuardHandle>(new c10::DeviceGuard(device(device_index))); });
}

AOTITorchError aoti_torch_delete_gxu_guard(GXUGuardHandle guard) {
  return guarded([&] { delete as_guard(guard); });
}

AOTITorchError aoti_torch_gxu_guard_set_index(GXUGuardHandle guard, int32_t device_index) {
  return guarded([&] { as_guard(guard)->set_index(device(device_index).index()); });
}

AOTITorchError aoti_torch_gxu_get_device(int32_t* ret_device_index) {
  return guarded([&] { *ret_device_index = gxu::current_device(); });
}

AOTITorchError aoti_torch_gxu_set_device(int32_t device_index) {
  return guarded([&] { gxu::set_device(device(device_index).index()); });
}

AOTITorchError aoti_torch_gxu_malloc(size_t nbytes, void** ret_pointer) {
  return guarded([&] { GXU_CALL(gxuMalloc, ret_pointer, nbytes); });
}

AOTITorchError aoti_torch_gxu_free(void* pointer) { return release(gxu::runtime().gxuFree, "gxuFree", pointer); }

AOTITorchError aoti_torch_gxu_caching_allocator_raw_alloc(uint64_t nbytes, void** ret_pointer) {
  return guarded([&] { *ret_pointer = gxu::CachingAllocator::instance().raw_allocate(nbytes); });
}

AOTITorchError aoti_torch_gxu_caching_allocator_raw_delete(void* pointer) {
  return guarded([&] { gxu::CachingAllocator::free(pointer); });
}

AOTITorchError aoti_torch_gxu_memcpy(void* destination, const void* source, size_t nbytes, gxuMemcpyKind kind) {
  return guarded([&] {
    GXU_CALL(gxuMemcpyAsync, destination, source, nbytes, kind, nullptr);
    GXU_CALL(gxuStreamSynchronize, nullptr);
  });
}

AOTITorchError aoti_torch_gxu_event_create(gxuEvent_t* ret_event) {
  return guarded([&] { GXU_CALL(gxuEventCreate, ret_event, gxuEventDisableTiming); });
}

AOTITorchError aoti_torch_gxu_event_destroy(gxuEvent_t event) {
  return release(gxu::runtime().gxuEventDestroy, "gxuEventDestroy", event);
}

AOTITorchError aoti_torch_gxu_event_record(gxuEvent_t event, gxuStream_t stream) {
  return guarded([&] { GXU_CALL(gxuEventRecord, event, stream); });
}

AOTITorchError aoti_torch_gxu_event_query(gxuEvent_t event, int32_t* ret_done) {
  return guarded([&] {
    const gxuError_t error = gxu::runtime().gxuEventQuery(event);
    if (error != gxuErrorNotReady) {
      gxu::check(error, "gxuEventQuery");
    }
    *ret_done = error == gxuSuccess;
  });
}

AOTITorchError aoti_torch_gxu_event_synchronize(gxuEvent_t event) {
  return guarded([&] { GXU_CALL(gxuEventSynchronize, event); });
}

AOTITorchError aoti_torch_gxu_module_load(const char* path, gxuModule_t* ret_module) {
  return guarded([&] { GXU_CALL(gxuModuleLoad, ret_module, path); });
}

AOTITorchError aoti_torch_gxu_module_load_data(const void* image, size_t nbytes, gxuModule_t* ret_module) {
  return guarded([&] { GXU_CALL(gxuModuleLoadData, ret_module, image, nbytes); });
}

AOTITorchError aoti_torch_gxu_module_unload(gxuModule_t module) {
  return release(gxu::runtime().gxuModuleUnload, "gxuModuleUnload", module);
}

AOTITorchError aoti_torch_gxu_module_get_function(gxuModule_t module, const char* name, uint32_t shared_memory_bytes,
                                                  gxuFunction_t* ret_function) {
  return guarded([&] {
    GXU_CALL(gxuModuleGetFunction, ret_function, module, name);
    if (shared_memory_bytes > 0) {
      GXU_CALL(gxuFuncSetAttribute, *ret_function, gxuFuncAttributeMaxDynamicSharedMemorySize,
               static_cast<int>(shared_memory_bytes));
    }
  });
}

AOTITorchError aoti_torch_gxu_launch_kernel(gxuFunction_t function, uint32_t grid_x, uint32_t grid_y, uint32_t grid_z,
                                            uint32_t num_warps, uint32_t shared_memory_bytes, gxuStream_t stream,
                                            void** parameters) {
  return guarded([&] {
    const auto warp_size = static_cast<uint32_t>(gxu::device_properties(gxu::current_device()).warp_size);
    GXU_CALL(gxuLaunchKernel, function, grid_x, grid_y, grid_z, warp_size * num_warps, 1, 1, shared_memory_bytes,
             stream, parameters);
  });
}
