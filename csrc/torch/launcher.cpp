#include "launcher.h"

#include <ATen/core/Tensor.h>
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>
#include <c10/util/SmallVector.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/autograd/python_variable.h>
#include <torch/csrc/utils/object_ptr.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <limits>

#include "alias.h"
#include "device.h"
#include "gil.h"
#include "memory_check.h"
#include "profiler.h"

namespace gxu {
namespace {

std::atomic<int64_t> num_launches{0};

bool is_pinned(const at::Tensor& tensor) {
  gxuPointerAttributes attributes;
  GXU_CALL(gxuPointerGetAttributes, &attributes, tensor.unsafeGetTensorImpl()->data());
  return attributes.type == gxuMemoryTypeHost;
}

// Whether kernels reach the tensor's memory: that of the device, and of the host all, or what this runtime has pinned.
bool is_reachable(const at::Tensor& tensor, bool& has_pageable) {
  const c10::Device device = tensor.device();
  if (device.type() == kGxu) {
    return true;
  }
  if (!device.is_cpu()) {
    return false;
  }
  if (device_properties(current_device()).host_accessible != 1) {
    return is_pinned(tensor);
  }
  has_pageable = has_pageable || !is_pinned(tensor);
  return true;
}

bool pointer_from_tensor(const at::Tensor& tensor, size_t index, uint64_t& slot, bool& has_pageable) {
  if (!is_reachable(tensor, has_pageable)) {
    PyErr_Format(
        PyExc_ValueError,
        "Pointer argument (at %zu) cannot be accessed from Triton (cpu tensor?): it is a tensor on %s, but the "
        "kernel runs on gxu:%d",
        index, tensor.device().str().c_str(), static_cast<int>(current_device()));
    return false;
  }
  slot = reinterpret_cast<uint64_t>(tensor.unsafeGetTensorImpl()->mutable_data());
  allow_storage(tensor.storage());
  return true;
}

// Memory behind an object with data_ptr(): that of the tensor in its attribute `base` (triton.reinterpret), or as many
// bytes as its attribute `nbytes` says. Nothing where it has neither: the memory must be the device's then.
bool allow_object(PyObject* object, uint64_t address) {
  THPObjectPtr base(PyObject_GetAttrString(object, "base"));
  if (base.get() != nullptr && THPVariable_Check(base.get())) {
    allow_storage(THPVariable_Unpack(base.get()).storage());
    return true;
  }
  PyErr_Clear();
  THPObjectPtr bytes(PyObject_GetAttrString(object, "nbytes"));
  if (bytes.get() != nullptr && PyLong_Check(bytes.get())) {
    const size_t size = PyLong_AsSize_t(bytes.get());
    if (PyErr_Occurred() != nullptr) {
      return false;
    }
    GXU_CALL(gxuMemoryCheckAllow, reinterpret_cast<const void*>(address), size);
  }
  PyErr_Clear();
  return true;
}

bool pointer_from_object(PyObject* object, size_t index, uint64_t& slot) {
  if (object == Py_None) {
    slot = 0;
    return true;
  }
  if (PyLong_Check(object)) {
    slot = PyLong_AsUnsignedLongLong(object);
    return PyErr_Occurred() == nullptr;
  }
  if (PyObject* pointer = PyObject_CallMethod(object, "data_ptr", nullptr)) {
    slot = PyLong_AsUnsignedLongLong(pointer);
    Py_DECREF(pointer);
    return PyErr_Occurred() == nullptr && (!checks_memory() || allow_object(object, slot));
  }
  if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
    return false;  // data_ptr() itself failed
  }
  PyErr_Clear();
  PyErr_Format(PyExc_TypeError,
               "Pointer argument (at %zu) must be a tensor, an integer, None or an object with data_ptr(), not %s",
               index, Py_TYPE(object)->tp_name);
  return false;
}

template <typename Integer>
bool integer_from_object(PyObject* object, size_t index, uint64_t& slot) {
  if constexpr (std::is_same_v<Integer, uint64_t>) {
    slot = PyLong_AsUnsignedLongLong(object);
    return slot != std::numeric_limits<uint64_t>::max() || PyErr_Occurred() == nullptr;
  } else {
    const int64_t value = PyLong_AsLongLong(object);
    if (C10_UNLIKELY(value == -1 && PyErr_Occurred() != nullptr)) {
      return false;
    }
    if (C10_UNLIKELY(value < int64_t{std::numeric_limits<Integer>::min()} ||
                     value > int64_t{std::numeric_limits<Integer>::max()})) {
      PyErr_Format(PyExc_OverflowError, "Integer argument (at %zu) does not fit in %zu bits: %lld", index,
                   sizeof(Integer) * 8, static_cast<long long>(value));
      return false;
    }
    slot = static_cast<uint64_t>(value);
    return true;
  }
}

bool float_from_object(PyObject* object, double& value) {
  value = PyFloat_AsDouble(object);
  return value != -1.0 || PyErr_Occurred() == nullptr;
}

// Constants at the end of the signature may be left out: who launches a compiled kernel himself need not have them.
bool append_arguments(PyObject* signature, PyObject* arguments, KernelParameters& parameters) {
  Py_ssize_t length = 0;
  const char* types = PyUnicode_AsUTF8AndSize(signature, &length);
  if (types == nullptr) {
    return false;
  }
  const Py_ssize_t count = PyTuple_Check(arguments) ? PyTuple_GET_SIZE(arguments) : -1;
  const auto is_constant = [](char type) { return type == '-'; };
  if (count != length && (count < 0 || count > length || !std::all_of(types + count, types + length, is_constant))) {
    PyErr_Format(PyExc_TypeError, "launch: expected a tuple of %zd arguments, as many as the signature '%s' has",
                 length, types);
    return false;
  }
  for (Py_ssize_t index = 0; index < count; ++index) {
    if (types[index] != '-' && !append_argument(types[index], PyTuple_GET_ITEM(arguments, index), index, parameters)) {
      return false;
    }
  }
  return true;
}

// Work on pageable memory is finished when the call returns, as it is for copies: the CPU may read the tensor or free
// it.
void wait_for_pageable(gxuStream_t stream) {
  gxuStreamCaptureStatus status = gxuStreamCaptureStatusNone;
  GXU_CALL(gxuStreamIsCapturing, stream, &status);
  if (status != gxuStreamCaptureStatusNone) {
    return;  // the graph's owner keeps the tensor, and waits for replays
  }
  const GilRelease no_gil;
  GXU_CALL(gxuStreamSynchronize, stream);
}

}  // namespace

bool append_argument(char type, PyObject* object, size_t index, KernelParameters& parameters) {
  uint64_t& slot = parameters.slots.emplace_back(0);
  double value = 0;
  switch (type) {
    case 'p':
      return THPVariable_CheckExact(object) || THPVariable_Check(object)
                 ? pointer_from_tensor(THPVariable_Unpack(object), index, slot, parameters.has_pageable)
                 : pointer_from_object(object, index, slot);
    case 'b':
      return integer_from_object<int8_t>(object, index, slot);
    case 'h':
      return integer_from_object<int16_t>(object, index, slot);
    case 'i':
      return integer_from_object<int32_t>(object, index, slot);
    case 'l':
      return integer_from_object<int64_t>(object, index, slot);
    case 'B':
      return integer_from_object<uint8_t>(object, index, slot);
    case 'H':
      return integer_from_object<uint16_t>(object, index, slot);
    case 'I':
      return integer_from_object<uint32_t>(object, index, slot);
    case 'L':
      return integer_from_object<uint64_t>(object, index, slot);
    case '?': {
      const int truth = PyObject_IsTrue(object);
      slot = truth > 0;
      return truth >= 0;
    }
    case 'f':
      if (!float_from_object(object, value)) {
        return false;
      }
      slot = std::bit_cast<uint32_t>(static_cast<float>(value));
      return true;
    case 'd':
      if (!float_from_object(object, value)) {
        return false;
      }
      slot = std::bit_cast<uint64_t>(value);
      return true;
    case 'e':
      if (!float_from_object(object, value)) {
        return false;
      }
      slot = c10::Half(static_cast<float>(value)).x;
      return true;
    case 'y':
      if (!float_from_object(object, value)) {
        return false;
      }
      slot = c10::BFloat16(static_cast<float>(value)).x;
      return true;
    default:
      PyErr_Format(PyExc_ValueError, "launch: the signature has the unknown type character '%c' at %zu", type, index);
      return false;
  }
}

void enqueue_kernel(gxuFunction_t function, const std::array<unsigned int, 3>& grid, gxuStream_t stream,
                    KernelParameters& parameters, unsigned int block_x, unsigned int shared_memory_bytes) {
  if (grid[0] == 0 || grid[1] == 0 || grid[2] == 0) {
    return;  // no program to run
  }
  c10::SmallVector<void*, 48> pointers;
  for (uint64_t& slot : parameters.slots) {
    pointers.push_back(&slot);
  }
  {
    const RuntimeCall call("gxuLaunchKernel");
    GXU_CALL(gxuLaunchKernel, function, grid[0], grid[1], grid[2], block_x, 1, 1, shared_memory_bytes, stream,
             pointers.data());
  }
  num_launches.fetch_add(1, std::memory_order_relaxed);
  if (parameters.has_pageable) {
    wait_for_pageable(stream);
  }
}

PyObject* launch(PyObject* /*self*/, PyObject* const* arguments, Py_ssize_t count) {
  HANDLE_TH_ERRORS
  if (count < 7 || count > 9) {
    PyErr_SetString(PyExc_TypeError,
                    "launch(function, grid_x, grid_y, grid_z, stream, signature, args[, block_x[, shared_memory]])");
    return nullptr;
  }
  ensure_initialized();
  const uint64_t function = PyLong_AsUnsignedLongLong(arguments[0]);
  const int64_t grid_x = PyLong_AsLongLong(arguments[1]);
  const int64_t grid_y = PyLong_AsLongLong(arguments[2]);
  const int64_t grid_z = PyLong_AsLongLong(arguments[3]);
  const uint64_t stream = PyLong_AsUnsignedLongLong(arguments[4]);
  const int64_t block_x = count > 7 ? PyLong_AsLongLong(arguments[7]) : 1;
  const int64_t shared_memory = count > 8 ? PyLong_AsLongLong(arguments[8]) : 0;
  if (PyErr_Occurred() != nullptr) {
    return nullptr;
  }
  KernelParameters parameters;
  if (!append_arguments(arguments[5], arguments[6], parameters)) {
    return nullptr;
  }
  constexpr int64_t kLargestGrid = std::numeric_limits<uint32_t>::max();
  if (std::min({grid_x, grid_y, grid_z}) < 0 || std::max({grid_x, grid_y, grid_z}) > kLargestGrid) {
    PyErr_Format(PyExc_ValueError, "launch: the grid (%lld, %lld, %lld) is out of range",
                 static_cast<long long>(grid_x), static_cast<long long>(grid_y), static_cast<long long>(grid_z));
    return nullptr;
  }
  const std::array<unsigned int, 3> grid{static_cast<unsigned int>(grid_x), static_cast<unsigned int>(grid_y),
                                         static_cast<unsigned int>(grid_z)};
  enqueue_kernel(reinterpret_cast<gxuFunction_t>(function), grid, reinterpret_cast<gxuStream_t>(stream), parameters,
                 static_cast<unsigned int>(block_x), static_cast<unsigned int>(shared_memory));
  Py_RETURN_NONE;
  END_HANDLE_TH_ERRORS
}

int64_t launch_count() { return num_launches.load(std::memory_order_relaxed); }

void reset_launch_count() { num_launches = 0; }

}  // namespace gxu
