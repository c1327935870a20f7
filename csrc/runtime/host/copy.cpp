// gxuMemcpyAsync and gxuMemsetAsync.
#include "../common/arguments.h"
#include "api.h"
#include "device.h"
#include "memory.h"
#include "stream.h"

namespace gxu::host {
namespace {

bool is_device_memory(const std::optional<Allocation>& allocation) {
  return allocation && allocation->type == gxuMemoryTypeDevice;
}

void require_device_memory(const std::optional<Allocation>& allocation, const void* pointer, const char* name) {
  if (!is_device_memory(allocation)) fail_not_device_memory(pointer, name);
}

}  // namespace
}  // namespace gxu::host

using namespace gxu::host;

gxuError_t gxuMemcpyAsync(void* dst, const void* src, size_t size, gxuMemcpyKind kind, gxuStream_t stream) {
  return api([&] {
    forbid_in_host_function("gxuMemcpyAsync");
    Stream& target = resolve_stream(stream);
    target.device().report_fault();
    const CopySides expected = expected_sides(kind);
    if (size == 0) return;
    require_argument(dst, "dst");
    require_argument(src, "src");
    const std::optional<Allocation> to = find_range(dst, size, "gxuMemcpyAsync: dst");
    const std::optional<Allocation> from = find_range(src, size, "gxuMemcpyAsync: src");
    if (expected.to_device) require_device_memory(to, dst, "gxuMemcpyAsync: dst");
    if (expected.from_device) require_device_memory(from, src, "gxuMemcpyAsync: src");
    const bool pageable = !to || !from;
    if (pageable) target.forbid_during_capture("gxuMemcpyAsync with pageable host memory");
    target.order_with_default_stream();
    const uint64_t position = target.enqueue(Copy{dst, src, size});
    if (pageable) {
      target.wait_until(position);
      target.device().report_failure();
    }
  });
}

gxuError_t gxuMemsetAsync(void* dst, int value, size_t size, gxuStream_t stream) {
  return api([&] {
    forbid_in_host_function("gxuMemsetAsync");
    Stream& target = resolve_stream(stream);
    target.device().report_fault();
    if (size == 0) return;
    require_argument(dst, "dst");
    if (!find_range(dst, size, "gxuMemsetAsync: dst")) {
      fail(gxuErrorInvalidValue, "gxuMemsetAsync: %p is in no live device or pinned allocation", dst);
    }
    target.order_with_default_stream();
    target.enqueue(Fill{dst, value, size});
  });
}
