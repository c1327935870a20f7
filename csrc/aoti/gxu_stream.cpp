#include <c10/gxu/GXUStream.h>

#include "../torch/stream.h"

namespace c10::gxu {

GXUStream getStreamFromExternal(gxuStream_t stream, DeviceIndex device_index) {
  return GXUStream(::gxu::external_stream(stream, device_index));
}

}  // namespace c10::gxu
