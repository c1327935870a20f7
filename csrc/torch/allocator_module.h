// What Python sees of the allocator: settings, private pools and snapshots.
#pragma once

#include <pybind11/pybind11.h>

namespace gxu {

void define_allocator_functions(pybind11::module_& m);

}  // namespace gxu
