#include "process_group_module.h"

#include <torch/csrc/Exceptions.h>

#include "process_group.h"

namespace py = pybind11;

namespace gxu {

void define_process_group(py::module_& m) {
  m.def("new_process_group",
        torch::wrap_pybind_function(
            [](c10::intrusive_ptr<c10d::Backend> host, std::string name) -> c10::intrusive_ptr<c10d::Backend> {
              return c10::make_intrusive<ProcessGroup>(std::move(host), std::move(name));
            }),
        py::arg("host"), py::arg("name"),
        "A torch.distributed backend for gxu tensors over `host`, one for CPU tensors; `name` is what it is called.");
}

}  // namespace gxu
