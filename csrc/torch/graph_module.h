// gxu._C.Graph, for versions of torch that have no class of graphs for all accelerators.
#pragma once

#include <pybind11/pybind11.h>

namespace gxu {

void define_graph(pybind11::module_& m);

}  // namespace gxu
