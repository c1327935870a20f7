// Interprocess memory: device memory of this engine is private to the process.
#include "api.h"

using namespace gxu::host;

gxuError_t gxuIpcGetMemHandle(gxuIpcMemHandle_t* handle, void* pointer) {
  return api([&] {
    require_argument(handle, "handle");
    require_argument(pointer, "pointer");
    fail(gxuErrorNotSupported, "the host engine cannot share device memory between processes: copy it through a file");
  });
}

gxuError_t gxuIpcOpenMemHandle(void** pointer, gxuIpcMemHandle_t handle) {
  (void)handle;
  return api([&] {
    require_argument(pointer, "pointer");
    fail(gxuErrorNotSupported, "the host engine cannot open device memory of another process");
  });
}

gxuError_t gxuIpcCloseMemHandle(void* pointer) {
  return api([&] {
    require_argument(pointer, "pointer");
    fail(gxuErrorNotSupported, "the host engine has no device memory of other processes to close");
  });
}
