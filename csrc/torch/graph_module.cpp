#include "graph_module.h"

#include <pybind11/stl.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/utils/pybind.h>

#include <optional>
#include <string>

#include "graph.h"

namespace gxu {

namespace py = pybind11;

namespace {

void capture_begin(GraphImplInterface& graph, const std::optional<c10::MempoolId_t>& pool, const std::string& mode) {
  TORCH_CHECK_VALUE(mode == "default" || mode == "global" || mode == "thread_local" || mode == "relaxed",
                    "capture_error_mode is \"default\", \"global\", \"thread_local\" or \"relaxed\", not \"", mode,
                    "\".");
  graph.capture_begin(pool.value_or(c10::MempoolId_t{0, 0}), GraphCaptureMode::Default);
}

}  // namespace

void define_graph(py::module_& m) {
  using torch::wrap_pybind_function_no_gil;
  py::class_<GraphImplInterface>(m, "Graph", "A captured graph, as torch.accelerator.Graph.")
      .def(py::init(&make_graph), py::arg("keep_graph") = false)
      .def("capture_begin", wrap_pybind_function_no_gil(&capture_begin), py::arg("pool") = std::nullopt,
           py::arg("capture_error_mode") = "default")
      .def("capture_end", wrap_pybind_function_no_gil(&GraphImplInterface::capture_end))
      .def("instantiate", wrap_pybind_function_no_gil(&GraphImplInterface::instantiate))
      .def("replay", wrap_pybind_function_no_gil(&GraphImplInterface::replay))
      .def("reset", wrap_pybind_function_no_gil(&GraphImplInterface::reset))
      .def("pool", wrap_pybind_function_no_gil(&GraphImplInterface::pool))
      .def("enable_debug_mode", wrap_pybind_function_no_gil(&GraphImplInterface::enable_debug_mode))
      .def("debug_dump", wrap_pybind_function_no_gil(&GraphImplInterface::debug_dump), py::arg("path"));
}

}  // namespace gxu
