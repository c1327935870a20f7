// Access to device memory by the thread that calls an operator.
#pragma once

#include "delegate.h"
#include "profiler.h"
#include "stream.h"

namespace gxu {

// In its scope the calling thread does an operator's work on the current stream of a device, which has finished what it
// was given before.
class PlainAccess {
 public:
  explicit PlainAccess(c10::DeviceIndex device) : device_(device) {
    count_delegated();
    synchronize_stream(device, current_stream_id(device));
    work_.start_operator(device);
  }

 private:
  DeviceScope device_;
  DelegatedWork work_;
};

}  // namespace gxu
