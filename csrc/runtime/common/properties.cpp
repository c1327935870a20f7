#include "properties.h"

#include <cstring>

#include "error.h"

namespace gxu::engine {

void copy_properties(gxuDeviceProperties* properties, const gxuDeviceProperties& known) {
  const uint32_t wanted = properties->struct_size;
  if (wanted < sizeof(gxuDeviceProperties)) {
    fail(gxuErrorInvalidValue,
         "gxuDeviceProperties.struct_size is %u: want at least %zu; set it to sizeof(gxuDeviceProperties) first",
         wanted, sizeof(gxuDeviceProperties));
  }
  std::memset(properties, 0, wanted);
  std::memcpy(properties, &known, sizeof(gxuDeviceProperties));
  properties->struct_size = wanted;
}

}  // namespace gxu::engine
