// Checks of arguments that are the same for every engine. All throw gxuErrorInvalidValue unless they say otherwise.
#pragma once

#include <cstddef>
#include <cstdint>

#include "error.h"

namespace gxu::engine {

// Which sides of a copy must be device memory.
struct CopySides {
  bool to_device;
  bool from_device;
};

// What `kind` says about the two sides; for gxuMemcpyDefault nothing needs to hold.
CopySides expected_sides(gxuMemcpyKind kind);

[[noreturn]] void fail_not_device_memory(const void* pointer, const char* name);

struct Dimensions {
  unsigned int x, y, z;
};

[[noreturn]] void fail_grid(const char* kernel, const Dimensions& grid);
[[noreturn]] void fail_block(const char* kernel, const Dimensions& block, uint64_t most);

// Inline: every launch calls them.
inline bool has_zero(const Dimensions& size) { return size.x == 0 || size.y == 0 || size.z == 0; }

inline void require_grid(const char* kernel, const Dimensions& grid) {
  if (has_zero(grid)) [[unlikely]] {
    fail_grid(kernel, grid);
  }
}

// A block has at most `most` threads, in all and along each dimension.
inline void require_block(const char* kernel, const Dimensions& block, uint64_t most) {
  if (has_zero(block) || block.x > most || block.y > most || block.z > most ||
      uint64_t{block.x} * block.y * block.z > most) [[unlikely]] {
    fail_block(kernel, block, most);
  }
}

// `count` pointers to values; `position` is of the one that is NULL.
[[noreturn]] void fail_param_list(const char* kernel, size_t count);
[[noreturn]] void fail_param(const char* kernel, size_t position, size_t count);

inline void require_params(const char* kernel, void** params, size_t count) {
  if (count != 0 && params == nullptr) [[unlikely]] {
    fail_param_list(kernel, count);
  }
  for (size_t i = 0; i < count; ++i) {
    if (params[i] == nullptr) [[unlikely]] {
      fail_param(kernel, i, count);
    }
  }
}

void require_stream_flags(unsigned int flags);
// Throws gxuErrorInvalidHandle where a call for the current device is given a stream of another one.
void require_current_device(int stream_device, int current, const char* function);
// Throws gxuErrorInvalidHandle where an event is recorded on a stream of another device.
void require_device_of_event(int event_device, int stream_device);
// Throws gxuErrorInvalidHandle where the time between events of two devices is asked for.
void require_same_device(int start_device, int end_device);

}  // namespace gxu::engine
