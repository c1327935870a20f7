#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/util/Exception.h>
#include <torch/library.h>

#include <map>
#include <memory>

#include "copy.h"
#include "delegate.h"
#include "device_name.h"
#include "parts.h"

namespace gxu {
namespace {

template <c10::DispatchKey functionality>
void register_like(c10::DispatchKey cpu, c10::DispatchKey gxu) {
  static auto* libraries = new std::map<std::string, std::unique_ptr<torch::Library>>;  // they live with the process
  auto& dispatcher = c10::Dispatcher::singleton();
  for (const c10::OperatorName& name : dispatcher.getRegistrationsForDispatchKey(cpu)) {
    const auto op = dispatcher.findSchema(name);
    const auto ns = name.getNamespace();
    if (!op || op->hasKernelForDispatchKey(gxu) || !ns) {
      continue;
    }
    auto& library = (*libraries)[std::string(*ns)];
    if (library == nullptr) {
      library = std::make_unique<torch::Library>(torch::Library::IMPL, std::string(*ns), gxu, __FILE__, __LINE__);
    }
    const std::string full_name = name.overload_name.empty() ? name.name : name.name + "." + name.overload_name;
    library->impl(full_name.c_str(), torch::CppFunction::makeFromBoxedFunction<&delegate_operator<functionality>>());
  }
}

// Between sparse tensors of which at least one is on gxu. Within gxu it is the CPU's copy on aliases.
template <c10::DispatchKey functionality>
at::Tensor& copy_sparse(at::Tensor& self, const at::Tensor& source, bool non_blocking) {
  static const auto op = c10::Dispatcher::singleton().findSchemaOrThrow("aten::copy_", "");
  TORCH_CHECK(has_parts(self) && has_parts(source), "copy between a tensor with layout ", self.layout(),
              " and one with layout ", source.layout(), " is not supported; convert one of them first.");
  at::Tensor from = source;
  if (self.device() != source.device()) {
    auto parts = parts_of(source);
    for (at::Tensor& part : parts) {
      part = part.to(self.device());
    }
    from = assemble(source, parts);
  }
  if (self.is_cpu()) {
    return self.copy_(from, non_blocking);
  }
  torch::jit::Stack stack{self, from, non_blocking};
  delegate_operator<functionality>(op, c10::DispatchKeySet(functionality), &stack);
  return self;
}

// Operators without a kernel for the CPU alone, whose composite kernel knows only PyTorch's own devices.
constexpr const char* kCompositeOperators[] = {"conj_physical_", "mode.values", "kaiser_window",
                                               "kaiser_window.periodic", "kaiser_window.beta"};

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  for (const char* name : kCompositeOperators) {
    library.impl(name, torch::CppFunction::makeFromBoxedFunction<&delegate_operator<c10::DispatchKey::Dense>>());
  }
}

TORCH_LIBRARY_IMPL(aten, SparsePrivateUse1, library) { library.impl("copy_", &copy_sparse<c10::DispatchKey::Sparse>); }
TORCH_LIBRARY_IMPL(aten, SparseCsrPrivateUse1, library) {
  library.impl("copy_", &copy_sparse<c10::DispatchKey::SparseCsr>);
}
TORCH_LIBRARY_IMPL(aten, QuantizedPrivateUse1, library) { library.impl("copy_", &copy_); }

}  // namespace

void register_delegated_operators() {
  using c10::DispatchKey;
  register_like<DispatchKey::Dense>(DispatchKey::CPU, DispatchKey::PrivateUse1);
  register_like<DispatchKey::Sparse>(DispatchKey::SparseCPU, DispatchKey::SparsePrivateUse1);
  register_like<DispatchKey::SparseCsr>(DispatchKey::SparseCsrCPU, DispatchKey::SparseCsrPrivateUse1);
  register_like<DispatchKey::NestedTensor>(DispatchKey::NestedTensorCPU, DispatchKey::NestedTensorPrivateUse1);
  register_like<DispatchKey::Quantized>(DispatchKey::QuantizedCPU, DispatchKey::QuantizedPrivateUse1);
}

}  // namespace gxu
