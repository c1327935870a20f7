// What Python sees of models that AOTInductor compiled, without a package around them.
#pragma once

#include <pybind11/pybind11.h>

namespace gxu {

void define_model_runner(pybind11::module_& m);

}  // namespace gxu
