// The device's name under PyTorch: "gxu", or what GXU_DEVICE_NAME says.
#pragma once

#include <c10/core/DeviceType.h>

#include <string>

namespace gxu {

inline std::string device_name() { return c10::get_privateuse1_backend(); }

}  // namespace gxu
