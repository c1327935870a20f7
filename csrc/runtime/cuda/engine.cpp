// The cuda engine's start and end.
#include "../common/api.h"
#include "../common/lifecycle.h"
#include "device.h"
#include "driver.h"

namespace gxu::cuda {
namespace {

void start() {
  open_driver();
  GXU_DRIVER(cuInit, 0);
  create_devices();
}

// The driver ends its own work.
void stop() {}

}  // namespace
}  // namespace gxu::cuda

using namespace gxu::cuda;

gxuError_t gxuInit(unsigned int flags) {
  return translate_errors([&] {
    if (flags != 0) fail(gxuErrorInvalidValue, "gxuInit: flags must be 0, not 0x%x", flags);
    start_engine(&start, &stop);
  });
}
