// histc of integers, which torch.cuda has and the CPU does not: mixtures of experts count tokens with it.
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include "delegate.h"

namespace gxu {
namespace {

void histc(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack) {
  c10::IValue& input = torch::jit::peek(*stack, 0, op.schema().arguments().size());
  const at::ScalarType type = input.toTensor().scalar_type();
  const bool integral = at::isIntegralType(type, /*includeBool=*/false);
  if (integral) {
    input = input.toTensor().to(at::kDouble);  // holds every integer up to 2^53
  }
  delegate_operator<c10::DispatchKey::Dense>(op, keys, stack);
  if (integral) {
    // The counts have the type of the input, as torch.cuda's have.
    torch::jit::push(stack, torch::jit::pop(*stack).toTensor().to(type));
  }
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("histc", torch::CppFunction::makeFromBoxedFunction<&histc>());
}

}  // namespace
}  // namespace gxu
