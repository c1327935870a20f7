// `torch.gxu._DeviceGuard`: what generated code sets the current device with.
#pragma once

#include <pybind11/pybind11.h>

namespace gxu {

void define_device_guard(pybind11::module_& m);

}  // namespace gxu
