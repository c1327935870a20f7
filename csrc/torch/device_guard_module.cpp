// A context manager in C: every call of compiled code enters one, and in Python that takes as long as a small kernel.
#include "device_guard_module.h"

#include <torch/csrc/Exceptions.h>

#include "device.h"

namespace gxu {
namespace {

struct DeviceGuard {
  PyObject_HEAD;
  int64_t index;
  c10::DeviceIndex previous;  // -1, which stands for no device, while the guard has not been entered
};

// Makes a guard: the type called with one integer, without a tuple of arguments in between.
PyObject* make_guard(PyObject* type, PyObject* const* arguments, size_t count, PyObject* keywords) {
  if (PyVectorcall_NARGS(count) != 1 || keywords != nullptr) {
    PyErr_SetString(PyExc_TypeError, "_DeviceGuard takes one argument, the index of a device");
    return nullptr;
  }
  const int64_t index = PyLong_AsLongLong(arguments[0]);
  if (index == -1 && PyErr_Occurred() != nullptr) {
    return nullptr;
  }
  DeviceGuard* guard = PyObject_New(DeviceGuard, reinterpret_cast<PyTypeObject*>(type));
  if (guard != nullptr) {
    guard->index = index;
    guard->previous = -1;
  }
  return reinterpret_cast<PyObject*>(guard);
}

PyObject* enter(PyObject* self, PyObject* /*unused*/) {
  HANDLE_TH_ERRORS
  auto* guard = reinterpret_cast<DeviceGuard*>(self);
  check_device_index(guard->index);
  guard->previous = exchange_device(static_cast<c10::DeviceIndex>(guard->index));
  Py_RETURN_NONE;
  END_HANDLE_TH_ERRORS
}

PyObject* leave(PyObject* self, PyObject* const* /*exception*/, Py_ssize_t /*count*/) {
  HANDLE_TH_ERRORS
  exchange_device(reinterpret_cast<DeviceGuard*>(self)->previous);
  Py_RETURN_NONE;
  END_HANDLE_TH_ERRORS
}

PyObject* set_current_device(PyObject* /*self*/, PyObject* index) {
  HANDLE_TH_ERRORS
  const int64_t device = PyLong_AsLongLong(index);
  if (device == -1 && PyErr_Occurred() != nullptr) {
    return nullptr;
  }
  check_device_index(device);
  set_device(static_cast<c10::DeviceIndex>(device));
  Py_RETURN_NONE;
  END_HANDLE_TH_ERRORS
}

PyObject* exchange_current_device(PyObject* /*self*/, PyObject* index) {
  HANDLE_TH_ERRORS
  const int64_t device = PyLong_AsLongLong(index);
  if (device == -1 && PyErr_Occurred() != nullptr) {
    return nullptr;
  }
  check_device_index(device);
  return PyLong_FromLong(exchange_device(static_cast<c10::DeviceIndex>(device)));
  END_HANDLE_TH_ERRORS
}

PyMethodDef guard_methods[] = {
    {"__enter__", &enter, METH_NOARGS, nullptr},
    {"__exit__", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(&leave)), METH_FASTCALL, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyTypeObject make_guard_type() {
  PyTypeObject type = {PyVarObject_HEAD_INIT(nullptr, 0)};
  type.tp_name = "gxu._C.DeviceGuard";
  type.tp_doc = "DeviceGuard(index)\n\nContext manager that makes a device the current one, for generated code.";
  type.tp_basicsize = sizeof(DeviceGuard);
  type.tp_flags = Py_TPFLAGS_DEFAULT;
  type.tp_methods = guard_methods;
  type.tp_vectorcall = &make_guard;
  return type;
}

PyMethodDef device_methods[] = {
    {"set_device", &set_current_device, METH_O,
     "set_device(device: int)\n\nMakes a device the current one of this thread."},
    {"exchange_device", &exchange_current_device, METH_O,
     "exchange_device(device: int) -> int\n\nMakes a device the current one of this thread; returns the previous one."},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace

void define_device_guard(pybind11::module_& m) {
  static PyTypeObject type = make_guard_type();
  if (PyType_Ready(&type) < 0 || PyModule_AddType(m.ptr(), &type) < 0 ||
      PyModule_AddFunctions(m.ptr(), device_methods) < 0) {
    throw pybind11::error_already_set();
  }
}

}  // namespace gxu
