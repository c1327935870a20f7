#include "stream.h"

#include <algorithm>

#include "../common/api.h"
#include "../common/arguments.h"
#include "../common/host_function.h"
#include "../gxu_native.h"
#include "capture.h"
#include "device.h"
#include "query.h"

namespace gxu::cuda {
namespace {

using StreamTable = HandleTable<gxuStream_t, Stream, HandleKind::kStream>;

StreamTable& stream_handles() {
  static auto* table = new StreamTable;
  return *table;
}

struct PriorityRange {
  int least = 0;
  int greatest = 0;
};

// Of the current context.
PriorityRange priority_range() {
  PriorityRange range;
  GXU_DRIVER(cuCtxGetStreamPriorityRange, &range.least, &range.greatest);
  return range;
}

// A function that a stream has to call.
struct HostCall {
  gxuHostFn_t function;
  void* user_data;
};

void call_repeatedly(void* call) {
  const HostCall& wanted = *static_cast<const HostCall*>(call);
  call_host_function(wanted.function, wanted.user_data);
}

void call_once(void* call) {
  const std::unique_ptr<HostCall> owned(static_cast<HostCall*>(call));
  call_repeatedly(call);
}

}  // namespace

Stream& resolve_stream(gxuStream_t handle) {
  return handle == nullptr ? current_device().default_stream() : stream_handles().get(handle);
}

Stream& resolve_current_stream(gxuStream_t handle, const char* function) {
  Stream& stream = resolve_stream(handle);
  require_current_device(stream.device().index(), current_device().index(), function);
  return stream;
}

}  // namespace gxu::cuda

using namespace gxu::cuda;

gxuError_t gxuStreamCreate(gxuStream_t* stream, unsigned int flags, int priority) {
  return api([&] {
    require_argument(stream, "stream");
    require_stream_flags(flags);
    Device& device = current_device();
    const ContextScope scope(device);
    const PriorityRange range = priority_range();
    CUstream handle = nullptr;
    GXU_DRIVER(cuStreamCreateWithPriority, &handle, flags, std::clamp(priority, range.greatest, range.least));
    Stream& created = device.add_stream(handle, flags != gxuStreamNonBlocking);
    *stream = stream_handles().insert(&created);
  });
}

gxuError_t gxuStreamDestroy(gxuStream_t stream) {
  return api([&] {
    forbid_in_host_function("gxuStreamDestroy");
    if (stream == nullptr) fail(gxuErrorInvalidHandle, "the default stream cannot be destroyed");
    Stream& found = resolve_stream(stream);
    found.forbid_during_capture("gxuStreamDestroy");
    stream_handles().take(stream);
    Device& device = found.device();
    const ContextScope scope(device);
    driver.cuStreamSynchronize(found.handle());  // failed kernels are reported by others
    device.destroy_stream(found);
  });
}

gxuError_t gxuStreamSynchronize(gxuStream_t stream) {
  return api([&] {
    Stream& found = resolve_stream(stream);
    forbid_in_host_function("gxuStreamSynchronize");
    found.forbid_during_capture("gxuStreamSynchronize");
    const ContextScope scope(found.device());
    GXU_DRIVER(cuStreamSynchronize, found.handle());
  });
}

gxuError_t gxuStreamQuery(gxuStream_t stream) {
  return api([&] {
    Stream& found = resolve_stream(stream);
    found.forbid_during_capture("gxuStreamQuery");
    const CUresult result = query(found.device(), [&] { return driver.cuStreamQuery(found.handle()); });
    if (result == CUDA_ERROR_NOT_READY) return gxuErrorNotReady;
    check_unless_sticky(result, "cuStreamQuery");
    return gxuSuccess;
  });
}

gxuError_t gxuStreamGetPriorityRange(int* least, int* greatest) {
  return api([&] {
    require_argument(least, "least");
    require_argument(greatest, "greatest");
    const PriorityRange range = query(current_device(), &priority_range);
    *least = range.least;
    *greatest = range.greatest;
  });
}

gxuError_t gxuLaunchHostFunc(gxuStream_t stream, gxuHostFn_t function, void* user_data) {
  return api([&] {
    if (function == nullptr) fail(gxuErrorInvalidValue, "argument 'function' is NULL");
    forbid_in_host_function("gxuLaunchHostFunc");
    Stream& found = resolve_stream(stream);
    found.require_valid_capture();
    const ContextScope scope(found.device());
    auto call = std::make_unique<HostCall>(HostCall{function, user_data});
    if (const std::shared_ptr<Capture> capture = found.capture()) {
      // Every replay calls it: it lives as long as the graph.
      HostCall* kept = capture->keep(std::shared_ptr<HostCall>(std::move(call)));
      GXU_DRIVER(cuLaunchHostFunc, found.handle(), &call_repeatedly, kept);
    } else {
      GXU_DRIVER(cuLaunchHostFunc, found.handle(), &call_once, call.get());
      call.release();
    }
  });
}

gxuError_t gxuStreamGetNative(void** native, gxuStream_t stream) {
  return api([&] {
    require_argument(native, "native");
    *native = resolve_stream(stream).handle();
  });
}
