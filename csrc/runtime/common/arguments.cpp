#include "arguments.h"

namespace gxu::engine {
CopySides expected_sides(gxuMemcpyKind kind) {
  switch (kind) {
    case gxuMemcpyHostToHost:
    case gxuMemcpyDefault:
      return {false, false};
    case gxuMemcpyHostToDevice:
      return {true, false};
    case gxuMemcpyDeviceToHost:
      return {false, true};
    case gxuMemcpyDeviceToDevice:
      return {true, true};
  }
  fail(gxuErrorInvalidValue, "gxuMemcpyAsync: unknown kind %d", static_cast<int>(kind));
}

void fail_not_device_memory(const void* pointer, const char* name) {
  fail(gxuErrorInvalidValue, "%s: %p is not in live device memory", name, pointer);
}

void fail_grid(const char* kernel, const Dimensions& grid) {
  fail(gxuErrorInvalidValue, "kernel '%s': the grid (%u, %u, %u) has a zero dimension; skip the launch instead", kernel,
       grid.x, grid.y, grid.z);
}

void fail_block(const char* kernel, const Dimensions& block, uint64_t most) {
  fail(gxuErrorInvalidValue, "kernel '%s': the block (%u, %u, %u) must have 1 to %llu threads", kernel, block.x,
       block.y, block.z, static_cast<unsigned long long>(most));
}

void fail_param_list(const char* kernel, size_t count) {
  fail(gxuErrorInvalidValue, "kernel '%s' has %zu parameters but kernel_params is NULL", kernel, count);
}

void fail_param(const char* kernel, size_t position, size_t count) {
  fail(gxuErrorInvalidValue, "kernel '%s': kernel_params[%zu] of %zu is NULL", kernel, position, count);
}

void require_stream_flags(unsigned int flags) {
  if ((flags & ~static_cast<unsigned int>(gxuStreamNonBlocking)) != 0) {
    fail(gxuErrorInvalidValue, "stream flags 0x%x: only gxuStreamNonBlocking (0x1) is known", flags);
  }
}

void require_current_device(int stream_device, int current, const char* function) {
  if (stream_device != current) {
    fail(gxuErrorInvalidHandle, "%s: the stream belongs to device %d but the current device is %d: call gxuSetDevice",
         function, stream_device, current);
  }
}

void require_device_of_event(int event_device, int stream_device) {
  if (event_device != stream_device) {
    fail(gxuErrorInvalidHandle, "gxuEventRecord: the event belongs to device %d, the stream to device %d", event_device,
         stream_device);
  }
}

void require_same_device(int start_device, int end_device) {
  if (start_device != end_device) {
    fail(gxuErrorInvalidHandle, "gxuEventElapsedTime: the events belong to the devices %d and %d", start_device,
         end_device);
  }
}

}  // namespace gxu::engine
