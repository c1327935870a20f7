// nonzero_static with the strides that PyTorch's meta kernel promises for devices like this one, as torch.cuda has
// them: compiled code asserts them.
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include "delegate.h"

namespace gxu {
namespace {

void nonzero_static(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack) {
  delegate_operator<c10::DispatchKey::Dense>(op, keys, stack);
  torch::jit::push(stack, torch::jit::pop(*stack).toTensor().t().contiguous().t());
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("nonzero_static", torch::CppFunction::makeFromBoxedFunction<&nonzero_static>());
}

}  // namespace
}  // namespace gxu
