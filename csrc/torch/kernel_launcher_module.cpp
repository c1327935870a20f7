// A launcher in C: in Python it takes as long as the rest of a small launch.
#include "kernel_launcher_module.h"

#include <torch/csrc/Exceptions.h>

#include <algorithm>
#include <limits>

#include "device.h"
#include "launcher.h"

namespace gxu {
namespace {

struct KernelLauncher {
  PyObject_HEAD;
  vectorcallfunc vectorcall;
  gxuFunction_t function;
  std::array<unsigned int, 3> grid;
  PyObject* signature;  // str: a character an argument
  PyObject* watched;    // tuple of pairs (dictionary, key)
  PyObject* slow;       // takes the same arguments
};

PyObject* keyword_of_stream() {
  static PyObject* const name = PyUnicode_InternFromString("stream");
  return name;
}

// Whether one of the watched values is true, or is not there.
bool is_watched(PyObject* watched) {
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(watched); ++i) {
    PyObject* const pair = PyTuple_GET_ITEM(watched, i);
    PyObject* const value = PyDict_GetItem(PyTuple_GET_ITEM(pair, 0), PyTuple_GET_ITEM(pair, 1));
    if (value != Py_False && (value == nullptr || PyObject_IsTrue(value) != 0)) {
      PyErr_Clear();
      return true;
    }
  }
  return false;
}

PyObject* call(PyObject* callable, PyObject* const* arguments, size_t flags, PyObject* keywords) {
  HANDLE_TH_ERRORS
  const auto* self = reinterpret_cast<KernelLauncher*>(callable);
  Py_ssize_t length = 0;
  const char* types = PyUnicode_AsUTF8AndSize(self->signature, &length);
  const bool is_plain = PyVectorcall_NARGS(flags) == length && keywords != nullptr && PyTuple_GET_SIZE(keywords) == 1 &&
                        PyTuple_GET_ITEM(keywords, 0) == keyword_of_stream();
  if (!is_plain || is_watched(self->watched)) {
    return PyObject_Vectorcall(self->slow, arguments, flags, keywords);
  }
  ensure_initialized();
  const uint64_t stream = PyLong_AsUnsignedLongLong(arguments[length]);
  if (stream == std::numeric_limits<uint64_t>::max() && PyErr_Occurred() != nullptr) {
    return nullptr;
  }
  KernelParameters parameters;
  for (Py_ssize_t i = 0; i < length; ++i) {
    if (types[i] != '-' && !append_argument(types[i], arguments[i], i, parameters)) {
      return nullptr;
    }
  }
  enqueue_kernel(self->function, self->grid, reinterpret_cast<gxuStream_t>(stream), parameters);
  Py_RETURN_NONE;
  END_HANDLE_TH_ERRORS
}

bool is_tuple_of_pairs(PyObject* watched) {
  const auto is_pair = [](PyObject* pair) {
    return PyTuple_Check(pair) && PyTuple_GET_SIZE(pair) == 2 && PyDict_Check(PyTuple_GET_ITEM(pair, 0));
  };
  PyObject** items = &PyTuple_GET_ITEM(watched, 0);
  return std::all_of(items, items + PyTuple_GET_SIZE(watched), is_pair);
}

PyObject* make(PyTypeObject* type, PyObject* arguments, PyObject* keywords) {
  unsigned long long function = 0;
  std::array<unsigned int, 3> grid{};
  PyObject *signature = nullptr, *watched = nullptr, *slow = nullptr;
  const char* names[] = {"function", "grid", "signature", "watched", "slow", nullptr};
  if (PyArg_ParseTupleAndKeywords(arguments, keywords, "K(III)UO!O:KernelLauncher", const_cast<char**>(names),
                                  &function, &grid[0], &grid[1], &grid[2], &signature, &PyTuple_Type, &watched,
                                  &slow) == 0) {
    return nullptr;
  }
  if (!is_tuple_of_pairs(watched)) {
    PyErr_SetString(PyExc_TypeError, "KernelLauncher: `watched` must be a tuple of pairs (dictionary, key)");
    return nullptr;
  }
  auto* self = reinterpret_cast<KernelLauncher*>(type->tp_alloc(type, 0));
  if (self != nullptr) {
    self->vectorcall = &call;
    self->function = reinterpret_cast<gxuFunction_t>(function);
    self->grid = grid;
    self->signature = Py_NewRef(signature);
    self->watched = Py_NewRef(watched);
    self->slow = Py_NewRef(slow);
  }
  return reinterpret_cast<PyObject*>(self);
}

// The slow way is a method of the object that holds the launcher: a cycle, which the garbage collector sees.
int traverse(PyObject* object, visitproc visit, void* arg) {
  auto* self = reinterpret_cast<KernelLauncher*>(object);
  Py_VISIT(self->watched);
  Py_VISIT(self->slow);
  return 0;
}

int clear(PyObject* object) {
  auto* self = reinterpret_cast<KernelLauncher*>(object);
  Py_CLEAR(self->signature);
  Py_CLEAR(self->watched);
  Py_CLEAR(self->slow);
  return 0;
}

void deallocate(PyObject* object) {
  PyObject_GC_UnTrack(object);
  clear(object);
  Py_TYPE(object)->tp_free(object);
}

PyTypeObject make_launcher_type() {
  PyTypeObject type = {PyVarObject_HEAD_INIT(nullptr, 0)};
  type.tp_name = "gxu._C.KernelLauncher";
  type.tp_doc =
      "KernelLauncher(function: int, grid: tuple[int, int, int], signature: str, watched: tuple, slow: Callable)\n\n"
      "Called with the arguments of `signature` (see `launch`) and `stream`, enqueues a kernel. As long as one of the "
      "values that `watched` names by dictionary and key is true, or other keywords are given, calls `slow` instead.";
  type.tp_basicsize = sizeof(KernelLauncher);
  type.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL;
  type.tp_vectorcall_offset = offsetof(KernelLauncher, vectorcall);
  type.tp_call = &PyVectorcall_Call;
  type.tp_new = &make;
  type.tp_traverse = &traverse;
  type.tp_clear = &clear;
  type.tp_dealloc = &deallocate;
  return type;
}

}  // namespace

void define_kernel_launcher(pybind11::module_& m) {
  static PyTypeObject type = make_launcher_type();
  if (PyType_Ready(&type) < 0 || PyModule_AddType(m.ptr(), &type) < 0) {
    throw pybind11::error_already_set();
  }
}

}  // namespace gxu
