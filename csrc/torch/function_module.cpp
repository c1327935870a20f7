#include "function_module.h"

#include <dlfcn.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/utils/pybind.h>

#include <optional>

#include "../runtime/gxu_function_attributes.h"
#include "runtime.h"

namespace gxu {
namespace {

// nullptr where the library tells nothing of its kernels.
decltype(&::gxuFuncGetAttribute) find_get_attribute() {
  runtime();
  void* library = dlopen(runtime_path().c_str(), RTLD_NOW | RTLD_NOLOAD);
  return library == nullptr ? nullptr
                            : reinterpret_cast<decltype(&::gxuFuncGetAttribute)>(dlsym(library, "gxuFuncGetAttribute"));
}

void func_set_attribute(uint64_t function, int attribute, int value) {
  GXU_CALL(gxuFuncSetAttribute, reinterpret_cast<gxuFunction_t>(function), static_cast<gxuFunctionAttribute>(attribute),
           value);
}

std::optional<int> func_get_attribute(uint64_t function, int attribute) {
  static const auto get_attribute = find_get_attribute();
  if (get_attribute == nullptr) {
    return std::nullopt;
  }
  int value = 0;
  check(get_attribute(&value, static_cast<gxuFunctionAttribute>(attribute), reinterpret_cast<gxuFunction_t>(function)),
        "gxuFuncGetAttribute");
  return value;
}

}  // namespace

void define_function_attributes(pybind11::module_& m) {
  namespace py = pybind11;
  m.def("func_set_attribute", torch::wrap_pybind_function(&func_set_attribute), py::arg("function"),
        py::arg("attribute"), py::arg("value"), "Sets an attribute of a kernel for later launches.");
  m.def("func_get_attribute", torch::wrap_pybind_function(&func_get_attribute), py::arg("function"),
        py::arg("attribute"), "What the compiler made of a kernel; None where the runtime does not tell.");
}

}  // namespace gxu
