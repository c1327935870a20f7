// Kernel launches from Python.
#pragma once

#include <torch/csrc/python_headers.h>

#include <cstdint>

namespace gxu {

// launch(function, grid_x, grid_y, grid_z, stream, signature, args[, block_x[, shared_memory_bytes]])
PyObject* launch(PyObject* self, PyObject* const* arguments, Py_ssize_t count);

// Launches through the ABI since the process started or the count was reset.
int64_t launch_count();
void reset_launch_count();

}  // namespace gxu
