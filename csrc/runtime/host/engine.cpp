// The host engine's start and end.
#include "../common/lifecycle.h"
#include "api.h"
#include "config.h"
#include "device.h"
#include "ticker.h"

namespace gxu::host {
namespace {

void start() {
  create_devices(read_config());
  ticker().start();
}

}  // namespace
}  // namespace gxu::host

using namespace gxu::host;

gxuError_t gxuInit(unsigned int flags) {
  return translate_errors([&] {
    if (flags != 0) fail(gxuErrorInvalidValue, "gxuInit: flags must be 0, not 0x%x", flags);
    start_engine(&start, &stop_background_work);
  });
}
