// gxuMemcpyAsync and gxuMemsetAsync.
#include "../common/api.h"
#include "../common/arguments.h"
#include "../common/host_function.h"
#include "device.h"
#include "memory.h"
#include "stream.h"

namespace gxu::cuda {
namespace {

// Checks one side of a copy and tells whether it is pageable host memory.
bool check_side(const void* pointer, size_t size, bool wants_device, const char* name) {
  const std::optional<Allocation> found = find_range(pointer, size, name);
  // Memory that somebody else has from the driver, such as PyTorch's cuda device, is for the driver to judge.
  const bool pageable = !found && !is_known_to_driver(pointer);
  if (wants_device && (pageable || (found && found->type != gxuMemoryTypeDevice)))
    fail_not_device_memory(pointer, name);
  return pageable;
}

}  // namespace
}  // namespace gxu::cuda

using namespace gxu::cuda;

gxuError_t gxuMemcpyAsync(void* dst, const void* src, size_t size, gxuMemcpyKind kind, gxuStream_t stream) {
  return api([&] {
    forbid_in_host_function("gxuMemcpyAsync");
    Stream& target = resolve_stream(stream);
    const CopySides expected = expected_sides(kind);
    if (size == 0) return;
    require_argument(dst, "dst");
    require_argument(src, "src");
    const ContextScope scope(target.device());
    const bool to_pageable = check_side(dst, size, expected.to_device, "gxuMemcpyAsync: dst");
    const bool from_pageable = check_side(src, size, expected.from_device, "gxuMemcpyAsync: src");
    const bool pageable = to_pageable || from_pageable;
    if (pageable) target.forbid_during_capture("gxuMemcpyAsync with pageable host memory");
    target.require_valid_capture();
    GXU_DRIVER(cuMemcpyAsync, device_pointer(dst), device_pointer(src), size, target.handle());
    if (pageable) GXU_DRIVER(cuStreamSynchronize, target.handle());
  });
}

gxuError_t gxuMemsetAsync(void* dst, int value, size_t size, gxuStream_t stream) {
  return api([&] {
    forbid_in_host_function("gxuMemsetAsync");
    Stream& target = resolve_stream(stream);
    if (size == 0) return;
    require_argument(dst, "dst");
    const ContextScope scope(target.device());
    if (check_side(dst, size, false, "gxuMemsetAsync: dst")) {
      fail(gxuErrorInvalidValue, "gxuMemsetAsync: %p is in no live device or pinned allocation", dst);
    }
    target.require_valid_capture();
    GXU_DRIVER(cuMemsetD8Async, device_pointer(dst), static_cast<unsigned char>(value), size, target.handle());
  });
}
