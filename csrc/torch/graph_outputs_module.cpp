#include "graph_outputs_module.h"

#include <pybind11/stl.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/utils/pybind.h>

#include "graph_outputs.h"

namespace gxu {

namespace py = pybind11;

void define_graph_outputs(py::module_& m) {
  py::class_<GraphOutputs>(m, "GraphOutputs", "The results of a graph, whose memory every replay writes again.")
      .def(py::init<std::vector<at::Tensor>>(), py::arg("tensors"),
           "Of `tensors`, the results of a capture, nobody may keep any.")
      .def("tensors", torch::wrap_pybind_function(&GraphOutputs::tensors), "Tensors like those of the capture.")
      .def("move_out_living", torch::wrap_pybind_function(&GraphOutputs::move_out_living),
           "Before a replay: gives what is still in use memory of its own, with what it holds; how many storages.");
  m.def("enqueue_copies", torch::wrap_pybind_function(&enqueue_copies), py::arg("to"), py::arg("from_"),
        "Copies each of `from_` to its partner in `to`, without waiting for it where a copy of bytes will do.");
}

}  // namespace gxu
