// An event: the driver's, with what was recorded in it.
#pragma once

#include <memory>
#include <mutex>

#include "driver.h"

namespace gxu::cuda {

class Capture;
class Device;

struct Event {
  Device& device;
  const CUevent handle;
  const unsigned int flags;
  std::mutex mutex;
  bool recorded = false;
  std::shared_ptr<Capture> capture;  // in which it was recorded last
};

}  // namespace gxu::cuda
