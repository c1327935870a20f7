// `gxu._C.KernelLauncher`: what generated code calls to launch a kernel whose grid is known.
#pragma once

#include <torch/csrc/utils/pybind.h>

namespace gxu {

void define_kernel_launcher(pybind11::module_& m);

}  // namespace gxu
