#pragma once

#include <ATen/core/Tensor.h>

namespace gxu {

// A new tensor on the current device.
at::Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride, at::ScalarType dtype);

}  // namespace gxu
