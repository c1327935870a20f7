// What Python sets and reads of kernels: gxu_function_attributes.h.
#pragma once

#include <pybind11/pybind11.h>

namespace gxu {

void define_function_attributes(pybind11::module_& m);

}  // namespace gxu
