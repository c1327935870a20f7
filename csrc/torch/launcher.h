// Kernel launches from Python.
#pragma once

#include <c10/util/SmallVector.h>
#include <torch/csrc/python_headers.h>

#include <array>
#include <cstdint>

#include "runtime.h"

namespace gxu {

struct KernelParameters {
  // One 8-byte slot a kernel parameter; the value lies in its first bytes.
  c10::SmallVector<uint64_t, 48> slots;
  // One of them is in pageable host memory, whose owner does not know of streams.
  bool has_pageable = false;
};

// Appends one argument as its signature character says (see `launch` in module.cpp); false with a Python error set
// where it cannot.
bool append_argument(char type, PyObject* object, size_t index, KernelParameters& parameters);

// Enqueues a kernel, and waits for it where it uses pageable host memory (unless the stream captures); nothing where
// the grid is empty. The slots are read before this returns.
void enqueue_kernel(gxuFunction_t function, const std::array<unsigned int, 3>& grid, gxuStream_t stream,
                    KernelParameters& parameters, unsigned int block_x = 1, unsigned int shared_memory_bytes = 0);

// launch(function, grid_x, grid_y, grid_z, stream, signature, args[, block_x[, shared_memory_bytes]])
PyObject* launch(PyObject* self, PyObject* const* arguments, Py_ssize_t count);

// Launches through the ABI since the process started or the count was reset.
int64_t launch_count();
void reset_launch_count();

}  // namespace gxu
