// Operators whose CPU kernels serve gxu tensors as they are, without iterators: they make tensors like those that they
// are given, and ask for the CPU's loops whatever the device is.
#include <ATen/CPUFunctions.h>
#include <ATen/NativeFunctions.h>
#include <ATen/Operators.h>
#include <torch/library.h>

#include <optional>
#include <tuple>

#include "elementwise_call.h"

namespace gxu {
namespace {

// The one device of `tensors`, of which undefined ones are left out, where the calling thread may use their memory as
// PlainAccess does; else negative.
template <typename... Tensors>
c10::DeviceIndex accessible_device(const Tensors&... tensors) {
  SimpleDevice operands(nullptr);
  const auto check = [&operands](const at::Tensor& tensor) {
    operands.check(tensor, false);
    if (tensor.defined() && !is_gxu(tensor)) {
      operands.reject();
    }
  };
  (check(tensors), ...);
  const c10::DeviceIndex device = operands.index();
  const bool is_accessible =
      device >= 0 && device_delegate(device) == Delegate::kCpu && current_capture(device) == nullptr;
  return is_accessible ? device : -1;
}

const at::Tensor& tensor_or_undefined(const std::optional<at::Tensor>& tensor) {
  static const at::Tensor undefined;
  return tensor ? *tensor : undefined;
}

std::tuple<at::Tensor, at::Tensor> nll_loss_forward(const at::Tensor& self, const at::Tensor& target,
                                                    const std::optional<at::Tensor>& weight, int64_t reduction,
                                                    c10::SymInt ignore_index) {
  const at::Tensor& classes = tensor_or_undefined(weight);
  const c10::DeviceIndex device = accessible_device(self, target, classes);
  if (C10_UNLIKELY(device < 0)) {
    return DirectCall<at::_ops::nll_loss_forward, &at::cpu::nll_loss_forward_symint>::call(
        self, target, weight, reduction, std::move(ignore_index));
  }
  const PlainAccess access(device);
  const at::OptionalTensorRef given = classes.defined() ? at::OptionalTensorRef(classes) : at::OptionalTensorRef();
  const int64_t ignored = ignore_index.expect_int();
  NewResultsKernel<at::native::structured_nll_loss_forward_out_cpu> kernel;
  kernel.meta(self, target, given, reduction, ignored);
  kernel.impl(self, target, given, reduction, ignored, kernel.maybe_get_output(0), kernel.maybe_get_output(1));
  return kernel.take();
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> native_layer_norm(const at::Tensor& input,
                                                                 c10::SymIntArrayRef normalized_shape,
                                                                 const std::optional<at::Tensor>& weight,
                                                                 const std::optional<at::Tensor>& bias, double eps) {
  const c10::DeviceIndex device = accessible_device(input, tensor_or_undefined(weight), tensor_or_undefined(bias));
  if (C10_UNLIKELY(device < 0)) {
    return DirectCall<at::_ops::native_layer_norm, &at::cpu::native_layer_norm_symint>::call(input, normalized_shape,
                                                                                             weight, bias, eps);
  }
  const PlainAccess access(device);
  return at::native::layer_norm_cpu(input, C10_AS_INTARRAYREF_SLOW(normalized_shape), weight, bias, eps);
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("nll_loss_forward", &nll_loss_forward);
  library.impl("native_layer_norm", &native_layer_norm);
}

}  // namespace
}  // namespace gxu
