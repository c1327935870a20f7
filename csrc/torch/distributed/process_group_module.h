// `gxu._C.new_process_group`: the device's backend of torch.distributed.
#pragma once

#include <torch/csrc/utils/pybind.h>

namespace gxu {

void define_process_group(pybind11::module_& m);

}  // namespace gxu
