// Convolutions. PyTorch routes those of out-of-tree devices to the "overrideable" operators, which CPU lacks.
//
// Their results are contiguous whatever the input's format: PyTorch's shape functions promise that for these operators,
// and compiled code asserts it.
#include <ATen/ops/convolution.h>
#include <ATen/ops/convolution_backward.h>
#include <torch/library.h>

#include "alias.h"
#include "delegate_call.h"

namespace gxu {
namespace {

at::Tensor convolution(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                       at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed,
                       at::IntArrayRef output_padding, int64_t groups) {
  if (GraphWork* work = current_capture(input.device().index())) {
    return std::get<0>(capture_results<1>(*work, "aten::convolution", input, weight, bias, stride, padding, dilation,
                                          transposed, output_padding, groups));
  }
  return call_on_cpu(input, [&](auto cpu) {
    return at::convolution(cpu(input), cpu(weight), cpu(bias), stride, padding, dilation, transposed, output_padding,
                           groups)
        .contiguous();
  });
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> convolution_backward(const at::Tensor& grad_output,
                                                                    const at::Tensor& input, const at::Tensor& weight,
                                                                    at::IntArrayRef stride, at::IntArrayRef padding,
                                                                    at::IntArrayRef dilation, bool transposed,
                                                                    at::IntArrayRef output_padding, int64_t groups,
                                                                    std::array<bool, 3> output_mask) {
  const int64_t bias_size = transposed ? weight.size(1) * groups : weight.size(0);
  if (GraphWork* work = current_capture(input.device().index())) {
    return capture_results<3>(*work, "aten::convolution_backward", grad_output, input, weight,
                              std::optional(std::vector<int64_t>{bias_size}), stride, padding, dilation, transposed,
                              output_padding, groups, output_mask);
  }
  return call_on_cpu(input, [&](auto cpu) {
    auto [grad_input, grad_weight, grad_bias] =
        at::convolution_backward(cpu(grad_output), cpu(input), cpu(weight), at::IntArrayRef{bias_size}, stride, padding,
                                 dilation, transposed, output_padding, groups, output_mask);
    const auto contiguous = [](const at::Tensor& gradient) {
      return gradient.defined() ? gradient.contiguous() : gradient;
    };
    return std::make_tuple(contiguous(grad_input), contiguous(grad_weight), grad_bias);
  });
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("convolution_overrideable", &convolution);
  library.impl("convolution_backward_overrideable", &convolution_backward);
}

}  // namespace
}  // namespace gxu
