#include "model_runner_module.h"

#include <pybind11/stl.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/inductor/aoti_runner/model_container_runner_gxu.h>
#include <torch/csrc/utils/pybind.h>

#include <string>
#include <unordered_map>
#include <vector>

namespace gxu {

namespace py = pybind11;

namespace {

using Runner = torch::inductor::AOTIModelContainerRunnerGXU;
using Constants = std::unordered_map<std::string, at::Tensor>;

// `stream`: a handle of the runtime, or 0 for the current stream.
std::vector<at::Tensor> run_model(Runner& runner, const std::vector<at::Tensor>& inputs, uintptr_t stream) {
  return runner.run(inputs, reinterpret_cast<void*>(stream));
}

void update_constants(Runner& runner, Constants& constants, bool use_inactive, bool validate_full_updates,
                      bool user_managed) {
  runner.update_constant_buffer(constants, use_inactive, validate_full_updates, user_managed);
}

}  // namespace

void define_model_runner(py::module_& m) {
  const auto no_gil = [](auto function) { return torch::wrap_pybind_function_no_gil(function); };
  py::class_<Runner>(m, "AOTIModelContainerRunner",
                     "A model that AOTInductor compiled, as torch._C._aoti.AOTIModelContainerRunnerCuda is for CUDA.")
      .def(py::init<const std::string&, size_t, const std::string&, const std::string&, bool>(),
           py::arg("model_so_path"), py::arg("num_models"), py::arg("device_str"), py::arg("kernel_dir") = "",
           py::arg("run_single_threaded") = false)
      .def("run", no_gil(&run_model), py::arg("inputs"), py::arg("stream_handle") = 0)
      .def("get_call_spec", no_gil([](Runner& runner) { return runner.get_call_spec(); }))
      .def("get_constant_names_to_original_fqns",
           no_gil([](Runner& runner) { return runner.getConstantNamesToOriginalFQNs(); }))
      .def("get_constant_names_to_dtypes", no_gil([](Runner& runner) { return runner.getConstantNamesToDtypes(); }))
      .def("extract_constants_map", no_gil([](Runner& runner, bool use_inactive) -> Constants {
             return runner.extract_constants_map(use_inactive);
           }),
           py::arg("use_inactive"))
      .def("update_constant_buffer", no_gil(&update_constants), py::arg("tensor_map"), py::arg("use_inactive"),
           py::arg("validate_full_updates"), py::arg("user_managed") = false)
      .def("swap_constant_buffer", no_gil([](Runner& runner) { runner.swap_constant_buffer(); }))
      .def("free_inactive_constant_buffer", no_gil([](Runner& runner) { runner.free_inactive_constant_buffer(); }));
}

}  // namespace gxu
