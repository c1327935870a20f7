// What belongs to the calling thread and is looked at in every call of an operator.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>

namespace gxu {

struct ThreadState {
  c10::DeviceIndex device = 0;              // the current device
  c10::DeviceIndex delegating_device = -1;  // CPU allocations are memory of it; -1: they are the CPU's own
  uint64_t other_streams = 0;               // a bit for each device whose current stream is not its default stream
};

// At a fixed offset from the thread pointer, in the few bytes that the C library keeps free for libraries that are
// loaded later: the usual thread_local variable of such a library costs a call at each access.
extern constinit thread_local ThreadState thread_state __attribute__((tls_model("initial-exec")));

}  // namespace gxu
