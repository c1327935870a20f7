// What Python sees of the results of graphs.
#pragma once

#include <pybind11/pybind11.h>

namespace gxu {

void define_graph_outputs(pybind11::module_& m);

}  // namespace gxu
